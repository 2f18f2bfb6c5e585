//! The sequences of instructions that [`super`] is made of, in assembly for Thumb-2 and in
//! Rust for the tests of hosts. The same names with the same effect.

use crate::fft::Complex;

#[cfg(target_arch = "arm")]
pub(super) use arm::{
    butterfly, halve_windowed, move_eight, or_eight, power, saturated, second_radix4, separate,
    weigh, without_mean,
};
#[cfg(not(target_arch = "arm"))]
pub(super) use portable::{
    butterfly, halve_windowed, move_eight, or_eight, power, saturated, second_radix4, separate,
    weigh, without_mean,
};

/// Where a first butterfly's samples and window lie.
#[derive(Clone, Copy)]
pub(super) struct Windowed {
    /// Two samples; their partners lie half a block after them.
    pub(super) samples: *const Complex,
    /// Their window's values.
    pub(super) rise: *const Complex,
    /// The partners' window's values, in falling order.
    pub(super) fall: *const Complex,
    /// Where sum and difference go.
    pub(super) to: *mut Complex,
}

/// A DC blocker: where its samples come from and go to, and its state.
#[derive(Clone, Copy)]
pub(super) struct WithoutMean {
    pub(super) from: *const i32,
    pub(super) to: *mut i32,
    pub(super) negative_mean_q16: i64,
}

/// What [`weigh`] takes next, and what it has added up: Σ power · weight is
/// `low + high · 2^32`.
#[derive(Clone, Copy)]
pub(super) struct Weighed {
    pub(super) power: *const Complex,
    pub(super) weight: *const u16,
    pub(super) low: u64,
    pub(super) high: u32,
}

#[cfg(target_arch = "arm")]
mod arm {
    use core::arch::asm;

    use super::{Weighed, Windowed, WithoutMean};
    use crate::POWER_SHIFT;
    use crate::fft::Complex;

    /// `[a, x] = [x, y] · [u, v] / 4`, each product rounded down by itself: `fft::rotate_quarter`.
    /// Only `a` is needed besides: the products take the factors' places. The last one
    /// adds at once, which SMMLA can; SMMLS cannot, as it would round the difference.
    #[cfg(feature = "dsp")]
    macro_rules! rotate {
        ($a:literal, $x:literal, $y:literal, $u:literal, $v:literal) => {
            concat!(
                "smmul {", $a, "}, {", $x, "}, {", $u, "}\n", "smmul {", $x, "}, {", $x, "}, {",
                $v, "}\n", "smmul {", $v, "}, {", $y, "}, {", $v, "}\n", "sub {", $a, "}, {", $a,
                "}, {", $v, "}\n", "smmla {", $x, "}, {", $y, "}, {", $u, "}, {", $x, "}",
            )
        };
    }

    /// The same where high words come by SMULL, with `{low}` for what is not wanted.
    #[cfg(not(feature = "dsp"))]
    macro_rules! rotate {
        ($a:literal, $x:literal, $y:literal, $u:literal, $v:literal) => {
            concat!(
                "smull {low}, {",
                $a,
                "}, {",
                $x,
                "}, {",
                $u,
                "}\n",
                "smull {low}, {",
                $x,
                "}, {",
                $x,
                "}, {",
                $v,
                "}\n",
                "smull {low}, {",
                $v,
                "}, {",
                $y,
                "}, {",
                $v,
                "}\n",
                "smull {low}, {",
                $y,
                "}, {",
                $y,
                "}, {",
                $u,
                "}\n",
                "sub {",
                $a,
                "}, {",
                $a,
                "}, {",
                $v,
                "}\n",
                "add {",
                $x,
                "}, {",
                $x,
                "}, {",
                $y,
                "}",
            )
        };
    }

    /// `asm!` with the register that SMULL's low words go to, where there is no SMMUL.
    macro_rules! asm_products {
        ($($text:expr),* ; $($operands:tt)*) => {
            #[cfg(feature = "dsp")]
            asm!($($text),*, $($operands)*);
            #[cfg(not(feature = "dsp"))]
            asm!($($text),*, low = out(reg) _, $($operands)*);
        };
    }

    /// The radix-4 butterflies after a radix-2 one of eight values, in place: the even ones
    /// with twiddles of 1, the odd ones with eighths of a turn. `eighth` is its cosine.
    #[inline(always)]
    pub(in super::super) fn second_radix4(block: &mut [Complex; 8], eighth: i32) {
        // q = [e, f] · (eighth - i · eighth) and s = [g, h] · (-eighth - i · eighth), quarters:
        // q in a and e, s in b and g. The latter's four products are two.
        #[cfg(feature = "dsp")]
        macro_rules! rotate_q_and_s {
            () => {
                concat!(
                    "smmul {a}, {e}, {eighth}\n",
                    "smmul {e}, {e}, {minus}\n",
                    "smmul {b}, {f}, {minus}\n",
                    "sub {a}, {a}, {b}\n",
                    "smmla {e}, {f}, {eighth}, {e}\n",
                    "smmul {g}, {g}, {minus}\n",
                    "smmul {h}, {h}, {minus}\n",
                    "sub {b}, {g}, {h}\n",
                    "add {g}, {g}, {h}",
                )
            };
        }
        #[cfg(not(feature = "dsp"))]
        macro_rules! rotate_q_and_s {
            () => {
                concat!(
                    "smull {low}, {a}, {e}, {eighth}\n",
                    "smull {low}, {e}, {e}, {minus}\n",
                    "smull {low}, {b}, {f}, {minus}\n",
                    "smull {low}, {f}, {f}, {eighth}\n",
                    "sub {a}, {a}, {b}\n",
                    "add {e}, {e}, {f}\n",
                    "smull {low}, {g}, {g}, {minus}\n",
                    "smull {low}, {h}, {h}, {minus}\n",
                    "sub {b}, {g}, {h}\n",
                    "add {g}, {g}, {h}",
                )
            };
        }
        // SAFETY: reads and writes the 64 bytes that the reference covers.
        unsafe {
            asm_products!(
                // p + r in i and a, p - r in c and d
                "ldrd {a}, {b}, [{block}]",
                "ldrd {c}, {d}, [{block}, #32]",
                "asr {c}, {c}, #2",
                "asr {d}, {d}, #2",
                "add {i}, {c}, {a}, asr #2",
                "rsb {c}, {c}, {a}, asr #2",
                "add {a}, {d}, {b}, asr #2",
                "rsb {d}, {d}, {b}, asr #2",
                // q + s in b and e, q - s in g and h
                "ldrd {e}, {f}, [{block}, #16]",
                "ldrd {g}, {h}, [{block}, #48]",
                "asr {g}, {g}, #2",
                "asr {h}, {h}, #2",
                "add {b}, {g}, {e}, asr #2",
                "rsb {g}, {g}, {e}, asr #2",
                "add {e}, {h}, {f}, asr #2",
                "rsb {h}, {h}, {f}, asr #2",
                "add {f}, {i}, {b}",
                "sub {i}, {i}, {b}",
                "add {b}, {a}, {e}",
                "sub {a}, {a}, {e}",
                "strd {f}, {b}, [{block}]",
                "strd {i}, {a}, [{block}, #32]",
                "add {f}, {c}, {h}",
                "sub {c}, {c}, {h}",
                "sub {b}, {d}, {g}",
                "add {d}, {d}, {g}",
                "strd {f}, {b}, [{block}, #16]",
                "strd {c}, {d}, [{block}, #48]",
                // The odd ones: q + s in c and d, q - s in a and e
                "ldrd {e}, {f}, [{block}, #24]",
                "ldrd {g}, {h}, [{block}, #56]",
                rotate_q_and_s!(),
                "add {c}, {a}, {b}",
                "sub {a}, {a}, {b}",
                "add {d}, {e}, {g}",
                "sub {e}, {e}, {g}",
                // p + r in h and f, p - r in b and g
                "ldrd {f}, {g}, [{block}, #40]",
                "ldrd {b}, {h}, [{block}, #8]",
                "rsb {f}, {f}, #0",
                "rsb {g}, {g}, #0",
                "asr {b}, {b}, #2",
                "asr {i}, {h}, #2",
                "sub {h}, {b}, {g}, asr #2",
                "add {b}, {b}, {g}, asr #2",
                "sub {g}, {i}, {f}, asr #2",
                "add {f}, {i}, {f}, asr #2",
                "add {i}, {h}, {c}",
                "sub {h}, {h}, {c}",
                "add {c}, {f}, {d}",
                "sub {f}, {f}, {d}",
                "strd {i}, {c}, [{block}, #8]",
                "strd {h}, {f}, [{block}, #40]",
                "add {i}, {b}, {e}",
                "sub {b}, {b}, {e}",
                "sub {c}, {g}, {a}",
                "add {g}, {g}, {a}",
                "strd {i}, {c}, [{block}, #24]",
                "strd {b}, {g}, [{block}, #56]";
                block = in(reg) block,
                eighth = in(reg) eighth,
                minus = in(reg) -eighth,
                a = out(reg) _,
                b = out(reg) _,
                c = out(reg) _,
                d = out(reg) _,
                e = out(reg) _,
                f = out(reg) _,
                g = out(reg) _,
                h = out(reg) _,
                i = out(reg) _,
                options(nostack, preserves_flags)
            );
        }
    }

    /// A radix-4 butterfly of values that lie `QUARTER` apart, in place, and the triple of
    /// twiddles after the next `256 / QUARTER`.
    ///
    /// 42 instructions with SMMUL, none of them a spill: at most eight values are alive.
    ///
    /// # Safety
    /// `lower` and `upper` lie between the first two and the last two values:
    /// they are `INDEX` beyond `lower` ∓ `QUARTER / 2` and `upper` ∓ `QUARTER / 2`, four
    /// different ones, free to be read and written. `twiddles` can be read.
    #[inline(always)]
    pub(in super::super) unsafe fn butterfly<const QUARTER: usize, const INDEX: usize>(
        lower: *mut Complex,
        upper: *mut Complex,
        twiddles: *const [Complex; 3],
    ) -> *const [Complex; 3] {
        let next;
        // SAFETY: the caller's promise covers every load and store. What lies beyond the
        // table's end may be pointed to, but is not read.
        unsafe {
            asm_products!(
                // q and s
                "ldrd {a}, {b}, [{lower}, #{second}]",
                "ldrd {c}, {d}, [{twiddles}], #16",
                rotate!("e", "a", "b", "c", "d"),
                "ldrd {b}, {f}, [{upper}, #{second}]",
                "ldrd {c}, {d}, [{twiddles}], #-8",
                rotate!("g", "b", "f", "c", "d"),
                // sum in c and d, difference in e and a
                "add {c}, {e}, {g}",
                "sub {e}, {e}, {g}",
                "add {d}, {a}, {b}",
                "sub {a}, {a}, {b}",
                // r
                "ldrd {b}, {f}, [{upper}, #{first}]",
                "ldrd {g}, {h}, [{twiddles}], #{step}",
                rotate!("i", "b", "f", "g", "h"),
                // p + r in h and f, p - r in i and b
                "ldrd {f}, {g}, [{lower}, #{first}]",
                "add {h}, {i}, {f}, asr #2",
                "rsb {i}, {i}, {f}, asr #2",
                "add {f}, {b}, {g}, asr #2",
                "rsb {b}, {b}, {g}, asr #2",
                // Their sums and differences with q + s …
                "add {g}, {h}, {c}",
                "sub {h}, {h}, {c}",
                "add {c}, {f}, {d}",
                "sub {f}, {f}, {d}",
                "strd {g}, {c}, [{lower}, #{first}]",
                "strd {h}, {f}, [{upper}, #{first}]",
                // … and with -i(q - s)
                "add {g}, {i}, {a}",
                "sub {i}, {i}, {a}",
                "sub {c}, {b}, {e}",
                "add {b}, {b}, {e}",
                "strd {g}, {c}, [{lower}, #{second}]",
                "strd {i}, {b}, [{upper}, #{second}]";
                first = const { 8 * INDEX as i32 - 4 * QUARTER as i32 },
                second = const { 8 * INDEX as i32 + 4 * QUARTER as i32 },
                step = const { 24 * (256 / QUARTER as i32) - 8 },
                lower = in(reg) lower,
                upper = in(reg) upper,
                twiddles = inout(reg) twiddles => next,
                a = out(reg) _,
                b = out(reg) _,
                c = out(reg) _,
                d = out(reg) _,
                e = out(reg) _,
                f = out(reg) _,
                g = out(reg) _,
                h = out(reg) _,
                i = out(reg) _,
                options(nostack, preserves_flags)
            );
        }
        next
    }

    /// The real split of a bin and its mirror, in place. Returns the next bin, the next mirror
    /// and the twiddle `STRIDE` further.
    ///
    /// # Safety
    /// `z` and `mirror` are different and free to be read and written; `twiddle` can be read.
    #[inline(always)]
    pub(in super::super) unsafe fn separate<const STRIDE: usize>(
        z: *mut Complex,
        mirror: *mut Complex,
        twiddle: *const Complex,
    ) -> (*mut Complex, *mut Complex, *const Complex) {
        let (next_z, next_mirror, next_twiddle);
        #[cfg(feature = "dsp")]
        macro_rules! turn {
            () => {
                concat!(
                    "smmul {c}, {e}, {cos}\n",
                    "smmul {e}, {e}, {sin}\n",
                    "smmla {c}, {f}, {sin}, {c}\n",
                    "smmul {f}, {f}, {cos}\n",
                    "sub {f}, {f}, {e}",
                )
            };
        }
        #[cfg(not(feature = "dsp"))]
        macro_rules! turn {
            () => {
                concat!(
                    "smull {low}, {c}, {e}, {cos}\n",
                    "smull {low}, {d}, {f}, {sin}\n",
                    "smull {low}, {e}, {e}, {sin}\n",
                    "smull {low}, {f}, {f}, {cos}\n",
                    "add {c}, {c}, {d}\n",
                    "sub {f}, {f}, {e}",
                )
            };
        }
        // SAFETY: the caller's promise covers every load and store; the pointers beyond
        // the last pair are not used.
        unsafe {
            asm_products!(
                "ldrd {a}, {b}, [{z}]",
                "ldrd {c}, {d}, [{mirror}]",
                "ldrd {cos}, {sin}, [{twiddle}], #{step}",
                // The odd samples' transform, doubled, in e and f; the even ones' in a and b.
                "asr {e}, {b}, #1",
                "add {e}, {e}, {d}, asr #1",
                "asr {f}, {a}, #1",
                "rsb {f}, {f}, {c}, asr #1",
                "asr {a}, {a}, #2",
                "add {a}, {a}, {c}, asr #2",
                "asr {b}, {b}, #2",
                "sub {b}, {b}, {d}, asr #2",
                turn!(),
                "add {d}, {a}, {c}",
                "sub {a}, {a}, {c}",
                "add {e}, {b}, {f}",
                "sub {b}, {f}, {b}",
                "strd {d}, {e}, [{z}], #8",
                "strd {a}, {b}, [{mirror}], #-8";
                step = const { 8 * STRIDE },
                z = inout(reg) z => next_z,
                mirror = inout(reg) mirror => next_mirror,
                twiddle = inout(reg) twiddle => next_twiddle,
                a = out(reg) _,
                b = out(reg) _,
                c = out(reg) _,
                d = out(reg) _,
                e = out(reg) _,
                f = out(reg) _,
                cos = out(reg) _,
                sin = out(reg) _,
                options(nostack, preserves_flags)
            );
        }
        (next_z, next_mirror, next_twiddle)
    }

    /// High words of two products, in place of the first factors.
    #[cfg(feature = "dsp")]
    macro_rules! high_words {
        ($a:literal, $u:literal, $b:literal, $v:literal) => {
            concat!(
                "smmul {", $a, "}, {", $a, "}, {", $u, "}\n", "smmul {", $b, "}, {", $b, "}, {",
                $v, "}",
            )
        };
    }
    #[cfg(not(feature = "dsp"))]
    macro_rules! high_words {
        ($a:literal, $u:literal, $b:literal, $v:literal) => {
            concat!(
                "smull {low}, {",
                $a,
                "}, {",
                $a,
                "}, {",
                $u,
                "}\n",
                "smull {low}, {",
                $b,
                "}, {",
                $b,
                "}, {",
                $v,
                "}",
            )
        };
    }

    /// The first, radix-2 butterfly of samples under the window: sum and difference of
    /// halves, side by side. Returns what lies an eighth of the `HALF` pairs further.
    ///
    /// # Safety
    /// All pairs, and the samples `HALF / 2` pairs further, can be read, and two values be
    /// written.
    #[inline(always)]
    pub(in super::super) unsafe fn halve_windowed<const HALF: usize>(
        mut next: Windowed,
        shift: u32,
    ) -> Windowed {
        // SAFETY: the caller's promise; pointers that it does not cover are not used.
        unsafe {
            asm_products!(
                "ldr {c}, [{samples}, #{half}]",
                "ldr {d}, [{samples}, #{half} + 4]",
                "ldrd {v}, {u}, [{fall}], #-{eighth}",
                "lsl {c}, {c}, {shift}",
                "lsl {d}, {d}, {shift}",
                high_words!("c", "u", "d", "v"),
                "ldrd {a}, {b}, [{samples}], #{eighth}",
                "ldrd {u}, {v}, [{rise}], #{eighth}",
                "lsl {a}, {a}, {shift}",
                "lsl {b}, {b}, {shift}",
                high_words!("a", "u", "b", "v"),
                "asr {c}, {c}, #1",
                "asr {d}, {d}, #1",
                "add {u}, {c}, {a}, asr #1",
                "add {v}, {d}, {b}, asr #1",
                "rsb {c}, {c}, {a}, asr #1",
                "rsb {d}, {d}, {b}, asr #1",
                "strd {u}, {v}, [{to}], #8",
                "strd {c}, {d}, [{to}], #8";
                half = const { 4 * HALF },
                eighth = const { HALF },
                samples = inout(reg) next.samples,
                rise = inout(reg) next.rise,
                fall = inout(reg) next.fall,
                shift = in(reg) shift,
                to = inout(reg) next.to,
                a = out(reg) _,
                b = out(reg) _,
                c = out(reg) _,
                d = out(reg) _,
                u = out(reg) _,
                v = out(reg) _,
                options(nostack, preserves_flags)
            );
        }
        next
    }

    /// `or` and the bits beneath the signs of eight values; the next eight.
    ///
    /// # Safety
    /// They can be read.
    #[inline(always)]
    pub(in super::super) unsafe fn or_eight(
        mut or: i32,
        mut eight: *const [i32; 8],
    ) -> (i32, *const [i32; 8]) {
        macro_rules! two {
            () => {
                concat!(
                    "ldrd {a}, {b}, [{eight}], #8\n",
                    "eor {a}, {a}, {a}, asr #31\n",
                    "orr {or}, {or}, {a}\n",
                    "eor {b}, {b}, {b}, asr #31\n",
                    "orr {or}, {or}, {b}",
                )
            };
        }
        // SAFETY: the caller's promise.
        unsafe {
            asm!(
                two!(), two!(), two!(), two!(),
                eight = inout(reg) eight,
                or = inout(reg) or,
                a = out(reg) _,
                b = out(reg) _,
                options(readonly, nostack, preserves_flags)
            );
        }
        (or, eight)
    }

    /// Eight words from `from` to `to`, all read before any is written. Returns what follows.
    ///
    /// # Safety
    /// They can be read there and written here.
    #[inline(always)]
    pub(in super::super) unsafe fn move_eight(
        mut from: *const i32,
        mut to: *mut i32,
    ) -> (*const i32, *mut i32) {
        // SAFETY: the caller's promise.
        unsafe {
            asm!(
                "ldmia {from}!, {{r0-r5, r8, r12}}",
                "stmia {to}!, {{r0-r5, r8, r12}}",
                from = inout(reg) from,
                to = inout(reg) to,
                out("r0") _,
                out("r1") _,
                out("r2") _,
                out("r3") _,
                out("r4") _,
                out("r5") _,
                out("r8") _,
                out("r12") _,
                options(nostack, preserves_flags)
            );
        }
        (from, to)
    }

    /// A sample through `DcBlocker::process`, but for saturation, which only sets the
    /// flag that [`saturated`] reads. `weight` is −2^(32 − shift).
    ///
    /// # Safety
    /// `from` can be read and `to` written.
    #[inline(always)]
    pub(in super::super) unsafe fn without_mean(
        mut dc: WithoutMean,
        shift: u32,
        weight: i32,
    ) -> WithoutMean {
        let mut low = dc.negative_mean_q16 as u32;
        let mut high = (dc.negative_mean_q16 >> 32) as i32;
        // SAFETY: the caller's promise.
        unsafe {
            asm!(
                "ldr {x}, [{from}], #4",
                "ssat {out}, #24, {x}",
                // y: above 32 bits in `y`, the rest in `x`
                "asr {y}, {x}, #16",
                "adds {x}, {low}, {x}, lsl #16",
                "adc {y}, {high}, {y}",
                "lsr {out}, {x}, #10",
                "orr {out}, {out}, {y}, lsl #22",
                "str {out}, [{to}], #4",
                // -mean -= y >> shift
                "lsr {x}, {x}, {shift}",
                "smlal {low}, {high}, {y}, {weight}",
                "subs {low}, {low}, {x}",
                "sbc {high}, {high}, #0",
                from = inout(reg) dc.from,
                to = inout(reg) dc.to,
                low = inout(reg) low,
                high = inout(reg) high,
                shift = in(reg) shift,
                weight = in(reg) weight,
                x = out(reg) _,
                y = out(reg) _,
                out = out(reg) _,
                options(nostack)
            );
        }
        dc.negative_mean_q16 = i64::from(high) << 32 | i64::from(low);
        dc
    }

    /// Whether any instruction has saturated since the last call.
    #[inline(always)]
    pub(in super::super) fn saturated() -> bool {
        let flags: u32;
        // SAFETY: reads the flags, and clears those that nobody expects to stay.
        unsafe {
            asm!(
                "mrs {flags}, APSR",
                "msr APSR_nzcvq, {zero}",
                flags = out(reg) flags,
                zero = in(reg) 0,
                options(nomem, nostack)
            );
        }
        flags & (1 << 27) != 0
    }

    /// A bin's power in its place, see `scalar::powers`, and `sum` with it. Returns the
    /// next bin, too.
    ///
    /// # Safety
    /// `bin` is free to be read and written.
    #[inline(always)]
    pub(in super::super) unsafe fn power(
        mut bin: *mut Complex,
        headroom: u32,
        sum: u64,
    ) -> (*mut Complex, u64) {
        let (mut low, mut high) = (sum as u32, (sum >> 32) as u32);
        // SAFETY: the caller's promise.
        unsafe {
            asm!(
                "ldrd {a}, {b}, [{bin}]",
                "lsl {a}, {a}, {headroom}",
                "lsl {b}, {b}, {headroom}",
                "smull {c}, {d}, {a}, {a}",
                "smlal {c}, {d}, {b}, {b}",
                "lsr {c}, {c}, #{shift}",
                "orr {c}, {c}, {d}, lsl #(32 - {shift})",
                "lsr {d}, {d}, #{shift}",
                "adds {low}, {low}, {c}",
                "adc {high}, {high}, {d}",
                "strd {c}, {d}, [{bin}], #8",
                shift = const POWER_SHIFT,
                bin = inout(reg) bin,
                headroom = in(reg) headroom,
                low = inout(reg) low,
                high = inout(reg) high,
                a = out(reg) _,
                b = out(reg) _,
                c = out(reg) _,
                d = out(reg) _,
                options(nostack)
            );
        }
        (bin, u64::from(high) << 32 | u64::from(low))
    }

    /// Adds a bin's power times its weight. A power has seven bits in its upper word
    /// (see [`POWER_SHIFT`]), so that the sum of these products fits 32.
    ///
    /// # Safety
    /// `sum.power` and `sum.weight` can be read.
    #[inline(always)]
    pub(in super::super) unsafe fn weigh(mut sum: Weighed) -> Weighed {
        let (mut low, mut middle) = (sum.low as u32, (sum.low >> 32) as u32);
        // SAFETY: the caller's promise.
        unsafe {
            asm!(
                "ldrd {a}, {b}, [{power}], #8",
                "ldrh {c}, [{weight}], #2",
                "umlal {low}, {middle}, {a}, {c}",
                "mla {high}, {b}, {c}, {high}",
                power = inout(reg) sum.power,
                weight = inout(reg) sum.weight,
                low = inout(reg) low,
                middle = inout(reg) middle,
                high = inout(reg) sum.high,
                a = out(reg) _,
                b = out(reg) _,
                c = out(reg) _,
                options(readonly, nostack, preserves_flags)
            );
        }
        sum.low = u64::from(middle) << 32 | u64::from(low);
        sum
    }
}

/// What the tests of hosts run the kernels with.
#[cfg(not(target_arch = "arm"))]
mod portable {
    use std::cell::Cell;

    use super::{Weighed, Windowed, WithoutMean};
    use crate::arch::scalar;
    use crate::fft::{self, Complex, mul_high};

    pub(in super::super) fn second_radix4(block: &mut [Complex; 8], eighth: i32) {
        let [p, q, r, s] = [0, 2, 4, 6].map(|n| fft::quartered(block[n]));
        [block[0], block[2], block[4], block[6]] = fft::butterfly(p, q, r, s);
        let q = fft::rotate_quarter(block[3], [eighth, -eighth]);
        let s = fft::rotate_quarter(block[7], [-eighth, -eighth]);
        let (p, r) = (fft::quartered(block[1]), fft::turned_quarter(block[5]));
        [block[1], block[3], block[5], block[7]] = fft::butterfly(p, q, r, s);
    }

    pub(in super::super) unsafe fn butterfly<const QUARTER: usize, const INDEX: usize>(
        lower: *mut Complex,
        upper: *mut Complex,
        twiddles: *const [Complex; 3],
    ) -> *const [Complex; 3] {
        let legs = [lower, upper].map(|between| {
            [
                between.wrapping_add(INDEX).wrapping_sub(QUARTER / 2),
                between.wrapping_add(INDEX + QUARTER / 2),
            ]
        });
        let [[p, q], [r, s]] = legs;
        // SAFETY: the caller's promise.
        unsafe {
            let [w1, w2, w3] = *twiddles;
            let rotated = |x: *mut Complex, w| fft::rotate_quarter(*x, w);
            [*p, *q, *r, *s] = fft::butterfly(
                fft::quartered(*p),
                rotated(q, w1),
                rotated(r, w2),
                rotated(s, w3),
            );
        }
        twiddles.wrapping_add(256 / QUARTER)
    }

    pub(in super::super) unsafe fn separate<const STRIDE: usize>(
        z: *mut Complex,
        mirror: *mut Complex,
        twiddle: *const Complex,
    ) -> (*mut Complex, *mut Complex, *const Complex) {
        // SAFETY: the caller's promise.
        unsafe { fft::separate(&mut *z, &mut *mirror, *twiddle) };
        (
            z.wrapping_add(1),
            mirror.wrapping_sub(1),
            twiddle.wrapping_add(STRIDE),
        )
    }

    pub(in super::super) unsafe fn halve_windowed<const HALF: usize>(
        from: Windowed,
        shift: u32,
    ) -> Windowed {
        let partner = from.samples.wrapping_add(HALF / 2);
        // SAFETY: the caller's promise.
        let (x, y, [u, v], [w, z]) = unsafe { (*from.samples, *partner, *from.rise, *from.fall) };
        let [a, b] = [mul_high(x[0] << shift, u), mul_high(x[1] << shift, v)];
        let [c, d] = [mul_high(y[0] << shift, z), mul_high(y[1] << shift, w)];
        let [a, b, c, d] = [a, b, c, d].map(|x| x >> 1);
        // SAFETY: the caller's promise.
        unsafe {
            *from.to = [a + c, b + d];
            *from.to.wrapping_add(1) = [a - c, b - d];
        }
        Windowed {
            samples: from.samples.wrapping_add(HALF / 8),
            rise: from.rise.wrapping_add(HALF / 8),
            fall: from.fall.wrapping_sub(HALF / 8),
            to: from.to.wrapping_add(2),
        }
    }

    pub(in super::super) unsafe fn or_eight(
        or: i32,
        eight: *const [i32; 8],
    ) -> (i32, *const [i32; 8]) {
        // SAFETY: the caller's promise.
        let more = unsafe { scalar::magnitudes(&*eight) };
        (or | more, eight.wrapping_add(1))
    }

    pub(in super::super) unsafe fn move_eight(
        from: *const i32,
        to: *mut i32,
    ) -> (*const i32, *mut i32) {
        // SAFETY: the caller's promise.
        unsafe { from.copy_to(to, 8) };
        (from.wrapping_add(8), to.wrapping_add(8))
    }

    thread_local! {
        static SATURATED: Cell<bool> = const { Cell::new(false) };
    }

    pub(in super::super) unsafe fn without_mean(
        dc: WithoutMean,
        shift: u32,
        weight: i32,
    ) -> WithoutMean {
        // SAFETY: the caller's promise.
        let x = unsafe { *dc.from };
        if !(-(1 << 23)..1 << 23).contains(&x) {
            SATURATED.set(true);
        }
        // What follows saturation is thrown away, and may wrap.
        let y_q16 = dc.negative_mean_q16.wrapping_add(i64::from(x) << 16);
        // SAFETY: the caller's promise.
        unsafe { *dc.to = (y_q16 >> 10) as i32 };
        let (high, low) = ((y_q16 >> 32) as i32, y_q16 as u32);
        let part = i64::from(high) * i64::from(weight) - i64::from(low >> shift);
        WithoutMean {
            from: dc.from.wrapping_add(1),
            to: dc.to.wrapping_add(1),
            negative_mean_q16: dc.negative_mean_q16.wrapping_add(part),
        }
    }

    pub(in super::super) fn saturated() -> bool {
        SATURATED.take()
    }

    pub(in super::super) unsafe fn power(
        bin: *mut Complex,
        headroom: u32,
        sum: u64,
    ) -> (*mut Complex, u64) {
        // SAFETY: the caller's promise.
        let power = unsafe { scalar::powers(core::slice::from_mut(&mut *bin), headroom) };
        (bin.wrapping_add(1), sum + power)
    }

    pub(in super::super) unsafe fn weigh(sum: Weighed) -> Weighed {
        // SAFETY: the caller's promise.
        let ([low, high], weight) = unsafe { (*sum.power, *sum.weight) };
        Weighed {
            power: sum.power.wrapping_add(1),
            weight: sum.weight.wrapping_add(1),
            low: sum.low + u64::from(low as u32) * u64::from(weight),
            high: sum.high + high as u32 * u32::from(weight),
        }
    }
}
