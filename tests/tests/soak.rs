//! Noise by the row, as a microcontroller runs, against the same noise in long batches.

use sori_conformance::host;
use sori_dsp::FrontEnd;
use sori_listener::{Event, Listener, Memory};
use sori_nn::Network;
use sori_nn::testing::Noise;
use sori_package::Package;

fn words(bytes: usize) -> Vec<u32> {
    vec![0; bytes.div_ceil(size_of::<u32>())]
}

/// Noise whose loudness wanders from silence to beyond full scale.
fn wandering(noise: &mut Noise, at_least: usize) -> Vec<i32> {
    let mut samples = Vec::new();
    while samples.len() < at_least {
        let loudest = (1 << noise.between(0, 24)) - 1;
        let length = noise.between(1, 40_000.min(at_least as i32));
        samples.extend((0..length).map(|_| noise.between(-loudest, loudest)));
    }
    samples
}

#[test]
#[ignore = "takes a while: cargo xtask endurance"]
fn an_hour_of_noise_gives_the_same_bits_by_rows_and_by_minutes() {
    let bytes = host::package(&host::model("genre.sori"));
    let package = Package::parse(&bytes).expect("a release is valid");
    rows_equal_batches(&package, 60, 60 * 16_000);
}

/// Small enough for Miri.
#[test]
fn a_moment_of_noise_gives_the_same_bits_by_rows_and_by_batches() {
    let bytes = host::package(&host::golden("mel-256.sori"));
    let package = Package::parse(&bytes).expect("the golden packages are valid");
    rows_equal_batches(&package, 3, 400);
}

fn rows_equal_batches(package: &Package<'_>, batches: usize, batch_samples: usize) {
    let mel = package.mel().expect("the network takes audio");

    let mut frontend_a = vec![0; FrontEnd::workspace_len(&mel)];
    let mut arena_a = words(Network::arena_bytes(package, 1));
    let memory = Memory {
        frontend: &mut frontend_a,
        arena: bytemuck::cast_slice_mut(&mut arena_a),
    };
    let mut listener = Listener::new(package, memory, mel.sample_rate_hz).expect("exact");

    const STRIPE: usize = 128;
    let mut frontend_b = vec![0; FrontEnd::workspace_len(&mel)];
    let mut arena_b = words(Network::arena_bytes(package, STRIPE));
    let mut frontend = FrontEnd::new(&mel, &mut frontend_b).expect("exact");
    let arena = bytemuck::cast_slice_mut(&mut arena_b);
    let mut network = Network::new(package, arena, STRIPE).expect("exact");

    let mut noise = Noise::new(60);
    let (mut rows, mut outputs) = (0, 0);
    for batch in 0..batches {
        let samples = wandering(&mut noise, batch_samples);

        let (mut features_a, mut levels_a, mut logits_a) = (Vec::new(), Vec::new(), Vec::new());
        let mut rest = &samples[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at((noise.between(1, 700) as usize).min(rest.len()));
            listener.push(now, &mut |event| match event {
                Event::Row {
                    features,
                    level_dbfs_q8,
                } => {
                    features_a.extend_from_slice(features);
                    levels_a.push(level_dbfs_q8);
                }
                Event::Output { logits, .. } => logits_a.extend_from_slice(logits),
                Event::Decision(_) => {}
            });
            rest = later;
        }

        let (mut features_b, mut levels_b, mut logits_b) = (Vec::new(), Vec::new(), Vec::new());
        frontend.push(&samples, &mut |row| {
            features_b.extend_from_slice(row.features);
            levels_b.push(row.level_dbfs_q8);
        });
        network.push(&features_b, &mut |logits| {
            logits_b.extend_from_slice(logits)
        });

        assert!(features_a == features_b, "features differ in batch {batch}");
        assert!(levels_a == levels_b, "levels differ in batch {batch}");
        assert!(logits_a == logits_b, "logits differ in batch {batch}");
        rows += levels_a.len();
        outputs += logits_a.len() / network.classes();
    }
    assert!(rows > batches && outputs > 0);
    println!("{batches} batches, {rows} feature rows, {outputs} output rows: equal");
}
