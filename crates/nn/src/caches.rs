//! Chooses how many rows of a stripe go through a block together: few enough for the expanded
//! tensor to stay in a cache, enough to fetch the weights rarely.

/// Sizes of a core's caches, in bytes.
///
/// They determine the speed of a stripe of rows and the size of its arena, never its bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caches {
    /// First level, data.
    pub first: usize,
    /// Second level. If cores share it, a stripe is still divided as if only one worked, as on a
    /// Pi that listens.
    pub second: usize,
}

impl Caches {
    /// Those of a Raspberry Pi 3, the smallest that runs a vector backend.
    pub const SMALL: Self = Self {
        first: 32 * 1024,
        second: 512 * 1024,
    };

    /// Those of the first core, as Linux reports them in `/sys/devices/system/cpu/cpu0/cache`;
    /// otherwise [`Self::SMALL`].
    #[cfg(feature = "std")]
    pub fn detect() -> Self {
        linux::caches("/sys/devices/system/cpu/cpu0/cache".as_ref()).unwrap_or(Self::SMALL)
    }

    /// Relative time to fetch a byte from the caches, if `bytes` are in use.
    ///
    /// Rows are read in order, which prefetching nearly hides up to the second level. Half of it
    /// is left for what the network reads before the next tile.
    fn distance(self, bytes: usize) -> usize {
        match bytes {
            _ if bytes <= self.first => 4,
            _ if bytes <= self.second / 2 => 5,
            _ => 16,
        }
    }

    /// Rows to take together, out of `rows`.
    ///
    /// The best size does not depend on `rows`, so that fewer rows than an arena was planned for
    /// never need more of it.
    pub(crate) fn tile_rows(self, work: Work, rows: usize) -> usize {
        if rows <= 1 {
            return 1;
        }
        let sizes = (0..=LARGEST_TILE.ilog2()).map(|n| 1 << n);
        let best = sizes.min_by_key(|&tile| self.cost(work, tile));
        best.map_or(1, |tile| tile.min(rows))
    }

    /// Relative time of memory accesses for [`LARGEST_TILE`] rows.
    fn cost(self, work: Work, tile: usize) -> usize {
        let activations = tile * work.row + work.kept;
        let weights = self.distance(activations + work.weights) * work.weights;
        // Each activation is written once and read once.
        let moved = 2 * work.row * self.distance(activations);
        LARGEST_TILE / tile * (weights + CALLS) + LARGEST_TILE * moved
    }
}

/// A power of two.
const LARGEST_TILE: usize = 128;

/// Entering a block's three kernels, as the time to bring this many bytes from the first level,
/// times its distance. By a sweep of the tile on a Zen 4, MobileNetV2-1.0-224: 8 KiB of expanded
/// rows 2.24 ms, 16 KiB 2.07, 32 KiB 1.98, 64 KiB 1.96, 128 to 512 KiB 1.92.
const CALLS: usize = 4 * 16 * 1024;

/// A block's use of the caches.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    /// Bytes of an expanded row and of the depthwise kernel's output from it.
    pub(crate) row: usize,
    /// Bytes that stay from tile to tile.
    pub(crate) kept: usize,
    /// Bytes that each tile reads.
    pub(crate) weights: usize,
}

#[cfg(feature = "std")]
mod linux {
    use std::fs;
    use std::path::Path;

    use super::Caches;

    pub(super) fn caches(folder: &Path) -> Option<Caches> {
        let (mut first, mut second) = (None, None);
        for entry in fs::read_dir(folder).ok()?.flatten() {
            let read = |name| fs::read_to_string(entry.path().join(name)).ok();
            let (Some(level), Some(kind), Some(size)) = (read("level"), read("type"), read("size"))
            else {
                continue;
            };
            let size = bytes(&size);
            match (level.trim(), kind.trim()) {
                ("1", "Data" | "Unified") => first = size,
                ("2", "Data" | "Unified") => second = size,
                _ => {}
            }
        }
        Some(Caches {
            first: first?,
            second: second?,
        })
    }

    /// `32K`, `1M`.
    fn bytes(text: &str) -> Option<usize> {
        let text = text.trim();
        let (number, unit) = match text.as_bytes().last()? {
            b'K' => (&text[..text.len() - 1], 1 << 10),
            b'M' => (&text[..text.len() - 1], 1 << 20),
            _ => (text, 1),
        };
        number.parse::<usize>().ok()?.checked_mul(unit)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn the_files_of_linux_are_read() {
            let folder = std::env::temp_dir().join(format!("sori-caches-{}", std::process::id()));
            let caches_of_a_pi_3 = [
                ("index0", "1", "Data", "32K"),
                ("index1", "1", "Instruction", "16K"),
                ("index2", "2", "Unified", "512K"),
            ];
            for (index, level, kind, size) in caches_of_a_pi_3 {
                let index = folder.join(index);
                fs::create_dir_all(&index).unwrap();
                fs::write(index.join("level"), format!("{level}\n")).unwrap();
                fs::write(index.join("type"), format!("{kind}\n")).unwrap();
                fs::write(index.join("size"), format!("{size}\n")).unwrap();
            }
            let found = caches(&folder);
            fs::write(folder.join("index2/size"), "many\n").unwrap();
            let damaged = caches(&folder);
            fs::remove_dir_all(&folder).unwrap();
            assert_eq!(found, Some(Caches::SMALL));
            assert_eq!(damaged, None);
            assert_eq!(caches(&folder), None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PI_5: Caches = Caches {
        first: 64 * 1024,
        second: 512 * 1024,
    };

    #[test]
    fn a_wide_map_stays_in_the_second_level() {
        // Block 2 of MobileNetV2-1.0-224.
        let work = Work {
            row: 112 * 96,
            kept: 2 * 112 * 96,
            weights: (16 + 9 + 24) * 96,
        };
        let rows = PI_5.tile_rows(work, 112);
        assert!(rows > 1);
        assert!(
            rows * work.row + work.kept <= PI_5.second / 2,
            "{rows} rows"
        );
    }

    #[test]
    fn a_narrow_map_with_many_weights_is_taken_whole() {
        // Block 16 of MobileNetV2-1.0-224.
        let work = Work {
            row: 2 * 7 * 960,
            kept: 2 * 7 * 960,
            weights: (160 + 9 + 160) * 960,
        };
        assert_eq!(PI_5.tile_rows(work, 7), 7);
    }

    #[test]
    fn a_tile_has_a_row_at_least_and_never_more_than_there_are() {
        for rows in [0, 1, 2, 3, 224] {
            for row in [0, 1, 1 << 24] {
                let work = Work {
                    row,
                    kept: row,
                    weights: 100,
                };
                let tile = Caches::SMALL.tile_rows(work, rows);
                assert!((1..=rows.max(1)).contains(&tile), "{rows} rows of {row}");
            }
        }
    }
}
