//! Package files, read within bounds: no other kind of file, no more bytes than a package has.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;
use std::vec::Vec;

use crate::prologue::LEN;
use crate::write::PackageBytes;
use crate::{Error, Prologue, Signature};

/// Longest package that is read, bytes: more than twice a ResNet-50, the largest network of the
/// family.
pub const MAX_LEN: u64 = 64 << 20;

/// Why a file cannot be read as a package.
#[derive(Debug)]
#[non_exhaustive]
pub enum Unreadable {
    /// The file system's reason.
    Io(io::Error),
    /// A folder, a pipe or a device.
    NotAFile,
    /// Longer than [`MAX_LEN`].
    TooLong {
        /// Bytes of the file.
        len: u64,
    },
    /// Its first bytes are not a package's, or not of one of this length.
    Package(Error),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::NotAFile => f.write_str("it is not a regular file"),
            Self::TooLong { len } => write!(
                f,
                "the file has {len} bytes; a package has at most {MAX_LEN}"
            ),
            Self::Package(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Unreadable {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => error.source(),
            Self::NotAFile | Self::TooLong { .. } => None,
            Self::Package(error) => Some(error),
        }
    }
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads a package, with a signature if one follows. The prologue is read first: memory is only
/// taken for a file that begins as a package and has the length that it states.
///
/// # Errors
/// See [`Unreadable`]. Whether the package is valid is for [`crate::Package::parse`] to say.
pub fn read(path: &Path) -> Result<PackageBytes, Unreadable> {
    // Before it is opened: a pipe would wait for someone to write.
    if !fs::metadata(path)?.is_file() {
        return Err(Unreadable::NotAFile);
    }
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    let mut start = Vec::with_capacity(LEN);
    (&file).take(LEN as u64).read_to_end(&mut start)?;
    let expected = Prologue::read(&start)
        .map_err(Unreadable::Package)?
        .file_len();
    if len > MAX_LEN {
        return Err(Unreadable::TooLong { len });
    }
    let wrong_len = |found| Unreadable::Package(Error::Length { expected, found });
    if len != expected && len != expected + Signature::LEN as u64 {
        return Err(wrong_len(len));
    }
    let mut bytes = PackageBytes::zeroed(len as usize);
    let (to, rest) = bytes.split_at_mut(start.len());
    to.copy_from_slice(&start);
    // It may be replaced while it is read; then it ends early, or its checksum is wrong.
    match (&file).read_exact(rest) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(wrong_len(file.metadata()?.len()))
        }
        read => Ok(read.map(|()| bytes)?),
    }
}
