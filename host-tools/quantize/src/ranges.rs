//! Chooses each activation's scale and zero point from what calibration saw.

use sori_package::Activation;

/// Values kept of each tensor: enough to judge a clip by its squared error.
const SAMPLES: usize = 1 << 16;

/// What one tensor looked like.
#[derive(Debug, Clone, Default)]
pub(crate) struct Observed {
    low: f32,
    high: f32,
    samples: Vec<f32>,
    seen: u64,
    state: u64,
}

impl Observed {
    pub(crate) fn see(&mut self, values: &[f32]) {
        for &value in values {
            self.low = self.low.min(value);
            self.high = self.high.max(value);
            self.seen += 1;
            // Reservoir sampling (Vitter's algorithm R).
            if self.samples.len() < SAMPLES {
                self.samples.push(value);
                continue;
            }
            self.state = self
                .state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let slot = (u128::from(self.state) * u128::from(self.seen)) >> 64;
            if let Some(sample) = self.samples.get_mut(slot as usize) {
                *sample = value;
            }
        }
    }

    /// The activation with the least squared error among narrower and narrower ranges.
    pub(crate) fn activation(&self, clamp: [f32; 2]) -> Activation {
        let candidates = (0..24).map(|n| 0.93f32.powi(n));
        let error = |activation: &Activation| -> f64 {
            let errors = self.samples.iter().map(|&x| {
                let clamped = x.clamp(clamp[0], clamp[1]);
                let q = quantize(clamped, activation);
                f64::from(clamped - dequantize(q, activation)).powi(2)
            });
            errors.sum()
        };
        candidates
            .map(|factor| affine(self.low * factor, self.high * factor, clamp))
            .map(|activation| (error(&activation), activation))
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, activation)| activation)
            .expect("there are candidates")
    }

    /// The whole range with room to spare, for logits: their order matters at the ends.
    pub(crate) fn whole(&self) -> Activation {
        let none = [f32::NEG_INFINITY, f32::INFINITY];
        affine(1.25 * self.low, 1.25 * self.high, none)
    }
}

/// Asymmetric int8 over a range that holds zero, zero exactly representable.
pub(crate) fn affine(low: f32, high: f32, clamp: [f32; 2]) -> Activation {
    let low = low.max(clamp[0]).min(0.0);
    let high = high.min(clamp[1]).max(0.0);
    let scale = ((high - low) / 255.0).max(1e-6);
    let zero_point = (-128.0 - low / scale).round().clamp(-128.0, 127.0) as i8;
    with_scale(scale, zero_point, clamp)
}

/// The clamp follows from scale, zero point and the float bounds.
pub(crate) fn with_scale(scale: f32, zero_point: i8, clamp: [f32; 2]) -> Activation {
    let bound = |x: f32, none: i8| match x.is_finite() {
        true => (f32::from(zero_point) + (x / scale).round()).clamp(-128.0, 127.0) as i8,
        false => none,
    };
    Activation {
        scale,
        zero_point,
        min: bound(clamp[0], i8::MIN),
        max: bound(clamp[1], i8::MAX),
    }
}

pub(crate) fn quantize(x: f32, activation: &Activation) -> i8 {
    let q = (x / activation.scale).round() + f32::from(activation.zero_point);
    q.clamp(activation.min.into(), activation.max.into()) as i8
}

pub(crate) fn dequantize(q: i8, activation: &Activation) -> f32 {
    (f32::from(q) - f32::from(activation.zero_point)) * activation.scale
}
