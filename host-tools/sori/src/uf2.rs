//! Converts a linked program to a UF2 file, to be copied to a board in its boot loader.
//!
//! The format is Microsoft's (<https://github.com/microsoft/uf2>): blocks of 512 bytes, each with
//! the address of its 256 bytes of payload, so that a drive that receives them in any order can
//! write each on its own.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};

/// RP2350, Arm, Secure (RP2350 datasheet, 5.5.3).
pub(crate) const RP2350_ARM_S: u32 = 0xe48b_ff59;

/// Bytes of a block, and of its payload.
const BLOCK: usize = 512;
const PAGE: usize = 256;

/// Addresses of a Pico 2's flash.
const FLASH: std::ops::Range<u32> = 0x1000_0000..0x1040_0000;

type Pages = BTreeMap<u32, [u8; PAGE]>;

/// The UF2 file of a 32-bit little-endian ELF file.
pub(crate) fn from_elf(elf: &[u8], family: u32) -> Result<Vec<u8>> {
    let pages = pages(elf)?;
    let count = u32::try_from(pages.len()).expect("4 MiB are 16384 pages");
    let mut uf2 = Vec::with_capacity(pages.len() * BLOCK);
    for ((address, page), number) in pages.into_iter().zip(0..) {
        const FAMILY_PRESENT: u32 = 0x2000;
        let head: [u32; 8] = [
            0x0a32_4655,
            0x9e5d_5157,
            FAMILY_PRESENT,
            address,
            PAGE as u32,
            number,
            count,
            family,
        ];
        uf2.extend(head.iter().flat_map(|word| word.to_le_bytes()));
        uf2.extend(page);
        uf2.resize(uf2.len().next_multiple_of(BLOCK) - 4, 0);
        uf2.extend(0x0ab1_6f30_u32.to_le_bytes());
    }
    Ok(uf2)
}

/// The pages loaded into flash; bytes that no segment covers are zero.
fn pages(elf: &[u8]) -> Result<Pages> {
    // ELF, 32 bits, little-endian; machine 40 is Arm.
    ensure!(
        elf.starts_with(b"\x7fELF\x01\x01") && half(elf, 18)? == 40,
        "it is not a program for a 32-bit Arm core"
    );
    let headers = word(elf, 28)?;
    let (size, count) = (half(elf, 42)?, half(elf, 44)?);
    let mut pages = Pages::new();
    for number in 0..count {
        const LOAD: u32 = 1;
        let at = headers as usize + usize::from(size) * usize::from(number);
        let (kind, offset) = (word(elf, at)?, word(elf, at + 4)?);
        let (address, len) = (word(elf, at + 12)?, word(elf, at + 16)?);
        if kind != LOAD || len == 0 {
            continue;
        }
        let end = address.checked_add(len).filter(|&end| end <= FLASH.end);
        ensure!(
            FLASH.contains(&address) && end.is_some(),
            "it needs {len} bytes at {address:#010x}, where a Pico 2 has no flash"
        );
        let bytes = elf
            .get(offset as usize..)
            .and_then(|b| b.get(..len as usize));
        let Some(bytes) = bytes else {
            bail!("it is truncated");
        };
        for (byte, address) in bytes.iter().zip(address..) {
            let page = address - address % PAGE as u32;
            pages.entry(page).or_insert([0; PAGE])[(address - page) as usize] = *byte;
        }
    }
    ensure!(!pages.is_empty(), "it contains nothing to load");
    Ok(pages)
}

fn half(elf: &[u8], at: usize) -> Result<u16> {
    match elf.get(at..).and_then(|bytes| bytes.first_chunk()) {
        Some(bytes) => Ok(u16::from_le_bytes(*bytes)),
        None => bail!("it is truncated"),
    }
}

fn word(elf: &[u8], at: usize) -> Result<u32> {
    match elf.get(at..).and_then(|bytes| bytes.first_chunk()) {
        Some(bytes) => Ok(u32::from_le_bytes(*bytes)),
        None => bail!("it is truncated"),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An Arm program whose segments are loaded at these addresses.
    pub(crate) fn program(segments: &[(u32, &[u8])]) -> Vec<u8> {
        const HEADER: u32 = 52;
        const SEGMENT: u32 = 32;
        let mut elf = b"\x7fELF\x01\x01\x01".to_vec();
        elf.resize(18, 0);
        elf.extend(40u16.to_le_bytes());
        elf.resize(28, 0);
        elf.extend(HEADER.to_le_bytes());
        elf.resize(42, 0);
        elf.extend((SEGMENT as u16).to_le_bytes());
        elf.extend((segments.len() as u16).to_le_bytes());
        elf.resize(HEADER as usize, 0);
        let mut offset = HEADER + SEGMENT * segments.len() as u32;
        for (address, bytes) in segments {
            let len = bytes.len() as u32;
            // Type, offset, virtual and physical address, sizes in file and memory, flags, alignment.
            let header = [1, offset, 0x2000_0000, *address, len, len + 9, 5, 4];
            elf.extend(header.iter().flat_map(|word: &u32| word.to_le_bytes()));
            offset += len;
        }
        for (_, bytes) in segments {
            elf.extend(*bytes);
        }
        elf
    }

    fn words(block: &[u8]) -> Vec<u32> {
        let words = block.as_chunks().0.iter();
        words.map(|&word| u32::from_le_bytes(word)).collect()
    }

    /// `.data` lies in flash where `.text` ends, amid a page.
    #[test]
    fn segments_become_numbered_pages_with_the_chip_s_family() {
        let text = [7; 300];
        let elf = program(&[(0x1000_0000, &text), (0x1000_012c, &[9; 2])]);
        let uf2 = from_elf(&elf, RP2350_ARM_S).unwrap();
        let blocks: Vec<_> = uf2.chunks(BLOCK).map(words).collect();
        assert_eq!(blocks.len(), 2);
        for (number, block) in blocks.iter().enumerate() {
            let address = 0x1000_0000 + 256 * number as u32;
            let head = [
                0x0a32_4655,
                0x9e5d_5157,
                0x2000,
                address,
                256,
                number as u32,
                2,
                0xe48b_ff59,
            ];
            assert_eq!(block[..8], head, "block {number}");
            assert_eq!(block[127], 0x0ab1_6f30);
        }
        assert_eq!(uf2[32..][..256], [7; 256]);
        let mut second = [0; 256];
        second[..44].fill(7);
        second[44..46].fill(9);
        assert_eq!(uf2[BLOCK + 32..][..256], second);
    }

    #[test]
    fn what_is_no_program_of_this_board_is_refused_in_words() {
        let refusal = |elf: &[u8]| from_elf(elf, RP2350_ARM_S).unwrap_err().to_string();
        assert!(refusal(b"UF2\n").contains("not a program for a 32-bit Arm core"));
        let elsewhere = refusal(&program(&[(0x2000_0000, &[1; 4])]));
        assert!(elsewhere.contains("at 0x20000000"), "{elsewhere}");
        let large = refusal(&program(&[(0x103f_ffff, &[1; 4])]));
        assert!(large.contains("no flash"), "{large}");
        assert!(refusal(&program(&[])).contains("nothing"));
        let whole = program(&[(0x1000_0000, &[1; 4])]);
        for len in 20..whole.len() {
            refusal(&whole[..len]);
        }
    }
}
