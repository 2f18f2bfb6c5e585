//! Prints an evaluation as text, and as an HTML report.

use std::io;

use sori_host::ACCURACY;
use sori_host::page::{Page, escape, svg_open, write};

use super::statistics::{Bin, Roc, Share};
use super::{Evaluation, Rejection};
use crate::confusion::Confusion;
use crate::output;

impl Evaluation<'_> {
    pub(crate) fn labels(&self) -> &[&str] {
        &self.labels
    }

    pub(crate) fn confusion(&self) -> Confusion {
        Confusion::of(self.confusion.clone())
    }

    pub(crate) fn print(&self, out: &mut impl io::Write) -> io::Result<()> {
        let mut headings = vec!["", "clips", "recall", "precision", "F1", "│"];
        headings.extend(&self.labels);
        let mut table = output::table(&headings);
        for (line, counts) in self.per_label.iter().zip(&self.confusion) {
            let mut row = vec![
                line.label.to_string(),
                line.n.to_string(),
                whole(line.recall),
                whole(line.precision),
                line.f1.map_or("–".into(), |f1| format!("{f1:.2}")),
                "│".into(),
            ];
            row.extend(counts.iter().map(|&count| match count {
                0 => "·".into(),
                count => count.to_string(),
            }));
            table.add_row(row);
        }
        let columns: Vec<usize> = (1..headings.len()).collect();
        output::align_right(&mut table, &columns);
        writeln!(out, "{table}\n")?;
        writeln!(
            out,
            "accuracy {} of {} clips, {} of {} tracks ({} clips would be called unknown or silence)",
            percent(self.clips),
            self.clips.n,
            percent(self.tracks),
            self.tracks.n,
            self.rejected
        )?;
        writeln!(out, "  {ACCURACY}")?;
        for fold in &self.folds {
            writeln!(
                out,
                "  fold {}: {} of {} tracks",
                fold.fold,
                percent(fold.tracks),
                fold.tracks.n
            )?;
        }
        for after in &self.after {
            writeln!(
                out,
                "  after {} s: {} of {} clips",
                after.seconds,
                percent(after.clips),
                after.clips.n
            )?;
        }
        writeln!(
            out,
            "expected calibration error {:.3}; {:.3} would be expected by chance from this many clips",
            self.calibration.ece, self.calibration.by_chance
        )?;
        if let Some(float) = &self.float {
            writeln!(
                out,
                "float {} of tracks; same label for {} of clips; {} tracks correct in float only, {} in int8 only (McNemar p = {:.2})",
                percent(float.tracks),
                percent(float.agreement),
                float.mcnemar.only_first,
                float.mcnemar.only_second,
                float.mcnemar.p
            )?;
        }
        if !self.conditions.is_empty() {
            let mut table = output::table(&[
                "condition",
                "tracks",
                "points lost",
                "named",
                "most frequent",
            ]);
            for condition in &self.conditions {
                let (label, share) = condition.most_named;
                table.add_row(vec![
                    condition.condition.to_string(),
                    percent(condition.tracks),
                    format!("{:.1}", condition.lost_points),
                    whole(condition.kept.map(|kept| kept.share)),
                    format!(
                        "{label} {:.0} % (actual {:.0} %)",
                        100.0 * share,
                        100.0 * condition.most_named_in_truth
                    ),
                ]);
            }
            output::align_right(&mut table, &[1, 2, 3]);
            writeln!(out, "\n{table}\n")?;
        }
        if !self.rejection.is_empty() {
            if let Some(kept) = self.kept {
                writeln!(out, "music named: {} of {}", percent(kept), kept.n)?;
            }
            for set in &self.rejection {
                writeln!(
                    out,
                    "{} rejected: {} of {}{}",
                    set.what,
                    percent(set.rejected),
                    set.rejected.n,
                    set.roc.as_ref().map_or(String::new(), |roc| format!(
                        ", area under ROC {:.3}",
                        roc.auc
                    ))
                )?;
            }
        }
        Ok(())
    }

    pub(crate) fn html(&self) -> String {
        let mut page = Page::new(&format!("{}: accuracy report", self.model));
        let range = |share: Share| {
            format!(
                "{} to {} with 95 % confidence",
                percent_of(share.low),
                percent_of(share.high)
            )
        };
        let mut cards = vec![
            ("tracks correct", percent(self.tracks), range(self.tracks)),
            ("clips correct", percent(self.clips), range(self.clips)),
            (
                "calibration error",
                format!("{:.3}", self.calibration.ece),
                format!(
                    "expected, over ten bins; {:.3} would be expected by chance from this many clips",
                    self.calibration.by_chance
                ),
            ),
        ];
        if let Some(float) = &self.float {
            cards.push((
                "int8 and float agree",
                percent(float.agreement),
                format!("of {} clips", float.agreement.n),
            ));
        }
        page.cards(&cards);
        page.note(&format!(
            "{} clips of {} tracks were classified, {} could not be; {} would be called unknown or silence.",
            self.n, self.tracks.n, self.failed, self.rejected
        ));

        page.heading("Confusion matrix");
        page.figure(
            &self.confusion_chart(),
            "Clips by true genre (rows) and predicted genre (columns); darker is a larger share of the row.",
        );
        let per_label = self.per_label.iter().map(|line| {
            vec![
                line.label.to_string(),
                line.n.to_string(),
                whole(line.recall),
                whole(line.precision),
                line.f1.map_or("–".into(), |f1| format!("{f1:.2}")),
            ]
        });
        page.table(&["genre", "clips", "recall", "precision", "F1"], per_label);

        page.heading("Accuracy by time, clip and track");
        let counted = |name: String, share: Share| {
            vec![
                name,
                percent(share),
                format!("{} – {}", percent_of(share.low), percent_of(share.high)),
                share.n.to_string(),
            ]
        };
        let mut rows: Vec<_> = self
            .after
            .iter()
            .map(|after| counted(format!("clips, after {} s", after.seconds), after.clips))
            .collect();
        rows.extend(
            self.segments
                .map(|share| counted("output rows, from 1 s on".into(), share)),
        );
        rows.push(counted("whole clips".into(), self.clips));
        rows.push(counted("tracks".into(), self.tracks));
        let folds = self.folds.iter();
        rows.extend(
            folds.map(|fold| counted(format!("tracks of fold {}", fold.fold), fold.tracks)),
        );
        page.table(&["unit", "correct", "95 % interval", "n"], rows.into_iter());

        page.heading("Calibration of the probabilities");
        page.figure(
            &reliability(&self.calibration.bins),
            "Predicted probability (x) against observed accuracy (y); perfect calibration lies on the line. Larger dots are more clips.",
        );

        if let Some(float) = &self.float {
            page.heading("Float and int8");
            page.paragraph(&format!(
                "In float, {} of tracks and {} of clips are correct. {} tracks are correct in float only and {} in int8 only; McNemar's exact test gives p = {:.2}.",
                percent(float.tracks),
                percent(float.clips),
                float.mcnemar.only_first,
                float.mcnemar.only_second,
                float.mcnemar.p
            ));
        }
        if !self.conditions.is_empty() {
            page.heading("Simulated conditions");
            page.paragraph("Each track again under simulated conditions: rooms by the image-source method, a different one for each clip; pink noise; a microphone's corner frequencies.");
            page.table(
                &[
                    "condition",
                    "tracks correct",
                    "points lost",
                    "named",
                    "most frequent",
                    "its share",
                    "actual share",
                ],
                self.conditions.iter().map(|condition| {
                    vec![
                        condition.condition.to_string(),
                        percent(condition.tracks),
                        format!("{:.1}", condition.lost_points),
                        whole(condition.kept.map(|kept| kept.share)),
                        condition.most_named.0.to_string(),
                        percent_of(condition.most_named.1),
                        percent_of(condition.most_named_in_truth),
                    ]
                }),
            );
        }
        if !self.rejection.is_empty() {
            page.heading("Rejection of non-music");
            page.table(
                &[
                    "set",
                    "clips",
                    "rejected",
                    "95 % interval",
                    "area under ROC",
                ],
                self.rejection.iter().map(|set| {
                    vec![
                        set.what.clone(),
                        set.rejected.n.to_string(),
                        percent(set.rejected),
                        format!(
                            "{} – {}",
                            percent_of(set.rejected.low),
                            percent_of(set.rejected.high)
                        ),
                        set.roc
                            .as_ref()
                            .map_or("all silent".into(), |roc| format!("{:.3}", roc.auc)),
                    ]
                }),
            );
            if let Some(kept) = self.kept {
                page.paragraph(&format!(
                    "{} of the {} music clips are named.",
                    percent(kept),
                    kept.n
                ));
            }
            page.figure(
                &rocs(&self.rejection),
                "Music accepted (y) against non-music accepted (x), by threshold.",
            );
        }
        page.finish()
    }

    fn confusion_chart(&self) -> String {
        const CELL: f64 = 46.0;
        const LEFT: f64 = 80.0;
        const TOP: f64 = 70.0;
        let side = CELL * self.labels.len() as f64;
        let mut svg = svg_open(LEFT + side + 8.0, TOP + side + 8.0);
        for (k, label) in self.labels.iter().enumerate() {
            let along = CELL * (k as f64 + 0.5);
            write(
                &mut svg,
                format_args!(
                    "<text x='{:.0}' y='{:.0}' text-anchor='end'>{label}</text>\
                     <text transform='translate({:.0} {:.0}) rotate(-50)'>{label}</text>",
                    LEFT - 8.0,
                    TOP + along + 4.0,
                    LEFT + along - 2.0,
                    TOP - 8.0,
                    label = escape(label)
                ),
            );
        }
        for (y, row) in self.confusion.iter().enumerate() {
            let of_row = row.iter().sum::<usize>().max(1) as f64;
            for (x, &count) in row.iter().enumerate() {
                let filling = count as f64 / of_row;
                let (left, top) = (LEFT + CELL * x as f64, TOP + CELL * y as f64);
                write(
                    &mut svg,
                    format_args!(
                        "<rect x='{left:.0}' y='{top:.0}' width='{0:.0}' height='{0:.0}' class='bar' fill-opacity='{1:.2}'/>",
                        CELL - 2.0,
                        0.06 + 0.94 * filling
                    ),
                );
                if count > 0 {
                    let colour = if filling > 0.45 {
                        " style='fill:#fff'"
                    } else {
                        ""
                    };
                    write(
                        &mut svg,
                        format_args!(
                            "<text x='{:.0}' y='{:.0}' text-anchor='middle'{colour}>{count}</text>",
                            left + CELL / 2.0 - 1.0,
                            top + CELL / 2.0 + 3.0
                        ),
                    );
                }
            }
        }
        svg + "</svg>"
    }
}

fn percent(share: Share) -> String {
    percent_of(share.share)
}

fn percent_of(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn whole(share: Option<f64>) -> String {
    share.map_or("–".into(), |share| format!("{:.0} %", 100.0 * share))
}

const SIDE: f64 = 320.0;
const EDGE: f64 = 44.0;

/// Axes from 0 to 1; curves in these coordinates follow.
fn unit_square() -> String {
    let mut svg = svg_open(SIDE + EDGE + 28.0, SIDE + EDGE + 12.0);
    for n in 0..=4 {
        let value = f64::from(n) / 4.0;
        let [x, y] = within([value, value]);
        let [[left, bottom], [right, top]] = [within([0.0, 0.0]), within([1.0, 1.0])];
        write(
            &mut svg,
            format_args!(
                "<line class='grid' x1='{left:.0}' y1='{y:.0}' x2='{right:.0}' y2='{y:.0}'/>\
                 <line class='grid' x1='{x:.0}' y1='{bottom:.0}' x2='{x:.0}' y2='{top:.0}'/>\
                 <text x='{:.0}' y='{:.0}' text-anchor='end'>{:.0} %</text>\
                 <text x='{x:.0}' y='{:.0}' text-anchor='middle'>{:.0} %</text>",
                left - 4.0,
                y + 4.0,
                100.0 * value,
                bottom + 16.0,
                100.0 * value
            ),
        );
    }
    svg
}

fn within([x, y]: [f64; 2]) -> [f64; 2] {
    [EDGE + SIDE * x, 8.0 + SIDE * (1.0 - y)]
}

fn reliability(bins: &[Bin]) -> String {
    let mut svg = unit_square();
    let [[x1, y1], [x2, y2]] = [within([0.0, 0.0]), within([1.0, 1.0])];
    write(
        &mut svg,
        format_args!(
            "<line class='line' stroke-dasharray='4 4' x1='{x1:.0}' y1='{y1:.0}' x2='{x2:.0}' y2='{y2:.0}'/>"
        ),
    );
    let most = bins.iter().map(|bin| bin.n).max().unwrap_or(1).max(1) as f64;
    for bin in bins.iter().filter(|bin| bin.n > 0) {
        let [x, y] = within([bin.confidence, bin.accuracy]);
        write(
            &mut svg,
            format_args!(
                "<circle class='bar' cx='{x:.1}' cy='{y:.1}' r='{:.1}'><title>{} clips: predicted {}, correct {}</title></circle>",
                3.0 + 9.0 * (bin.n as f64 / most).sqrt(),
                bin.n,
                percent_of(bin.confidence),
                percent_of(bin.accuracy)
            ),
        );
    }
    svg + "</svg>"
}

fn rocs(sets: &[Rejection]) -> String {
    let mut svg = unit_square();
    let curves = sets
        .iter()
        .filter_map(|set| Some((&set.what, set.roc.as_ref()?)));
    for (n, (name, roc)) in curves.enumerate() {
        let Roc { points, .. } = roc;
        let points: Vec<_> = points
            .iter()
            .map(|&(x, y)| within([x, y]))
            .map(|[x, y]| format!("{x:.1},{y:.1}"))
            .collect();
        let dashes = ["none", "6 4", "2 3", "10 4 2 4"][n % 4];
        let [x, y] = within([0.6, 0.3 - 0.07 * n as f64]);
        write(
            &mut svg,
            format_args!(
                "<polyline class='line' stroke-dasharray='{dashes}' points='{}'/>\
                 <line class='line' stroke-dasharray='{dashes}' x1='{:.0}' y1='{:.0}' x2='{:.0}' y2='{:.0}'/>\
                 <text x='{:.0}' y='{:.0}'>{}</text>",
                points.join(" "),
                x - 40.0,
                y - 4.0,
                x - 6.0,
                y - 4.0,
                x,
                y,
                escape(name)
            ),
        );
    }
    svg + "</svg>"
}
