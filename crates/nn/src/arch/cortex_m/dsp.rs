#[cfg(not(all(target_arch = "arm", feature = "dsp")))]
use emulation::{dot, dot_pair, smlabb, smlad, smlatb, sxtb16, sxtb16_odd, unpack};
#[cfg(all(target_arch = "arm", feature = "dsp"))]
use instructions::{dot, dot_pair, smlabb, smlad, smlatb, sxtb16, sxtb16_odd, unpack};

use super::{BLOCK, Core, PAIR, SPAN, partial_word};
#[cfg(all(target_arch = "arm", feature = "dsp"))]
use super::{Columns, DepthwiseChannel, OutputChannel};

/// The DSP extension of Armv7E-M and Armv8-M.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dsp(());

impl Dsp {
    /// If the program was compiled for it: feature `dsp` says so.
    pub(crate) fn new() -> Option<Self> {
        cfg!(all(target_arch = "arm", feature = "dsp")).then_some(Self(()))
    }

    /// The same bits on any processor, slowly.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) const EMULATED: Self = Self(());
}

/// From column `first` on, the columns 0 and 2, and 1 and 3.
#[inline(always)]
fn columns(row: &[i8; SPAN], first: usize) -> [u32; 2] {
    let columns = row[first..].first_chunk::<4>().expect("four of six");
    let word = u32::from_le_bytes(columns.map(|value| value as u8));
    [sxtb16(word), sxtb16_odd(word)]
}

/// For each row, the outer weights in one word and the middle one in the next.
pub(crate) type Taps = [[u32; 2]; 3];

impl Core for Dsp {
    /// Two channels of 16 bits. Of a group's four, the even ones come first.
    type Unit = u32;
    type Taps = Taps;

    const GROUP: usize = 4;
    const UNITS: usize = 2;

    #[inline(always)]
    fn unpack(self, pixel: &[i8], units: &mut [u32]) {
        let (groups, rest) = pixel.as_chunks::<4>();
        unpack(groups, units);
        if let (false, Some(units)) = (rest.is_empty(), units.get_mut(2 * BLOCK * groups.len()..)) {
            let group = bytemuck::cast(partial_word(rest).to_le_bytes());
            unpack(&[group], units);
        }
    }

    #[inline(always)]
    fn dot(self, acc: [i32; BLOCK], weights: &[i8], units: &[u32]) -> [i32; BLOCK] {
        let (groups, rest) = weights.as_chunks::<4>();
        let (whole, partial) = units.split_at(2 * BLOCK * groups.len());
        let acc = dot(acc, groups, whole);
        if rest.is_empty() {
            return acc;
        }
        let group = bytemuck::cast(partial_word(rest).to_le_bytes());
        dot(acc, &[group], partial)
    }

    #[inline(always)]
    fn dot_pair(self, acc: [i32; PAIR], weights: &[i8], pixels: [&[i8]; PAIR]) -> [i32; PAIR] {
        let [(groups, rest), (low, low_rest), (high, high_rest)] =
            [weights, pixels[0], pixels[1]].map(|values| values.as_chunks::<4>());
        let acc = dot_pair(acc, groups, low, high);
        if rest.is_empty() {
            return acc;
        }
        let [rest, low, high] = [rest, low_rest, high_rest]
            .map(|rest| [bytemuck::cast(partial_word(rest).to_le_bytes())]);
        dot_pair(acc, &rest, &low, &high)
    }

    #[cfg(all(target_arch = "arm", feature = "dsp"))]
    #[inline(always)]
    unsafe fn blocks<const ADDS: bool>(
        self,
        channel: &OutputChannel<'_>,
        units: &[u32],
        output: &mut [i8],
    ) {
        // SAFETY: the caller's promise.
        unsafe { instructions::blocks::<ADDS>(channel, units, output) };
    }

    #[inline(always)]
    fn taps(self, weights: [i8; 9]) -> Taps {
        let half = |n: usize| u32::from(i16::from(weights[n]) as u16);
        [0, 3, 6].map(|row| [half(row) | half(row + 2) << 16, half(row + 1)])
    }

    #[inline(always)]
    fn quad(self, bias: i32, rows: [&[i8; SPAN]; 3], taps: &Taps) -> [i32; 4] {
        let mut acc = [bias; 4];
        for (row, &[outer, middle]) in rows.iter().zip(taps) {
            for half in 0..2 {
                let [even, odd] = columns(row, 2 * half);
                let [a, b] = [2 * half, 2 * half + 1];
                acc[a] = smlabb(odd, middle, smlad(even, outer, acc[a]));
                acc[b] = smlatb(even, middle, smlad(odd, outer, acc[b]));
            }
        }
        acc
    }

    #[inline(always)]
    fn pair(self, bias: i32, rows: [&[i8; SPAN]; 3], taps: &Taps) -> [i32; 2] {
        let mut acc = [bias; 2];
        for (row, &[outer, middle]) in rows.iter().zip(taps) {
            for half in 0..2 {
                let [even, odd] = columns(row, 2 * half);
                acc[half] = smlabb(odd, middle, smlad(even, outer, acc[half]));
            }
        }
        acc
    }

    #[cfg(all(target_arch = "arm", feature = "dsp"))]
    #[inline(always)]
    unsafe fn windows<const STRIDE: usize>(
        self,
        channel: &DepthwiseChannel<Taps>,
        columns: &Columns,
        count: usize,
        output: &mut [i8],
    ) {
        // SAFETY: the caller's promise.
        unsafe { instructions::windows::<STRIDE>(channel, columns, count, output) };
    }
}

#[cfg(all(target_arch = "arm", feature = "dsp"))]
mod instructions {
    use core::arch::asm;

    use super::Taps;
    use crate::arch::cortex_m::{
        BLOCK, BlockLoop, Columns, DepthwiseChannel, OutputChannel, PAIR, WindowLoop,
    };

    /// Bytes 0 and 2 as 16 bits each.
    #[inline(always)]
    pub(super) fn sxtb16(word: u32) -> u32 {
        let pair;
        // SAFETY: computes one register from another.
        unsafe {
            asm!(
                "sxtb16 {}, {}",
                lateout(reg) pair,
                in(reg) word,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        pair
    }

    /// Bytes 1 and 3.
    #[inline(always)]
    pub(super) fn sxtb16_odd(word: u32) -> u32 {
        let pair;
        // SAFETY: computes one register from another.
        unsafe {
            asm!(
                "sxtb16 {}, {}, ror #8",
                lateout(reg) pair,
                in(reg) word,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        pair
    }

    // The compiler knows the instructions that multiply two halves, and with them this pair.

    #[inline(always)]
    pub(super) fn smlabb(a: u32, b: u32, acc: i32) -> i32 {
        acc.wrapping_add(i32::from(a as i16) * i32::from(b as i16))
    }

    #[inline(always)]
    pub(super) fn smlatb(a: u32, b: u32, acc: i32) -> i32 {
        smlabb(a >> 16, b, acc)
    }

    #[inline(always)]
    pub(super) fn smlad(a: u32, b: u32, acc: i32) -> i32 {
        smlabb(a >> 16, b >> 16, smlabb(a, b, acc))
    }

    /// Of a block's pixel, to the units `[group][even, odd][p]`.
    #[inline(always)]
    pub(super) fn unpack(pixel: &[[i8; 4]], units: &mut [u32]) {
        if pixel.is_empty() {
            return;
        }
        assert!(units.len() > (2 * pixel.len() - 1) * BLOCK);
        // SAFETY: reads the pixel a group at a time, and writes two units of each, four apart: the
        // last of them is within the units.
        unsafe {
            asm!(
                "2:",
                "ldr {x}, [{w}], #4",
                "sxtb16 {e}, {x}",
                "sxtb16 {x}, {x}, ror #8",
                "str {e}, [{u}], #16",
                "str {x}, [{u}], #16",
                "subs {n}, #1",
                "bne 2b",
                w = inout(reg) pixel.as_ptr() => _,
                u = inout(reg) units.as_mut_ptr() => _,
                n = inout(reg) pixel.len() => _,
                x = out(reg) _,
                e = out(reg) _,
                options(nostack)
            );
        }
    }

    /// A group of a block.
    macro_rules! group {
        () => {
            "ldr {x}, [{w}], #4
            ldm {u}!, {{r0, r1, r2, r3}}
            sxtb16 {e}, {x}
            smlad {a}, r0, {e}, {a}
            smlad {b}, r1, {e}, {b}
            smlad {c}, r2, {e}, {c}
            smlad {d}, r3, {e}, {d}
            ldm {u}!, {{r0, r1, r2, r3}}
            sxtb16 {x}, {x}, ror #8
            smlad {a}, r0, {x}, {a}
            smlad {b}, r1, {x}, {b}
            smlad {c}, r2, {x}, {c}
            smlad {d}, r3, {x}, {d}"
        };
    }

    /// `acc[p] + Σ weights · units[p]`.
    #[inline(always)]
    pub(super) fn dot(mut acc: [i32; BLOCK], weights: &[[i8; 4]], units: &[u32]) -> [i32; BLOCK] {
        assert!(units.len() >= 2 * BLOCK * weights.len());
        if weights.is_empty() {
            return acc;
        }
        let [a, b, c, d] = &mut acc;
        // SAFETY: reads the weights, 4 bytes a turn, and the units, 8 words a turn, of which there
        // are enough; LDM wants whole words, which units are.
        unsafe {
            asm!(
                "2:",
                group!(),
                "subs {n}, #1",
                "bne 2b",
                a = inout(reg) *a,
                b = inout(reg) *b,
                c = inout(reg) *c,
                d = inout(reg) *d,
                w = inout(reg) weights.as_ptr() => _,
                u = inout(reg) units.as_ptr() => _,
                n = inout(reg) weights.len() => _,
                x = out(reg) _,
                e = out(reg) _,
                out("r0") _,
                out("r1") _,
                out("r2") _,
                out("r3") _,
                options(pure, readonly, nostack)
            );
        }
        acc
    }

    /// `acc[p] + Σ weights · pixels[p]`.
    #[inline(always)]
    pub(super) fn dot_pair(
        [mut a, mut b]: [i32; PAIR],
        weights: &[[i8; 4]],
        low: &[[i8; 4]],
        high: &[[i8; 4]],
    ) -> [i32; PAIR] {
        assert!(low.len() == weights.len() && high.len() == weights.len());
        if weights.is_empty() {
            return [a, b];
        }
        // SAFETY: reads the weights and both pixels, which are as long, a group a turn.
        unsafe {
            asm!(
                "2:",
                "ldr {x}, [{w}], #4",
                "ldr {p}, [{l}], #4",
                "ldr {q}, [{h}], #4",
                "sxtb16 {e}, {x}",
                "sxtb16 {x}, {x}, ror #8",
                "sxtb16 {f}, {p}",
                "smlad {a}, {f}, {e}, {a}",
                "sxtb16 {f}, {q}",
                "smlad {b}, {f}, {e}, {b}",
                "sxtb16 {f}, {p}, ror #8",
                "smlad {a}, {f}, {x}, {a}",
                "sxtb16 {f}, {q}, ror #8",
                "smlad {b}, {f}, {x}, {b}",
                "subs {n}, #1",
                "bne 2b",
                a = inout(reg) a,
                b = inout(reg) b,
                w = inout(reg) weights.as_ptr() => _,
                l = inout(reg) low.as_ptr() => _,
                h = inout(reg) high.as_ptr() => _,
                n = inout(reg) weights.len() => _,
                x = out(reg) _,
                e = out(reg) _,
                f = out(reg) _,
                p = out(reg) _,
                q = out(reg) _,
                options(pure, readonly, nostack)
            );
        }
        [a, b]
    }

    /// Eight input channels, whose weights stay in registers.
    ///
    /// # Safety
    /// `units` is whole blocks of 16, at least one, and ends where `turns` says. The last of the
    /// outputs that `turns` makes of them is within what its `output` points into.
    #[inline(always)]
    unsafe fn blocks_of_8(weights: &[[i8; 4]; 2], turns: &mut BlockLoop, units: &[u32]) {
        let [low, high] = weights.map(|group| u32::from_le_bytes(bytemuck::cast(group)));
        // SAFETY: reads 16 units a turn until their end; writes the outputs `stride` places apart,
        // which the caller promised are there.
        unsafe {
            asm!(
                "2:",
                "ldr {d}, [{t}, #28]",
                "ldrd {p}, {q}, [{u}], #8",
                "smlad {a}, {p}, {i}, {d}",
                "smlad {b}, {q}, {i}, {d}",
                "ldrd {p}, {q}, [{u}], #8",
                "smlad {c}, {p}, {i}, {d}",
                "smlad {d}, {q}, {i}, {d}",
                "ldrd {p}, {q}, [{u}], #8",
                "smlad {a}, {p}, {j}, {a}",
                "smlad {b}, {q}, {j}, {b}",
                "ldrd {p}, {q}, [{u}], #8",
                "smlad {c}, {p}, {j}, {c}",
                "smlad {d}, {q}, {j}, {d}",
                "ldrd {p}, {q}, [{u}], #8",
                "smlad {a}, {p}, {k}, {a}",
                "smlad {b}, {q}, {k}, {b}",
                "ldrd {p}, {q}, [{u}], #8",
                "smlad {c}, {p}, {k}, {c}",
                "smlad {d}, {q}, {k}, {d}",
                "ldrd {p}, {q}, [{u}], #8",
                "smlad {a}, {p}, {l}, {a}",
                "smlad {b}, {q}, {l}, {b}",
                "ldrd {p}, {q}, [{u}], #8",
                "smlad {c}, {p}, {l}, {c}",
                "smlad {d}, {q}, {l}, {d}",
                "ldrd {p}, {q}, [{t}]",
                "smmla {a}, {a}, {p}, {q}",
                "smmla {b}, {b}, {p}, {q}",
                "smmla {c}, {c}, {p}, {q}",
                "smmla {d}, {d}, {p}, {q}",
                "ldrd {p}, {q}, [{t}, #8]",
                "asr {a}, {a}, {p}",
                "asr {b}, {b}, {p}",
                "asr {c}, {c}, {p}",
                "asr {d}, {d}, {p}",
                "ldr {p}, [{t}, #16]",
                "ssat {a}, #8, {a}",
                "ssat {b}, #8, {b}",
                "ssat {c}, #8, {c}",
                "ssat {d}, #8, {d}",
                "strb {a}, [{p}]",
                "strb {b}, [{p}, {q}]",
                "add {p}, {p}, {q}, lsl #1",
                "strb {c}, [{p}]",
                "strb {d}, [{p}, {q}]",
                "add {p}, {p}, {q}, lsl #1",
                "str {p}, [{t}, #16]",
                "ldr {p}, [{t}, #32]",
                "cmp {u}, {p}",
                "bne 2b",
                i = in(reg) sxtb16(low),
                j = in(reg) sxtb16_odd(low),
                k = in(reg) sxtb16(high),
                l = in(reg) sxtb16_odd(high),
                t = in(reg) &raw mut *turns,
                u = inout(reg) units.as_ptr() => _,
                a = out(reg) _,
                b = out(reg) _,
                c = out(reg) _,
                d = out(reg) _,
                p = out(reg) _,
                q = out(reg) _,
                options(nostack)
            );
        }
    }

    /// The loop over blocks, with what it does to accumulators before they are scaled.
    macro_rules! blocks {
        ($turns:ident, $units:ident, $adds:expr) => {
            asm!(
                // The loop's parameters, for which there is no register.
                "push {{{x}}}",
                "3:",
                "ldr {x}, [sp]",
                "ldrd {w}, {n}, [{x}, #20]",
                "ldr {a}, [{x}, #28]",
                "mov {b}, {a}",
                "mov {c}, {a}",
                "mov {d}, {a}",
                // A group if their number is odd, and then two at a time.
                "lsrs {n}, {n}, #1",
                "bcc 4f",
                group!(),
                "beq 5f",
                "4:",
                group!(),
                group!(),
                "subs {n}, #1",
                "bne 4b",
                "5:",
                "ldr {x}, [sp]",
                $adds,
                "ldm {x}, {{r0, r1, r2, r3}}",
                "ldr {e}, [{x}, #16]",
                "smmla {a}, {a}, r0, r1",
                "smmla {b}, {b}, r0, r1",
                "smmla {c}, {c}, r0, r1",
                "smmla {d}, {d}, r0, r1",
                "asr {a}, {a}, r2",
                "asr {b}, {b}, r2",
                "asr {c}, {c}, r2",
                "asr {d}, {d}, r2",
                "ssat {a}, #8, {a}",
                "ssat {b}, #8, {b}",
                "ssat {c}, #8, {c}",
                "ssat {d}, #8, {d}",
                "strb {a}, [{e}]",
                "strb {b}, [{e}, r3]",
                "add {e}, {e}, r3, lsl #1",
                "strb {c}, [{e}]",
                "strb {d}, [{e}, r3]",
                "add {e}, {e}, r3, lsl #1",
                "str {e}, [{x}, #16]",
                "ldr {e}, [{x}, #32]",
                "cmp {u}, {e}",
                "bne 3b",
                "add sp, #4",
                x = inout(reg) &raw mut $turns => _,
                u = inout(reg) $units.as_ptr() => _,
                a = out(reg) _,
                b = out(reg) _,
                c = out(reg) _,
                d = out(reg) _,
                w = out(reg) _,
                n = out(reg) _,
                e = out(reg) _,
                out("r0") _,
                out("r1") _,
                out("r2") _,
                out("r3") _,
            )
        };
    }

    /// Adds the residual: with the loop's parameters in x.
    macro_rules! adds {
        () => {
            "ldrd {e}, {n}, [{x}, #36]
            ldr {w}, [{x}, #12]
            ldrsb r0, [{e}]
            ldrsb r1, [{e}, {w}]
            add {e}, {e}, {w}, lsl #1
            ldrsb r2, [{e}]
            ldrsb r3, [{e}, {w}]
            add {e}, {e}, {w}, lsl #1
            str {e}, [{x}, #36]
            mla {a}, r0, {n}, {a}
            mla {b}, r1, {n}, {b}
            mla {c}, r2, {n}, {c}
            mla {d}, r3, {n}, {d}"
        };
    }

    /// # Safety
    /// As [`Core::blocks`](crate::arch::cortex_m::Core::blocks) says.
    #[inline(always)]
    pub(super) unsafe fn blocks<const ADDS: bool>(
        channel: &OutputChannel<'_>,
        units: &[u32],
        output: &mut [i8],
    ) {
        let groups = channel.weights.as_chunks::<4>().0;
        debug_assert!(!groups.is_empty() && units.len().is_multiple_of(8 * groups.len()));
        let end = units.as_ptr_range().end.cast();
        let mut turns = BlockLoop::new(channel, groups.len(), end, output);
        if let (false, &[low, high]) = (ADDS, groups) {
            // SAFETY: the caller's promise; two groups of weights have 16 units a block.
            return unsafe { blocks_of_8(&[low, high], &mut turns, units) };
        }
        // SAFETY: reads 4 weights and 8 units a group until the units' end, all of which are
        // there; writes the outputs `stride` places apart, which the caller promised are there.
        unsafe {
            match ADDS {
                true => blocks!(turns, units, adds!()),
                false => blocks!(turns, units, ""),
            }
        }
    }

    /// One row's part of four outputs from the bias or what they already are: of each word, the
    /// columns 0 and 2 and then 1 and 3.
    macro_rules! quad {
        ($row:literal, $taps:literal, $a:literal, $b:literal, $c:literal, $d:literal) => {
            concat!(
                "ldrd {k}, {m}, [{t}, #",
                $taps,
                "]\n",
                "ldr {x}, [{",
                $row,
                "}], #2\n",
                "sxtb16 {e}, {x}\n",
                "sxtb16 {x}, {x}, ror #8\n",
                "smlad {a}, {e}, {k}, {",
                $a,
                "}\n",
                "smlad {b}, {x}, {k}, {",
                $b,
                "}\n",
                "smlabb {a}, {x}, {m}, {a}\n",
                "smlatb {b}, {e}, {m}, {b}\n",
                "ldr {x}, [{",
                $row,
                "}], #2\n",
                "sxtb16 {e}, {x}\n",
                "sxtb16 {x}, {x}, ror #8\n",
                "smlad {c}, {e}, {k}, {",
                $c,
                "}\n",
                "smlad {d}, {x}, {k}, {",
                $d,
                "}\n",
                "smlabb {c}, {x}, {m}, {c}\n",
                "smlatb {d}, {e}, {m}, {d}",
            )
        };
    }

    /// The same of two outputs with stride 2.
    macro_rules! pair {
        ($row:literal, $taps:literal, $a:literal, $b:literal) => {
            concat!(
                "ldrd {k}, {m}, [{t}, #",
                $taps,
                "]\n",
                "ldr {x}, [{",
                $row,
                "}], #2\n",
                "sxtb16 {e}, {x}\n",
                "sxtb16 {x}, {x}, ror #8\n",
                "smlad {a}, {e}, {k}, {",
                $a,
                "}\n",
                "smlabb {a}, {x}, {m}, {a}\n",
                "ldr {x}, [{",
                $row,
                "}], #2\n",
                "sxtb16 {e}, {x}\n",
                "sxtb16 {x}, {x}, ror #8\n",
                "smlad {b}, {e}, {k}, {",
                $b,
                "}\n",
                "smlabb {b}, {x}, {m}, {b}",
            )
        };
    }

    /// # Safety
    /// As [`Core::windows`](crate::arch::cortex_m::Core::windows) says.
    #[inline(always)]
    pub(super) unsafe fn windows<const STRIDE: usize>(
        channel: &DepthwiseChannel<Taps>,
        columns: &Columns,
        count: usize,
        output: &mut [i8],
    ) {
        let (turns, rows) = WindowLoop::new(channel, columns, count);
        // SAFETY: reads windows of six columns until the last one, which `rows` holds; writes the
        // outputs `stride` places apart, which the caller promised are there.
        unsafe {
            match STRIDE {
                1 => asm!(
                    "2:",
                    "ldr {d}, [{t}, #16]",
                    quad!("r", 24, "d", "d", "d", "d"),
                    quad!("s", 32, "a", "b", "c", "d"),
                    quad!("v", 40, "a", "b", "c", "d"),
                    "ldrd {k}, {m}, [{t}]",
                    "ldrd {x}, {e}, [{t}, #8]",
                    "smmla {a}, {a}, {k}, {m}",
                    "smmla {b}, {b}, {k}, {m}",
                    "smmla {c}, {c}, {k}, {m}",
                    "smmla {d}, {d}, {k}, {m}",
                    "asr {a}, {a}, {x}",
                    "asr {b}, {b}, {x}",
                    "asr {c}, {c}, {x}",
                    "asr {d}, {d}, {x}",
                    "ssat {a}, #8, {a}",
                    "ssat {b}, #8, {b}",
                    "ssat {c}, #8, {c}",
                    "ssat {d}, #8, {d}",
                    "strb {a}, [{o}]",
                    "strb {b}, [{o}, {e}]",
                    "add {o}, {o}, {e}, lsl #1",
                    "strb {c}, [{o}]",
                    "strb {d}, [{o}, {e}]",
                    "add {o}, {o}, {e}, lsl #1",
                    "ldr {x}, [{t}, #20]",
                    "cmp {r}, {x}",
                    "bne 2b",
                    r = inout(reg) rows[0] => _,
                    s = inout(reg) rows[1] => _,
                    v = inout(reg) rows[2] => _,
                    o = inout(reg) output.as_mut_ptr() => _,
                    t = in(reg) &raw const turns,
                    a = out(reg) _,
                    b = out(reg) _,
                    c = out(reg) _,
                    d = out(reg) _,
                    k = out(reg) _,
                    m = out(reg) _,
                    x = out(reg) _,
                    e = out(reg) _,
                    options(nostack)
                ),
                _ => asm!(
                    "2:",
                    "ldr {b}, [{t}, #16]",
                    pair!("r", 24, "b", "b"),
                    pair!("s", 32, "a", "b"),
                    pair!("v", 40, "a", "b"),
                    "ldrd {k}, {m}, [{t}]",
                    "ldrd {x}, {e}, [{t}, #8]",
                    "smmla {a}, {a}, {k}, {m}",
                    "smmla {b}, {b}, {k}, {m}",
                    "asr {a}, {a}, {x}",
                    "asr {b}, {b}, {x}",
                    "ssat {a}, #8, {a}",
                    "ssat {b}, #8, {b}",
                    "strb {a}, [{o}]",
                    "strb {b}, [{o}, {e}]",
                    "add {o}, {o}, {e}, lsl #1",
                    "ldr {x}, [{t}, #20]",
                    "cmp {r}, {x}",
                    "bne 2b",
                    r = inout(reg) rows[0] => _,
                    s = inout(reg) rows[1] => _,
                    v = inout(reg) rows[2] => _,
                    o = inout(reg) output.as_mut_ptr() => _,
                    t = in(reg) &raw const turns,
                    a = out(reg) _,
                    b = out(reg) _,
                    k = out(reg) _,
                    m = out(reg) _,
                    x = out(reg) _,
                    e = out(reg) _,
                    options(nostack)
                ),
            }
        }
    }
}

/// The same on any processor, instruction by instruction.
#[cfg(not(all(target_arch = "arm", feature = "dsp")))]
mod emulation {
    use crate::arch::cortex_m::{BLOCK, PAIR};

    pub(super) fn sxtb16(word: u32) -> u32 {
        let [low, high] = [word, word >> 16].map(|bits| u32::from(bits as i8 as u16));
        low | high << 16
    }

    pub(super) fn sxtb16_odd(word: u32) -> u32 {
        sxtb16(word.rotate_right(8))
    }

    pub(super) fn smlabb(a: u32, b: u32, acc: i32) -> i32 {
        acc.wrapping_add(i32::from(a as i16) * i32::from(b as i16))
    }

    pub(super) fn smlatb(a: u32, b: u32, acc: i32) -> i32 {
        smlabb(a >> 16, b, acc)
    }

    pub(super) fn smlad(a: u32, b: u32, acc: i32) -> i32 {
        smlabb(a >> 16, b >> 16, smlabb(a, b, acc))
    }

    fn ldr(values: &[i8]) -> u32 {
        let bytes = values.first_chunk::<4>().expect("four values");
        u32::from_le_bytes(bytes.map(|value| value as u8))
    }

    pub(super) fn unpack(pixel: &[[i8; 4]], units: &mut [u32]) {
        for (group, units) in pixel.iter().zip(units.chunks_mut(2 * BLOCK)) {
            units[0] = sxtb16(ldr(group));
            units[BLOCK] = sxtb16_odd(ldr(group));
        }
    }

    pub(super) fn dot_pair(
        mut acc: [i32; PAIR],
        weights: &[[i8; 4]],
        low: &[[i8; 4]],
        high: &[[i8; 4]],
    ) -> [i32; PAIR] {
        for (p, pixel) in [low, high].into_iter().enumerate() {
            for (weights, group) in weights.iter().zip(pixel) {
                acc[p] = smlad(sxtb16(ldr(group)), sxtb16(ldr(weights)), acc[p]);
                acc[p] = smlad(sxtb16_odd(ldr(group)), sxtb16_odd(ldr(weights)), acc[p]);
            }
        }
        acc
    }

    pub(super) fn dot(mut acc: [i32; BLOCK], weights: &[[i8; 4]], units: &[u32]) -> [i32; BLOCK] {
        for (weights, units) in weights.iter().zip(units.chunks_exact(2 * BLOCK)) {
            let (even, odd) = (sxtb16(ldr(weights)), sxtb16_odd(ldr(weights)));
            for p in 0..BLOCK {
                acc[p] = smlad(units[p], even, acc[p]);
                acc[p] = smlad(units[BLOCK + p], odd, acc[p]);
            }
        }
        acc
    }
}
