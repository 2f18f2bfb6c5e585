use super::{BLOCK, Core, PAIR, SPAN};
#[cfg(all(target_arch = "arm", target_os = "none"))]
use super::{Columns, DepthwiseChannel, OutputChannel};

/// What every core has: one product at a time. Written for Armv7-M (M3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plain(());

impl Plain {
    /// On any Cortex-M.
    pub(crate) fn new() -> Option<Self> {
        cfg!(all(target_arch = "arm", target_os = "none")).then_some(Self(()))
    }

    /// Nothing here is of a processor; others have better.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) const EMULATED: Self = Self(());
}

#[inline(always)]
fn multiply_add(w: i32, x: i32, acc: i32) -> i32 {
    acc.wrapping_add(w * x)
}

impl Core for Plain {
    type Unit = i8;
    type Taps = [i32; 9];

    const GROUP: usize = 1;
    const UNITS: usize = 1;

    #[inline(always)]
    fn unpack(self, pixel: &[i8], units: &mut [i8]) {
        for (&value, unit) in pixel.iter().zip(units.iter_mut().step_by(BLOCK)) {
            *unit = value;
        }
    }

    #[inline(always)]
    fn dot(self, mut acc: [i32; BLOCK], weights: &[i8], units: &[i8]) -> [i32; BLOCK] {
        for (&w, x) in weights.iter().zip(units.as_chunks::<BLOCK>().0) {
            for p in 0..BLOCK {
                acc[p] = multiply_add(w.into(), x[p].into(), acc[p]);
            }
        }
        acc
    }

    #[inline(always)]
    fn dot_pair(self, mut acc: [i32; PAIR], weights: &[i8], pixels: [&[i8]; PAIR]) -> [i32; PAIR] {
        for (&w, (&low, &high)) in weights.iter().zip(pixels[0].iter().zip(pixels[1])) {
            acc[0] = multiply_add(w.into(), low.into(), acc[0]);
            acc[1] = multiply_add(w.into(), high.into(), acc[1]);
        }
        acc
    }

    #[cfg(all(target_arch = "arm", target_os = "none"))]
    #[inline(always)]
    unsafe fn blocks<const ADDS: bool>(
        self,
        channel: &OutputChannel<'_>,
        units: &[i8],
        output: &mut [i8],
    ) {
        // SAFETY: the caller's promise.
        unsafe { instructions::blocks::<ADDS>(channel, units, output) };
    }

    #[inline(always)]
    fn taps(self, weights: [i8; 9]) -> [i32; 9] {
        weights.map(i32::from)
    }

    #[inline(always)]
    fn quad(self, bias: i32, rows: [&[i8; SPAN]; 3], taps: &[i32; 9]) -> [i32; 4] {
        let mut acc = [bias; 4];
        for ky in 0..3 {
            let columns = rows[ky].map(i32::from);
            for n in 0..4 {
                for kx in 0..3 {
                    acc[n] = multiply_add(taps[3 * ky + kx], columns[n + kx], acc[n]);
                }
            }
        }
        acc
    }

    #[inline(always)]
    fn pair(self, bias: i32, rows: [&[i8; SPAN]; 3], taps: &[i32; 9]) -> [i32; 2] {
        let mut acc = [bias; 2];
        for ky in 0..3 {
            let columns = rows[ky].map(i32::from);
            for n in 0..2 {
                for kx in 0..3 {
                    acc[n] = multiply_add(taps[3 * ky + kx], columns[2 * n + kx], acc[n]);
                }
            }
        }
        acc
    }

    #[cfg(all(target_arch = "arm", target_os = "none"))]
    #[inline(always)]
    unsafe fn windows<const STRIDE: usize>(
        self,
        channel: &DepthwiseChannel<[i32; 9]>,
        columns: &Columns,
        count: usize,
        output: &mut [i8],
    ) {
        // SAFETY: the caller's promise.
        unsafe { instructions::windows::<STRIDE>(channel, columns, count, output) };
    }
}

#[cfg(all(target_arch = "arm", target_os = "none"))]
mod instructions {
    use core::arch::asm;

    use crate::arch::cortex_m::{BlockLoop, Columns, DepthwiseChannel, OutputChannel, WindowLoop};

    /// One input channel of four pixels.
    macro_rules! input {
        () => {
            concat!(
                "ldrsb {x}, [{w}], #1\n",
                "ldrsb {y}, [{u}], #1\n",
                "mla {a}, {x}, {y}, {a}\n",
                "ldrsb {y}, [{u}], #1\n",
                "mla {b}, {x}, {y}, {b}\n",
                "ldrsb {y}, [{u}], #1\n",
                "mla {c}, {x}, {y}, {c}\n",
                "ldrsb {y}, [{u}], #1\n",
                "mla {d}, {x}, {y}, {d}",
            )
        };
    }

    /// `Fast` scaling of one accumulator: with the multiplier, the addend and the shift in
    /// these registers, and another one.
    macro_rules! scale {
        ($acc:literal, $multiplier:literal, $addend:literal, $shift:literal, $low:literal) => {
            concat!(
                "smull {",
                $low,
                "}, {",
                $acc,
                "}, {",
                $acc,
                "}, {",
                $multiplier,
                "}\n",
                "add {",
                $acc,
                "}, {",
                $acc,
                "}, {",
                $addend,
                "}\n",
                "asr {",
                $acc,
                "}, {",
                $acc,
                "}, {",
                $shift,
                "}\n",
                "ssat {",
                $acc,
                "}, #8, {",
                $acc,
                "}",
            )
        };
    }

    /// The loop over blocks, with what it does to accumulators before they are scaled.
    macro_rules! blocks {
        ($turns:ident, $units:ident, $adds:expr) => {
            asm!(
                "2:",
                "ldrd {w}, {n}, [{t}, #20]",
                "ldr {a}, [{t}, #28]",
                "mov {b}, {a}",
                "mov {c}, {a}",
                "mov {d}, {a}",
                // Eight inputs at a time, and then one.
                "subs {n}, #8",
                "blt 4f",
                "3:",
                input!(),
                input!(),
                input!(),
                input!(),
                input!(),
                input!(),
                input!(),
                input!(),
                "subs {n}, #8",
                "bge 3b",
                "4:",
                "adds {n}, #8",
                "beq 6f",
                "5:",
                input!(),
                "subs {n}, #1",
                "bne 5b",
                "6:",
                $adds,
                "ldrd {w}, {n}, [{t}]",
                "ldr {x}, [{t}, #8]",
                scale!("a", "w", "n", "x", "y"),
                scale!("b", "w", "n", "x", "y"),
                scale!("c", "w", "n", "x", "y"),
                scale!("d", "w", "n", "x", "y"),
                "ldrd {x}, {y}, [{t}, #12]",
                "strb {a}, [{y}]",
                "strb {b}, [{y}, {x}]",
                "add {y}, {y}, {x}, lsl #1",
                "strb {c}, [{y}]",
                "strb {d}, [{y}, {x}]",
                "add {y}, {y}, {x}, lsl #1",
                "str {y}, [{t}, #16]",
                "ldr {x}, [{t}, #32]",
                "cmp {u}, {x}",
                "bne 2b",
                u = inout(reg) $units.as_ptr() => _,
                t = in(reg) &raw mut $turns,
                a = out(reg) _,
                b = out(reg) _,
                c = out(reg) _,
                d = out(reg) _,
                w = out(reg) _,
                n = out(reg) _,
                x = out(reg) _,
                y = out(reg) _,
                options(nostack)
            )
        };
    }

    /// Adds the residual.
    macro_rules! adds {
        () => {
            "ldrd {w}, {n}, [{t}, #36]
            ldr {x}, [{t}, #12]
            ldrsb {y}, [{w}]
            mla {a}, {y}, {n}, {a}
            ldrsb {y}, [{w}, {x}]
            mla {b}, {y}, {n}, {b}
            add {w}, {w}, {x}, lsl #1
            ldrsb {y}, [{w}]
            mla {c}, {y}, {n}, {c}
            ldrsb {y}, [{w}, {x}]
            mla {d}, {y}, {n}, {d}
            add {w}, {w}, {x}, lsl #1
            str {w}, [{t}, #36]"
        };
    }

    /// # Safety
    /// As [`Core::blocks`](crate::arch::cortex_m::Core::blocks) says.
    #[inline(always)]
    pub(super) unsafe fn blocks<const ADDS: bool>(
        channel: &OutputChannel<'_>,
        units: &[i8],
        output: &mut [i8],
    ) {
        let inputs = channel.weights.len();
        debug_assert!(inputs > 0 && units.len().is_multiple_of(4 * inputs));
        let mut turns = BlockLoop::new(channel, inputs, units.as_ptr_range().end.cast(), output);
        // SAFETY: reads a weight and four units an input until the units' end, all of which are
        // there; writes the outputs `stride` places apart, which the caller promised are there.
        unsafe {
            match ADDS {
                true => blocks!(turns, units, adds!()),
                false => blocks!(turns, units, ""),
            }
        }
    }

    /// One row's part of four outputs from the bias or what they already are.
    macro_rules! quad {
        ($row:literal, $taps:literal, $last:literal, $a:literal, $b:literal, $c:literal, $d:literal) => {
            concat!(
                "ldrd {k}, {m}, [{t}, #",
                $taps,
                "]\n",
                "ldr {n}, [{t}, #",
                $last,
                "]\n",
                "ldrsb {x}, [{",
                $row,
                "}, #1]\n",
                "mla {a}, {x}, {m}, {",
                $a,
                "}\n",
                "mla {b}, {x}, {k}, {",
                $b,
                "}\n",
                "ldrsb {x}, [{",
                $row,
                "}, #2]\n",
                "mla {a}, {x}, {n}, {a}\n",
                "mla {b}, {x}, {m}, {b}\n",
                "mla {c}, {x}, {k}, {",
                $c,
                "}\n",
                "ldrsb {x}, [{",
                $row,
                "}, #3]\n",
                "mla {b}, {x}, {n}, {b}\n",
                "mla {c}, {x}, {m}, {c}\n",
                "mla {d}, {x}, {k}, {",
                $d,
                "}\n",
                "ldrsb {x}, [{",
                $row,
                "}, #4]\n",
                "mla {c}, {x}, {n}, {c}\n",
                "mla {d}, {x}, {m}, {d}\n",
                "ldrsb {x}, [{",
                $row,
                "}, #5]\n",
                "mla {d}, {x}, {n}, {d}\n",
                "ldrsb {x}, [{",
                $row,
                "}], #4\n",
                "mla {a}, {x}, {k}, {a}",
            )
        };
    }

    /// The same of two outputs with stride 2.
    macro_rules! pair {
        ($row:literal, $taps:literal, $last:literal, $a:literal, $b:literal) => {
            concat!(
                "ldrd {k}, {m}, [{t}, #",
                $taps,
                "]\n",
                "ldr {n}, [{t}, #",
                $last,
                "]\n",
                "ldrsb {x}, [{",
                $row,
                "}, #1]\n",
                "mla {a}, {x}, {m}, {",
                $a,
                "}\n",
                "ldrsb {x}, [{",
                $row,
                "}, #2]\n",
                "mla {a}, {x}, {n}, {a}\n",
                "mla {b}, {x}, {k}, {",
                $b,
                "}\n",
                "ldrsb {x}, [{",
                $row,
                "}, #3]\n",
                "mla {b}, {x}, {m}, {b}\n",
                "ldrsb {x}, [{",
                $row,
                "}, #4]\n",
                "mla {b}, {x}, {n}, {b}\n",
                "ldrsb {x}, [{",
                $row,
                "}], #4\n",
                "mla {a}, {x}, {k}, {a}",
            )
        };
    }

    /// # Safety
    /// As [`Core::windows`](crate::arch::cortex_m::Core::windows) says.
    #[inline(always)]
    pub(super) unsafe fn windows<const STRIDE: usize>(
        channel: &DepthwiseChannel<[i32; 9]>,
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
                    quad!("r", 24, 32, "d", "d", "d", "d"),
                    quad!("s", 36, 44, "a", "b", "c", "d"),
                    quad!("v", 48, 56, "a", "b", "c", "d"),
                    "ldrd {k}, {m}, [{t}]",
                    "ldr {n}, [{t}, #8]",
                    scale!("a", "k", "m", "n", "x"),
                    scale!("b", "k", "m", "n", "x"),
                    scale!("c", "k", "m", "n", "x"),
                    scale!("d", "k", "m", "n", "x"),
                    "ldr {x}, [{t}, #12]",
                    "strb {a}, [{o}]",
                    "strb {b}, [{o}, {x}]",
                    "add {o}, {o}, {x}, lsl #1",
                    "strb {c}, [{o}]",
                    "strb {d}, [{o}, {x}]",
                    "add {o}, {o}, {x}, lsl #1",
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
                    n = out(reg) _,
                    x = out(reg) _,
                    options(nostack)
                ),
                _ => asm!(
                    "2:",
                    "ldr {b}, [{t}, #16]",
                    pair!("r", 24, 32, "b", "b"),
                    pair!("s", 36, 44, "a", "b"),
                    pair!("v", 48, 56, "a", "b"),
                    "ldrd {k}, {m}, [{t}]",
                    "ldr {n}, [{t}, #8]",
                    scale!("a", "k", "m", "n", "x"),
                    scale!("b", "k", "m", "n", "x"),
                    "ldr {x}, [{t}, #12]",
                    "strb {a}, [{o}]",
                    "strb {b}, [{o}, {x}]",
                    "add {o}, {o}, {x}, lsl #1",
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
                    n = out(reg) _,
                    x = out(reg) _,
                    options(nostack)
                ),
            }
        }
    }
}
