//! The stages that take most of the time, once for every instruction set. The scalar
//! code is the specification; the others give its bits.
//!
//! No other module differs between processors.

mod scalar;

#[cfg(all(
    target_arch = "aarch64",
    target_feature = "neon",
    target_endian = "little"
))]
mod aarch64;
#[cfg(any(test, all(target_arch = "arm", target_os = "none")))]
mod cortex_m;
#[cfg(any(
    target_arch = "x86_64",
    all(
        target_arch = "aarch64",
        target_feature = "neon",
        target_endian = "little"
    )
))]
mod shared;
#[cfg(target_arch = "x86_64")]
mod x86;

use sori_package::MelContract;

use crate::dc::DcBlocker;
use crate::fft::{Complex, Fft};

/// The instructions that the front end and the resampler use. Every backend gives
/// the same bits.
///
/// A value exists only where the processor has the instructions.
///
/// ```
/// use sori_dsp::Backend;
///
/// let backend = Backend::detect();
/// assert!(Backend::available().any(|available| available == backend));
/// println!("front end: {}", backend.name());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backend(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(all(
        target_arch = "aarch64",
        target_feature = "neon",
        target_endian = "little"
    ))]
    Neon,
    /// Thumb-2, which every Cortex-M3 and up has; and in tests.
    #[cfg(any(test, all(target_arch = "arm", target_os = "none")))]
    CortexM,
}

/// A call of a kernel in the backend's module.
macro_rules! dispatch {
    ($backend:expr, $kernel:ident($($argument:expr),* $(,)?)) => {
        match $backend.0 {
            Kind::Scalar => scalar::$kernel($($argument),*),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Kind::Avx2` is made in `detect` alone, after the processor
            // has said that it has AVX2.
            Kind::Avx2 => unsafe { x86::$kernel($($argument),*) },
            #[cfg(all(
                target_arch = "aarch64",
                target_feature = "neon",
                target_endian = "little"
            ))]
            // SAFETY: the build is for processors with NEON, or there is no `Kind::Neon`.
            Kind::Neon => unsafe { aarch64::$kernel($($argument),*) },
            #[cfg(any(test, all(target_arch = "arm", target_os = "none")))]
            Kind::CortexM => cortex_m::$kernel($($argument),*),
        }
    };
}

impl Backend {
    /// Plain Rust, on every processor.
    pub const SCALAR: Self = Self(Kind::Scalar);

    /// The fastest backend of this processor. Without feature `std` the processor
    /// cannot be asked: then what the build is for (`-C target-feature`) decides.
    pub fn detect() -> Self {
        #[cfg(all(
            target_arch = "aarch64",
            target_feature = "neon",
            target_endian = "little"
        ))]
        return Self(Kind::Neon);

        #[cfg(all(target_arch = "arm", target_os = "none"))]
        return Self(Kind::CortexM);

        #[cfg(target_arch = "x86_64")]
        {
            #[cfg(feature = "std")]
            let avx2 = std::arch::is_x86_feature_detected!("avx2");
            #[cfg(not(feature = "std"))]
            let avx2 = cfg!(target_feature = "avx2");
            if avx2 {
                return Self(Kind::Avx2);
            }
        }

        #[allow(
            unreachable_code,
            reason = "where every processor has the instructions"
        )]
        Self::SCALAR
    }

    /// Every backend of this processor, the scalar one first: for tests and benchmarks.
    pub fn available() -> impl Iterator<Item = Self> {
        let fastest = Some(Self::detect()).filter(|&fastest| fastest != Self::SCALAR);
        #[cfg(test)]
        let fastest = fastest.into_iter().chain([Self(Kind::CortexM)]);
        [Self::SCALAR].into_iter().chain(fastest)
    }

    /// The backend of that [name](Self::name), where this processor has it.
    pub fn named(name: &str) -> Option<Self> {
        Self::available().find(|backend| backend.name() == name)
    }

    /// `scalar`, `avx2`, `neon`, `armv7m` or `armv7em`.
    pub const fn name(self) -> &'static str {
        match self.0 {
            Kind::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(all(
                target_arch = "aarch64",
                target_feature = "neon",
                target_endian = "little"
            ))]
            Kind::Neon => "neon",
            #[cfg(any(test, all(target_arch = "arm", target_os = "none")))]
            Kind::CortexM if cfg!(feature = "dsp") => "armv7em",
            #[cfg(any(test, all(target_arch = "arm", target_os = "none")))]
            Kind::CortexM => "armv7m",
        }
    }

    /// [`DcBlocker::process`] of as many samples as there is room for.
    #[inline(always)]
    pub(crate) fn block_dc(self, dc: &mut DcBlocker, from: &[i32], to: &mut [i32]) {
        dispatch!(self, block_dc(dc, from, to))
    }

    /// Moves all values but the first `by` to the beginning.
    #[inline(always)]
    pub(crate) fn move_down(self, values: &mut [i32], by: usize) {
        dispatch!(self, move_down(values, by))
    }

    /// All values' bits beneath the sign, or-ed together: their leading zeros are those
    /// of the largest value.
    #[inline(always)]
    pub(crate) fn magnitudes(self, values: &[i32]) -> i32 {
        dispatch!(self, magnitudes(values))
    }

    /// Windows the block and transforms it: `spectrum[k]` is what
    /// [`Fft::transform`] says.
    #[inline(always)]
    pub(crate) fn transform(
        self,
        fft: Fft,
        block: &Block<'_>,
        scratch: &mut Scratch,
        spectrum: &mut [Complex],
    ) {
        dispatch!(self, transform(fft, block, scratch, spectrum))
    }

    /// |X|² of every bin, shifted left by `headroom` first and right by `POWER_SHIFT`
    /// afterwards, in place of the bin, low word first. Returns their sum.
    #[inline(always)]
    pub(crate) fn powers(self, bins: &mut [Complex], headroom: u32) -> u64 {
        dispatch!(self, powers(bins, headroom))
    }

    /// Σ power · weight of every band, lowest first.
    #[inline(always)]
    pub(crate) fn band_powers(
        self,
        powers: &[Complex],
        contract: &MelContract<'_>,
        on_band: impl FnMut(u64),
    ) {
        dispatch!(self, band_powers(powers, contract, on_band))
    }

    /// Σ sample · tap.
    #[inline(always)]
    pub(crate) fn dot(self, samples: &[i32], taps: &[i32]) -> i64 {
        dispatch!(self, dot(samples, taps))
    }

    /// Σ (before + after) · tap, outwards from the centre: `before` ends where `after`
    /// begins. The samples are in 24-bit scale.
    #[inline(always)]
    pub(crate) fn dot_mirrored(self, before: &[i32], after: &[i32], taps: &[i32]) -> i64 {
        dispatch!(self, dot_mirrored(before, after, taps))
    }
}

impl Default for Backend {
    /// What [`detect`](Self::detect) finds.
    fn default() -> Self {
        Self::detect()
    }
}

/// What [`Backend::transform`] needs besides the spectrum: nothing where vectors are not.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// The samples under the window, in order: the first stage reads them from afar.
    #[cfg(any(
        target_arch = "x86_64",
        all(
            target_arch = "aarch64",
            target_feature = "neon",
            target_endian = "little"
        )
    ))]
    windowed: [i32; shared::MAX_POINTS],
}

impl Scratch {
    pub(crate) const fn new() -> Self {
        Self {
            #[cfg(any(
                target_arch = "x86_64",
                all(
                    target_arch = "aarch64",
                    target_feature = "neon",
                    target_endian = "little"
                )
            ))]
            windowed: [0; shared::MAX_POINTS],
        }
    }
}

/// One frame before the window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block<'a> {
    /// At most the FFT's points; what is missing is zero.
    pub(crate) samples: &'a [i32],
    /// Brings the largest sample to just below 2^31.
    pub(crate) shift: u32,
    /// The window's first half and its middle, [`MelContract::window_q31`], over as many
    /// samples as there are; none leaves them, halved, as they are.
    pub(crate) window_q31: Option<&'a [i32]>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::design::MelSpec;

    fn transformed(backend: Backend, points: usize, block: &Block<'_>) -> Vec<Complex> {
        // What an earlier frame left there must not matter.
        let mut spectrum = vec![[i32::MIN; 2]; points / 2 + 1];
        let mut scratch = Scratch::new();
        backend.transform(Fft::new(points), block, &mut scratch, &mut spectrum);
        spectrum
    }

    fn agree(points: usize, samples: &[i32], shift: u32, window_q31: Option<&[i32]>) {
        let block = Block {
            samples,
            shift,
            window_q31,
        };
        let expected = transformed(Backend::SCALAR, points, &block);
        let mut powers = expected.clone();
        let magnitudes = Backend::SCALAR.magnitudes(expected.as_flattened());
        let headroom = magnitudes.leading_zeros().saturating_sub(1).min(30);
        let sum = Backend::SCALAR.powers(&mut powers, headroom);
        for backend in Backend::available() {
            let mut spectrum = transformed(backend, points, &block);
            assert_eq!(spectrum, expected, "{backend:?}, {points} points");
            assert_eq!(backend.magnitudes(spectrum.as_flattened()), magnitudes);
            assert_eq!(backend.powers(&mut spectrum, headroom), sum);
            assert_eq!(spectrum, powers, "{backend:?}, {points} points");
        }
    }

    /// Full scale of either sign, zeros, and what drives single butterflies to their
    /// limit, under the steepest window that a contract can have.
    #[test]
    fn every_backend_transforms_the_extremes_as_the_scalar_one_does() {
        let signals: [fn(usize) -> i32; 9] = [
            |_| 0,
            |_| i32::MAX,
            |_| i32::MIN,
            |n| if n % 2 == 0 { i32::MAX } else { i32::MIN },
            |n| if n % 4 < 2 { i32::MIN } else { i32::MAX },
            |n| if n * n % 7 < 3 { i32::MIN } else { i32::MAX },
            |n| if n % 3 == 0 { i32::MIN } else { 0 },
            |n| if n == 37 { i32::MIN } else { -1 },
            |n| n as i32 % 2,
        ];
        for points in [256, 512, 1024, 2048] {
            let window = vec![i32::MAX; points / 2 + 1];
            for signal in signals {
                let samples: Vec<_> = (0..points).map(signal).collect();
                agree(points, &samples, 0, Some(&window));
                agree(points, &samples, 0, None);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

        /// Windows of any even length leave vectors across their middle and their end.
        #[test]
        fn every_backend_transforms_as_the_scalar_one_does(
            points in prop::sample::select(&[256usize, 512, 1024, 2048][..]),
            half_window in 1usize..=1024,
            seed in any::<u64>(),
            shift in 0u32..=31,
        ) {
            let half_window = half_window.min(points / 2);
            let mut state = seed;
            let mut random = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 32) as i32
            };
            let window: Vec<_> = (0..=half_window).map(|_| random() & i32::MAX).collect();
            let samples: Vec<_> = (0..2 * half_window).map(|_| random() >> shift).collect();
            agree(points, &samples, shift, Some(&window));
            agree(points, &samples, shift, None);
        }

        /// Samples beyond full scale, which saturate, and from offsets that last.
        #[test]
        fn every_backend_removes_dc_as_the_scalar_one_does(
            shift in 4u8..=16,
            loudness in 0u32..=24,
            len in 0usize..300,
            seed in any::<u64>(),
        ) {
            let mut state = seed;
            let mut random = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 32) as i32
            };
            let mut edges = [1 << 23, (1 << 23) - 1, -(1 << 23), -(1 << 23) - 1].into_iter().cycle();
            let blocks: [Vec<i32>; 3] = [
                (0..len).map(|_| random() >> loudness).collect(),
                (0..len).map(|n| if n % 7 == 3 { edges.next().unwrap_or(0) } else { 1 << 22 }).collect(),
                (0..len).map(|_| random() >> 9).collect(),
            ];
            let through = |backend: Backend| {
                let mut dc = DcBlocker::new(shift);
                let mut out = Vec::new();
                for block in &blocks {
                    let mut room = vec![0; block.len()];
                    backend.block_dc(&mut dc, block, &mut room);
                    out.extend(room);
                }
                (out, dc.mean_q16)
            };
            for backend in Backend::available() {
                prop_assert_eq!(through(backend), through(Backend::SCALAR), "{:?}", backend);
            }
        }

        /// Overlapping by anything from nothing to all but one.
        #[test]
        fn every_backend_moves_a_frame_down(len in 1usize..100, by in 0usize..100) {
            let by = 1 + by % len;
            for backend in Backend::available() {
                let mut values: Vec<i32> = (0..len as i32).collect();
                backend.move_down(&mut values, by);
                prop_assert!(values.iter().zip(by as i32..len as i32).all(|(&x, y)| x == y));
            }
        }

        /// Powers up to the largest that [`POWER_SHIFT`](crate::POWER_SHIFT) leaves.
        #[test]
        fn every_backend_adds_up_the_bands_as_the_scalar_one_does(
            bands in 1usize..=128,
            high_hz in 4_000f64..=8_000.0,
            power in (1u64 << 30)..=1 << 38,
        ) {
            let spec = MelSpec { bands, low_hz: 0.0, high_hz, ..MelSpec::default() };
            let Ok(tables) = spec.tables() else { return Ok(()) };
            let powers: Vec<Complex> = (0..513u64)
                .map(|bin| power - (bin * bin * 1_234_567) % (1 << 29))
                .map(|power| [power as u32 as i32, (power >> 32) as i32])
                .collect();
            let bands = |backend: Backend| {
                let mut bands = Vec::new();
                backend.band_powers(&powers, &tables.contract(), |power| bands.push(power));
                bands
            };
            for backend in Backend::available() {
                prop_assert_eq!(bands(backend), bands(Backend::SCALAR), "{:?}", backend);
            }
        }
    }
}
