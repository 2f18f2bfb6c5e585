//! Bytes that parse can be run: nothing overflows, nothing is out of bounds, every backend agrees.

use sori_dsp::FrontEnd;
use sori_nn::{Backend, Bare, CacheLine, Network, Prepared};
use sori_package::write::PackageSpec;
use sori_package::{Aligned, Package, Prologue, Signature};

/// Larger networks only cost time.
const ARENA_BYTES: usize = 1 << 20;
/// Multiplications for the rows of one case.
const MACS: u64 = 20_000_000;
const ROWS: usize = 5;
const FILE_BYTES: usize = 1 << 16;
/// Nothing that reads a package looks at what it says.
const SIGNATURE: Signature<'_> = Signature {
    public_key: &[1; 32],
    ed25519: &[2; 64],
};

#[path = "../../../crates/package/tests/suite/tiny.rs"]
mod tiny;

pub(crate) fn check(data: &[u8]) {
    if data.len() > FILE_BYTES {
        return;
    }
    let mut memory = Aligned([0; FILE_BYTES + Signature::LEN]);
    let (file, behind) = memory.0.split_at_mut(data.len());
    file.copy_from_slice(data);
    // As it came, for the refusals; then with what a mutation cannot guess made right.
    let _ = Package::parse(file);
    if !repair(file) {
        return;
    }
    // A signature behind a package changes nothing.
    behind[..Signature::LEN].copy_from_slice(&SIGNATURE.to_bytes());
    let signed = &memory.0[..data.len() + Signature::LEN];
    let parsed = Package::parse(&memory.0[..data.len()]);
    assert_eq!(parsed.as_ref().err(), Package::parse(signed).as_ref().err());
    let Ok(package) = parsed else {
        return;
    };
    walk(&package);
    run(&package);
    listen(&package);
}

/// Magic, version, lengths and checksum; false when there is no room for them.
fn repair(file: &mut [u8]) -> bool {
    let len = file.len();
    let Some(body) = len.checked_sub(4).filter(|&body| body >= 96) else {
        return false;
    };
    // Either version.
    let version = 1 + u8::from(file[8] == 2);
    file[..10].copy_from_slice(b"\x89SORI\r\n\x1a\x01\0");
    file[8] = version;
    let blob_offset = u32::from_le_bytes([file[16], file[17], file[18], file[19]]);
    let blob_offset = (blob_offset as usize & !63).clamp(96, body);
    let words = [blob_offset & !63, body - (blob_offset & !63), len];
    for (at, word) in [16, 20, 24].into_iter().zip(words) {
        file[at..][..4].copy_from_slice(&(word as u32).to_le_bytes());
    }
    let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(&file[..body]);
    file[body..].copy_from_slice(&crc.to_le_bytes());
    true
}

/// Reads whatever the accessors give.
fn walk(package: &Package<'_>) {
    let _ = Prologue::read(&[]);
    assert_eq!(package.blocks().count(), package.blocks().len());
    for block in package.blocks() {
        let _ = (block.spatial(), block.input_zero_point());
        assert_eq!(
            block.depthwise.input.channels,
            block.depthwise.output.channels
        );
    }
    let labels = package.labels().count();
    assert!(labels == 0 || labels == package.classifier().classes);
    if let Some(mel) = package.mel() {
        let weights: usize = mel.filterbank().map(|band| band.weights_q15.len()).sum();
        assert_eq!(weights, mel.band_weights_q15.len());
    }
    if let Some(golden) = package.golden() {
        assert!(
            golden
                .features
                .len()
                .is_multiple_of(package.input().row_len())
        );
    }
    if let Some(plan) = package.plan() {
        assert_eq!(plan.len(), package.blocks().len() + 1);
    }
    let prologue = package.prologue();
    let _ = (prologue.arena_bytes(1), prologue.frontend_bytes());
}

/// Rows one by one, by the plan if there is one, then the flush; then the same rows at once, on
/// every backend: the same logits.
fn run(package: &Package<'_>) {
    if Network::arena_bytes(package, ROWS) > ARENA_BYTES
        || sori_nn::memory::macs(package, ROWS) > MACS
    {
        return;
    }
    let row_len = package.input().row_len();
    let rows: Vec<i8> = (0..ROWS * row_len)
        .map(|n| (n * 0x9d + n / 7) as u8 as i8)
        .collect();
    let by_row = logits(package, Backend::SCALAR, 1, &rows);
    for backend in Backend::available() {
        let at_once = logits(package, backend, ROWS, &rows);
        assert_eq!(at_once, by_row, "{}", backend.name());
    }
}

/// The last ones of a backend.
pub(crate) fn logits(
    package: &Package<'_>,
    backend: Backend,
    stripe: usize,
    rows: &[i8],
) -> Vec<i8> {
    let mut lines = vec![CacheLine([0; 64]); Prepared::lines(package, backend)];
    let prepared = Prepared::new(package, backend, &mut lines).expect("so many lines");
    last_logits(&prepared, stripe, rows)
}

/// Computed in exactly the memory that is asked for.
pub(crate) fn last_logits(prepared: &Prepared<'_>, stripe: usize, rows: &[i8]) -> Vec<i8> {
    let bytes = Network::<Bare>::arena_bytes(prepared, stripe);
    let mut arena = vec![0i32; bytes.div_ceil(4)];
    let arena = bytemuck::cast_slice_mut(&mut arena);
    let mut network = Network::new(prepared, arena, stripe).expect("it fits the arena");
    let mut last = Vec::new();
    let mut keep = |logits: &[i8]| last = logits.to_vec();
    for rows in rows.chunks(stripe * prepared.package().input().row_len()) {
        network.push(rows, &mut keep);
    }
    network.flush(&mut keep);
    last
}

/// Silence, full scale both ways, beyond it, and a ramp.
fn listen(package: &Package<'_>) {
    let Some(mel) = package.mel() else { return };
    let mut workspace = vec![0; FrontEnd::workspace_len(&mel)];
    let mut frontend = FrontEnd::new(&mel, &mut workspace).expect("parse has validated it");
    for level in [0, 1 << 23, -(1 << 23), i32::MIN] {
        let samples: Vec<i32> = (0..mel.window_samples as i32)
            .map(|n| if n % 3 == 0 { level } else { n })
            .collect();
        frontend.push(&samples, &mut |row| {
            assert_eq!(row.features.len(), mel.bands)
        });
    }
}

/// Variants of the smallest package that has one of everything.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let whole = tiny::tiny();
    let mut specs = vec![whole.clone()];
    for pad in [[2, 0], [0, 2]] {
        let mut causal = whole.clone();
        causal.blocks[0].depthwise.spatial = Some(tiny::spatial(1, 1, pad, [1, 1]));
        specs.push(causal);
    }
    let mut image = whole;
    (image.mel, image.decision, image.golden) = (None, None, None);
    image.labels.clear();
    specs.push(image);
    let built = |spec: &PackageSpec<'_>| spec.build(tiny::sizes()).expect("the parts fit together");
    let packages = specs.iter().map(built).chain([tiny::planned()]);
    packages.map(|bytes| bytes.to_vec()).collect()
}
