//! The fixed little-endian head of the file, readable in `const` context.

use crate::Error;

/// Newest format version this crate reads: that of packages with a memory plan.
pub const VERSION: u16 = 2;

/// The version of packages without a plan.
#[cfg(feature = "write")]
pub(crate) const VERSION_WITHOUT_PLAN: u16 = 1;

/// The blob's alignment in the file, bytes. [`crate::Aligned`] gives it in memory.
pub const ALIGNMENT: usize = 64;

/// Largest stripe whose arena size the prologue lists.
pub const MAX_STRIPE: usize = 128;

/// Most inverted residuals of a network: four times the paper's, and few enough that
/// an executor can keep something for each without allocating.
pub const MAX_BLOCKS: usize = 64;

pub(crate) const MAGIC: [u8; 8] = *b"\x89SORI\r\n\x1a";
pub(crate) const LEN: usize = 96;
/// Powers of two from 1 to [`MAX_STRIPE`].
pub(crate) const STRIPES: usize = 8;

/// Sizes of a package, read without parsing it.
///
/// On a device the package comes from `include_bytes!`, so the arena can be a `static` of
/// exactly the right size:
///
/// ```
/// use sori_package::{Aligned, Prologue};
///
/// const SIZES: Prologue = match Prologue::read(sori_genre::PACKAGE) {
///     Ok(sizes) => sizes,
///     Err(_) => panic!("no package"),
/// };
/// static ARENA: Aligned<[u8; SIZES.arena_bytes(1)]> = Aligned([0; SIZES.arena_bytes(1)]);
///
/// assert_eq!(ARENA.0.len(), 51_603);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prologue {
    pub(crate) version: u16,
    pub(crate) header_len: u32,
    pub(crate) blob_offset: u32,
    pub(crate) blob_len: u32,
    pub(crate) file_len: u32,
    pub(crate) frontend_bytes: u32,
    pub(crate) arena: [u32; STRIPES],
}

const fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

impl Prologue {
    /// Reads the first 96 bytes of a package.
    ///
    /// # Errors
    /// [`Error::NotAPackage`], [`Error::NewerVersion`], or [`Error::Length`] when
    /// there are fewer than 96 bytes.
    pub const fn read(bytes: &[u8]) -> Result<Self, Error> {
        let mut at = 0;
        while at < MAGIC.len() {
            if at == bytes.len() || bytes[at] != MAGIC[at] {
                return Err(Error::NotAPackage);
            }
            at += 1;
        }
        if bytes.len() < LEN {
            return Err(Error::Length {
                expected: LEN as u64,
                found: bytes.len() as u64,
            });
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        // Versions start at 1.
        if version == 0 {
            return Err(Error::NotAPackage);
        }
        if version > VERSION {
            return Err(Error::NewerVersion {
                found: version,
                supported: VERSION,
            });
        }
        let mut arena = [0; STRIPES];
        let mut stripe = 0;
        while stripe < STRIPES {
            arena[stripe] = u32_at(bytes, 32 + 4 * stripe);
            stripe += 1;
        }
        Ok(Self {
            version,
            header_len: u32_at(bytes, 12),
            blob_offset: u32_at(bytes, 16),
            blob_len: u32_at(bytes, 20),
            file_len: u32_at(bytes, 24),
            frontend_bytes: u32_at(bytes, 28),
            arena,
        })
    }

    /// Bytes of the network's arena for stripes of up to `stripe` rows, rounded
    /// up to the next power of two of rows; more than [`MAX_STRIPE`] counts as that.
    pub const fn arena_bytes(&self, stripe: usize) -> usize {
        let mut index = 0;
        while index + 1 < STRIPES && (1 << index) < stripe {
            index += 1;
        }
        self.arena[index] as usize
    }

    /// Bytes of the package, without a signature after it.
    pub const fn file_len(&self) -> u64 {
        self.file_len as u64
    }

    /// Bytes of the front end's workspace; 0 without a mel contract.
    pub const fn frontend_bytes(&self) -> usize {
        self.frontend_bytes as usize
    }

    #[cfg(feature = "write")]
    pub(crate) fn write(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&self.version.to_le_bytes());
        let words = [
            self.header_len,
            self.blob_offset,
            self.blob_len,
            self.file_len,
            self.frontend_bytes,
        ];
        for (at, word) in words.iter().chain(&self.arena).enumerate() {
            bytes[12 + 4 * at..][..4].copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}
