//! Reports as self-contained HTML pages.

use sori_host::page::{Page, escape, svg_open, write};

use crate::manifold::{Manifold, spiral};
use crate::report::{Histogram, Report};

impl Report {
    /// The report as a self-contained HTML page.
    pub fn html(&self) -> String {
        let settings = &self.settings;
        let mut page = Page::new(&format!("{}: accuracy after quantization", settings.name));
        if settings.data_free {
            page.warning("No calibration data was given: the ranges below are guesses based on noise. Accuracy on real data may be far lower.");
        }
        page.cards(&[
            (
                "int8/float agreement",
                format!("{:.1} %", 100.0 * self.top1_agreement),
                format!(
                    "{} of {} windows",
                    self.agreeing_windows, settings.evaluation_windows
                ),
            ),
            (
                "SQNR of the logits",
                format!("{:.1} dB", self.logits_sqnr_db),
                "signal to quantization noise".into(),
            ),
            (
                "package",
                format!("{:.0} KiB", self.package_bytes as f64 / 1024.0),
                format!("{} bytes", self.package_bytes),
            ),
            (
                "multiplications",
                format!("{:.2} M", self.macs as f64 / 1e6),
                format!("for {} rows", settings.nominal_rows),
            ),
        ]);
        if !settings.held_out {
            page.note("Compared on the calibration data itself: use --eval with other data for a fair figure.");
        }

        page.heading("Settings in effect");
        let options = settings.options;
        let on = |on: bool| if on { "on" } else { "off" }.to_string();
        let mut rows = vec![
            ("network".into(), settings.name.clone()),
            ("ONNX file, SHA-256".into(), settings.source_sha256.clone()),
            ("created by".into(), settings.tool.clone()),
            ("calibrated on".into(), settings.calibration.clone()),
            (
                "compared on".into(),
                format!(
                    "{} windows{}",
                    settings.evaluation_windows,
                    if settings.held_out { ", held out" } else { "" }
                ),
            ),
            (
                "input".into(),
                format!(
                    "{} rows of {} × {}, scale {}, zero point {}",
                    settings.nominal_rows,
                    settings.row[0],
                    settings.row[1],
                    settings.input_scale,
                    settings.input_zero_point
                ),
            ),
            (
                "running mean".into(),
                format!("{} output rows", settings.pool_rows),
            ),
            (
                "ranges".into(),
                format!("{:?}", options.ranges).to_lowercase(),
            ),
            ("cross-layer equalization".into(), on(options.equalize)),
            ("layer-wise rounding".into(), on(options.rounding)),
            ("bias correction".into(), on(options.bias_correction)),
            ("pruning of dead channels".into(), on(options.prune)),
        ];
        if !settings.preprocessing.is_identity() {
            rows.push((
                "preprocessing".into(),
                format!(
                    "the package expects x · {:?} + {:?}, channel by channel",
                    settings.preprocessing.scale, settings.preprocessing.shift
                ),
            ));
        }
        if settings.was_quantized {
            rows.push((
                "already quantized".into(),
                "the file's scales were kept".into(),
            ));
        }
        page.pairs(&rows);

        page.heading("Effect of each technique");
        page.table(
            &["technique", "SQNR before", "after", "gain", ""],
            self.techniques.iter().map(|effect| {
                vec![
                    effect.technique.clone(),
                    format!("{:.2} dB", effect.before_db),
                    effect
                        .after_db
                        .map_or("does not fit".into(), |db| format!("{db:.2} dB")),
                    effect.after_db.map_or(String::new(), |db| {
                        format!("{:+.2} dB", db - effect.before_db)
                    }),
                    if effect.kept {
                        "kept"
                    } else {
                        "not used: worse on calibration"
                    }
                    .into(),
                ]
            }),
        );
        page.paragraph("SQNR of the logits on the compared windows. Each technique is added to those kept before it, starting from min/max ranges and rounding to nearest.");

        page.heading("Accuracy lost by layer");
        page.figure(
            &sqnr_chart(self),
            "SQNR of each layer's output, dB. Line: cumulative, with all layers before it quantized. Bars: the layer alone, on exact inputs.",
        );
        page.table(
            &[
                "ten worst layers",
                "alone",
                "cumulative",
                "weights",
                "clipped",
                "ONNX node",
            ],
            self.worst(10).into_iter().map(|layer| {
                vec![
                    layer.role.clone(),
                    format!("{:.1} dB", layer.local_sqnr_db),
                    format!("{:.1} dB", layer.sqnr_db),
                    format!("{:.1} dB", layer.weight_sqnr_db),
                    format!("{:.3} %", 100.0 * layer.clipped),
                    layer.node.clone(),
                ]
            }),
        );

        page.heading("All layers");
        page.open_table(&[
            "layer",
            "SQNR",
            "alone",
            "weight SQNR",
            "range",
            "method",
            "clipped",
            "smallest divisor",
            "weights",
            "activations",
            "M MACs",
        ]);
        for layer in &self.layers {
            page.row(&[
                escape(&layer.role),
                format!("{:.1}", layer.sqnr_db),
                format!("{:.1}", layer.local_sqnr_db),
                format!("{:.1}", layer.weight_sqnr_db),
                format!(
                    "{:.3} … {:.3}",
                    layer.activations.low, layer.activations.high
                ),
                layer
                    .method
                    .map_or("file".into(), |method| format!("{method:?}").to_lowercase()),
                format!("{:.3} %", 100.0 * layer.clipped),
                format!("{:.3}", layer.smallest_divisor),
                histogram(&layer.weights),
                histogram(&layer.activations),
                format!("{:.2}", layer.macs as f64 / 1e6),
            ]);
        }
        page.close_table();
        page.paragraph("Ranges and histograms are after equalization, with counts on a square-root scale; SQNR is in the units before it.");

        page.heading("Memory and time");
        page.table(
            &["rows per step", "arena, bytes"],
            self.arena
                .iter()
                .map(|arena| vec![arena.stripe_rows.to_string(), arena.bytes.to_string()]),
        );
        page.paragraph(&format!(
            "Executed layer by layer on whole tensors, the activations alone would take {} bytes.",
            self.layer_by_layer_bytes
        ));
        page.table(
            &["target, one core", "one inference (estimate)"],
            self.estimates.iter().map(|estimate| {
                vec![
                    estimate.target.clone(),
                    format!("{:.2} ms", estimate.milliseconds),
                ]
            }),
        );
        page.paragraph("Estimated from instruction counts and a processor model, not measured. For real times run `sori bench` on the target.");
        let dead = self.dead_channels;
        page.paragraph(&format!(
            "Of {} channels between expansion and projection, {} were never above zero in calibration; {} provably never are (--prune removes those without changing a bit).",
            dead.of, dead.in_calibration, dead.provably
        ));
        if !self.notes.is_empty() {
            page.heading("Notes");
            page.list(&self.notes);
        }
        page.finish()
    }
}

impl Manifold {
    /// The report as a self-contained HTML page.
    pub fn html(&self, name: &str) -> String {
        let mut page = Page::new(&format!("{name}: information its ReLUs preserve"));
        page.paragraph("An inverted residual computes A · ReLU6(B · x); for a given input that is A · D · B · x with ones and zeros on the diagonal of D (Sandler et al., MobileNetV2, arXiv:1801.04381, §3.2). The figures below are measured on this network's weights and data.");
        page.cards(&[
            (
                "with a ReLU6 after every projection",
                format!("{:.1} %", 100.0 * self.non_linear.agreement),
                format!(
                    "of {} clips would keep their class; {:.1} dB",
                    self.clips, self.non_linear.sqnr_db
                ),
            ),
            (
                "input recovered after the ReLU",
                format!("{:.1} %", 100.0 * self.mean(|block| block.recovered)),
                "mean over blocks".into(),
            ),
            (
                "active channels",
                format!("{:.1} %", 100.0 * self.mean(|block| block.active)),
                "mean of D's diagonal".into(),
            ),
        ]);
        page.heading("By block");
        page.figure(
            &manifold_chart(self),
            "Bars: share of the input that the active channels determine. Line: share of active channels.",
        );
        page.table(
            &[
                "block",
                "channels",
                "active",
                "dead",
                "input rank",
                "expanded",
                "projected",
                "recovered",
                "whole",
                "power cut by a ReLU6",
                "agreement with it",
                "SQNR with it",
            ],
            self.blocks.iter().map(|block| {
                let [narrow, wide, out] = block.channels;
                vec![
                    block.block.to_string(),
                    format!("{narrow} → {wide} → {out}"),
                    format!("{:.1} %", 100.0 * block.active),
                    block.dead_channels.len().to_string(),
                    format!("{:.1}", block.input_rank),
                    format!("{:.1}", block.expanded_rank),
                    format!("{:.1}", block.projected_rank),
                    format!("{:.1} %", 100.0 * block.recovered),
                    format!("{:.1} %", 100.0 * block.invertible),
                    format!("{:.1} %", 100.0 * block.relu_loss),
                    format!("{:.1} %", 100.0 * block.non_linear.agreement),
                    format!("{:.1} dB", block.non_linear.sqnr_db),
                ]
            }),
        );
        page.paragraph("Rank: (Σλ)² / Σλ² over the eigenvalues of the covariance, the number of directions in use. Recovered: share of the input's variance that the active channels determine; whole: share of pixels they determine completely. The last three columns: a ReLU6 added after this projection only, with the same weights.");
        let advice: Vec<String> = self
            .blocks
            .iter()
            .flat_map(|block| block.advice())
            .collect();
        if !advice.is_empty() {
            page.heading("Recommendations");
            page.list(&advice);
        }
        page.heading("The paper's Figure 1, recomputed");
        page.figure(&self.figure_1_svg(), "A spiral, embedded by a random matrix into the given number of dimensions, passed through a ReLU and mapped back by the pseudoinverse.");
        page.table(
            &["dimensions", "lost", "matrices losing more than a tenth"],
            self.figure_1.iter().map(|embedding| {
                vec![
                    embedding.dimensions.to_string(),
                    format!("{:.1} %", 100.0 * embedding.lost),
                    format!("{:.0} %", 100.0 * embedding.collapsed),
                ]
            }),
        );
        page.paragraph("Lost: share of the spiral's power that no affine map of the result can explain; mean over 500 matrices.");
        page.finish()
    }

    fn mean(&self, of: impl Fn(&crate::Bottleneck) -> f64) -> f64 {
        self.blocks.iter().map(of).sum::<f64>() / self.blocks.len().max(1) as f64
    }

    /// The spiral, and what was recovered of it.
    pub fn figure_1_svg(&self) -> String {
        let size = 140.0;
        let original = ("input".to_string(), spiral());
        let others = self.figure_1.iter().map(|embedding| {
            let title = format!("{} dimensions", embedding.dimensions);
            (title, embedding.points.clone())
        });
        let panels: Vec<_> = std::iter::once(original).chain(others).collect();
        let mut svg = svg_open(size * panels.len() as f64, size + 20.0);
        for (n, (title, points)) in panels.iter().enumerate() {
            let reach = points
                .iter()
                .flatten()
                .fold(1e-9f64, |max, x| max.max(x.abs()));
            let left = size * n as f64;
            let place = |[x, y]: [f64; 2]| {
                let half = size / 2.0;
                [
                    left + half + x / reach * (half - 8.0),
                    20.0 + half - y / reach * (half - 8.0),
                ]
            };
            write(
                &mut svg,
                format_args!(
                    "<text x='{:.1}' y='14' text-anchor='middle'>{}</text>",
                    left + size / 2.0,
                    escape(title)
                ),
            );
            // From one end of the spiral to the other, so that what was folded shows.
            let steps = points.len().max(2) - 1;
            for (k, pair) in points.windows(2).enumerate() {
                let [[x1, y1], [x2, y2]] = [place(pair[0]), place(pair[1])];
                write(
                    &mut svg,
                    format_args!(
                        "<line x1='{x1:.1}' y1='{y1:.1}' x2='{x2:.1}' y2='{y2:.1}' stroke='hsl({:.0} 75% 45%)' stroke-width='1.5'/>",
                        300.0 * k as f64 / steps as f64
                    ),
                );
            }
        }
        svg + "</svg>"
    }
}

/// Roots of the counts, so that tails show.
fn histogram(histogram: &Histogram) -> String {
    let top = histogram.counts.iter().copied().max().unwrap_or(0);
    let top = f64::from(top).sqrt().max(1.0);
    let mut svg = svg_open(histogram.counts.len() as f64 * 2.0, 24.0);
    for (n, &count) in histogram.counts.iter().enumerate() {
        if count > 0 {
            let height = 24.0 * f64::from(count).sqrt() / top;
            write(
                &mut svg,
                format_args!(
                    "<rect class='bar' x='{}' y='{:.1}' width='2' height='{height:.1}'/>",
                    2 * n,
                    24.0 - height
                ),
            );
        }
    }
    svg + "</svg>"
}

/// Bars and a line over the same places, each with its name.
fn chart(names: &[String], bars: &[f64], line: &[f64], top: f64, unit: &str) -> String {
    let (step, height, left, under) = (18.0, 180.0, 44.0, 120.0);
    let width = left + step * names.len() as f64 + 8.0;
    let y = |value: f64| height * (1.0 - value.clamp(0.0, top) / top) + 8.0;
    let mut svg = svg_open(width, height + under + 8.0);
    for n in 0..=4 {
        let value = top * f64::from(n) / 4.0;
        write(
            &mut svg,
            format_args!(
                "<line class='grid' x1='{left}' y1='{0:.1}' x2='{width:.1}' y2='{0:.1}'/><text x='{1:.1}' y='{2:.1}' text-anchor='end'>{value:.0} {unit}</text>",
                y(value),
                left - 4.0,
                y(value) + 4.0
            ),
        );
    }
    for (n, (name, &bar)) in names.iter().zip(bars).enumerate() {
        let x = left + step * (n as f64 + 0.5);
        write(
            &mut svg,
            format_args!(
                "<rect class='bar' x='{:.1}' y='{:.1}' width='{:.1}' height='{:.1}'><title>{}: {bar:.1} {unit}</title></rect>\
             <text transform='translate({:.1} {:.1}) rotate(-60)' text-anchor='end'>{}</text>",
                x - step * 0.3,
                y(bar),
                step * 0.6,
                y(0.0) - y(bar),
                escape(name),
                x + 4.0,
                height + 20.0,
                escape(name)
            ),
        );
    }
    let points: Vec<_> = line
        .iter()
        .enumerate()
        .map(|(n, &value)| format!("{:.1},{:.1}", left + step * (n as f64 + 0.5), y(value)))
        .collect();
    write(
        &mut svg,
        format_args!(
            "<polyline class='line' points='{}'/></svg>",
            points.join(" ")
        ),
    );
    svg
}

fn sqnr_chart(report: &Report) -> String {
    let layers = &report.layers;
    let names: Vec<_> = layers
        .iter()
        .map(|layer| layer.role.replace(" + residual", ""))
        .collect();
    let local: Vec<_> = layers.iter().map(|layer| layer.local_sqnr_db).collect();
    let cumulative: Vec<_> = layers.iter().map(|layer| layer.sqnr_db).collect();
    chart(&names, &local, &cumulative, 60.0, "dB")
}

fn manifold_chart(manifold: &Manifold) -> String {
    let blocks = &manifold.blocks;
    let names: Vec<_> = blocks
        .iter()
        .map(|block| format!("block {}", block.block))
        .collect();
    let recovered: Vec<_> = blocks.iter().map(|block| 100.0 * block.recovered).collect();
    let active: Vec<_> = blocks.iter().map(|block| 100.0 * block.active).collect();
    chart(&names, &recovered, &active, 100.0, "%")
}
