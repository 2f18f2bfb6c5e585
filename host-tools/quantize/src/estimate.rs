//! Estimated inference times for machines that are not at hand.
//!
//! Cycles per multiplication come from instruction counts of the benchmark networks and, for
//! pointwise layers, LLVM's model of the hot loop (`cargo xtask bench --mca`). None of these numbers
//! was measured on the machine it describes.

use sori_nn::memory::{self, LayerKind};
use sori_package::Package;

use crate::report::Estimate;

struct Machine {
    name: &'static str,
    megahertz: f64,
    /// Cycles per multiplication.
    pointwise: f64,
    /// For the depthwise and stem layers, including the code around the loops.
    other: f64,
}

const MACHINES: [Machine; 4] = [
    Machine {
        name: "Raspberry Pi Zero 2 W (Cortex-A53, 1.0 GHz)",
        megahertz: 1000.0,
        pointwise: 0.30,
        other: 1.2,
    },
    Machine {
        name: "Raspberry Pi 3 B+ (Cortex-A53, 1.4 GHz)",
        megahertz: 1400.0,
        pointwise: 0.30,
        other: 1.2,
    },
    Machine {
        name: "Raspberry Pi 4 (Cortex-A72, 1.5 GHz)",
        megahertz: 1500.0,
        pointwise: 0.15,
        other: 0.6,
    },
    Machine {
        name: "Raspberry Pi 5 (Cortex-A76, 2.4 GHz)",
        megahertz: 2400.0,
        pointwise: 0.05,
        other: 0.4,
    },
];

/// Of `rows` input rows, on one core.
pub(crate) fn estimates(package: &Package<'_>, rows: usize) -> Vec<Estimate> {
    let (mut pointwise, mut other) = (0.0, 0.0);
    let mut rows = rows;
    memory::for_each_layer(package, &mut |layer| {
        rows = layer.output_rows(rows);
        let macs = layer.macs_per_row as f64;
        match layer.kind {
            LayerKind::Stem | LayerKind::Depthwise(_) => other += rows as f64 * macs,
            LayerKind::Classifier => pointwise += macs,
            _ => pointwise += rows as f64 * macs,
        }
    });
    MACHINES
        .iter()
        .map(|machine| Estimate {
            target: machine.name.into(),
            milliseconds: (pointwise * machine.pointwise + other * machine.other)
                / (machine.megahertz * 1e3),
        })
        .collect()
}
