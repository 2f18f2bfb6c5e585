//! A program's use of a microcontroller's memory, read from its ELF file.

use anyhow::{Context as _, ensure};

/// Bytes by kind.
#[derive(Debug, PartialEq, Eq, Default)]
pub(crate) struct Sections {
    /// Instructions.
    pub(crate) text: usize,
    /// Constants and the interrupt table.
    pub(crate) rodata: usize,
    /// Initialised variables, in flash and in RAM.
    pub(crate) data: usize,
    /// Other variables.
    pub(crate) bss: usize,
}

impl Sections {
    /// From a 32-bit little-endian ELF file.
    pub(crate) fn of(elf: &[u8]) -> anyhow::Result<Self> {
        const NO_BITS: usize = 8;
        const WRITE: usize = 1;
        const ALLOCATED: usize = 2;
        const EXECUTED: usize = 4;
        ensure!(elf.starts_with(b"\x7fELF\x01\x01"), "not a 32-bit ELF file");
        let (headers, size, count) = (
            number(elf, 32, 4)?,
            number(elf, 46, 2)?,
            number(elf, 48, 2)?,
        );
        let mut sections = Self::default();
        for header in (0..count).map(|n| headers + n * size) {
            let (kind, flags) = (number(elf, header + 4, 4)?, number(elf, header + 8, 4)?);
            let bytes = number(elf, header + 20, 4)?;
            if flags & ALLOCATED == 0 {
                continue;
            }
            *match (flags & EXECUTED != 0, flags & WRITE != 0, kind == NO_BITS) {
                (true, ..) => &mut sections.text,
                (_, false, _) => &mut sections.rodata,
                (_, true, false) => &mut sections.data,
                (_, true, true) => &mut sections.bss,
            } += bytes;
        }
        Ok(sections)
    }
}

fn number(elf: &[u8], at: usize, len: usize) -> anyhow::Result<usize> {
    let bytes = elf.get(at..at + len).context("the ELF file is truncated")?;
    Ok(bytes
        .iter()
        .rev()
        .fold(0, |n, &byte| n << 8 | usize::from(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_told_apart_by_their_flags() {
        let mut elf = b"\x7fELF\x01\x01".to_vec();
        elf.resize(52, 0);
        elf[32..36].copy_from_slice(&52u32.to_le_bytes());
        elf[46..48].copy_from_slice(&40u16.to_le_bytes());
        // Type and flags: nothing, text, rodata, data, bss, debug.
        let headers = [(0, 0), (1, 6), (1, 2), (1, 3), (8, 3), (1, 0)];
        elf[48..50].copy_from_slice(&(headers.len() as u16).to_le_bytes());
        for ((kind, flags), bytes) in headers.into_iter().zip([9u32, 1, 2, 3, 4, 99]) {
            let header: [u32; 10] = [0, kind, flags, 0, 0, bytes, 0, 0, 0, 0];
            elf.extend(header.iter().flat_map(|word| word.to_le_bytes()));
        }
        let expected = Sections {
            text: 1,
            rodata: 2,
            data: 3,
            bss: 4,
        };
        assert_eq!(Sections::of(&elf).expect("whole"), expected);
        assert!(Sections::of(&elf[..100]).is_err());
    }
}
