//! Every target over its seeds, its corpus and mutations of both: the same ones each time, and with
//! `SORI_HOSTILE=1000` a thousand times as many.

use std::fs;
use std::path::Path;

use sori_hostile::{TARGETS, Target, target};

/// Marsaglia's xorshift: which cases these are is fixed with it.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % below.max(1)
    }

    fn one_of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.next(choices.len())]
    }

    /// One to eight changes.
    fn mutate(&mut self, from: &[u8], others: &[Vec<u8>], longest: usize) -> Vec<u8> {
        let mut bytes = from.to_vec();
        for _ in 0..=self.next(8) {
            let at = self.next(bytes.len());
            match self.next(7) {
                0 if !bytes.is_empty() => bytes[at] ^= 1 << self.next(8),
                1 if !bytes.is_empty() => bytes[at] = *self.one_of(&[0, 1, 0x7f, 0x80, 0xff]),
                2 if !bytes.is_empty() => bytes[at] = self.next(256) as u8,
                // A number of four bytes at its ends, as lengths and offsets have.
                3 if bytes.len() >= at + 4 => {
                    let number = *self.one_of(&[0, 1, 0xff, 0xffff, 0x7fff_ffff, u32::MAX]);
                    bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
                }
                4 => {
                    let end = (at + 1 + self.next(16)).min(bytes.len());
                    bytes.drain(at..end.max(at));
                }
                5 => {
                    let repeated = bytes[at..(at + self.next(64)).min(bytes.len())].to_vec();
                    bytes.splice(at..at, repeated);
                }
                _ => {
                    let other = self.one_of(others);
                    let begin = self.next(other.len());
                    let end = (begin + self.next(64)).min(other.len());
                    bytes.splice(at..at, other[begin..end].iter().copied());
                }
            }
        }
        bytes.truncate(longest);
        bytes
    }
}

/// What fuzzing found worth keeping.
fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target.name);
    let Ok(entries) = fs::read_dir(&folder) else {
        return Vec::new();
    };
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| fs::read(path).expect("a file"))
        .collect()
}

fn replay(name: &str) {
    let target = target(name);
    let mut inputs = (target.seeds)();
    inputs.extend(corpus(&target));
    for input in &inputs {
        (target.check)(input);
    }
    let times = std::env::var("SORI_HOSTILE").map_or(1, |times| times.parse().expect("a number"));
    let mut random = Random(0x736f_7269);
    for _ in 0..target.mutations * times {
        let from = random.one_of(&inputs).clone();
        let input = random.mutate(&from, &inputs, target.longest);
        if std::panic::catch_unwind(|| (target.check)(&input)).is_err() {
            let path = std::env::temp_dir().join(format!("sori-{name}"));
            fs::write(&path, &input).expect("a place for the input");
            panic!("{}: {}", path.display(), target.promise);
        }
    }
}

macro_rules! replays {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            replay(stringify!($name));
        })*

        /// None is left out here or there.
        #[test]
        fn every_target_is_replayed_and_fuzzed() {
            let replayed = [$(stringify!($name)),*];
            assert_eq!(TARGETS.map(|target| target.name)[..], replayed[..]);
            let fuzzed = include_str!("../../fuzz/Cargo.toml");
            for name in replayed {
                assert!(fuzzed.contains(&format!("name = \"{name}\"")), "{name}");
            }
        }
    };
}

replays! { package plan frontend resampler listener decider wav onnx text signature http }
