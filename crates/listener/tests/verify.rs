//! Golden vectors: reproduced, or the first difference located.

use sori_dsp::FrontEnd;
use sori_dsp::design::MelSpec;
use sori_listener::{Budget, Error, Memory, Mismatch, OverBudget, Verified, verify};
use sori_nn::testing::{Noise, Table, build};
use sori_nn::{Backend, CacheLine, Network, Prepared};
use sori_package::write::{GoldenSpec, PackageBytes, PackageSpec};
use sori_package::{DecisionRule, Package, TensorShape, Thresholds};

const BANDS: usize = 64;
const CLASSES: usize = 4;

/// Hands a golden package, changed by `change`, to `check`.
fn with_package(change: impl FnOnce(&mut PackageSpec<'_>), check: impl FnOnce(&PackageBytes)) {
    let tables = MelSpec::default().tables().expect("the default is allowed");
    let mut noise = Noise::new(11);
    let input = TensorShape {
        width: BANDS as u16,
        channels: 1,
    };
    let mut spec = Table::mobilenet_v2(input, 0.1, CLASSES as u16, false).package(&mut noise);
    spec.labels = ["blues", "jazz", "metal", "pop"].map(String::from).into();
    spec.mel = Some(tables.contract());
    spec.decision = Some(DecisionRule {
        thresholds: Thresholds {
            silence_dbfs_q8: -70 * 256,
            enter_q15: 9_830,
            leave_q15: 6_554,
        },
        smoothing_shift: 1,
        silence_rows: 10,
    });
    let audio: Vec<i16> = (0..8_000)
        .map(|_| noise.between(-9_000, 9_000) as i16)
        .collect();
    let samples: Vec<i32> = audio.iter().map(|&x| sori_dsp::from_i16(x)).collect();
    let mut workspace = vec![0; FrontEnd::workspace_len(&tables.contract())];
    let mut frontend = FrontEnd::new(&tables.contract(), &mut workspace).expect("it fits");
    let (mut features, mut logits) = (Vec::new(), Vec::new());
    frontend.push(&samples, &mut |row| {
        features.extend_from_slice(row.features)
    });
    {
        let bytes = build(&spec);
        let package = Package::parse(&bytes).expect("valid");
        let mut arena = vec![0u32; Network::arena_bytes(&package, 8).div_ceil(4)];
        let arena = bytemuck::cast_slice_mut(&mut arena);
        let mut network = Network::new(&package, arena, 8).expect("it fits");
        network.push(&features, &mut |row| logits.extend_from_slice(row));
        network.flush(&mut |row| logits.extend_from_slice(row));
    }
    spec.golden = Some(GoldenSpec {
        audio: Some(audio),
        features,
        logits,
    });
    change(&mut spec);
    check(&build(&spec));
}

/// A running mean of so many rows of so many classes that its ring takes 2.1 GB, in a file of
/// 142 KB; and golden vectors that take an hour. Neither is allocated or computed.
#[test]
fn what_a_package_may_take_is_asked_before_it_is_taken() {
    let input = TensorShape {
        width: 4,
        channels: 1,
    };
    let mut spec = Table::mobilenet_v2(input, 0.1, 8_000, false).package(&mut Noise::new(3));
    spec.classifier.pool_rows = u16::MAX;
    spec.classifier.weights.fill(0);
    spec.classifier.bias.fill(0);
    let budget = Budget {
        memory_bytes: 64 << 20,
        verification: 20_000_000_000,
    };
    let bytes = build(&spec);
    let package = Package::parse(&bytes).expect("valid");
    for backend in Backend::available() {
        let over = budget.admit(&package, backend, 1).expect_err("2.1 GB");
        assert!(
            matches!(over, OverBudget::Memory { needed, .. } if needed > 2_000_000_000),
            "{over}"
        );
    }
    with_package(
        |_| {},
        |bytes| {
            let package = Package::parse(bytes).expect("valid");
            let cost = budget
                .admit(&package, Backend::SCALAR, 1)
                .expect("a small one");
            let less = Budget {
                verification: cost.verification - 1,
                ..budget
            };
            let over = less.admit(&package, Backend::SCALAR, 1);
            assert!(matches!(over, Err(OverBudget::Verification { .. })));
            assert_eq!(cost.admit(&package, Backend::SCALAR, 1), Ok(cost));
        },
    );
}

fn verified(bytes: &PackageBytes, stripe: usize) -> Result<Verified, Mismatch> {
    let mut results = Backend::available().map(|backend| verified_on(backend, bytes, stripe));
    let scalar = results.next().expect("the scalar backend is everywhere");
    for faster in results {
        assert_eq!(faster, scalar, "every backend proves the same");
    }
    scalar
}

fn verified_on(
    backend: Backend,
    bytes: &PackageBytes,
    stripe: usize,
) -> Result<Verified, Mismatch> {
    let package = Package::parse(bytes).expect("valid");
    let mut weights = vec![CacheLine([0; 64]); Prepared::lines(&package, backend)];
    let prepared = Prepared::new(&package, backend, &mut weights).expect("the memory is exact");
    let words = package.mel().map_or(0, |mel| FrontEnd::workspace_len(&mel));
    let mut frontend = vec![0; words];
    let mut arena = vec![0u32; Network::arena_bytes(&prepared, stripe).div_ceil(4)];
    let memory = Memory {
        frontend: &mut frontend,
        arena: bytemuck::cast_slice_mut(&mut arena),
    };
    verify(&prepared, memory, stripe)
}

fn golden<'s>(spec: &'s mut PackageSpec<'_>) -> &'s mut GoldenSpec {
    spec.golden.as_mut().expect("made with golden vectors")
}

#[test]
fn a_good_package_passes_with_any_stripe() {
    with_package(
        |_| (),
        |bytes| {
            for stripe in [1, 7, 128] {
                let verified = verified(bytes, stripe).expect("the same code made it");
                assert_eq!(verified.feature_rows, (8_000 - 1_024) / 256 + 1);
                assert!(verified.output_rows >= 1);
            }
        },
    );
}

#[test]
fn a_package_without_a_mel_contract_passes_on_its_features() {
    with_package(
        |spec| {
            spec.mel = None;
            golden(spec).audio = None;
        },
        |bytes| {
            let verified = verified(bytes, 1).expect("the same code made it");
            assert_eq!(verified.feature_rows, 0);
        },
    );
}

/// First, middle and last value of the features and of the logits.
#[test]
fn one_changed_golden_value_is_found_and_located() {
    let (mut features, mut logits) = (0, 0);
    with_package(
        |spec| (features, logits) = (golden(spec).features.len(), golden(spec).logits.len()),
        |_| (),
    );
    for at in [0, features / 2 + 5, features - 1] {
        with_package(
            |spec| golden(spec).features[at] ^= 1,
            |bytes| match verified(bytes, 1) {
                Err(Mismatch::Feature {
                    row,
                    position,
                    expected,
                    found,
                }) => {
                    assert_eq!(row * BANDS + position, at);
                    assert_eq!(expected, found ^ 1);
                }
                other => panic!("feature {at}: {other:?}"),
            },
        );
    }
    for at in [0, logits / 2, logits - 1] {
        with_package(
            |spec| golden(spec).logits[at] ^= 1,
            |bytes| match verified(bytes, 4) {
                Err(Mismatch::Logit {
                    row,
                    class,
                    expected,
                    found,
                }) => {
                    assert_eq!(row * CLASSES + class, at);
                    assert_eq!(expected, found ^ 1);
                }
                other => panic!("logit {at}: {other:?}"),
            },
        );
    }
}

#[test]
fn what_cannot_be_verified_says_why() {
    with_package(
        |spec| spec.golden = None,
        |bytes| assert_eq!(verified(bytes, 1), Err(Mismatch::NoGoldenVectors)),
    );
    with_package(
        |_| (),
        |bytes| {
            let package = Package::parse(bytes).expect("valid");
            let memory = Memory {
                frontend: &mut [0; 4],
                arena: &mut [],
            };
            let mismatch = verify(&package, memory, 1).expect_err("no memory");
            assert!(
                matches!(mismatch, Mismatch::Setup(Error::FrontEnd(_))),
                "{mismatch}"
            );
        },
    );
}
