//! Each thing that parsing proves, broken alone.

use sori_package::write::{ConvolutionSpec, PackageSpec, with_plan};
use sori_package::{BlockPlan, Error, MAX_BLOCKS, MelContract, Package};

use crate::bytes::refusal as damaged;
use crate::tiny::{PLAN, activation, convolution, planned, shape, sizes, spatial, tiny};

type Spec = PackageSpec<'static>;
type Change = fn(&mut Spec);
type Part = fn(&mut Spec) -> &mut ConvolutionSpec;

fn refusal(change: impl FnOnce(&mut Spec)) -> Error {
    let mut spec = tiny();
    change(&mut spec);
    spec.build(sizes()).expect_err("the change must be refused")
}

fn accepted(change: impl FnOnce(&mut Spec)) {
    let mut spec = tiny();
    change(&mut spec);
    if let Err(error) = spec.build(sizes()) {
        panic!("the change must be accepted: {error}");
    }
}

/// Each convolution, and the layer number that errors give it.
const LAYERS: [(u16, Part); 7] = [
    (0, |spec| &mut spec.stem),
    (1, |spec| spec.blocks[0].expansion.as_mut().expect("t is 2")),
    (1, |spec| &mut spec.blocks[0].depthwise),
    (1, |spec| &mut spec.blocks[0].projection),
    (2, |spec| &mut spec.blocks[1].depthwise),
    (2, |spec| &mut spec.blocks[1].projection),
    (3, |spec| spec.head.as_mut().expect("the spec has a head")),
];
const CLASSIFIER: u16 = 4;

/// The first weight and the last: the scan covers the table.
#[test]
#[cfg_attr(miri, ignore = "builds dozens of packages, seconds each under Miri")]
fn a_weight_of_minus_128_is_refused_in_every_layer() {
    for (layer, convolution) in LAYERS {
        for first in [true, false] {
            let error = refusal(|spec| {
                let weights = &mut convolution(spec).weights;
                let at = if first { 0 } else { weights.len() - 1 };
                weights[at] = -128;
            });
            assert_eq!(error, Error::WeightOutOfRange { layer });
        }
    }
    let error = refusal(|spec| spec.classifier.weights[7] = -128);
    assert_eq!(error, Error::WeightOutOfRange { layer: CLASSIFIER });
}

/// Just below 2^30 and negative; shifts just outside 1..=31, and the largest.
#[test]
#[cfg_attr(miri, ignore = "builds dozens of packages, seconds each under Miri")]
fn multipliers_and_shifts_outside_the_contract_are_refused_in_every_layer() {
    for (layer, convolution) in LAYERS {
        let channel = convolution(&mut tiny()).c_out - 1;
        let last = usize::from(channel);
        for multiplier in [(1 << 30) - 1, 0, -1, i32::MIN] {
            let error = refusal(|spec| convolution(spec).multiplier[last] = multiplier);
            assert_eq!(error, Error::Requantize { layer, channel });
        }
        for shift in [0, 32, 255] {
            let error = refusal(|spec| convolution(spec).shift[last] = shift);
            assert_eq!(error, Error::Requantize { layer, channel });
        }
    }
    for change in [
        |spec: &mut Spec| spec.classifier.multiplier[1] = (1 << 30) - 1,
        |spec: &mut Spec| spec.classifier.shift[1] = 0,
        |spec: &mut Spec| spec.classifier.shift[1] = 32,
    ] {
        let (layer, channel) = (CLASSIFIER, 1);
        assert_eq!(refusal(change), Error::Requantize { layer, channel });
    }
}

/// A factor of 0 would drop the residual from its channel; a negative one is not made.
#[test]
fn residual_factors_start_at_1() {
    for factor in [0, -1, i32::MIN] {
        let error = refusal(|spec| spec.blocks[0].residual.as_mut().expect("residual")[2] = factor);
        let (layer, channel) = (1, 2);
        assert_eq!(error, Error::Requantize { layer, channel });
    }
}

/// The largest bias that the weights leave room for, and one more, on both sides.
#[test]
#[cfg_attr(miri, ignore = "builds dozens of packages, seconds each under Miri")]
fn an_accumulator_may_reach_the_largest_i32_and_no_further() {
    for (layer, convolution) in LAYERS {
        let mut spec = tiny();
        let convolved = convolution(&mut spec);
        let taps = convolved.weights.len() / usize::from(convolved.c_out);
        convolved.weights.fill(-127);
        let with_residual = layer == 1 && taps == 6 && convolved.spatial.is_none();
        let factor = if with_residual { 255 * 3_000 } else { 0 };
        let room = i32::MAX - 128 * 127 * taps as i32 - factor;
        let channel = convolved.c_out - 1;
        for bias in [room, -room] {
            let set = |spec: &mut Spec, bias| {
                // One channel is heavy: weights of the wrong ones would leave room.
                let is_depthwise = convolution(spec).spatial.is_some() && layer > 0;
                let convolution = convolution(spec);
                for (n, weight) in convolution.weights.iter_mut().enumerate() {
                    let of = match is_depthwise {
                        true => n % usize::from(convolution.c_out),
                        false => n / taps,
                    };
                    *weight = if of == usize::from(channel) { -127 } else { 1 };
                }
                convolution.bias[usize::from(channel)] = bias;
            };
            accepted(|spec| set(spec, bias));
            let error = refusal(|spec| set(spec, bias + bias.signum()));
            assert_eq!(error, Error::Overflow { layer, channel });
        }
        let error = refusal(|spec| convolution(spec).bias[0] = i32::MIN);
        assert_eq!(error, Error::Overflow { layer, channel: 0 });
    }
    let factor = (i32::MAX - 40_002 - 6 * 127 * 128) / 255 + 4_000;
    let error = refusal(|spec| spec.blocks[0].residual.as_mut().expect("residual")[2] = factor);
    let (layer, channel) = (1, 2);
    assert_eq!(error, Error::Overflow { layer, channel });
}

/// Width 3, 7 rows: what `K` rows can sum to, and one more.
#[test]
#[cfg_attr(miri, ignore = "builds dozens of packages, seconds each under Miri")]
fn the_pooled_total_may_reach_the_largest_i32_and_no_further() {
    // 255 · 3 · Σ|w| with weights of 1 in 4 channels; i32::MAX / 7 is the room a row has.
    let room = i32::MAX / 7 - 255 * 3 * 4;
    for bias in [room, -room] {
        let set = |spec: &mut Spec, bias| {
            // The other class weighs nothing.
            spec.classifier.weights.fill(0);
            spec.classifier.weights[4..].fill(1);
            spec.classifier.bias[1] = bias;
        };
        accepted(|spec| set(spec, bias));
        let error = refusal(|spec| set(spec, bias + bias.signum()));
        assert_eq!(
            error,
            Error::Overflow {
                layer: CLASSIFIER,
                channel: 1
            }
        );
    }
    let error = refusal(|spec| spec.classifier.bias[0] = i32::MIN);
    assert_eq!(
        error,
        Error::Overflow {
            layer: CLASSIFIER,
            channel: 0
        }
    );
}

fn assert_shape(layer: u16, change: impl FnOnce(&mut Spec)) {
    let error = refusal(change);
    assert!(
        matches!(error, Error::Shape { layer: found, .. } if found == layer),
        "layer {layer}: {error:?}"
    );
}

#[test]
#[cfg_attr(miri, ignore = "builds dozens of packages, seconds each under Miri")]
fn shapes_that_cannot_be_are_refused() {
    assert_shape(0, |spec| spec.input.width = 0);
    assert_shape(0, |spec| spec.input.channels = 0);
    assert_shape(0, |spec| spec.nominal_rows = 0);
    // Too narrow for a 3×3 kernel even with its padding.
    assert_shape(0, |spec| {
        spec.input.width = 2;
        spec.stem.spatial = Some(spatial(1, 1, [1, 1], [0, 0]));
    });
    assert_shape(CLASSIFIER, |spec| spec.classifier.classes = 0);
    assert_shape(CLASSIFIER, |spec| spec.classifier.pool_rows = 0);
    for step in [0, (1 << 24) + 1] {
        assert_shape(CLASSIFIER, |spec| spec.classifier.softmax_step_q16 = step);
    }
    for (layer, convolution) in LAYERS {
        assert_shape(layer, |spec| convolution(spec).c_out = 0);
        // A kernel of the other kind.
        assert_shape(layer, |spec| {
            let spatial_there = &mut convolution(spec).spatial;
            *spatial_there = match spatial_there {
                Some(_) => None,
                None => Some(spatial(1, 1, [1, 1], [1, 1])),
            };
        });
    }
    for (layer, convolution) in [LAYERS[2], LAYERS[4]] {
        assert_shape(layer, |spec| convolution(spec).c_out += 1);
    }
}

#[test]
#[cfg_attr(miri, ignore = "builds dozens of packages, seconds each under Miri")]
fn strides_and_paddings_out_of_range_are_refused() {
    let bad = [
        spatial(0, 1, [1, 1], [1, 1]),
        spatial(3, 1, [1, 1], [1, 1]),
        spatial(1, 0, [1, 1], [1, 1]),
        spatial(1, 255, [1, 1], [1, 1]),
        spatial(1, 1, [3, 0], [1, 1]),
        spatial(1, 1, [0, 255], [1, 1]),
        spatial(1, 1, [1, 1], [255, 1]),
        spatial(1, 1, [1, 1], [255, 255]),
    ];
    for spatial in bad {
        for (layer, convolution) in [LAYERS[0], LAYERS[2], LAYERS[4]] {
            assert_shape(layer, |spec| convolution(spec).spatial = Some(spatial));
        }
    }
}

/// NaN compares with nothing; the clamp must have its zero point within.
#[test]
#[cfg_attr(miri, ignore = "builds dozens of packages, seconds each under Miri")]
fn activations_that_make_no_sense_are_refused() {
    let bad = [
        activation(f32::NAN, 0, -128, 127),
        activation(f32::INFINITY, 0, -128, 127),
        activation(0.0, 0, -128, 127),
        activation(-0.5, 0, -128, 127),
        activation(0.5, 0, 1, -1),
        activation(0.5, -1, 0, 127),
        activation(0.5, 1, -128, 0),
    ];
    for bad in bad {
        assert_shape(0, |spec| spec.input_activation = bad);
        assert_shape(CLASSIFIER, |spec| spec.classifier.activation = bad);
        for (layer, convolution) in LAYERS {
            assert_shape(layer, |spec| convolution(spec).activation = bad);
        }
    }
}

/// Fewer rows, fewer columns, other channels: each alone breaks the sum.
#[test]
#[cfg_attr(miri, ignore = "builds dozens of packages, seconds each under Miri")]
fn a_residual_around_a_change_of_shape_is_refused() {
    let spatials = [
        spatial(2, 1, [1, 1], [1, 1]),
        spatial(1, 2, [1, 1], [1, 1]),
        spatial(1, 1, [1, 1], [1, 2]),
        spatial(1, 1, [1, 0], [1, 1]),
        spatial(1, 1, [2, 1], [1, 1]),
        spatial(1, 1, [2, 2], [1, 1]),
        spatial(1, 1, [0, 0], [1, 1]),
    ];
    for spatial in spatials {
        assert_shape(1, |spec| spec.blocks[0].depthwise.spatial = Some(spatial));
    }
    assert_shape(1, |spec| {
        spec.blocks[0].projection = convolution(4, 6, None, 40);
    });
    // Any split of two rows of padding keeps the rows.
    for pad_time in [[2, 0], [0, 2]] {
        accepted(|spec| {
            spec.blocks[0].depthwise.spatial = Some(spatial(1, 1, pad_time, [1, 1]));
        });
    }
}

/// 65 blocks, and as many as the count can say.
#[test]
#[cfg_attr(miri, ignore = "builds dozens of packages, seconds each under Miri")]
fn the_number_of_blocks_is_bounded() {
    for blocks in [MAX_BLOCKS + 1, usize::from(u16::MAX)] {
        let error = refusal(|spec| spec.blocks = vec![spec.blocks[0].clone(); blocks]);
        assert_eq!(
            error,
            Error::TooManyBlocks {
                found: blocks as u16
            }
        );
    }
    accepted(|spec| {
        spec.golden = None;
        let repeated = vec![spec.blocks[0].clone(); MAX_BLOCKS - 1];
        spec.blocks.splice(0..1, repeated);
    });
}

/// Sizes that a few bytes can name and a 32-bit target cannot count.
#[test]
#[cfg_attr(miri, ignore = "builds dozens of packages, seconds each under Miri")]
fn absurd_sizes_are_refused() {
    let cases: [(u16, Change); 4] = [
        // An input row of 4 GiB, and a clip of 32 GiB.
        (0, |spec| {
            spec.input = shape(u16::MAX, u16::MAX);
            spec.nominal_rows = 1;
        }),
        (0, |spec| spec.nominal_rows = u32::MAX),
        // 132 rows of 65535 by 256 are 2.2 GB.
        (0, |spec| {
            spec.input.width = u16::MAX;
            spec.nominal_rows = 1;
            spec.stem = convolution(256, 9, Some(spatial(1, 1, [1, 1], [1, 1])), 10);
        }),
        // (65535 + 2) · 65535 accumulators are 2^32 − 1; four bytes each.
        (CLASSIFIER, |spec| {
            spec.classifier.classes = u16::MAX;
            spec.classifier.pool_rows = u16::MAX;
            let classes = usize::from(u16::MAX);
            spec.classifier.weights = vec![0; 4 * classes];
            spec.classifier.bias = vec![0; classes];
            spec.classifier.multiplier = vec![1 << 30; classes];
            spec.classifier.shift = vec![1; classes];
        }),
    ];
    for (layer, change) in cases {
        let error = refusal(|spec| {
            (spec.mel, spec.golden) = (None, None);
            spec.labels.clear();
            change(spec);
        });
        assert!(
            matches!(error, Error::TooLarge { layer: found, .. } if found == layer),
            "layer {layer}: {error:?}"
        );
    }
}

#[test]
#[cfg_attr(miri, ignore = "builds dozens of packages, seconds each under Miri")]
fn every_violation_of_the_mel_contract_is_refused() {
    let changes: [fn(&mut MelContract<'static>); 26] = [
        |mel| mel.fft = 0,
        |mel| mel.fft = 128,
        |mel| mel.fft = 1_000,
        |mel| mel.window_samples = 0,
        |mel| mel.window_samples = 5,
        |mel| mel.window_samples = 258,
        |mel| mel.window_q31 = &[0, 1],
        |mel| mel.window_q31 = &[0, 1, 2, 3],
        |mel| mel.window_q31 = &[0, -1, 5],
        |mel| mel.hop_samples = 0,
        |mel| mel.hop_samples = 5,
        |mel| mel.sample_rate_hz = 3_999,
        |mel| mel.sample_rate_hz = 192_001,
        |mel| mel.bands = 0,
        |mel| mel.bands = 257,
        // A band past the Nyquist bin, an empty one, and one that wraps 16 bits.
        |mel| mel.band_bins = &[1, 2, 2, 1, 3, 1, 4, 2, 8, 1, 16, 1, 32, 1, 129, 1],
        |mel| mel.band_bins = &[1, 2, 2, 0, 3, 1, 4, 2, 8, 1, 16, 1, 32, 1, 128, 1],
        |mel| mel.band_bins = &[65_535, 65_535, 2, 1, 3, 1, 4, 2, 8, 1, 16, 1, 32, 1, 128, 1],
        |mel| mel.band_weights_q15 = &[1, 2, 3, 4, 5, 6, 7, 8, 9],
        |mel| mel.band_weights_q15 = &[1, 2, 3, 4, 5, 6, 7, 8, 9, 32_769],
        |mel| mel.dc_shift = 3,
        |mel| mel.dc_shift = 17,
        |mel| mel.reference_release_q16 = (64 << 16) + 1,
        // Its magnitude has no i32: it overflowed before it was compared.
        |mel| mel.reference_floor_q16 = i32::MIN,
        |mel| mel.reference_floor_q16 = (128 << 16) + 1,
        |mel| mel.feature_multiplier = (1 << 30) - 1,
    ];
    for (n, change) in changes.into_iter().enumerate() {
        let error = refusal(|spec| change(spec.mel.as_mut().expect("audio")));
        assert!(
            matches!(error, Error::MelContract { .. }),
            "change {n}: {error:?}"
        );
    }
    for shift in [0, 32] {
        let error = refusal(|spec| spec.mel.as_mut().expect("audio").feature_shift = shift);
        assert!(matches!(error, Error::MelContract { .. }), "shift {shift}");
    }
}

/// `build` checks the contract before it writes; the reader must not rely on that.
#[test]
fn the_reader_checks_the_mel_contract_too() {
    let bytes = tiny().build(sizes()).expect("the parts fit together");
    // 16000 and 256 as varints: the contract's first fields.
    let fields = [0x80, 0x7d, 0x80, 0x02];
    let at = bytes
        .windows(fields.len())
        .position(|window| window == fields)
        .expect("the contract is there");
    let error = crate::bytes::refusal(&bytes, |bytes| bytes[at + 3] = 0x03);
    assert!(matches!(error, Error::MelContract { .. }), "{error:?}");
}

fn assert_contents(change: impl FnOnce(&mut Spec)) {
    let error = refusal(change);
    assert!(matches!(error, Error::Contents { .. }), "{error:?}");
}

#[test]
#[cfg_attr(miri, ignore = "builds dozens of packages, seconds each under Miri")]
fn labels_are_one_a_class_and_come_back_whole() {
    assert_contents(|spec| spec.labels.truncate(1));
    assert_contents(|spec| spec.labels.push("third".into()));
    assert_contents(|spec| spec.labels.clear());
    // A line feed within a label makes two of it, a last empty one vanishes, and a carriage
    // return before a line feed does too.
    assert_contents(|spec| spec.labels[0] = "le\nft".into());
    assert_contents(|spec| spec.labels[0].clear());
    assert_contents(|spec| spec.labels[1].clear());
    assert_contents(|spec| spec.labels[0].push('\r'));
    // Two labels to the reader, one to who wrote it.
    assert_contents(|spec| spec.labels = vec!["a\nb".into()]);
}

/// A terminal would obey it, and a line break would forge a line of the program that shows it.
#[test]
#[cfg_attr(miri, ignore = "builds dozens of packages, seconds each under Miri")]
fn text_that_a_terminal_would_obey_is_refused_wherever_it_stands() {
    for bad in [
        '\0', '\t', '\n', '\r', '\u{1b}', '\u{7f}', '\u{9b}', '\u{2028}', '\u{202e}', '\u{2066}',
    ] {
        let places: [fn(&mut Spec) -> &mut String; 6] = [
            |spec| &mut spec.labels[1],
            |spec| &mut spec.provenance.name,
            |spec| &mut spec.provenance.source_sha256,
            |spec| &mut spec.provenance.calibration,
            |spec| &mut spec.provenance.tool,
            |spec| &mut spec.provenance.metrics,
        ];
        for text in places {
            assert_contents(|spec| text(spec).push(bad));
        }
    }
    // Other scripts, marks on letters and pictures are text.
    accepted(|spec| spec.labels[0] = "재즈, Ю́нга ❤\u{fe0f} ‘blues’".into());
}

#[test]
#[cfg_attr(miri, ignore = "builds dozens of packages, seconds each under Miri")]
fn the_contract_the_rule_and_the_network_belong_together() {
    assert_contents(|spec| spec.decision = None);
    // The contract's rows are 8 bands of one channel.
    assert_contents(|spec| {
        spec.input.width = 9;
        spec.golden = None;
    });
    assert_contents(|spec| {
        spec.mel = None;
    });
}

/// Leaving above entering would switch at every row; 32768 is certainty.
#[test]
fn thresholds_out_of_order_are_refused() {
    fn rule(spec: &mut Spec) -> &mut sori_package::DecisionRule {
        spec.decision.as_mut().expect("audio")
    }
    assert_contents(|spec| rule(spec).thresholds.leave_q15 = 20_001);
    assert_contents(|spec| rule(spec).thresholds.enter_q15 = (1 << 15) + 1);
    assert_contents(|spec| rule(spec).smoothing_shift = 16);
    accepted(|spec| rule(spec).thresholds.leave_q15 = 20_000);
}

/// One row or sample more or less than follows from the geometry.
#[test]
#[cfg_attr(miri, ignore = "builds dozens of packages, seconds each under Miri")]
fn golden_vectors_have_the_rows_that_they_give() {
    fn golden(spec: &mut Spec) -> &mut sori_package::write::GoldenSpec {
        spec.golden.as_mut().expect("the spec has golden vectors")
    }
    assert_contents(|spec| golden(spec).features.truncate(40));
    assert_contents(|spec| golden(spec).features.extend([0; 8]));
    assert_contents(|spec| golden(spec).logits.truncate(2));
    assert_contents(|spec| golden(spec).logits.extend([0; 2]));
    assert_contents(|spec| golden(spec).audio.as_mut().expect("audio").truncate(13));
    assert_contents(|spec| golden(spec).audio.as_mut().expect("audio").truncate(3));
    // 15 samples are 6 frames and one sample of the next.
    accepted(|spec| golden(spec).audio.as_mut().expect("audio").push(1));
    // Vectors without an output row test nothing.
    assert_contents(|spec| {
        spec.stem.spatial = Some(spatial(2, 2, [0, 0], [1, 1]));
        spec.blocks[1].depthwise.spatial = Some(spatial(2, 1, [0, 0], [0, 1]));
        let golden = golden(spec);
        golden.audio = None;
        golden.features.truncate(8);
        golden.logits.clear();
    });
}

/// People read them: each says something, none is a debug dump.
#[test]
fn every_error_is_a_sentence() {
    let errors = [
        Error::NotAPackage,
        Error::Header,
        Error::TooManyBlocks { found: 65 },
        Error::Overlap { layer: 3 },
        refusal(|spec| spec.nominal_rows = u32::MAX),
        refusal(|spec| spec.stem.shift[0] = 0),
        refusal(|spec| spec.labels.truncate(1)),
    ];
    for error in errors {
        let text = error.to_string();
        assert!(
            text.contains(' ') && !text.contains('{'),
            "{error:?}: {text}"
        );
    }
}

/// Each entry's two numbers just outside what they may be, by the writer and in a file.
#[test]
fn a_plan_of_another_network_is_refused() {
    let bytes = tiny().build(sizes()).expect("the parts fit together");
    let with = planned();
    let at = with
        .windows(12)
        .position(|window| window == bytemuck::cast_slice::<_, u8>(&PLAN))
        .expect("the plan is in the file");
    let cases: [(usize, u16, u16); 11] = [
        (0, 3, 4),
        (0, u16::MAX, 4),
        (0, 1, 0),
        (0, 1, 7),
        // Without an expansion there is nothing to compute again or to split.
        (1, 1, 3),
        (1, 0, 3),
        (1, 2, 2),
        (1, 2, 0),
        (2, 1, 2),
        (2, 0, 0),
        (2, 0, 5),
    ];
    for (part, kept_rows, group) in cases {
        let mut plan = PLAN;
        plan[part] = BlockPlan { kept_rows, group };
        let error = with_plan(&bytes, Some(&plan), sizes()).expect_err("refused");
        let is_of_layer = |error: &Error| matches!(error, Error::Plan { layer, .. } if usize::from(*layer) == part + 1);
        assert!(is_of_layer(&error), "{plan:?}: {error:?}");
        let error = damaged(&with, |bytes| {
            bytes[at..at + 12].copy_from_slice(bytemuck::cast_slice(&plan));
        });
        assert!(is_of_layer(&error), "{plan:?}: {error:?}");
    }
    for plan in [&PLAN[..2], &[PLAN[0]; 4], &[]] {
        let error = with_plan(&bytes, Some(plan), sizes()).expect_err("refused");
        assert!(
            matches!(
                error,
                Error::Plan {
                    layer: u16::MAX,
                    ..
                }
            ),
            "{error:?}"
        );
    }
    // The extremes that are allowed.
    for (kept_rows, group) in [(0, 1), (2, 6)] {
        let mut plan = PLAN;
        plan[0] = BlockPlan { kept_rows, group };
        let bytes = with_plan(&bytes, Some(&plan), sizes()).expect("allowed");
        assert_eq!(
            Package::parse(&bytes).expect("valid").plan(),
            Some(&plan[..])
        );
    }
    let mut headless = tiny();
    headless.head = None;
    headless.classifier.weights.extend([7, -7]);
    headless.classifier.bias.truncate(2);
    let bytes = headless.build(sizes()).expect("the parts fit together");
    let mut plan = PLAN;
    plan[2].group = 5;
    with_plan(&bytes, Some(&plan), sizes()).expect("the last block's channels, all of them");
    plan[2].group = 4;
    let error = with_plan(&bytes, Some(&plan), sizes()).expect_err("nothing to split");
    assert!(matches!(error, Error::Plan { layer: 3, .. }), "{error:?}");
}
