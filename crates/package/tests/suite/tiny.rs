//! The smallest network that has one of everything. The fuzzer's seeds use it too.

use sori_package::write::{
    ClassifierSpec, ConvolutionSpec, GoldenSpec, InvertedResidualSpec, PackageBytes, PackageSpec,
    ProvenanceSpec, Sizes, with_plan,
};
use sori_package::{
    Activation, BlockPlan, DecisionRule, MelContract, MelScale, Spatial, TensorShape, Thresholds,
};

/// Every field has a value of its own, so that two that trade places are noticed.
pub(crate) fn tiny() -> PackageSpec<'static> {
    PackageSpec {
        provenance: ProvenanceSpec {
            name: "tiny".into(),
            source_sha256: "00ff".into(),
            calibration: "none".into(),
            tool: "tests".into(),
            metrics: "accuracy=0.5 clips=2".into(),
        },
        labels: vec!["left".into(), "räght".into()],
        input: shape(8, 1),
        input_activation: activation(0.25, 3, -128, 127),
        nominal_rows: 300,
        stem: convolution(3, 9, Some(spatial(2, 2, [1, 1], [1, 1])), 10),
        blocks: vec![
            InvertedResidualSpec {
                expansion: Some(convolution(6, 3, None, 20)),
                depthwise: convolution(6, 9, Some(spatial(1, 1, [1, 1], [1, 1])), 30),
                projection: convolution(3, 6, None, 40),
                residual: Some(vec![1, 200, 3_000]),
            },
            InvertedResidualSpec {
                expansion: None,
                depthwise: convolution(3, 9, Some(spatial(2, 1, [2, 0], [0, 1])), 50),
                projection: convolution(5, 3, None, 60),
                residual: None,
            },
        ],
        head: Some(convolution(4, 5, None, 70)),
        classifier: ClassifierSpec {
            classes: 2,
            pool_rows: 7,
            weights: (0..8).map(|n| n * 16 - 64).collect(),
            bias: vec![-500, 900],
            multiplier: vec![1 << 30, i32::MAX],
            shift: vec![1, 31],
            activation: activation(0.125, -4, -128, 127),
            softmax_step_q16: 11_818,
        },
        mel: Some(mel()),
        decision: Some(DecisionRule {
            thresholds: Thresholds {
                silence_dbfs_q8: -70 * 256,
                enter_q15: 20_000,
                leave_q15: 15_000,
            },
            smoothing_shift: 2,
            silence_rows: 62,
        }),
        // 14 samples are 6 frames; the strides make 3 rows of them, then 2.
        golden: Some(GoldenSpec {
            audio: Some((0..14).map(|n| n * 1_000 - 7_000).collect()),
            features: (0..48).collect(),
            logits: vec![-128, 127, 5, -6],
        }),
    }
}

/// A window of 4 samples and 8 bands of one or two bins.
pub(crate) fn mel() -> MelContract<'static> {
    MelContract {
        sample_rate_hz: 16_000,
        fft: 256,
        window_samples: 4,
        hop_samples: 2,
        bands: 8,
        low_hz: 60.0,
        high_hz: 7_600.0,
        scale: MelScale::Slaney,
        dc_shift: 8,
        reference_release_q16: 1_045,
        reference_floor_q16: -2_612_504,
        feature_multiplier: 0x5a82_799a,
        feature_shift: 14,
        feature_top: 127,
        window_q31: &[0, 1 << 30, i32::MAX],
        band_bins: &[1, 2, 2, 1, 3, 1, 4, 2, 8, 1, 16, 1, 32, 1, 128, 1],
        band_weights_q15: &[1, 2, 3, 4, 5, 6, 7, 8, 9, 32_768],
    }
}

/// A memory plan of [`tiny`]: six expanded channels, three without an expansion, a head of four.
pub(crate) const PLAN: [BlockPlan; 3] = [
    BlockPlan {
        kept_rows: 1,
        group: 4,
    },
    BlockPlan {
        kept_rows: 2,
        group: 3,
    },
    BlockPlan {
        kept_rows: 0,
        group: 2,
    },
];

/// [`tiny`] with [`PLAN`], a file of version 2.
pub(crate) fn planned() -> PackageBytes {
    let bytes = tiny().build(sizes()).expect("the parts fit together");
    with_plan(&bytes, Some(&PLAN), sizes()).expect("the plan is of this network")
}

pub(crate) fn sizes() -> Sizes {
    Sizes {
        arena: [10, 20, 40, 80, 160, 320, 640, 1_280],
        frontend_bytes: 1_048,
    }
}

pub(crate) fn shape(width: u16, channels: u16) -> TensorShape {
    TensorShape { width, channels }
}

pub(crate) fn activation(scale: f32, zero_point: i8, min: i8, max: i8) -> Activation {
    Activation {
        scale,
        zero_point,
        min,
        max,
    }
}

pub(crate) fn spatial(
    stride_time: u8,
    stride_freq: u8,
    pad_time: [u8; 2],
    pad_freq: [u8; 2],
) -> Spatial {
    Spatial {
        stride_time,
        stride_freq,
        pad_time,
        pad_freq,
    }
}

/// Values that differ from layer to layer by `seed`, which also is the zero point.
pub(crate) fn convolution(
    c_out: u16,
    taps: usize,
    spatial: Option<Spatial>,
    seed: i8,
) -> ConvolutionSpec {
    let channels = usize::from(c_out);
    ConvolutionSpec {
        c_out,
        spatial,
        weights: (0..channels * taps)
            .map(|n| (n as i8).wrapping_mul(37).wrapping_add(seed).max(-127))
            .collect(),
        bias: (0..channels)
            .map(|c| 1_000 * i32::from(seed) - c as i32)
            .collect(),
        multiplier: (0..channels)
            .map(|c| (1 << 30) + 7 * i32::from(seed) + c as i32)
            .collect(),
        shift: (0..channels)
            .map(|c| 1 + (c % 8) as u8 + seed as u8 / 10)
            .collect(),
        activation: activation(0.5 + f32::from(seed), seed, seed - 20, 127),
    }
}
