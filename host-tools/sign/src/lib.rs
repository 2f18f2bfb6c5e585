//! Package signatures: who signed a package, and that it has not been changed since.
//!
//! A signature is Ed25519 and follows the package in the same file
//! ([`sori_package::Signature`], and *Signature* in its `FORMAT.md`). `sori sign` creates it; if `sori-pi`
//! has a key, it accepts only packages signed with it.
//!
//! ```
//! use sori_sign::{PublicKey, Refusal, SecretKey, check, sign, signer};
//! # let package = sori_genre::PACKAGE;
//! let mine = SecretKey::generate()?;
//! let signed = sign(package, &mine)?;
//! assert_eq!(check(&signed, &mine.public()), Ok(()));
//! assert_eq!(signer(&signed), Ok(Some(mine.public())));
//!
//! // Its text is one line, for a configuration and a command line.
//! let line = mine.public().to_string();
//! assert!(line.starts_with("ed25519:"));
//! assert_eq!(line.parse::<PublicKey>()?, mine.public());
//!
//! assert_eq!(check(package, &mine.public()), Err(Refusal::NotSigned));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it will not do
//! Check whether a package can run (`sori_package::Package::parse` does), or store keys: that is the
//! caller's responsibility.
#![forbid(unsafe_code)]

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::ed25519::pkcs8::KeypairBytes;
use ed25519_dalek::ed25519::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _};
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use sori_package::Signature;

/// What the text of a public key begins with.
const ALGORITHM: &str = "ed25519:";

/// Why a file is not accepted as signed by a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// It is not a package, or is followed by part of a signature or by more than one.
    Package(sori_package::Error),
    /// It is not signed.
    NotSigned,
    /// It names another key as its signer.
    OtherKey {
        /// The key named in the file.
        found: [u8; 32],
        /// The key required.
        expected: PublicKey,
    },
    /// The package or its signature was changed.
    Altered,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Package(error) => error.fmt(f),
            Self::NotSigned => f.write_str("it is not signed: sign it with `sori sign`"),
            Self::OtherKey { found, expected } => write!(
                f,
                "it is signed by {ALGORITHM}{}, but only {expected} is accepted: sign it with that key",
                BASE64.encode(found)
            ),
            Self::Altered => f.write_str(
                "its signature is invalid: it was changed after signing; copy it again or sign it again",
            ),
        }
    }
}

impl std::error::Error for Refusal {}

impl From<sori_package::Error> for Refusal {
    fn from(error: sori_package::Error) -> Self {
        Self::Package(error)
    }
}

/// Text that is not a key; the message says what is expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoKey(String);

impl fmt::Display for NoKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoKey {}

/// A signer's public key. Its text is `ed25519:` and 44 characters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// `None` if the bytes are not a point on the curve, or one that anybody could sign for.
    fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
        let key = VerifyingKey::from_bytes(bytes).ok()?;
        (!key.is_weak()).then_some(Self(*bytes))
    }

    fn point(&self) -> VerifyingKey {
        VerifyingKey::from_bytes(&self.0).expect("it was one when this was made")
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ALGORITHM}{}", BASE64.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = NoKey;

    fn from_str(text: &str) -> Result<Self, NoKey> {
        let key = text
            .strip_prefix(ALGORITHM)
            .and_then(|text| BASE64.decode(text).ok())
            .and_then(|bytes| Self::from_bytes(bytes.as_slice().try_into().ok()?));
        // A secret key that was pasted here must not appear in a log.
        key.ok_or_else(|| {
            NoKey(
                "this is not a public key: use the whole line ed25519:… that `sori sign` prints"
                    .into(),
            )
        })
    }
}

impl<'de> serde::Deserialize<'de> for PublicKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A signing key; wiped from memory on drop.
pub struct SecretKey(SigningKey);

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the secret key of {}", self.public())
    }
}

impl SecretKey {
    /// Creates a key from the system's random number generator.
    ///
    /// # Errors
    /// The generator is unavailable.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)?;
        Ok(Self(SigningKey::from_bytes(&seed)))
    }

    /// Reads PKCS#8 in PEM, as [`to_pem`](Self::to_pem) and `openssl genpkey -algorithm ed25519`
    /// write it.
    ///
    /// # Errors
    /// It is something else, or encrypted.
    pub fn from_pem(text: &str) -> Result<Self, NoKey> {
        SigningKey::from_pkcs8_pem(text).map(Self).map_err(|error| {
            NoKey(format!(
                "this is not a secret Ed25519 key in PEM ({error}): create one with `sori sign --new-key FILE`"
            ))
        })
    }

    /// The key's file. Anyone who can read it can sign.
    pub fn to_pem(&self) -> String {
        // Without the public half, which OpenSSL does not read there.
        let pair = KeypairBytes {
            secret_key: self.0.to_bytes(),
            public_key: None,
        };
        let pem = pair.to_pkcs8_pem(LineEnding::LF);
        pem.expect("32 bytes are always a key").to_string()
    }

    /// Its public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }
}

/// The same package, signed; an existing signature is replaced.
///
/// # Errors
/// The file is not a package.
pub fn sign(file: &[u8], key: &SecretKey) -> Result<Vec<u8>, sori_package::Error> {
    let (package, _) = Signature::split(file)?;
    let signature = Signature {
        public_key: &key.0.verifying_key().to_bytes(),
        ed25519: &key.0.sign(package).to_bytes(),
    };
    Ok([package, &signature.to_bytes()].concat())
}

/// Checks that `key` signed exactly these bytes.
///
/// # Errors
/// See [`Refusal`]; each message says what to do.
pub fn check(file: &[u8], key: &PublicKey) -> Result<(), Refusal> {
    let (package, signature) = Signature::split(file)?;
    let signature = signature.ok_or(Refusal::NotSigned)?;
    if *signature.public_key != key.0 {
        return Err(Refusal::OtherKey {
            found: *signature.public_key,
            expected: *key,
        });
    }
    let ed25519 = ed25519_dalek::Signature::from_bytes(signature.ed25519);
    key.point()
        .verify_strict(package, &ed25519)
        .map_err(|_| Refusal::Altered)
}

/// The signer, if there is a valid signature; `None` if there is none. This says nothing about whether to
/// trust the signer: anybody can create a key.
///
/// # Errors
/// [`Refusal::Package`], and [`Refusal::Altered`].
pub fn signer(file: &[u8]) -> Result<Option<PublicKey>, Refusal> {
    let (_, Some(signature)) = Signature::split(file)? else {
        return Ok(None);
    };
    let key = PublicKey::from_bytes(signature.public_key).ok_or(Refusal::Altered)?;
    check(file, &key).map(|()| Some(key))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sori_package::Package;
    use sori_package::write::PackageBytes;

    use super::*;

    const GENRE: &[u8] = sori_genre::PACKAGE;

    fn key(seed: u8) -> SecretKey {
        SecretKey(SigningKey::from_bytes(&[seed; 32]))
    }

    /// The first bytes of the genre package as a package of their own: the checks here do not
    /// parse it, and every flip below reads all of it.
    fn short() -> Vec<u8> {
        let mut package = GENRE[..256].to_vec();
        package[24..28].copy_from_slice(&256_u32.to_le_bytes());
        package
    }

    #[test]
    fn what_is_signed_runs_and_says_who_signed_it() {
        let signed = sign(GENRE, &key(1)).unwrap();
        assert_eq!(check(&signed, &key(1).public()), Ok(()));
        assert_eq!(signer(&signed), Ok(Some(key(1).public())));
        assert_eq!(&signed[..GENRE.len()], GENRE);
        assert!(Package::parse(&PackageBytes::copy_from(&signed)).is_ok());
        assert_eq!(signer(GENRE), Ok(None));
        let other = key(2).public();
        assert!(matches!(
            check(&signed, &other),
            Err(Refusal::OtherKey { .. })
        ));
        assert_eq!(check(GENRE, &other), Err(Refusal::NotSigned));
        assert!(sign(b"garbage", &key(1)).is_err());
    }

    #[test]
    fn signing_again_replaces_the_signature() {
        let once = sign(GENRE, &key(1)).unwrap();
        assert_eq!(sign(&once, &key(1)).unwrap(), once);
        assert_eq!(sign(&once, &key(2)).unwrap(), sign(GENRE, &key(2)).unwrap());
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let mut signed = sign(&short(), &key(1)).unwrap();
        assert_eq!(check(&signed, &key(1).public()), Ok(()));
        for bit in 0..8 * signed.len() {
            signed[bit / 8] ^= 1 << (bit % 8);
            assert!(check(&signed, &key(1).public()).is_err(), "bit {bit}");
            assert!(
                !matches!(signer(&signed), Ok(Some(found)) if found == key(1).public()),
                "bit {bit}"
            );
            signed[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn every_cut_is_refused_and_so_is_a_second_signature() {
        let package = short();
        let signed = sign(&package, &key(1)).unwrap();
        for len in 0..signed.len() {
            let refusal = check(&signed[..len], &key(1).public()).expect_err("cut");
            match len == package.len() {
                true => assert_eq!(refusal, Refusal::NotSigned),
                false => assert!(matches!(refusal, Refusal::Package(_)), "{len}: {refusal}"),
            }
        }
        let twice = [&signed, &signed[package.len()..]].concat();
        assert!(matches!(
            check(&twice, &key(1).public()),
            Err(Refusal::Package(_))
        ));
    }

    /// The key in the file is not what decides.
    #[test]
    fn a_signature_under_the_name_of_another_is_refused() {
        let mut signed = sign(GENRE, &key(2)).unwrap();
        let name = key(1).public().0;
        signed[GENRE.len() + 8..][..32].copy_from_slice(&name);
        assert_eq!(check(&signed, &key(1).public()), Err(Refusal::Altered));
        assert_eq!(signer(&signed), Err(Refusal::Altered));
        // A key for which a signature of zeros would hold.
        signed[GENRE.len() + 8..].fill(0);
        signed[GENRE.len() + 8] = 1;
        assert_eq!(signer(&signed), Err(Refusal::Altered));
    }

    #[test]
    fn a_key_comes_back_from_its_file_and_its_line() {
        let new = SecretKey::generate().unwrap();
        let read = SecretKey::from_pem(&new.to_pem()).unwrap();
        assert_eq!(read.public(), new.public());
        assert_ne!(SecretKey::generate().unwrap().public(), new.public());
        // RFC 8032, §7.1, TEST 1; written by OpenSSL.
        let pem = "-----BEGIN PRIVATE KEY-----\n\
            MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n\
            -----END PRIVATE KEY-----\n";
        let key = SecretKey::from_pem(pem).unwrap();
        let line = "ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
        assert_eq!(key.public().to_string(), line);
        assert_eq!(key.to_pem(), pem);
        assert!(!format!("{key:?}").contains("nWGxne"));
    }

    #[test]
    fn what_is_no_key_is_refused_without_repeating_it() {
        for text in [
            "",
            "ed25519:",
            "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
            "ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHUR",
            // No point, and one of small order.
            "ed25519:AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            "ed25519:AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            "-----BEGIN PRIVATE KEY-----",
        ] {
            let refusal = text.parse::<PublicKey>().expect_err(text).to_string();
            assert!(refusal.contains("`sori sign` prints"), "{refusal}");
            assert!(text.len() < 9 || !refusal.contains(text), "{refusal}");
            assert!(SecretKey::from_pem(text).is_err());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever is written over a signed file, it is refused or nothing was changed.
        #[test]
        fn no_change_goes_unnoticed(
            at in any::<prop::sample::Index>(),
            bytes in prop::collection::vec(any::<u8>(), 1..120),
        ) {
            let signed = sign(&short(), &key(1)).unwrap();
            let at = at.index(signed.len());
            let mut changed = [&signed[..at], &bytes].concat();
            changed.extend(signed.get(changed.len()..).unwrap_or_default());
            let held = check(&changed, &key(1).public()).is_ok();
            prop_assert_eq!(held, changed == signed);
        }
    }
}
