use proptest::prelude::*;
use sori_package::write::PackageBytes;
use sori_package::{Error, Package, Prologue};

use crate::bytes::{PROLOGUE, get_u32, put_u32, refusal, repair};
use crate::tiny::{planned, sizes, tiny};

/// With everything that a file can have.
fn package() -> PackageBytes {
    planned()
}

/// Miri takes a thousand times as long: of exhaustive cases it sees every 997th.
const EVERY: usize = if cfg!(miri) { 997 } else { 1 };

/// Calls everything that parsing promises cannot fail.
fn walk(package: &Package<'_>) {
    let kernels = [package.stem().kernel, package.classifier().kernel];
    let mut sum: i64 = kernels.iter().map(|k| i64::from(k.bias[0])).sum();
    assert_eq!(package.blocks().count(), package.blocks().len());
    for block in package.blocks() {
        let (spatial, input) = (block.spatial(), block.input());
        assert!((1..=2).contains(&spatial.stride_time));
        assert!(input.row_len() > 0 && block.projection.output.row_len() > 0);
        sum += i64::from(block.input_zero_point());
        sum += block.residual.map_or(0, |k| i64::from(k[0]));
    }
    if let Some(head) = package.head() {
        assert_eq!(head.output, package.classifier().input);
    }
    let labels = package.labels().count();
    assert!(labels == 0 || labels == package.classifier().classes);
    if let Some(mel) = package.mel() {
        let weights: usize = mel.filterbank().map(|band| band.weights_q15.len()).sum();
        assert_eq!(weights, mel.band_weights_q15.len());
        assert_eq!(mel.validate(), Ok(()));
    }
    if let Some(golden) = package.golden() {
        assert!(
            golden
                .features
                .len()
                .is_multiple_of(package.input().row_len())
        );
        sum += golden.audio.map_or(0, |audio| audio.len() as i64);
    }
    for stripe in [0, 1, 3, 128, usize::MAX] {
        sum += package.prologue().arena_bytes(stripe) as i64;
    }
    if let Some(plan) = package.plan() {
        assert_eq!(plan.len(), package.blocks().len() + 1);
        assert_eq!(package.check_plan(plan), Ok(()));
    }
    let text = format!("{:?} {:?} {sum}", package.provenance(), package.decision());
    assert!(!text.is_empty());
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let bytes = package();
    for len in (0..bytes.len()).step_by(EVERY) {
        let cut = PackageBytes::copy_from(&bytes[..len]);
        let error = Package::parse(&cut).expect_err("cut");
        let expected = match len {
            0..8 => Error::NotAPackage,
            8..PROLOGUE => Error::Length {
                expected: PROLOGUE as u64,
                found: len as u64,
            },
            _ => Error::Length {
                expected: bytes.len() as u64,
                found: len as u64,
            },
        };
        assert_eq!(error, expected, "{len} bytes");
    }
}

/// A cut that says so: the length in the prologue and the checksum agree with it.
#[test]
fn a_file_cut_anywhere_and_repaired_does_no_harm() {
    let bytes = package();
    let blob_offset = get_u32(&bytes, 16) as usize;
    for len in (PROLOGUE + 4..bytes.len()).step_by(EVERY) {
        let mut cut = bytes[..len].to_vec();
        put_u32(&mut cut, 24, len as u32);
        put_u32(&mut cut, 20, len.saturating_sub(blob_offset + 4) as u32);
        repair(&mut cut);
        let cut = PackageBytes::copy_from(&cut);
        assert!(Package::parse(&cut).is_err(), "{len} bytes");
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let mut bytes = package();
    let mut flipped = PackageBytes::copy_from(&bytes).to_vec();
    for bit in (0..8 * bytes.len()).step_by(EVERY) {
        flipped[bit / 8] ^= 1 << (bit % 8);
        bytes = PackageBytes::copy_from(&flipped);
        assert!(Package::parse(&bytes).is_err(), "bit {bit}");
        flipped[bit / 8] ^= 1 << (bit % 8);
    }
}

/// What a flipped bit in the body is called, and that only the checksum sees it.
#[test]
fn damage_to_the_blob_is_reported_as_a_checksum() {
    let bytes = package();
    let mut damaged = bytes.to_vec();
    let at = bytes.len() - 70;
    damaged[at] ^= 1;
    let damaged = PackageBytes::copy_from(&damaged);
    assert!(matches!(
        Package::parse(&damaged).expect_err("damaged"),
        Error::Checksum { expected, found } if expected != found
    ));
}

#[test]
fn bytes_after_the_end_are_refused() {
    let mut bytes = package().to_vec();
    bytes.push(0);
    let long = PackageBytes::copy_from(&bytes);
    assert!(matches!(
        Package::parse(&long).expect_err("too long"),
        Error::Length { .. }
    ));
}

#[test]
fn only_multiples_of_4_are_aligned() {
    let bytes = package();
    let mut room = vec![0; bytes.len() + 128];
    let start = room.as_ptr().align_offset(64);
    for shift in 0..64 {
        let shifted = &mut room[start + shift..][..bytes.len()];
        shifted.copy_from_slice(&bytes);
        let parsed = Package::parse(shifted).map(|package| walk(&package));
        if shift % 4 == 0 {
            assert_eq!(parsed, Ok(()), "shift {shift}");
        } else {
            assert_eq!(
                parsed,
                Err(Error::Misaligned { needed: 4 }),
                "shift {shift}"
            );
        }
    }
}

/// The next version, and the largest; whatever else its bytes are.
#[test]
fn a_newer_version_is_refused_by_name() {
    for version in [sori_package::VERSION + 1, u16::MAX] {
        let error = refusal(&package(), |bytes| {
            bytes[8..10].copy_from_slice(&version.to_le_bytes());
            // A newer format may mean anything by what follows the version.
            bytes[12..].fill(0xa5);
        });
        assert_eq!(
            error,
            Error::NewerVersion {
                found: version,
                supported: sori_package::VERSION
            }
        );
    }
    let error = refusal(&package(), |bytes| bytes[8] = 0);
    assert_eq!(error, Error::NotAPackage, "versions start at 1");
}

/// Version 1 read as 2 finds its first record where the plan's offset should be, and 2 read as 1
/// the offset where the record should be.
#[test]
fn a_file_that_names_another_version_than_its_own_is_refused() {
    let old = tiny().build(sizes()).expect("the parts fit together");
    for (bytes, version) in [(old, 2), (planned(), 1)] {
        let error = refusal(&bytes, |bytes| bytes[8] = version);
        assert!(
            matches!(error, Error::Header | Error::Shape { .. }),
            "{error:?}"
        );
    }
}

/// Lengths that overlap, overshoot, or overflow 32 bits when added.
#[test]
fn lengths_that_contradict_each_other_are_refused() {
    let bytes = package();
    let (header_len, blob_offset, blob_len) = (
        get_u32(&bytes, 12),
        get_u32(&bytes, 16),
        get_u32(&bytes, 20),
    );
    let words: [(usize, &[u32]); 3] = [
        // One more than fits before the blob; nothing; a byte short of the last record.
        (
            12,
            &[
                blob_offset - 95,
                u32::MAX,
                u32::MAX - 95,
                0,
                header_len - 1,
                header_len + 1,
            ],
        ),
        (
            16,
            &[
                0,
                64,
                blob_offset - 64,
                blob_offset + 1,
                blob_offset + 64,
                !63,
            ],
        ),
        (20, &[0, blob_len - 1, blob_len + 1, u32::MAX]),
    ];
    for (at, values) in words {
        for &value in values {
            let error = refusal(&bytes, |bytes| put_u32(bytes, at, value));
            assert_eq!(error, Error::Header, "{value} at {at}");
        }
    }
    for value in [0, bytes.len() as u32 - 1, bytes.len() as u32 + 1, u32::MAX] {
        let error = refusal(&bytes, |bytes| put_u32(bytes, 24, value));
        assert_eq!(
            error,
            Error::Length {
                expected: value.into(),
                found: bytes.len() as u64
            }
        );
    }
}

/// What the prologue keeps for later versions is not looked at, so that they can use it.
#[test]
fn reserved_bytes_are_ignored() {
    let mut bytes = package().to_vec();
    bytes[10..12].fill(0xff);
    bytes[64..96].fill(0xff);
    repair(&mut bytes);
    let bytes = PackageBytes::copy_from(&bytes);
    walk(&Package::parse(&bytes).expect("reserved bytes mean nothing yet"));
}

/// Where a random byte lands: the prologue, the header and the blob get their share each.
fn damage() -> impl Strategy<Value = Vec<(u8, prop::sample::Index, u8)>> {
    let interesting = prop_oneof![
        any::<u8>(),
        Just(0),
        Just(1),
        Just(0x7f),
        Just(0x80),
        Just(0xff)
    ];
    prop::collection::vec((0..8u8, any::<prop::sample::Index>(), interesting), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 20_000 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Random bytes over a package, with the checksum right again.
    #[test]
    fn repaired_damage_is_refused_or_harmless(damage in damage(), version in 1..=2u8) {
        let mut bytes = package_bytes();
        if version == 1 {
            bytes = plain_bytes();
        }
        let blob_offset = get_u32(&bytes, 16) as usize;
        for (part, index, value) in damage {
            let part = match part {
                0 => &mut bytes[12..PROLOGUE],
                1..=5 => &mut bytes[PROLOGUE..blob_offset],
                _ => &mut bytes[blob_offset..],
            };
            let at = index.index(part.len());
            part[at] = value;
        }
        repair(&mut bytes);
        let bytes = PackageBytes::copy_from(&bytes);
        if let Ok(package) = Package::parse(&bytes) {
            walk(&package);
        }
    }

    /// Anything behind the right magic and version.
    #[test]
    fn noise_is_refused(noise in prop::collection::vec(any::<u8>(), 0..300)) {
        for version in [1, 2] {
            let mut bytes = b"\x89SORI\r\n\x1a\x01\0".to_vec();
            bytes[8] = version;
            bytes.extend(&noise);
            repair(&mut bytes);
            let _ = Prologue::read(&bytes);
            let bytes = PackageBytes::copy_from(&bytes);
            prop_assert!(Package::parse(&bytes).is_err());
        }
    }
}

/// Built once: building is most of a case's time.
fn plain_bytes() -> Vec<u8> {
    static BYTES: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    let build = || tiny().build(sizes()).expect("the parts fit together");
    BYTES.get_or_init(|| build().to_vec()).clone()
}

/// The same with a plan.
fn package_bytes() -> Vec<u8> {
    static BYTES: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    BYTES.get_or_init(|| package().to_vec()).clone()
}
