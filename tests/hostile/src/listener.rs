//! Any samples into a small network that listens.

use std::sync::LazyLock;

use sori_listener::{Event, Listener, Memory};
use sori_nn::Network;
use sori_package::write::PackageBytes;
use sori_package::{MelContract, Package};

use crate::{Input, noise};

/// A network of no training, under the shipped network's contract and rule.
static PACKAGE: LazyLock<PackageBytes> = LazyLock::new(|| {
    use sori_nn::testing::{Noise, Table, build};
    let genre = sori_package::write::PackageBytes::copy_from(sori_genre::PACKAGE);
    let genre = Package::parse(&genre).expect("the shipped package");
    let mut noise = Noise::new(7);
    let mut table = Table::mobilenet_v2(genre.input(), 0.1, 4, true);
    table.blocks.truncate(3);
    let mut spec = table.package(&mut noise);
    let mel: MelContract<'_> = genre.mel().expect("it listens");
    spec.mel = Some(mel);
    spec.decision = genre.decision();
    spec.labels = ["a", "b", "c", "d"].map(Into::into).into();
    build(&spec)
});

/// What happens, in order.
type Heard = Vec<(u64, String)>;

pub(crate) fn check(data: &[u8]) {
    let mut input = Input(data);
    let rate_hz =
        [16_000, 48_000, 44_100, 8_000, 192_000, 0, 7_999, 16_001][usize::from(input.byte() % 8)];
    let step = usize::from(input.word()) + 1;
    let times = usize::from(input.byte() % 8) + 1;
    let samples = input.samples().repeat(times);
    let package = Package::parse(&PACKAGE).expect("it was just written");
    let mel = package.mel().expect("it was given one");
    let frontend_len = match step % 2 {
        0 => Listener::frontend_len(&mel, rate_hz),
        _ => Listener::ample_frontend_len(&mel, rate_hz),
    };
    let mut frontend = vec![0; frontend_len];
    let mut arena = vec![0i32; Network::arena_bytes(&package, 1).div_ceil(4)];
    let memory = Memory {
        frontend: &mut frontend,
        arena: bytemuck::cast_slice_mut(&mut arena),
    };
    let Ok(mut listener) = Listener::new(&package, memory, rate_hz) else {
        assert!(!(8_000..=192_000).contains(&rate_hz), "{rate_hz} Hz");
        return;
    };
    let whole = heard(&mut listener, &samples, usize::MAX);
    listener.reset();
    // The same again, so that whatever the first stream left behind would show.
    assert_eq!(heard(&mut listener, &samples, step), whole, "by {step}");
}

fn heard(listener: &mut Listener<'_, '_>, samples: &[i32], step: usize) -> Heard {
    let mut heard = Vec::new();
    let mut keep = |event: Event<'_>| {
        if let Event::Decision(decision) = event {
            assert!(decision.probabilities_q15.iter().all(|&p| p <= 1 << 15));
            heard.push((decision.time_ms, format!("{event:?}")));
        }
    };
    for samples in samples.chunks(step) {
        listener.push(samples, &mut keep);
    }
    listener.finish(&mut keep);
    assert!(heard.is_sorted_by_key(|&(time_ms, _)| time_ms));
    heard
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let seed = |rate: u8, loud: u32| {
        let head = [rate, 77, 0, 7].into_iter();
        head.chain(noise(loud, 1000)).collect()
    };
    vec![
        seed(0, 0x9e37_79b9),
        seed(1, 5),
        seed(2, 0),
        seed(3, 1 << 31),
    ]
}
