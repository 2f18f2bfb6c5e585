use crate::Error;
use crate::arch::{Backend, Block, Scratch};
use crate::fft::{Complex, Fft};

/// Real FFT in block floating point, as accurate for a quiet block as for a loud one.
///
/// ```text
/// X[k] = Σ x[n] · e^(−2πi·k·n/N)  =  bins[k] · 2^exponent,     k = 0 … N/2
/// ```
///
/// The block is first scaled to just below 2^30, whatever its level, and every stage then
/// scales down by its possible growth, so none overflows. The SNR is above 110 dB from 0 to
/// -90 dBFS of 24-bit samples.
///
/// ```
/// use sori_dsp::RealFft;
///
/// let mut workspace = [[0; 2]; 129];
/// let mut fft = RealFft::new(256, &mut workspace)?;
/// let spectrum = fft.transform(&[100; 256]);
/// assert_eq!(spectrum.exponent, -15);
/// assert_eq!(spectrum.bins[0][0] >> 15, 25_600);
/// # Ok::<_, sori_dsp::Error>(())
/// ```
#[derive(Debug)]
pub struct RealFft<'w> {
    backend: Backend,
    fft: Fft,
    spectrum: &'w mut [Complex],
    scratch: Scratch,
}

/// What [`RealFft::transform`] computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spectrum<'a> {
    /// `[re, im]` of bins 0 to N/2.
    pub bins: &'a [[i32; 2]],
    /// log2 of the factor to multiply the bins by.
    pub exponent: i32,
}

impl<'w> RealFft<'w> {
    /// A transform of `points` samples on the [default](Backend::default) backend. The
    /// workspace holds the spectrum: `points / 2 + 1` bins.
    ///
    /// # Errors
    /// [`Error::FftLength`] where `points` is not 256, 512, 1024 or 2048;
    /// [`Error::WorkspaceTooSmall`], counting `i32` values.
    pub fn new(points: usize, workspace: &'w mut [[i32; 2]]) -> Result<Self, Error> {
        if !matches!(points, 256 | 512 | 1024 | 2048) {
            return Err(Error::FftLength { found: points });
        }
        let (needed, found) = (points + 2, 2 * workspace.len());
        let Some(spectrum) = workspace.get_mut(..points / 2 + 1) else {
            return Err(Error::WorkspaceTooSmall { needed, found });
        };
        Ok(Self {
            backend: Backend::default(),
            fft: Fft::new(points),
            spectrum,
            scratch: Scratch::new(),
        })
    }

    /// The same on another backend: the same bits.
    #[must_use]
    pub fn with_backend(self, backend: Backend) -> Self {
        Self { backend, ..self }
    }

    /// Transforms a block. Missing samples count as zero; excess samples are
    /// ignored.
    pub fn transform(&mut self, samples: &[i32]) -> Spectrum<'_> {
        let points = 2 * (self.spectrum.len() - 1);
        let samples = &samples[..samples.len().min(points)];
        let used_bits = 32 - self.backend.magnitudes(samples).leading_zeros();
        let shift = 31 - used_bits;
        let block = Block {
            samples,
            shift,
            window_q31: None,
        };
        self.backend
            .transform(self.fft, &block, &mut self.scratch, self.spectrum);
        Spectrum {
            bins: self.spectrum,
            exponent: self.fft.output_exponent() + 1 - shift as i32,
        }
    }
}
