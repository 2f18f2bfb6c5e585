use sori_package::MelContract;

use crate::arch::{Backend, Block, Scratch};
use crate::dc::DcBlocker;
use crate::fft::{Complex, Fft};
use crate::log2::log2_q16;
use crate::{Error, FULL_SCALE_BITS, POWER_SHIFT};

/// Most bands a contract can have.
const MAX_BANDS: usize = 256;

/// Most hops in a frame whose magnitudes are remembered; with more, each frame is looked
/// through.
const MAX_HOPS: usize = 8;

/// A band without any energy: below everything that is measured.
const NOTHING_Q16: i32 = i32::MIN / 4;

/// One mel frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row<'a> {
    /// One value per band, lowest band first.
    pub features: &'a [i8],
    /// Power within the filterbank, 1/256 dB relative to a full-scale sine;
    /// [`Row::SILENT`] for digital silence.
    pub level_dbfs_q8: i32,
}

impl Row<'_> {
    /// The level of a frame of zeros: -200 dBFS, below any converter's noise.
    pub const SILENT: i32 = -200 * 256;
}

/// Samples in, int8 log-mel rows out: DC blocker, framing, window, FFT, power,
/// mel filterbank, log2, level normalization.
///
/// The first row comes with the first full window, then one every hop. Any
/// chunking of the samples gives the same bits.
///
/// With L the log2 power of a band, where 0 is a full-scale sine in the middle of
/// a band, and `peak` the largest L of the frame:
///
/// ```text
/// reference = max(peak, reference − release, floor)     (first frame: max(peak, floor))
/// feature   = clamp(top + round((L − reference) · scale), −128, 127)
/// ```
///
/// so a gain in front of the microphone changes the level but not the features.
#[derive(Debug)]
pub struct FrontEnd<'p, 'w> {
    backend: Backend,
    contract: MelContract<'p>,
    fft: Fft,
    dc: DcBlocker,
    /// The last `window_samples` samples, oldest first; `filled` of them are there.
    frame: &'w mut [i32],
    filled: usize,
    /// [`Backend::magnitudes`] of each hop of the frame, as far as it is filled: three of four
    /// hops of a usual frame have been in the one before.
    hop_magnitudes: [i32; MAX_HOPS],
    /// FFT buffer, then the bands' logarithms.
    spectrum: &'w mut [Complex],
    scratch: Scratch,
    reference_q16: Option<i32>,
    /// log2 of what a full-scale sine gives at its bin, and of its in-band power.
    sine_peak_q16: i32,
    sine_power_q16: i32,
    /// First bin of the filterbank, and the one after its last.
    bins: (usize, usize),
    features: [i8; MAX_BANDS],
}

impl<'p, 'w> FrontEnd<'p, 'w> {
    /// Length of the workspace in `i32` values.
    pub fn workspace_len(contract: &MelContract<'_>) -> usize {
        contract.window_samples + contract.fft + 2
    }

    /// A front end at the start of a stream, on the [default](Backend::default) backend.
    ///
    /// # Errors
    /// [`Error::WorkspaceTooSmall`], or [`Error::Contract`] for an invalid contract that does not come
    /// from a parsed package.
    pub fn new(contract: &MelContract<'p>, workspace: &'w mut [i32]) -> Result<Self, Error> {
        contract.validate().map_err(Error::Contract)?;
        let needed = Self::workspace_len(contract);
        let found = workspace.len();
        let Some(workspace) = workspace.get_mut(..needed) else {
            return Err(Error::WorkspaceTooSmall { needed, found });
        };
        let (frame, spectrum) = workspace.split_at_mut(contract.window_samples);
        let (sine_peak_q16, sine_power_q16) = full_scale_sine(contract);
        let mut frontend = Self {
            backend: Backend::default(),
            contract: *contract,
            fft: Fft::new(contract.fft),
            dc: DcBlocker::new(contract.dc_shift),
            frame,
            filled: 0,
            hop_magnitudes: [0; MAX_HOPS],
            spectrum: spectrum.as_chunks_mut().0,
            scratch: Scratch::new(),
            reference_q16: None,
            sine_peak_q16,
            sine_power_q16,
            bins: bins(contract),
            features: [0; MAX_BANDS],
        };
        frontend.reset();
        Ok(frontend)
    }

    /// The same on another backend: the same bits.
    #[must_use]
    pub fn with_backend(self, backend: Backend) -> Self {
        Self { backend, ..self }
    }

    /// Forgets the stream: samples, DC and level.
    pub fn reset(&mut self) {
        self.dc = DcBlocker::new(self.contract.dc_shift);
        self.filled = 0;
        self.hop_magnitudes = [0; MAX_HOPS];
        self.reference_q16 = None;
    }

    /// Takes samples in 24-bit scale at the contract's rate; calls `on_row` with each row.
    pub fn push(&mut self, mut samples: &[i32], on_row: &mut impl FnMut(Row<'_>)) {
        while !samples.is_empty() {
            let taken = self.take(samples);
            samples = &samples[taken..];
            if self.filled == self.frame.len() {
                on_row(self.row());
                self.backend
                    .move_down(self.frame, self.contract.hop_samples);
                self.filled -= self.contract.hop_samples;
                self.hop_magnitudes.copy_within(1.., 0);
                self.hop_magnitudes[MAX_HOPS - 1] = 0;
            }
        }
    }

    /// Puts samples into the frame, as many as it or its current hop lacks, and says how many.
    ///
    /// Not inlined: one copy in flash, whatever the closures that rows go to.
    #[inline(never)]
    fn take(&mut self, samples: &[i32]) -> usize {
        let hop_samples = self.contract.hop_samples;
        let hop = self.filled / hop_samples;
        let end = self.frame.len().min((hop + 1) * hop_samples);
        let room = &mut self.frame[self.filled..end];
        let taken = samples.len().min(room.len());
        let room = &mut room[..taken];
        self.backend.block_dc(&mut self.dc, &samples[..taken], room);
        if let Some(magnitudes) = self.hop_magnitudes.get_mut(hop) {
            *magnitudes |= self.backend.magnitudes(room);
        }
        self.filled += taken;
        taken
    }

    fn row(&mut self) -> Row<'_> {
        let bands = self.contract.bands;
        let Some((exponent, power)) = self.power_spectrum() else {
            // Only zeros: the reference falls as in any other frame.
            self.follow_level(NOTHING_Q16);
            self.features[..bands].fill(i8::MIN);
            return Row {
                features: &self.features[..bands],
                level_dbfs_q8: Row::SILENT,
            };
        };

        let mut logs = [NOTHING_Q16; MAX_BANDS];
        let mut peak = NOTHING_Q16;
        let mut log = logs.iter_mut();
        let scale = exponent - (15 << 16) - self.sine_peak_q16;
        self.backend
            .band_powers(self.spectrum, &self.contract, |power| {
                if let (Some(log), Some(log2)) = (log.next(), log2_q16(power)) {
                    *log = log2 + scale;
                    peak = peak.max(*log);
                }
            });

        let reference = self.follow_level(peak);
        let contract = &self.contract;
        // A product is shifted by 31 and more again, 1 at least: its low word can only
        // tell where its first bit is the half that rounds up.
        let shift = u32::from(contract.feature_shift) - 1;
        let half = 1i64 << (31 + shift);
        for (feature, &log) in self.features.iter_mut().zip(&logs[..bands]) {
            let product = i64::from(log - reference) * i64::from(contract.feature_multiplier);
            let steps = ((product + half) >> 32) as i32 >> shift;
            *feature = (steps + i32::from(contract.feature_top)).clamp(-128, 127) as i8;
        }
        Row {
            features: &self.features[..bands],
            level_dbfs_q8: self.level(power, exponent),
        }
    }

    /// Windowed FFT of the frame, and in place of the filterbank's bins their power. Returns
    /// log2 (Q16) of the factor that brings the powers back to the samples' scale, and
    /// the sum of these bins' power; none when all samples are zero.
    fn power_spectrum(&mut self) -> Option<(i32, u64)> {
        let hops = self.frame.len().div_ceil(self.contract.hop_samples);
        let magnitudes = match self.hop_magnitudes.get(..hops) {
            Some(hops) => hops.iter().fold(0, |or, &hop| or | hop),
            None => self.backend.magnitudes(self.frame),
        };
        debug_assert_eq!(magnitudes, self.backend.magnitudes(self.frame));
        let used_bits = 32 - magnitudes.leading_zeros();
        if used_bits == 0 && self.frame.iter().all(|&x| x == 0) {
            return None;
        }
        // Just below 2^31; the product with the window's Q31 then stays below 2^30.
        let block_shift = 31 - used_bits;
        let block = Block {
            samples: self.frame,
            shift: block_shift,
            window_q31: Some(self.contract.window_q31),
        };
        self.backend
            .transform(self.fft, &block, &mut self.scratch, self.spectrum);

        let magnitudes = self.backend.magnitudes(self.spectrum.as_flattened());
        let headroom = magnitudes.leading_zeros().saturating_sub(1).min(30);
        let (first, end) = self.bins;
        let power = self
            .backend
            .powers(&mut self.spectrum[first..end], headroom);
        let log2 = POWER_SHIFT as i32 + 2 * self.fft.output_exponent()
            - 2 * headroom as i32
            - 2 * (block_shift as i32 - 1 + DcBlocker::FRACTION_BITS as i32);
        Some((log2 << 16, power))
    }

    fn follow_level(&mut self, peak: i32) -> i32 {
        let contract = &self.contract;
        let fallen = match self.reference_q16 {
            Some(reference) => reference.saturating_sub_unsigned(contract.reference_release_q16),
            None => peak,
        };
        let reference = peak.max(fallen).max(contract.reference_floor_q16);
        *self.reference_q16.insert(reference)
    }

    /// The filterbank's power in dBFS, Q8.
    fn level(&self, power: u64, exponent: i32) -> i32 {
        /// 10·log10(2)·2^8 / 2^16, Q24.
        const DB_Q8_PER_LOG2_Q16: i64 = 197_283;
        match log2_q16(power) {
            Some(log2) => {
                let relative = i64::from(log2 + exponent - self.sine_power_q16);
                ((relative * DB_Q8_PER_LOG2_Q16) >> 24).max(Row::SILENT.into()) as i32
            }
            None => Row::SILENT,
        }
    }
}

/// First bin of the filterbank, and the one after its last.
fn bins(contract: &MelContract<'_>) -> (usize, usize) {
    contract
        .filterbank()
        .fold((usize::MAX, 0), |(first, end), band| {
            (
                first.min(band.first_bin),
                end.max(band.first_bin + band.weights_q15.len()),
            )
        })
}

/// log2 (Q16) of a full-scale sine's |X|² at its own bin, (A·Σw/2)², and of its power
/// over all bins, A²·Σw²·N/4 (Parseval).
fn full_scale_sine(contract: &MelContract<'_>) -> (i32, i32) {
    let window = contract.window_q31;
    let inner = &window[1..window.len() - 1];
    let (first, last) = (window[0], window[window.len() - 1]);
    let mirrored =
        |f: fn(i32) -> u64| f(first) + f(last) + 2 * inner.iter().map(|&w| f(w)).sum::<u64>();
    let sum = mirrored(|w| w as u64);
    let squares = mirrored(|w| (w as u64 * w as u64) >> 16);
    let log2 = |x| log2_q16(x).unwrap_or(0);
    let amplitude = (2 * FULL_SCALE_BITS) << 16;
    let peak = 2 * (log2(sum) - (31 << 16)) + amplitude - (2 << 16);
    let points = (contract.fft.trailing_zeros() as i32) << 16;
    let power = log2(squares) - (46 << 16) + amplitude + points - (2 << 16);
    (peak, power)
}
