//! Writes an image to a card, and verifies it.
//!
//! Everything works on any reader and writer, so that cards which end early, fail and lie are
//! ordinary tests.

use std::io::{self, Read, Seek, SeekFrom, Write};

use anyhow::{Context as _, Result, anyhow, bail};
use sha1::{Digest as _, Sha1};

use super::cow::Change;
use super::size;

/// Bytes written, hashed and compared at a time: a card's erase block, or a multiple.
pub(super) const CHUNK: usize = 4 << 20;
/// How much may wait in the page cache, so that a failing card is noticed while it is written.
const SYNC_EVERY: u64 = 64 << 20;

/// The same for changes, in pages: a megabyte.
const CHANGES_AT_A_TIME: usize = 256;

/// The target of an image.
pub(super) trait Card: Read + Write + Seek {
    /// Returns once the card has everything written so far.
    fn sync(&mut self) -> io::Result<()>;
}

/// The expected hash of each chunk on the card.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) len: u64,
    chunks: Vec<[u8; 20]>,
}

/// Writes `image`; `progress` gets the number of bytes written.
///
/// The first chunk, with the partition table, is written last: an incomplete card has no
/// partitions, and no Pi boots from it.
pub(super) fn write(
    image: &mut impl Read,
    card: &mut impl Card,
    mut progress: impl FnMut(u64),
) -> Result<Written> {
    let first = read_chunk(image)?;
    let mut written = Written {
        len: first.len() as u64,
        chunks: vec![Sha1::digest(&first).into()],
    };
    // The old partition table is erased first, so that neither the rest of an older system nor a
    // mix of both can look complete.
    put(card, 0, &vec![0; first.len()])?;
    card.sync().with_context(|| failed(0))?;
    loop {
        let chunk = read_chunk(image)?;
        if chunk.is_empty() {
            break;
        }
        put(card, written.len, &chunk)?;
        written.chunks.push(Sha1::digest(&chunk).into());
        written.len += chunk.len() as u64;
        if written.len.is_multiple_of(SYNC_EVERY) {
            card.sync().with_context(|| failed(written.len))?;
        }
        progress(written.len);
    }
    // The rest must be on the card before the table.
    card.sync().with_context(|| failed(written.len))?;
    put(card, 0, &first)?;
    card.sync().with_context(|| failed(0))?;
    Ok(written)
}

fn read_chunk(image: &mut impl Read) -> Result<Vec<u8>> {
    let mut chunk = Vec::with_capacity(CHUNK);
    image
        .take(CHUNK as u64)
        .read_to_end(&mut chunk)
        .context("cannot read the rest of the image, so the card is incomplete")?;
    Ok(chunk)
}

fn put(card: &mut impl Card, offset: u64, bytes: &[u8]) -> Result<()> {
    card.seek(SeekFrom::Start(offset))?;
    let mut done = 0;
    while done < bytes.len() {
        let at = offset + done as u64;
        match card.write(&bytes[done..]) {
            Ok(0) => return Err(too_short(at)),
            Ok(n) => done += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::StorageFull => return Err(too_short(at)),
            Err(error) => return Err(error).with_context(|| failed(at)),
        }
    }
    Ok(())
}

fn too_short(at: u64) -> anyhow::Error {
    anyhow!(
        "it ends after {}, before the image does: it is smaller than it claims; use another card",
        size(at)
    )
}

fn failed(at: u64) -> String {
    format!(
        "writing failed at {}: the card does not boot now; try again, then another reader or card",
        size(at)
    )
}

/// Reads the card and compares. The caller must bypass the page cache.
pub(super) fn verify(
    written: &Written,
    card: &mut impl Read,
    mut progress: impl FnMut(u64),
) -> Result<()> {
    let mut wrong = Vec::new();
    let mut at = 0;
    for expected in &written.chunks {
        let len = (written.len - at).min(CHUNK as u64);
        let mut chunk = vec![0; len as usize];
        card.read_exact(&mut chunk)
            .with_context(|| format!("reading back failed at {}: use another card", size(at)))?;
        if Sha1::digest(&chunk)[..] != expected[..] {
            wrong.push(at);
        }
        at += len;
        progress(at);
    }
    match wrong[..] {
        [] => Ok(()),
        [first, ..] => bail!(
            "{} of {} chunks of {} read back differ from what was written, the first at {}: the card or its reader is faulty; use another",
            wrong.len(),
            written.chunks.len(),
            size(CHUNK as u64),
            size(first)
        ),
    }
}

/// Writes the changes to a card with an existing system, or restores it.
///
/// From the end, so that new files, which come last, precede the tables that point to them.
pub(super) fn change(card: &mut impl Card, changes: &[Change]) -> Result<()> {
    let mut touched = 0;
    let mut from_the_end = changes.iter().rev();
    let done = from_the_end.try_for_each(|change| {
        touched += 1;
        put(card, change.offset, &change.bytes)?;
        match touched % CHANGES_AT_A_TIME {
            0 => sync(card),
            _ => Ok(()),
        }
    });
    let Err(error) = done.and_then(|()| sync(card)) else {
        return Ok(());
    };
    let mut touched = changes.iter().rev().take(touched);
    let restored = touched
        .try_for_each(|change| put(card, change.offset, &change.original))
        .and_then(|()| sync(card));
    Err(error.context(match restored {
        Ok(()) => "the card is unchanged",
        Err(_) => "the card could not be restored: write the image again",
    }))
}

fn sync(card: &mut impl Card) -> Result<()> {
    card.sync()
        .context("the card did not store what was written")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A card in memory, with a fault.
    struct Fake {
        bytes: Vec<u8>,
        at: usize,
        fault: Fault,
        /// Whether it is the first chunk that was written since the last sync.
        waiting: Option<bool>,
        /// Whether the first chunk ever waited together with others.
        is_mixed: bool,
    }

    #[derive(Clone, Copy, PartialEq)]
    enum Fault {
        None,
        /// Writes here fail, once or always.
        Broken {
            at: usize,
            times: u32,
        },
        /// Writes here are forgotten.
        Forgets {
            at: usize,
        },
        /// What `sync` says.
        NotKept,
    }

    impl Fake {
        fn new(len: usize, fault: Fault) -> Self {
            Self {
                bytes: vec![0xee; len],
                at: 0,
                fault,
                waiting: None,
                is_mixed: false,
            }
        }
    }

    impl Read for Fake {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let n = (&self.bytes[self.at..]).read(buffer)?;
            self.at += n;
            Ok(n)
        }
    }

    impl Write for Fake {
        fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
            let n = buffer.len().min(self.bytes.len() - self.at).min(1 << 20);
            let range = self.at..self.at + n;
            let is_first = self.at < CHUNK;
            let before = self.waiting.replace(is_first);
            self.is_mixed |= before.is_some_and(|before| before != is_first);
            let mut written = buffer[..n].to_vec();
            match &mut self.fault {
                Fault::Broken { at, times } if range.contains(at) && *times > 0 => {
                    *times -= 1;
                    return Err(io::Error::other("bad sector"));
                }
                Fault::Forgets { at } if range.contains(at) => written[*at - self.at] ^= 1,
                _ => {}
            }
            self.bytes[range].copy_from_slice(&written);
            self.at += n;
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Seek for Fake {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            let SeekFrom::Start(to) = to else {
                unreachable!("positions are absolute")
            };
            self.at = to as usize;
            Ok(to)
        }
    }

    impl Card for Fake {
        fn sync(&mut self) -> io::Result<()> {
            self.waiting = None;
            match self.fault {
                Fault::NotKept => Err(io::Error::other("I/O error")),
                _ => Ok(()),
            }
        }
    }

    /// Two chunks and a half, none like another.
    fn image() -> Vec<u8> {
        let mut image = vec![0; CHUNK * 5 / 2];
        fastrand::Rng::with_seed(7).fill(&mut image);
        image
    }

    fn burn(card: &mut Fake) -> Result<()> {
        let written = write(&mut &image()[..], card, |_| {})?;
        card.at = 0;
        verify(&written, card, |_| {})
    }

    #[test]
    fn a_card_gets_the_image_and_nothing_behind_it() {
        let image = image();
        let mut card = Fake::new(image.len() + 100, Fault::None);
        burn(&mut card).unwrap();
        assert!(card.bytes[..image.len()] == image);
        assert_eq!(card.bytes[image.len()..], [0xee; 100]);
    }

    /// What waits for a sync is on a pulled card or not, in any order.
    #[test]
    fn a_card_that_is_pulled_has_no_table_until_all_else_is_there() {
        let mut card = Fake::new(CHUNK * 3, Fault::None);
        burn(&mut card).unwrap();
        assert!(!card.is_mixed && card.waiting.is_none());
    }

    /// In the first chunk, in the second, and at the very end.
    #[test]
    fn a_write_error_is_told_with_its_place_and_leaves_no_partition_table() {
        for (at, place) in [
            (0, "0 bytes"),
            (CHUNK + 1, "4.2 MB"),
            (CHUNK * 5 / 2 - 1, "MB"),
        ] {
            let mut card = Fake::new(
                CHUNK * 3,
                Fault::Broken {
                    at,
                    times: u32::MAX,
                },
            );
            let error = format!("{:#}", burn(&mut card).unwrap_err());
            assert!(
                error.contains(place) && error.contains("bad sector"),
                "{error}"
            );
            assert!(error.contains("the card does not boot now"), "{error}");
            assert!(card.bytes[..512] != image()[..512]);
        }
        let mut card = Fake::new(CHUNK * 3, Fault::NotKept);
        let error = format!("{:#}", burn(&mut card).unwrap_err());
        assert!(error.contains("I/O error"), "{error}");
        assert_eq!(card.bytes[..512], [0; 512]);
    }

    #[test]
    fn a_card_that_ends_early_is_called_so() {
        for len in [CHUNK / 2, CHUNK * 2, CHUNK * 5 / 2 - 1] {
            let mut card = Fake::new(len, Fault::None);
            let error = burn(&mut card).unwrap_err().to_string();
            assert!(error.contains("smaller than it claims"), "{error}");
            assert!(error.contains(&size(len as u64)), "{error}");
            assert!(card.bytes[..512] != image()[..512]);
        }
    }

    #[test]
    fn a_card_that_forgets_a_bit_is_found_out() {
        for (at, place) in [
            (0, "the first at 0 bytes"),
            (CHUNK * 2 + 5, "the first at 8.4 MB"),
        ] {
            let mut card = Fake::new(CHUNK * 3, Fault::Forgets { at });
            let error = burn(&mut card).unwrap_err().to_string();
            assert!(
                error.contains("1 of 3 chunks") && error.contains(place),
                "{error}"
            );
        }
    }

    fn changes() -> Vec<Change> {
        let change = |offset, byte| Change {
            offset,
            bytes: [byte; 4].into(),
            original: [0xee; 4].into(),
        };
        vec![change(0, 1), change(100, 2), change(200, 3)]
    }

    #[test]
    fn changes_are_made_or_none_of_them() {
        let mut card = Fake::new(300, Fault::None);
        change(&mut card, &changes()).unwrap();
        assert_eq!([card.bytes[0], card.bytes[103], card.bytes[200]], [1, 2, 3]);
        for at in [1, 101, 203] {
            let mut card = Fake::new(300, Fault::Broken { at, times: 1 });
            let error = format!("{:#}", change(&mut card, &changes()).unwrap_err());
            assert!(error.contains("the card is unchanged"), "{error}");
            assert!(card.bytes == [0xee; 300]);
        }
        let mut card = Fake::new(
            300,
            Fault::Broken {
                at: 0,
                times: u32::MAX,
            },
        );
        let error = format!("{:#}", change(&mut card, &changes()).unwrap_err());
        assert!(error.contains("write the image again"), "{error}");
    }
}
