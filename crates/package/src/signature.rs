//! The signature that may follow a package in its file: only its location. Signing and
//! verifying needs a host (`sori-sign`); a target without a key ignores it.

use crate::{Error, Prologue};

/// What a signature begins with. Another kind of signature would have another last byte.
const MAGIC: [u8; 8] = *b"SORISIG\x01";
const LEN: usize = MAGIC.len() + 32 + 64;

/// Who signed a package, as the file claims.
///
/// ```
/// use sori_package::Signature;
/// let signature = Signature { public_key: &[7; 32], ed25519: &[9; 64] };
/// assert_eq!(&signature.to_bytes()[..8], b"SORISIG\x01");
/// assert_eq!(signature.to_bytes().len(), Signature::LEN);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature<'a> {
    /// Ed25519 public key of the signer (RFC 8032, §5.1.5).
    pub public_key: &'a [u8; 32],
    /// Ed25519 signature of the package's bytes, from the first to the last of its CRC.
    pub ed25519: &'a [u8; 64],
}

impl<'a> Signature<'a> {
    /// Bytes that it adds to a package.
    pub const LEN: usize = LEN;

    /// Splits a file into the package and the signature after it. Checks neither whether the signature is
    /// valid nor anything of the package beyond its prologue.
    ///
    /// # Errors
    /// Those of [`Prologue::read`]; [`Error::Length`] where the file ends before the package
    /// does, or goes on with something other than one signature.
    pub fn split(file: &'a [u8]) -> Result<(&'a [u8], Option<Self>), Error> {
        Self::split_at(file, Prologue::read(file)?.file_len)
    }

    pub(crate) fn split_at(
        file: &'a [u8],
        package_len: u32,
    ) -> Result<(&'a [u8], Option<Self>), Error> {
        let wrong = Error::Length {
            expected: package_len.into(),
            found: file.len() as u64,
        };
        let (package, rest) = file.split_at_checked(package_len as usize).ok_or(wrong)?;
        if rest.is_empty() {
            return Ok((package, None));
        }
        let signature = rest
            .strip_prefix(&MAGIC)
            .and_then(|rest| rest.split_first_chunk())
            .and_then(|(public_key, rest)| {
                let ed25519 = rest.try_into().ok()?;
                Some(Self {
                    public_key,
                    ed25519,
                })
            });
        Ok((package, Some(signature.ok_or(wrong)?)))
    }

    /// As it stands in a file.
    pub fn to_bytes(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        let (magic, rest) = bytes.split_at_mut(MAGIC.len());
        let (public_key, ed25519) = rest.split_at_mut(self.public_key.len());
        magic.copy_from_slice(&MAGIC);
        public_key.copy_from_slice(self.public_key);
        ed25519.copy_from_slice(self.ed25519);
        bytes
    }
}
