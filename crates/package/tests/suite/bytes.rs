//! Changing a package's bytes behind the writer's back.

use sori_package::write::PackageBytes;
use sori_package::{Error, Package};

/// The prologue's length, bytes.
pub(crate) const PROLOGUE: usize = 96;

/// Refusal of a package whose bytes `damage` has changed, with a checksum that is right.
pub(crate) fn refusal(package: &[u8], damage: impl FnOnce(&mut Vec<u8>)) -> Error {
    let mut bytes = package.to_vec();
    damage(&mut bytes);
    repair(&mut bytes);
    let bytes = PackageBytes::copy_from(&bytes);
    Package::parse(&bytes).expect_err("the damage must be refused")
}

/// Makes the checksum right again.
pub(crate) fn repair(bytes: &mut [u8]) {
    /// With a table: Miri would take minutes bit by bit.
    const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);
    if let Some((body, crc)) = bytes.split_last_chunk_mut::<4>() {
        *crc = CRC.checksum(body).to_le_bytes();
    }
}

/// CRC-32/ISO-HDLC bit by bit, as `FORMAT.md` has it: the polynomial reversed, all ones
/// before and after.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 }
        })
    })
}

pub(crate) fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..][..4].copy_from_slice(&value.to_le_bytes());
}

pub(crate) fn get_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..][..4].try_into().expect("four bytes"))
}
