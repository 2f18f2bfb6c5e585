//! A copy-on-write disk, whose changes stay in memory until all are known.
//!
//! The boot partition is edited through it, so that any failure (no space, a file that cannot be
//! edited) leaves the disk untouched.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// A page: what a card reader transfers at once, and larger than a directory entry or a sector of
/// the allocation table, which FAT code reads one by one.
const BLOCK: u64 = 4096;

/// A window of a disk, from `start` for `len` bytes.
pub(super) struct Cow<D> {
    disk: D,
    start: u64,
    len: u64,
    at: u64,
    blocks: BTreeMap<u64, Block>,
}

struct Block {
    bytes: Box<[u8]>,
    /// Its content before the first write.
    original: Option<Box<[u8]>>,
}

/// Bytes of the disk to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    /// From the start of the disk, not of the window.
    pub(super) offset: u64,
    pub(super) bytes: Box<[u8]>,
    pub(super) original: Box<[u8]>,
}

impl<D: Read + Seek> Cow<D> {
    pub(super) fn new(disk: D, start: u64, len: u64) -> Self {
        Self {
            disk,
            start,
            len,
            at: 0,
            blocks: BTreeMap::new(),
        }
    }

    /// The differences from the disk, in the disk's order.
    pub(super) fn into_changes(self) -> Vec<Change> {
        let blocks = self.blocks.into_iter().filter_map(|(index, block)| {
            let original = block.original?;
            (original != block.bytes).then(|| Change {
                offset: self.start + index * BLOCK,
                bytes: block.bytes,
                original,
            })
        });
        blocks.collect()
    }

    /// The block at the position, and the offset in it.
    fn block(&mut self) -> io::Result<(&mut Block, usize)> {
        let (index, within) = (self.at / BLOCK, (self.at % BLOCK) as usize);
        let block = match self.blocks.entry(index) {
            Entry::Occupied(block) => block.into_mut(),
            Entry::Vacant(place) => {
                let len = (self.len - index * BLOCK).min(BLOCK);
                let mut bytes = vec![0; len as usize].into_boxed_slice();
                self.disk
                    .seek(SeekFrom::Start(self.start + index * BLOCK))?;
                self.disk.read_exact(&mut bytes)?;
                place.insert(Block {
                    bytes,
                    original: None,
                })
            }
        };
        Ok((block, within))
    }
}

impl<D: Read + Seek> Read for Cow<D> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.len {
            return Ok(0);
        }
        let (block, within) = self.block()?;
        let n = buffer.len().min(block.bytes.len() - within);
        buffer[..n].copy_from_slice(&block.bytes[within..][..n]);
        self.at += n as u64;
        Ok(n)
    }
}

impl<D: Read + Seek> Write for Cow<D> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.at >= self.len {
            return Ok(0);
        }
        let (block, within) = self.block()?;
        let n = buffer.len().min(block.bytes.len() - within);
        block.original.get_or_insert_with(|| block.bytes.clone());
        block.bytes[within..][..n].copy_from_slice(&buffer[..n]);
        self.at += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<D> Seek for Cow<D> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(to) => Some(to),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = to.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// A disk's bytes in order, with the changes applied.
pub(super) struct Patched<'a, R> {
    disk: R,
    at: u64,
    /// Those not yet passed, in order.
    changes: &'a [Change],
}

impl<'a, R: Read> Patched<'a, R> {
    pub(super) fn new(disk: R, changes: &'a [Change]) -> Self {
        Self {
            disk,
            at: 0,
            changes,
        }
    }
}

impl<R: Read> Read for Patched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.disk.read(buffer)?;
        let end = self.at + n as u64;
        while let Some((change, later)) = self.changes.split_first() {
            let change_end = change.offset + change.bytes.len() as u64;
            let (from, to) = (change.offset.max(self.at), change_end.min(end));
            if from < to {
                let bytes =
                    &change.bytes[(from - change.offset) as usize..][..(to - from) as usize];
                buffer[(from - self.at) as usize..][..bytes.len()].copy_from_slice(bytes);
            }
            if change_end > end {
                break;
            }
            self.changes = later;
        }
        self.at = end;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i / 7) as u8).collect()
    }

    /// Windows and writes that straddle blocks, in pieces of awkward sizes, against a plain
    /// vector; and the stream of the result, read in pieces.
    #[test]
    fn changes_are_those_of_a_plain_disk_and_only_where_bytes_differ() {
        let mut fast = fastrand::Rng::with_seed(1);
        let original = disk(60_000);
        let (start, len) = (512, 50_000);
        let mut expected = original.clone();
        let mut cow = Cow::new(io::Cursor::new(original.clone()), start, len);
        for _ in 0..40 {
            let at = fast.u64(..len);
            let bytes: Vec<u8> = (0..fast.usize(..9_000).min((len - at) as usize))
                .map(|_| fast.u8(..))
                .collect();
            cow.seek(SeekFrom::Start(at)).unwrap();
            cow.write_all(&bytes).unwrap();
            expected[(start + at) as usize..][..bytes.len()].copy_from_slice(&bytes);
        }
        let mut seen = Vec::new();
        cow.seek(SeekFrom::Start(0)).unwrap();
        cow.read_to_end(&mut seen).unwrap();
        assert!(seen == expected[512..50_512]);

        let changes = cow.into_changes();
        let mut patched = Patched::new(io::Cursor::new(&original), &changes);
        let mut streamed: Vec<u8> = Vec::new();
        let mut piece = [0; 1_237];
        loop {
            match patched.read(&mut piece).unwrap() {
                0 => break,
                n => streamed.extend(&piece[..n]),
            }
        }
        assert!(streamed == expected);
    }

    #[test]
    fn a_write_that_changes_nothing_is_no_change() {
        let original = disk(8_192);
        let mut cow = Cow::new(io::Cursor::new(original.clone()), 0, 8_192);
        cow.write_all(&[0xff; 100]).unwrap();
        cow.seek(SeekFrom::Start(0)).unwrap();
        cow.write_all(&original[..100]).unwrap();
        assert_eq!(cow.into_changes(), []);
    }

    #[test]
    fn nothing_is_written_past_the_window() {
        let mut cow = Cow::new(io::Cursor::new(disk(10_000)), 0, 5_000);
        cow.seek(SeekFrom::Start(4_990)).unwrap();
        let error = cow.write_all(&[1; 20]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WriteZero);
    }
}
