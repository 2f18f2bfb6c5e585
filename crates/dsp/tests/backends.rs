//! Every backend gives the scalar one's bits, from samples to features.

mod common;

use common::{decibels, music, quantized, sine, white};
use proptest::prelude::*;
use sori_dsp::design::{MelSpec, Scale};
use sori_dsp::{Backend, Error, FrontEnd, Resampler};

type Rows = (Vec<Vec<i8>>, Vec<i32>);

fn rows(backend: Backend, spec: &MelSpec, samples: &[i32]) -> Rows {
    let tables = spec.tables().expect("the spec is allowed");
    let contract = tables.contract();
    let mut workspace = vec![0; FrontEnd::workspace_len(&contract)];
    let frontend = FrontEnd::new(&contract, &mut workspace).expect("the workspace fits");
    let mut frontend = frontend.with_backend(backend);
    let (mut rows, mut levels) = (Vec::new(), Vec::new());
    frontend.push(samples, &mut |row| {
        rows.push(row.features.to_vec());
        levels.push(row.level_dbfs_q8);
    });
    (rows, levels)
}

fn agree(spec: &MelSpec, samples: &[i32]) {
    let expected = rows(Backend::SCALAR, spec, samples);
    assert!(!expected.0.is_empty());
    for backend in Backend::available() {
        assert_eq!(
            rows(backend, spec, samples),
            expected,
            "{backend:?} {spec:?}"
        );
    }
}

/// Loud, what a microphone delivers, and what its converter makes of nothing.
#[test]
fn every_backend_hears_noise_and_silence_as_the_scalar_one_does() {
    let spec = MelSpec::default();
    for peak_dbfs in [0.0, -50.0, -90.0] {
        agree(&spec, &quantized(&white(1.0, 7), peak_dbfs));
    }
    agree(&spec, &[0; 5000]);
    agree(&spec, &quantized(&sine(1.0, 997.0), 0.0));
    agree(&spec, &quantized(&music(3.0), -20.0));
}

#[test]
fn every_backend_bears_extremes_as_the_scalar_one_does() {
    let signals: [fn(usize) -> i32; 4] = [
        |n| if n % 2 == 0 { i32::MAX } else { i32::MIN },
        |n| if n / 8 % 2 == 0 { i32::MAX } else { i32::MIN },
        |n| if n == 2000 { i32::MIN } else { 0 },
        |n| i32::from(n == 2000),
    ];
    for signal in signals {
        let samples: Vec<_> = (0..6000).map(signal).collect();
        for fft in [256, 512, 1024, 2048] {
            let spec = MelSpec {
                fft,
                window_samples: fft,
                hop_samples: fft / 4,
                bands: 20,
                ..MelSpec::default()
            };
            agree(&spec, &samples);
        }
    }
}

#[test]
fn a_table_that_is_too_short_is_refused() {
    let resampler = Resampler::new(44_100, 16_000).expect("possible rates");
    assert_eq!(resampler.table_len(), 160 * 192);
    assert_eq!(
        resampler.with_table(vec![0; 160 * 192 - 1]).map(|_| ()),
        Err(Error::TableTooSmall {
            needed: 160 * 192,
            found: 160 * 192 - 1
        })
    );
}

fn resampled<T: AsRef<[i32]>>(
    mut resampler: Resampler<T>,
    samples: &[i32],
    chunk: usize,
) -> Vec<i32> {
    let mut output = Vec::new();
    for chunk in samples.chunks(chunk) {
        resampler.push(chunk, &mut |y| output.push(y));
    }
    resampler.flush(&mut |y| output.push(y));
    output
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(32) })]

    /// Windows that are no multiple of a vector, filterbanks from narrow to wide.
    #[test]
    fn every_backend_computes_the_scalar_features(
        fft in prop::sample::select(&[256usize, 512, 1024, 2048][..]),
        half_window in 16usize..=1024,
        // More than whose magnitudes a frame remembers, and such that do not fill it.
        hops in 1usize..12,
        bands in 1usize..=96,
        slaney in any::<bool>(),
        peak_dbfs in -120f64..=0.0,
        seed in any::<u64>(),
    ) {
        let window_samples = (2 * half_window).min(fft);
        let spec = MelSpec {
            fft,
            window_samples,
            hop_samples: window_samples.div_ceil(hops),
            bands,
            scale: if slaney { Scale::Slaney } else { Scale::Htk },
            ..MelSpec::default()
        };
        prop_assume!(spec.tables().is_ok_and(|tables| tables.contract().validate().is_ok()));
        let gain = common::FULL_SCALE * decibels(peak_dbfs);
        let samples: Vec<_> = white(0.5, seed).iter().map(|x| (x * gain) as i32).collect();
        agree(&spec, &samples);
    }

    /// With a table and without, whole factors and others, up and down, saturated and not.
    #[test]
    fn every_backend_and_table_resamples_as_the_scalar_one_does(
        from_hz in prop::sample::select(
            &[8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000, 192_000][..]
        ),
        to_hz in prop::sample::select(&[16_000, 22_050, 48_000][..]),
        chunk in 1usize..5000,
        shift in 0u32..16,
        seed in any::<u64>(),
    ) {
        let samples: Vec<_> = white(0.2, seed)
            .iter()
            .map(|x| (x * f64::from(i32::MAX)) as i32 >> shift)
            .collect();
        let new = || Resampler::new(from_hz, to_hz).expect("possible rates");
        let expected = resampled(new().with_backend(Backend::SCALAR), &samples, samples.len());
        for backend in Backend::available() {
            prop_assert_eq!(&resampled(new().with_backend(backend), &samples, chunk), &expected);
            let table = vec![0; new().table_len()];
            let tabled = new().with_backend(backend).with_table(table).expect("it fits");
            prop_assert_eq!(&resampled(tabled, &samples, chunk), &expected);
        }
    }
}
