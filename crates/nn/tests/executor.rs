//! The line-buffer executor against whole tensors, and against itself.

mod common;

use proptest::prelude::*;
use sori_nn::testing::{Noise, Table, random_plan};
use sori_nn::{Backend, CacheLine, Caches, Error, Network, Prepared};
use sori_package::{Package, TensorShape};

/// All logits of a clip that is pushed in the given pieces (rows), in an arena of exactly
/// the stated size between canaries.
fn run(prepared: &Prepared<'_>, clip: &[i8], stripe: usize, pieces: &[usize]) -> Vec<Vec<i8>> {
    const CANARY: u8 = 0xa5;
    let needed = Network::arena_bytes(prepared, stripe);
    let mut memory = vec![CANARY; needed + 256];
    let start = 64 + memory[64..].as_ptr().align_offset(64);
    let mut outputs = Vec::new();
    {
        let arena = &mut memory[start..start + needed];
        let mut network = Network::new(prepared, arena, stripe).expect("the arena is exact");
        let mut rest = clip;
        for (n, rows) in pieces.iter().cycle().enumerate() {
            let now = (rows * network.row_len()).min(rest.len());
            let (now, later) = rest.split_at(now);
            rest = later;
            // The last rows come with the end of the clip or before it.
            if rest.is_empty() && n % 2 == 0 {
                network.finish(now, &mut |logits| outputs.push(logits.to_vec()));
                break;
            }
            network.push(now, &mut |logits| outputs.push(logits.to_vec()));
            if rest.is_empty() {
                break;
            }
        }
        network.flush(&mut |logits| outputs.push(logits.to_vec()));
        assert_eq!(network.logits(), outputs.last().map(Vec::as_slice));
        assert_eq!(network.clip(clip), outputs.last().map(Vec::as_slice));
    }
    let untouched = memory[..start].iter().chain(&memory[start + needed..]);
    assert!(
        untouched.into_iter().all(|&byte| byte == CANARY),
        "wrote outside the arena"
    );
    outputs
}

/// Shows the package prepared for each backend that this processor has, and for a Cortex-M's.
fn for_each_backend(package: &Package<'_>, mut check: impl FnMut(&Prepared<'_>)) {
    for backend in Backend::available().chain(Backend::emulated()) {
        let mut memory = vec![CacheLine([0xa5; 64]); Prepared::lines(package, backend)];
        check(&Prepared::new(package, backend, &mut memory).expect("the memory is exact"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Any table, padding, stride and zero point; clips from nothing to many stripes.
    #[test]
    fn every_backend_computes_what_whole_tensors_would(
        seed in any::<u64>(),
        rows in 0usize..90,
        stripe in 1usize..40,
        caches in (0usize..1 << 14, 0usize..1 << 16),
        as_quantized in any::<bool>(),
        pieces in prop::collection::vec(1usize..50, 1..6),
    ) {
        let mut noise = Noise::new(seed);
        let table = Table { as_quantized, ..Table::random(&mut noise) };
        let bytes = table.bytes(&mut noise);
        let package = Package::parse(&bytes).expect("valid");
        let clip = noise.int8(rows * package.input().row_len());
        let expected = common::logits(&package, &clip);
        for_each_backend(&package, |prepared| {
            let (first, second) = caches;
            let prepared = &prepared.clone().with_caches(Caches { first, second });
            let backend = prepared.backend();
            assert_eq!(run(prepared, &clip, stripe, &pieces), expected, "{backend}, {table:?}");
            assert_eq!(run(prepared, &clip, 1, &[1]), expected, "{backend}, by rows, {table:?}");
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Any memory plan of any table: rows kept and computed again, groups that divide the channels
    /// and that do not, in an arena of exactly the stated size.
    #[test]
    fn every_plan_gives_the_bits_of_whole_tensors(
        seed in any::<u64>(),
        rows in 0usize..60,
        as_quantized in any::<bool>(),
        pieces in prop::collection::vec(1usize..50, 1..6),
    ) {
        let mut noise = Noise::new(seed);
        let table = Table { as_quantized, ..Table::random(&mut noise) };
        let bytes = table.bytes(&mut noise);
        let package = Package::parse(&bytes).expect("valid");
        let clip = noise.int8(rows * package.input().row_len());
        let plan = random_plan(&package, &mut noise);
        let expected = common::logits(&package, &clip);
        for_each_backend(&package, |prepared| {
            let planned = prepared.clone().with_plan(Some(&plan)).expect("of this network");
            assert_eq!(
                run(&planned, &clip, 1, &pieces),
                expected,
                "{}, {plan:?}, {table:?}",
                prepared.backend()
            );
            let longer = Network::arena_bytes(&planned, 2);
            assert_eq!(longer, Network::arena_bytes(prepared, 2), "a plan is for a row at a time");
        });
    }
}

/// The paper's network, symmetric and causal, whole, by rows and by odd pieces, on every backend.
#[test]
fn batch_rows_and_chunks_of_mobilenet_v2_give_the_same_bits() {
    for (causal, as_quantized) in [(false, true), (true, false)] {
        let input = TensorShape {
            width: 64,
            channels: 1,
        };
        let mut noise = Noise::new(7);
        let table = Table {
            as_quantized,
            ..Table::mobilenet_v2(input, 0.35, 10, causal)
        };
        let bytes = table.bytes(&mut noise);
        let package = Package::parse(&bytes).expect("valid");
        let clip = noise.int8(160 * 64);
        let whole = run(&(&package).into(), &clip, 1, &[160]);
        assert!(whole.len() >= 5);
        for_each_backend(&package, |prepared| {
            for (stripe, pieces) in [
                (160, &[160][..]),
                (1, &[1]),
                (8, &[3, 17, 1]),
                (128, &[100]),
            ] {
                assert_eq!(
                    run(prepared, &clip, stripe, pieces),
                    whole,
                    "{} {causal} {stripe} {pieces:?}",
                    prepared.backend()
                );
            }
        });
    }
}

#[test]
fn a_new_stream_knows_nothing_of_the_last() {
    let mut noise = Noise::new(3);
    let input = TensorShape {
        width: 32,
        channels: 1,
    };
    let bytes = Table::mobilenet_v2(input, 0.1, 4, false).bytes(&mut noise);
    let package = Package::parse(&bytes).expect("valid");
    let mut arena = vec![0; Network::arena_bytes(&package, 4) + 64];
    let start = arena.as_ptr().align_offset(64);
    let mut network = Network::new(&package, &mut arena[start..], 4).expect("fits");
    assert_eq!(network.logits(), None);
    let (clip, other) = (noise.int8(100 * 32), noise.int8(77 * 32));
    let mut first = Vec::new();
    network.push(&clip, &mut |logits| first.push(logits.to_vec()));
    network.reset();
    network.push(&other, &mut |_| ());
    network.flush(&mut |_| ());
    network.flush(&mut |_| panic!("a second flush has nothing to add"));
    let mut again = Vec::new();
    network.push(&clip, &mut |logits| again.push(logits.to_vec()));
    assert_eq!(first, again);
}

#[test]
fn what_cannot_run_is_refused_and_says_why() {
    let mut noise = Noise::new(3);
    let input = TensorShape {
        width: 32,
        channels: 1,
    };
    let bytes = Table::mobilenet_v2(input, 0.1, 4, false).bytes(&mut noise);
    let package = Package::parse(&bytes).expect("valid");
    let needed = Network::arena_bytes(&package, 2);
    let mut arena = sori_nn::Arena::<200_000>::new();
    let error = |arena: &mut [u8], stripe| Network::new(&package, arena, stripe).map(|_| ()).err();
    let memory = arena.as_mut_slice();
    assert_eq!(
        error(&mut memory[..needed - 1], 2),
        Some(Error::ArenaTooSmall {
            needed,
            found: needed - 1
        })
    );
    assert_eq!(
        error(&mut memory[1..], 2),
        Some(Error::ArenaMisaligned { needed: 4 })
    );
    assert_eq!(error(memory, 0), Some(Error::StripeZero));
    assert_eq!(error(&mut memory[..needed], 2), None);
}
