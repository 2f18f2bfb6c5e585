//! An operating system image: a file, compressed or not, or a card it was written to.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use lzma_rust2::XzReader;

use super::cow::Change;

/// The unit of partition tables.
pub(super) const SECTOR: u64 = 512;
const XZ: &[u8] = b"\xfd7zXZ\0";
const ZIP: &[u8] = b"PK\x03\x04";
const GZIP: &[u8] = b"\x1f\x8b";

/// The position of the boot partition and the end of the last one, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) boot_start: u64,
    pub(super) boot_len: u64,
    pub(super) end: u64,
}

impl Layout {
    /// Reads the four entries of a master boot record, all that an image of Raspberry Pi OS
    /// has; the table itself never changes.
    pub(super) fn read(disk: &mut impl Read) -> Result<Self> {
        let mut mbr = [0; SECTOR as usize];
        disk.read_exact(&mut mbr)
            .context("it is shorter than a partition table")?;
        Self::parse(&mbr)
    }

    fn parse(mbr: &[u8; SECTOR as usize]) -> Result<Self> {
        if mbr[510..] != [0x55, 0xaa] {
            bail!("it has no partition table");
        }
        let sectors = |bytes: &[u8]| {
            let bytes = bytes
                .try_into()
                .expect("a field of an entry has four bytes");
            u64::from(u32::from_le_bytes(bytes)) * SECTOR
        };
        let (entries, _) = mbr[446..510].as_chunks::<16>();
        let partitions = entries
            .iter()
            .map(|entry| (entry[4], sectors(&entry[8..12]), sectors(&entry[12..16])))
            .filter(|&(kind, _, len)| kind != 0 && len != 0);
        let end = partitions.clone().map(|(_, start, len)| start + len).max();
        // FAT16 and FAT32, by cylinders or by sectors.
        let is_fat = |kind| matches!(kind, 0x06 | 0x0b | 0x0c | 0x0e);
        match (partitions.clone().find(|&(kind, ..)| is_fat(kind)), end) {
            (Some((_, boot_start, boot_len)), Some(end)) => Ok(Self {
                boot_start,
                boot_len,
                end,
            }),
            _ => bail!("it has no FAT partition to boot from"),
        }
    }
}

/// An image as a stream, with its beginning editable.
pub(super) struct Image {
    /// At least up to the end of the boot partition.
    head: File,
    rest: Rest,
    pub(super) layout: Layout,
    /// `None` if only unpacking all of it would tell.
    pub(super) len: Option<u64>,
}

enum Rest {
    /// The head is the whole file.
    InHead,
    /// The compressed rest, after the boot partition.
    Packed(Box<XzReader<BufReader<File>>>),
}

impl Image {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let mut file = File::open(path)
            .with_context(|| format!("cannot read {}: check the path", path.display()))?;
        let unusable = || format!("{} is not an image of an operating system", path.display());
        let mut magic = Vec::new();
        (&mut file)
            .take(6)
            .read_to_end(&mut magic)
            .with_context(unusable)?;
        file.rewind()?;
        if magic.starts_with(ZIP) || magic.starts_with(GZIP) {
            bail!(
                "{} is compressed in an unsupported format: unpack it first; .img and .img.xz are supported",
                path.display()
            );
        }
        if magic == XZ {
            return Self::unpack(file).with_context(unusable);
        }
        let len = file.metadata()?.len();
        let layout = Layout::read(&mut file).with_context(unusable)?;
        if layout.end > len {
            bail!(
                "{} ends at {len} bytes but its last partition at {}: it is incomplete; download it again",
                path.display(),
                layout.end
            );
        }
        Ok(Self {
            head: file,
            rest: Rest::InHead,
            layout,
            len: Some(len),
        })
    }

    /// Unpacks the head to a temporary file, for random access.
    fn unpack(file: File) -> Result<Self> {
        let mut packed = XzReader::new(BufReader::with_capacity(1 << 20, file), true);
        let mut head =
            tempfile::tempfile().context("cannot create a temporary file: is the disk full?")?;
        io::copy(&mut (&mut packed).take(SECTOR), &mut head)?;
        head.rewind()?;
        let layout = Layout::read(&mut head)?;
        let head_len = layout.boot_start + layout.boot_len;
        let unpacked = io::copy(&mut (&mut packed).take(head_len - SECTOR), &mut head)
            .context("cannot unpack the boot partition")?;
        if unpacked != head_len - SECTOR {
            bail!("it ends within its boot partition: it is incomplete; download it again");
        }
        Ok(Self {
            head,
            rest: Rest::Packed(Box::new(packed)),
            layout,
            len: None,
        })
    }

    /// The beginning, with random access.
    pub(super) fn head(&self) -> &File {
        &self.head
    }

    /// All of it, from the first byte, with the changes applied.
    pub(super) fn patched(self, changes: &[Change]) -> Result<Box<dyn Read + '_>> {
        let mut head = self.head;
        head.seek(SeekFrom::Start(0))?;
        let patched = |disk| Box::new(super::cow::Patched::new(disk, changes));
        Ok(match self.rest {
            Rest::InHead => patched(Box::new(head) as Box<dyn Read>),
            Rest::Packed(rest) => patched(Box::new(head.chain(rest))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mbr(entries: &[(u8, u32, u32)]) -> [u8; 512] {
        let mut mbr = [0; 512];
        for (entry, &(kind, start, len)) in mbr[446..510].as_chunks_mut().0.iter_mut().zip(entries)
        {
            *entry = [0; 16];
            entry[4] = kind;
            entry[8..12].copy_from_slice(&start.to_le_bytes());
            entry[12..16].copy_from_slice(&len.to_le_bytes());
        }
        mbr[510..].copy_from_slice(&[0x55, 0xaa]);
        mbr
    }

    /// The second is Raspberry Pi OS's own; the third would overflow 32 bits of bytes.
    #[test]
    fn the_boot_partition_is_the_first_fat() {
        for (entries, boot_start, boot_len, end) in [
            (&[(0x83, 8, 8), (0x0b, 16, 4)][..], 16, 4, 20),
            (
                &[(0x0c, 16_384, 1_048_576), (0x83, 1_064_960, 4_628_480)],
                16_384,
                1_048_576,
                5_693_440,
            ),
            (
                &[(0x0e, u32::MAX, u32::MAX)],
                0xffff_ffff,
                0xffff_ffff,
                0x1_ffff_fffe,
            ),
        ] {
            let layout = Layout::parse(&mbr(entries)).unwrap();
            let expected = Layout {
                boot_start: boot_start * SECTOR,
                boot_len: boot_len * SECTOR,
                end: end * SECTOR,
            };
            assert_eq!(layout, expected);
        }
    }

    #[test]
    fn what_has_no_boot_partition_is_refused() {
        for (mbr, says) in [
            ([0; 512], "no partition table"),
            (mbr(&[]), "no FAT partition"),
            (mbr(&[(0x83, 8, 8)]), "no FAT partition"),
            // A GPT's protective entry.
            (mbr(&[(0xee, 1, 100)]), "no FAT partition"),
            (mbr(&[(0x0c, 8, 0)]), "no FAT partition"),
        ] {
            let error = Layout::parse(&mbr).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
