//! A signature behind a package is passed over whole, and nothing but one signature is.

use sori_package::write::{PackageBytes, with_plan};
use sori_package::{Error, Package, Signature};

use crate::bytes::{put_u32, repair};
use crate::tiny::{planned, sizes};

const SIGNATURE: Signature<'_> = Signature {
    public_key: &[0x11; 32],
    ed25519: &[0x22; 64],
};

fn with(package: &[u8], behind: &[u8]) -> PackageBytes {
    PackageBytes::copy_from(&[package, behind].concat())
}

fn length(package: &[u8], file: &[u8]) -> Error {
    Error::Length {
        expected: package.len() as u64,
        found: file.len() as u64,
    }
}

#[test]
fn a_signed_package_is_the_package() {
    let package = planned();
    let signed = with(&package, &SIGNATURE.to_bytes());
    assert_eq!(Signature::split(&package), Ok((&package[..], None)));
    let parts = Signature::split(&signed);
    assert_eq!(parts, Ok((&package[..], Some(SIGNATURE))));
    let text = |bytes: &PackageBytes| format!("{:?}", Package::parse(bytes).expect("valid"));
    assert_eq!(text(&signed), text(&package));
}

/// What it says is not the format's business: a reader without a key takes any.
#[test]
fn only_the_magic_of_a_signature_is_looked_at() {
    let package = planned();
    for bit in 0..8 * Signature::LEN {
        let mut behind = SIGNATURE.to_bytes();
        behind[bit / 8] ^= 1 << (bit % 8);
        let file = with(&package, &behind);
        let expected = match bit / 8 {
            0..8 => Some(length(&package, &file)),
            _ => None,
        };
        assert_eq!(Package::parse(&file).err(), expected, "bit {bit}");
    }
}

#[test]
fn a_part_of_a_signature_and_more_than_one_are_refused() {
    let package = planned();
    let whole = SIGNATURE.to_bytes();
    let twice = [whole, whole].concat();
    for len in (1..=twice.len()).filter(|&len| len != whole.len()) {
        let file = with(&package, &twice[..len]);
        let error = length(&package, &file);
        assert_eq!(Signature::split(&file), Err(error), "{len} bytes");
        assert_eq!(
            Package::parse(&file).expect_err("too long"),
            error,
            "{len} bytes"
        );
    }
}

/// A length in the prologue that takes the signature, or a part of it, for the package's.
#[test]
fn a_signature_is_no_part_of_the_package() {
    let package = planned();
    let signed = with(&package, &SIGNATURE.to_bytes());
    for more in 1..=Signature::LEN {
        let mut file = signed.to_vec();
        put_u32(&mut file, 24, (package.len() + more) as u32);
        let end = package.len() + more;
        repair(&mut file[..end]);
        assert!(
            Package::parse(&PackageBytes::copy_from(&file)).is_err(),
            "{more} bytes"
        );
    }
}

/// It is no longer what was signed.
#[test]
fn a_package_with_another_plan_has_no_signature() {
    let signed = with(&planned(), &SIGNATURE.to_bytes());
    let other = with_plan(&signed, None, sizes()).expect("a plan can be taken out");
    assert!(matches!(Signature::split(&other), Ok((_, None))));
}
