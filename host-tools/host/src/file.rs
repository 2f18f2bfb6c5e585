//! Files that somebody else may have made.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

/// Most bytes of a file that a person writes: a contract, a split, a key.
pub const MAX_TEXT: u64 = 1 << 24;

/// Most bytes of a network or of feature rows: four times a ResNet-152.
pub const MAX_DATA: u64 = 1 << 30;

/// Reads a whole file of at most `max` bytes.
///
/// # Errors
/// Those of the file system; a pipe or a device, which may have no end; a longer file.
pub fn read(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        let text = format!("the file is longer than {max} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(bytes)
}

/// The same of text.
///
/// # Errors
/// As [`read`]'s, and of a file that is not UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    let bytes = read(path, MAX_TEXT)?;
    String::from_utf8(bytes)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is no text"))
}

/// Opens a regular file.
///
/// # Errors
/// Those of the file system; a pipe or a device.
pub fn open(path: &Path) -> io::Result<File> {
    // Before it is opened: a pipe would wait for someone to write.
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() && !metadata.is_dir() {
        let text = "it is not a regular file";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    File::open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_or_no_file_is_refused_without_being_read() {
        let path = std::env::temp_dir().join(format!("sori-host-file-{}", std::process::id()));
        fs::write(&path, b"abc").unwrap();
        assert_eq!(read(&path, 3).unwrap(), b"abc");
        let refusal = read(&path, 2).unwrap_err();
        assert_eq!(refusal.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(read_text(&path).unwrap(), "abc");
        fs::write(&path, b"\xff").unwrap();
        read_text(&path).unwrap_err();
        fs::remove_file(&path).unwrap();
        assert_eq!(read(&path, 3).unwrap_err().kind(), io::ErrorKind::NotFound);
        read(&std::env::temp_dir(), 3).unwrap_err();
        #[cfg(unix)]
        assert!(read(Path::new("/dev/zero"), 3).is_err());
    }
}
