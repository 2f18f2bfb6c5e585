//! `sori inspect --manifold`: the information a network's ReLUs preserve.

use std::io;
use std::path::Path;

use anyhow::{Context as _, Result};
use sori_quantize::Manifold;

use crate::commands::quantize;
use crate::{onnx, output};

pub(crate) fn run(model: &Path, calib: &Path, report: Option<&Path>, json: bool) -> Result<()> {
    let onnx = onnx::read(model)?;
    let clips = quantize::rows(calib, onnx.contract(), onnx.input_shape())?;
    let bar = output::stages();
    let measured = sori_quantize::manifold(&onnx, &clips, &|what, share| {
        bar.set_message(what.to_string());
        bar.set_position((share * 1000.0) as u64);
    });
    bar.finish_and_clear();
    let measured = measured.with_context(|| format!("cannot measure {}", model.display()))?;
    if let Some(path) = report {
        let name = model.file_stem().unwrap_or_default().to_string_lossy();
        output::write_atomically(path, measured.html(&name).as_bytes())?;
    }
    match json {
        true => output::line(&serde_json::to_string_pretty(&measured)?),
        false => Ok(print(&measured, &mut io::stdout())?),
    }
}

fn print(measured: &Manifold, out: &mut impl io::Write) -> io::Result<()> {
    let mut table = output::table(&[
        "block",
        "channels",
        "active",
        "dead",
        "rank in",
        "expanded",
        "projected",
        "recovered",
        "with a ReLU6 after it",
    ]);
    for block in &measured.blocks {
        let [narrow, wide, last] = block.channels;
        table.add_row([
            block.block.to_string(),
            format!("{narrow} → {wide} → {last}"),
            format!("{:.1} %", 100.0 * block.active),
            block.dead_channels.len().to_string(),
            format!("{:.1}", block.input_rank),
            format!("{:.1}", block.expanded_rank),
            format!("{:.1}", block.projected_rank),
            format!("{:.1} %", 100.0 * block.recovered),
            format!(
                "{:.1} % agree, {:.1} dB",
                100.0 * block.non_linear.agreement,
                block.non_linear.sqnr_db
            ),
        ]);
    }
    output::align_right(&mut table, &[0, 2, 3, 4, 5, 6, 7, 8]);
    writeln!(out, "{table}\n")?;
    writeln!(
        out,
        "with a ReLU6 after every projection, {:.1} % of {} clips keep their class ({:.1} dB)",
        100.0 * measured.non_linear.agreement,
        measured.clips,
        measured.non_linear.sqnr_db
    )?;
    for advice in measured.blocks.iter().flat_map(|block| block.advice()) {
        writeln!(out, "{advice}")?;
    }
    let figure = measured
        .figure_1
        .iter()
        .map(|embedding| format!("{} → {:.1} %", embedding.dimensions, 100.0 * embedding.lost));
    writeln!(
        out,
        "the paper's Figure 1, dimensions → power of the spiral lost: {}",
        figure.collect::<Vec<_>>().join(", ")
    )
}
