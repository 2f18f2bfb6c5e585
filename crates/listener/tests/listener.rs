//! Samples in, decisions out, over a random network and the default front end.

use sori_dsp::FrontEnd;
use sori_dsp::design::{MelSpec, MelTables};
use sori_listener::{ClipSummary, Decider, Error, Listener, Memory, Verdict};
use sori_nn::testing::{Noise, Table, build};
use sori_nn::{Backend, CacheLine, Network, Prepared};
use sori_package::write::PackageBytes;
use sori_package::{DecisionRule, Package, TensorShape, Thresholds};

const RULE: DecisionRule = DecisionRule {
    thresholds: Thresholds {
        silence_dbfs_q8: -70 * 256,
        enter_q15: 9_830,
        leave_q15: 6_554,
    },
    smoothing_shift: 1,
    silence_rows: 10,
};
const RATE: u32 = 16_000;

fn tables() -> MelTables {
    MelSpec::default().tables().unwrap()
}

fn package(tables: &MelTables, with_contract: bool) -> PackageBytes {
    let mut noise = Noise::new(7);
    let contract = tables.contract();
    let input = TensorShape {
        width: contract.bands as u16,
        channels: 1,
    };
    let table = Table::mobilenet_v2(input, 0.1, 4, true);
    let mut spec = table.package(&mut noise);
    if with_contract {
        spec.labels = ["blues", "jazz", "metal", "pop"].map(String::from).into();
        spec.mel = Some(contract);
        spec.decision = Some(RULE);
    }
    build(&spec)
}

/// Words, for their alignment.
fn arena(bytes: usize) -> Vec<u32> {
    vec![0; bytes.div_ceil(4)]
}

/// Everything that was said, in a form that can be compared.
fn events(bytes: &PackageBytes, rate_hz: u32, chunks: &[&[i32]]) -> Vec<String> {
    events_on(Backend::SCALAR, bytes, rate_hz, chunks)
}

fn events_on(
    backend: Backend,
    bytes: &PackageBytes,
    rate_hz: u32,
    chunks: &[&[i32]],
) -> Vec<String> {
    let package = Package::parse(bytes).unwrap();
    let mut weights = vec![CacheLine([0; 64]); Prepared::lines(&package, backend)];
    let prepared = Prepared::new(&package, backend, &mut weights).unwrap();
    let mel = package.mel().unwrap();
    let run = |frontend_len: usize| {
        let mut frontend = vec![0; frontend_len];
        let mut arena = arena(Network::arena_bytes(&prepared, 1));
        let memory = Memory {
            frontend: &mut frontend,
            arena: bytemuck::cast_slice_mut(&mut arena),
        };
        let mut listener = Listener::new(&prepared, memory, rate_hz).unwrap();
        let mut said = Vec::new();
        let mut passes = Vec::new();
        for _ in 0..2 {
            for chunk in chunks {
                listener.push(chunk, &mut |event| said.push(format!("{event:?}")));
            }
            listener.finish(&mut |event| said.push(format!("{event:?}")));
            listener.reset();
            passes.push(std::mem::take(&mut said));
        }
        assert_eq!(passes[0], passes[1], "reset forgets everything");
        passes.swap_remove(0)
    };
    let said = run(Listener::frontend_len(&mel, rate_hz));
    let with_table = run(Listener::ample_frontend_len(&mel, rate_hz));
    assert_eq!(with_table, said, "a table of taps changes no bit");
    said
}

fn music(rate_hz: u32, seconds: u32) -> Vec<i32> {
    let mut noise = Noise::new(3);
    (0..rate_hz * seconds)
        .map(|n| {
            let beat = (n / (rate_hz / 4)) % 4;
            let hz = [220.0, 330.0, 440.0, 880.0][beat as usize];
            let phase = std::f64::consts::TAU * hz * f64::from(n) / f64::from(rate_hz);
            (phase.sin() * 2e6) as i32 + noise.between(-40_000, 40_000)
        })
        .collect()
}

#[test]
fn any_chunking_gives_the_same_events() {
    let tables = tables();
    let bytes = package(&tables, true);
    for rate_hz in [RATE, 44_100] {
        let samples = music(rate_hz, 3);
        let whole = events(&bytes, rate_hz, &[&samples]);
        assert!(whole.iter().any(|event| event.contains("Output")));
        for size in [1, 97, 160, 4_096] {
            let chunks: Vec<_> = samples.chunks(size).collect();
            assert_eq!(
                events(&bytes, rate_hz, &chunks),
                whole,
                "{rate_hz} Hz by {size}"
            );
        }
    }
}

/// With a resampler in front and without.
#[test]
fn every_backend_gives_the_same_events() {
    let tables = tables();
    let bytes = package(&tables, true);
    for rate_hz in [RATE, 44_100] {
        let samples = music(rate_hz, 3);
        let expected = events(&bytes, rate_hz, &[&samples]);
        for backend in Backend::available() {
            let found = events_on(backend, &bytes, rate_hz, &[&samples]);
            assert_eq!(found, expected, "{backend}, {rate_hz} Hz");
        }
    }
}

#[test]
fn silence_begins_after_its_rows_and_ends_with_the_first_loud_one() {
    let tables = tables();
    let bytes = package(&tables, true);
    let quiet = vec![0; RATE as usize];
    let said = events(&bytes, RATE, &[&quiet, &music(RATE, 1)]);
    let at = |needle: &str| {
        said.iter()
            .position(|event| event.contains(needle))
            .unwrap()
    };
    let rows_before = said[..at("Silence")]
        .iter()
        .filter(|event| event.starts_with("Row"))
        .count();
    assert_eq!(rows_before, usize::from(RULE.silence_rows));
    let loud = said
        .iter()
        .rposition(|event| event.contains("Silence"))
        .unwrap();
    assert!(
        said[loud..]
            .iter()
            .any(|event| event.starts_with("Decision"))
    );
}

#[test]
fn a_clip_of_silence_is_silence_and_a_short_one_still_answers() {
    let tables = tables();
    let bytes = package(&tables, true);
    let package = Package::parse(&bytes).unwrap();
    let clip_of = |samples: &[i32]| {
        let mut frontend = vec![0; FrontEnd::workspace_len(&package.mel().unwrap())];
        let mut arena = arena(Network::arena_bytes(&package, 1));
        let memory = Memory {
            frontend: &mut frontend,
            arena: bytemuck::cast_slice_mut(&mut arena),
        };
        let mut listener = Listener::new(&package, memory, RATE).unwrap();
        let mut summary = ClipSummary::new(&package);
        listener.push(samples, &mut |event| summary.observe(&event));
        listener.finish(&mut |event| summary.observe(&event));
        summary.clip()
    };
    assert_eq!(
        clip_of(&vec![0; 3 * RATE as usize]).verdict,
        Verdict::Silence
    );

    let short = clip_of(&music(RATE, 1)[..tables.contract().window_samples]);
    assert_eq!(short.rows, 1);
    assert_eq!(short.probabilities_q15.len(), 4);

    let none = clip_of(&[1; 100]);
    assert_eq!(
        (none.rows, none.verdict, none.best),
        (0, Verdict::Unknown, None)
    );

    let whole = clip_of(&music(RATE, 4));
    let total: u32 = whole.probabilities_q15.iter().map(|&p| u32::from(p)).sum();
    assert!(
        (32_760..=32_776).contains(&total),
        "probabilities add up: {total}"
    );
}

#[test]
fn a_name_needs_enter_and_stays_until_leave() {
    let rule = DecisionRule {
        smoothing_shift: 0,
        ..RULE
    };
    let mut decider = Decider::new(rule, None);
    assert_eq!(decider.verdict(), Verdict::Unknown);
    let mut step = |first: u16, second: u16| {
        decider.probabilities(&[first, second]);
        decider.verdict()
    };
    assert_eq!(step(9_829, 100), Verdict::Unknown);
    assert_eq!(step(9_830, 100), Verdict::Label(0));
    assert_eq!(
        step(6_554, 9_829),
        Verdict::Label(0),
        "below enter, not below leave"
    );
    assert_eq!(step(9_830, 9_831), Verdict::Label(1), "another took over");
    assert_eq!(step(9_000, 6_553), Verdict::Unknown);
}

/// The class for what is none of the others is never named, however probable, and silences
/// the others from half of the probability on.
#[test]
fn what_is_no_class_is_unknown() {
    let rule = DecisionRule {
        smoothing_shift: 0,
        ..RULE
    };
    let mut decider = Decider::new(rule, Some(0));
    let mut step = |unknown: u16, other: u16| {
        decider.probabilities(&[unknown, other]);
        decider.verdict()
    };
    step(0, 32_768);
    assert_eq!(step(16_383, 16_385), Verdict::Label(1));
    assert_eq!(step(16_384, 16_384), Verdict::Unknown);
    assert_eq!(step(32_768, 0), Verdict::Unknown);
    assert_eq!(step(0, 32_768), Verdict::Label(1));
}

#[test]
fn smoothing_halves_the_distance_to_each_new_probability() {
    let mut decider = Decider::new(RULE, None);
    decider.probabilities(&[32_768, 0]);
    decider.probabilities(&[0, 32_768]);
    assert_eq!(decider.smoothed_q15()[..], [16_384, 16_384]);
    for _ in 0..40 {
        decider.probabilities(&[0, 32_768]);
    }
    let settled = decider.smoothed_q15();
    assert!(settled[0] == 0 && settled[1] >= 32_767, "{settled:?}");
}

/// A causal network gives its first output row after one feature row: 16 ms of sound.
#[test]
fn the_first_output_row_names_nothing() {
    let mut decider = Decider::new(RULE, None);
    decider.probabilities(&[32_768, 0]);
    assert_eq!(decider.verdict(), Verdict::Unknown);
    decider.probabilities(&[32_768, 0]);
    assert_eq!(decider.verdict(), Verdict::Label(0));
}

#[test]
fn a_package_without_a_contract_is_refused_with_the_reason() {
    let tables = tables();
    let bytes = package(&tables, false);
    let package = Package::parse(&bytes).unwrap();
    let mut arena = arena(Network::arena_bytes(&package, 1));
    let memory = Memory {
        frontend: &mut [],
        arena: bytemuck::cast_slice_mut(&mut arena),
    };
    let refused = Listener::new(&package, memory, RATE).unwrap_err();
    assert_eq!(refused, Error::NoMelContract);
    assert!(refused.to_string().contains("--contract"));
}

#[test]
fn rates_and_memory_that_do_not_fit_are_refused() {
    let tables = tables();
    let bytes = package(&tables, true);
    let package = Package::parse(&bytes).unwrap();
    let refused = |frontend_len: usize, arena_len: usize, rate_hz: u32| {
        let mut frontend = vec![0; frontend_len];
        let mut arena = arena(arena_len);
        let memory = Memory {
            frontend: &mut frontend,
            arena: bytemuck::cast_slice_mut(&mut arena),
        };
        Listener::new(&package, memory, rate_hz).unwrap_err()
    };
    let words = FrontEnd::workspace_len(&package.mel().unwrap());
    let bytes = Network::arena_bytes(&package, 1);
    let resampling = Listener::frontend_len(&package.mel().unwrap(), 1_000);
    assert!(matches!(
        refused(resampling, bytes, 1_000),
        Error::FrontEnd(sori_dsp::Error::SampleRate { .. })
    ));
    assert_eq!(
        refused(resampling - 1, bytes, 48_000),
        Error::FrontEnd(sori_dsp::Error::WorkspaceTooSmall {
            needed: resampling,
            found: resampling - 1
        })
    );
    assert!(matches!(
        refused(words - 1, bytes, RATE),
        Error::FrontEnd(_)
    ));
    assert!(matches!(refused(words, bytes - 4, RATE), Error::Network(_)));
}

#[test]
fn silence_is_below_its_threshold_and_lasts_its_rows() {
    let rule = |silence_rows| DecisionRule {
        silence_rows,
        ..RULE
    };
    let threshold = RULE.thresholds.silence_dbfs_q8;
    let mut decider = Decider::new(rule(2), None);
    for (level, verdict) in [
        (threshold - 1, Verdict::Unknown),
        (threshold - 1, Verdict::Silence),
        // At the threshold it is sound.
        (threshold, Verdict::Unknown),
        (threshold - 1, Verdict::Unknown),
    ] {
        decider.level(level);
        assert_eq!(decider.verdict(), verdict, "{level}");
    }
    // Without rows to last, a quiet one is enough; none is none.
    let mut decider = Decider::new(rule(0), None);
    assert_eq!(decider.verdict(), Verdict::Unknown);
    decider.level(threshold);
    assert_eq!(decider.verdict(), Verdict::Unknown);
    decider.level(threshold - 1);
    assert_eq!(decider.verdict(), Verdict::Silence);
}

/// Half a step of 1/32768 goes up.
#[test]
fn what_is_smoothed_is_rounded() {
    let mut decider = Decider::new(RULE, None);
    for probability in [0, 1] {
        decider.probabilities(&[probability]);
    }
    assert_eq!(decider.smoothed_q15()[..], [1]);
    decider.probabilities(&[0]);
    assert_eq!(decider.smoothed_q15()[..], [0]);
}

#[test]
fn the_class_that_is_never_named_is_found_by_its_label() {
    let of = |labels: [&str; 4]| {
        let tables = tables();
        let mut noise = Noise::new(7);
        let contract = tables.contract();
        let input = TensorShape {
            width: contract.bands as u16,
            channels: 1,
        };
        let mut spec = Table::mobilenet_v2(input, 0.1, 4, true).package(&mut noise);
        spec.labels = labels.map(String::from).into();
        spec.mel = Some(contract);
        spec.decision = Some(RULE);
        let bytes = build(&spec);
        sori_listener::unknown_class(&Package::parse(&bytes).unwrap())
    };
    assert_eq!(of(["blues", "jazz", "unknown", "pop"]), Some(2));
    assert_eq!(of(["blues", "jazz", "metal", "unknown"]), Some(3));
    assert_eq!(of(["Unknown", "unknowns", "metal", "pop"]), None);
}

#[test]
fn the_front_end_is_scalar_where_the_network_is() {
    for backend in Backend::available() {
        let frontend = sori_listener::frontend_backend(backend);
        let scalar = backend == Backend::SCALAR;
        assert_eq!(
            frontend == sori_dsp::Backend::SCALAR,
            scalar || { sori_dsp::Backend::detect() == sori_dsp::Backend::SCALAR }
        );
    }
}
