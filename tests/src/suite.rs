//! The cases.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use sori_dsp::{FrontEnd, Resampler};
use sori_listener::{Event, Listener, Memory};
use sori_nn::testing::{Noise, Table, random_plan};
use sori_nn::{Backend, CacheLine, Network, Prepared, Requantize, softmax_q15};
use sori_package::write::{PackageBytes, Sizes, with_plan};
use sori_package::{Package, TensorShape};

use crate::CONTRACTS;

static CRC32: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);

/// A CRC32 of integers, little-endian on every target.
pub(crate) struct Hash(crc::Digest<'static, u32>);

impl Hash {
    pub(crate) fn new() -> Self {
        Self(CRC32.digest())
    }

    pub(crate) fn int8(&mut self, values: &[i8]) {
        self.0.update(bytemuck::cast_slice(values));
    }

    fn int32(&mut self, value: i32) {
        self.0.update(&value.to_le_bytes());
    }

    pub(crate) fn crc(self) -> u32 {
        self.0.finalize()
    }
}

/// Computes every case, always in the same order.
pub fn run(on_case: &mut dyn FnMut(&str, u32)) {
    on_case("requantize", requantize());
    on_case("softmax", softmax());
    random_networks(on_case);
    mobilenets(on_case);
    resamplers(on_case);
    for (name, bytes) in CONTRACTS {
        let bytes = PackageBytes::copy_from(bytes);
        let package = Package::parse(&bytes).expect("the golden packages are valid");
        front_ends(name, &package, on_case);
        listeners(name, &package, on_case);
    }
}

/// Every shift with extreme and ordinary multipliers, zero points and accumulators.
fn requantize() -> u32 {
    let mut noise = Noise::new(1);
    let mut hash = Hash::new();
    for shift in 1..=31 {
        for multiplier in [1 << 30, (1 << 30) + 1, 0x5a82_799a, i32::MAX] {
            for zero_point in [-128, -1, 0, 127] {
                let requantize = Requantize {
                    multiplier,
                    shift,
                    zero_point,
                    min: -128,
                    max: 127,
                };
                let half = 1i32 << (shift - 1).min(30);
                let extremes = [
                    i32::MIN,
                    i32::MIN + 1,
                    -half - 1,
                    -half,
                    -1,
                    0,
                    1,
                    half,
                    i32::MAX - 1,
                    i32::MAX,
                ];
                for acc in extremes {
                    hash.int8(&[requantize.apply(acc)]);
                }
                for _ in 0..8 {
                    // Around where the output is neither clamp.
                    let spread = 100i64.saturating_mul(1 << (shift + 1)).min(i32::MAX.into());
                    let acc = noise.between(-(spread as i32), spread as i32);
                    hash.int8(&[requantize.apply(acc)]);
                }
            }
        }
    }
    hash.crc()
}

/// One class, ties, both extremes, many classes; flat to steep.
fn softmax() -> u32 {
    let mut noise = Noise::new(2);
    let mut hash = Hash::new();
    let mut sets = vec![vec![5], vec![-128, 127], vec![0; 10], vec![127, 127, -128]];
    sets.extend([2, 10, 64, 521].map(|classes| noise.int8(classes)));
    for logits in sets {
        for step_q16 in [0, 1, 700, 9_000, 40_000, 1 << 16, 1 << 24, u32::MAX] {
            let mut probabilities = vec![0; logits.len()];
            softmax_q15(&logits, step_q16, &mut probabilities);
            for p in probabilities {
                hash.int32(p.into());
            }
        }
    }
    hash.crc()
}

/// Any strides, paddings, zero points, widths, with and without a head; row by row, in
/// odd pieces and whole.
fn random_networks(on_case: &mut dyn FnMut(&str, u32)) {
    for seed in 0..24 {
        let mut noise = Noise::new(seed);
        let bytes = Table::random(&mut noise).bytes(&mut noise);
        let package = Package::parse(&bytes).expect("random packages are valid");
        let rows = noise.between(8, 90) as usize;
        let clip = noise.int8(rows * package.input().row_len());
        for (stripe, pieces) in [(1, &[1][..]), (3, &[5, 1, 17]), (128, &[rows])] {
            let crc = on_every_backend(&package, &|prepared| {
                logits(prepared, &clip, stripe, pieces)
            });
            on_case(&format!("network-{seed:02}/stripe-{stripe}"), crc);
        }
        let crc = planned(&bytes, &clip, &mut noise);
        on_case(&format!("network-{seed:02}/planned"), crc);
    }
}

fn mobilenets(on_case: &mut dyn FnMut(&str, u32)) {
    let input = TensorShape {
        width: 32,
        channels: 1,
    };
    for (name, causal) in [("symmetric", false), ("causal", true)] {
        let mut noise = Noise::new(100);
        let bytes = Table::mobilenet_v2(input, 0.1, 10, causal).bytes(&mut noise);
        let package = Package::parse(&bytes).expect("the paper's network is valid");
        let clip = noise.int8(120 * 32);
        for (stripe, pieces) in [(1, &[1][..]), (8, &[3, 17, 1]), (128, &[120])] {
            let crc = on_every_backend(&package, &|prepared| {
                logits(prepared, &clip, stripe, pieces)
            });
            on_case(&format!("mobilenet-v2-{name}/stripe-{stripe}"), crc);
        }
        let crc = planned(&bytes, &clip, &mut noise);
        on_case(&format!("mobilenet-v2-{name}/planned"), crc);
    }
}

/// The CRC of a clip by a package with some memory plan, which a backend in place follows and the
/// others do when they are told to.
fn planned(bytes: &[u8], clip: &[i8], noise: &mut Noise) -> u32 {
    let package = Package::parse(bytes).expect("the package is valid");
    let plan = random_plan(&package, noise);
    let bytes = with_plan(bytes, Some(&plan), Sizes::default()).expect("the plan is of it");
    let package = Package::parse(&bytes).expect("just built");
    assert_eq!(package.plan(), Some(&*plan));
    on_every_backend(&package, &|prepared| {
        let prepared = prepared.clone().with_plan(package.plan());
        logits(&prepared.expect("the plan is of it"), clip, 1, &[1])
    })
}

/// The CRC that every backend of this processor gives: on a microcontroller there is one.
///
/// # Panics
/// When one gives other bits than the scalar one.
fn on_every_backend(package: &Package<'_>, crc: &dyn Fn(&Prepared<'_>) -> u32) -> u32 {
    let expected = crc(&package.into());
    for backend in Backend::available().filter(|&backend| backend != Backend::SCALAR) {
        let mut weights = vec![CacheLine([0; 64]); Prepared::lines(package, backend)];
        let prepared = Prepared::new(package, backend, &mut weights).expect("the memory is exact");
        assert_eq!(crc(&prepared), expected, "{backend}");
    }
    expected
}

/// CRC of the logits after each output row of a clip, pushed in pieces (rows), twice.
fn logits(prepared: &Prepared<'_>, clip: &[i8], stripe: usize, pieces: &[usize]) -> u32 {
    let mut arena = words(Network::arena_bytes(prepared, stripe));
    let arena = bytemuck::cast_slice_mut(&mut arena);
    let mut network = Network::new(prepared, arena, stripe).expect("the arena is exact");
    let mut hash = Hash::new();
    for _ in 0..2 {
        let mut rest = clip;
        for rows in pieces.iter().cycle() {
            let (now, later) = rest.split_at((rows * network.row_len()).min(rest.len()));
            network.push(now, &mut |row| hash.int8(row));
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        network.flush(&mut |row| hash.int8(row));
    }
    hash.crc()
}

/// Words, for their alignment.
pub(crate) fn words(bytes: usize) -> Vec<u32> {
    vec![0; bytes.div_ceil(size_of::<u32>())]
}

/// Both directions, the usual rates, a ratio with large terms, the steepest decimation.
fn resamplers(on_case: &mut dyn FnMut(&str, u32)) {
    for (from, to) in [
        (8_000, 16_000),
        (11_025, 16_000),
        (16_000, 16_000),
        (22_050, 16_000),
        (32_000, 16_000),
        (44_100, 16_000),
        (48_000, 16_000),
        (96_000, 16_000),
        (192_000, 16_000),
        (16_000, 48_000),
        (44_101, 48_000),
        (112_000, 8_000),
    ] {
        let mut noise = Noise::new(from.into());
        let mut resampler = Resampler::new(from, to).expect("the rates are in range");
        let mut hash = Hash::new();
        let loud = i32::MAX >> 7;
        let samples: Vec<i32> = (0..2_000).map(|_| noise.between(-loud, loud)).collect();
        for chunk in samples.chunks(77) {
            resampler.push(chunk, &mut |sample| hash.int32(sample));
        }
        resampler.flush(&mut |sample| hash.int32(sample));
        on_case(&format!("resample/{from}-{to}"), hash.crc());
    }
}

/// Sample number n, by integers only, in 24-bit scale before the level.
type Signal = fn(&mut Noise, i32) -> i32;

const SIGNALS: [(&str, Signal); 4] = [
    ("noise", |noise, _| noise.between(-(1 << 23), (1 << 23) - 1)),
    // A triangle wave whose pitch rises; its overtones fold.
    ("chirp", |_, n| {
        let phase = (n.wrapping_mul(n).wrapping_mul(4_000)).wrapping_add(n << 23);
        ((phase >> 7).abs() - (1 << 23)).clamp(-(1 << 23), (1 << 23) - 1)
    }),
    ("clicks-on-an-offset", |_, n| match n % 801 {
        0 => (1 << 23) - 1,
        _ => 1 << 20,
    }),
    ("silence-then-square", |_, n| {
        match (n / 2_000, n / 37 % 2) {
            (1, _) => 0,
            (_, 0) => -(1 << 23),
            _ => (1 << 23) - 1,
        }
    }),
];

/// Full scale, loud, what a microphone delivers, a few bits.
const LEVELS: [(&str, u32); 4] = [("0-db", 0), ("-24-db", 4), ("-54-db", 9), ("-114-db", 19)];

fn front_ends(contract: &str, package: &Package<'_>, on_case: &mut dyn FnMut(&str, u32)) {
    let mel = package.mel().expect("the suite's packages have contracts");
    let mut workspace = vec![0; FrontEnd::workspace_len(&mel)];
    for (signal, sample) in SIGNALS {
        for (level, shift) in LEVELS {
            let mut noise = Noise::new(3);
            let samples: Vec<i32> = (0..6_000).map(|n| sample(&mut noise, n) >> shift).collect();
            let mut crc = |backend| {
                let frontend = FrontEnd::new(&mel, &mut workspace).expect("the workspace is exact");
                rows(frontend.with_backend(backend), &samples)
            };
            let expected = crc(sori_dsp::Backend::SCALAR);
            for backend in sori_dsp::Backend::available() {
                assert_eq!(crc(backend), expected, "{}", backend.name());
            }
            on_case(&format!("{contract}/{signal}/{level}"), expected);
        }
    }
}

/// CRC of the features and levels.
fn rows(mut frontend: FrontEnd<'_, '_>, samples: &[i32]) -> u32 {
    let mut hash = Hash::new();
    for chunk in samples.chunks(333) {
        frontend.push(chunk, &mut |row| {
            hash.int8(row.features);
            hash.int32(row.level_dbfs_q8);
        });
    }
    hash.crc()
}

/// From samples at two rates to probabilities and verdicts.
fn listeners(contract: &str, package: &Package<'_>, on_case: &mut dyn FnMut(&str, u32)) {
    let mel = package.mel().expect("the suite's packages have contracts");
    for rate_hz in [mel.sample_rate_hz, 44_100] {
        let crc = on_every_backend(package, &|prepared| events(prepared, rate_hz));
        on_case(&format!("{contract}/listener/{rate_hz}-hz"), crc);
    }
}

/// CRC of all that a listener says.
fn events(prepared: &Prepared<'_>, rate_hz: u32) -> u32 {
    let mel = prepared.package().mel();
    let mel = mel.expect("the suite's packages have contracts");
    let mut frontend = vec![0; Listener::frontend_len(&mel, rate_hz)];
    let mut arena = words(Network::arena_bytes(prepared, 1));
    let memory = Memory {
        frontend: &mut frontend,
        arena: bytemuck::cast_slice_mut(&mut arena),
    };
    let mut listener = Listener::new(prepared, memory, rate_hz).expect("the memory is exact");
    let mut hash = Hash::new();
    let mut on_event = |event: Event<'_>| match event {
        Event::Row { level_dbfs_q8, .. } => hash.int32(level_dbfs_q8),
        Event::Output {
            logits,
            probabilities_q15,
        } => {
            hash.int8(logits);
            for &p in probabilities_q15 {
                hash.int32(p.into());
            }
        }
        Event::Decision(decision) => {
            hash.int32(match decision.verdict {
                sori_listener::Verdict::Silence => -2,
                sori_listener::Verdict::Unknown => -1,
                sori_listener::Verdict::Label(label) => label.into(),
            });
            hash.int32(decision.time_ms as i32);
        }
    };
    let mut noise = Noise::new(4);
    for n in 0..24 {
        // Silence in between, so that every verdict has its turn.
        let loudest = [1 << 22, 0, 1 << 14][n / 3 % 3];
        let samples: Vec<i32> = (0..700).map(|_| noise.between(-loudest, loudest)).collect();
        listener.push(&samples, &mut on_event);
    }
    listener.finish(&mut on_event);
    hash.crc()
}
