//! Confusion matrices, as numbers and as a picture.

use anyhow::{Context as _, Result};
use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::ascii::{FONT_7X14, FONT_10X20};
use embedded_graphics::pixelcolor::Rgb888;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::{PrimitiveStyle, Rectangle};
use embedded_graphics::text::{Alignment, Baseline, Text, TextStyleBuilder};

/// Counts of clips, `[label][answer]`.
#[derive(Debug, Clone)]
pub(crate) struct Confusion(Vec<Vec<usize>>);

impl Confusion {
    pub(crate) fn new(labels: usize) -> Self {
        Self(vec![vec![0; labels]; labels])
    }

    /// From existing counts.
    pub(crate) fn of(counts: Vec<Vec<usize>>) -> Self {
        Self(counts)
    }

    pub(crate) fn add(&mut self, label: usize, answer: usize) {
        self.0[label][answer] += 1;
    }

    pub(crate) fn rows(&self) -> &[Vec<usize>] {
        &self.0
    }

    pub(crate) fn total(&self) -> usize {
        self.0.iter().flatten().sum()
    }

    /// Clips with a label.
    pub(crate) fn with_label(&self, label: usize) -> usize {
        self.0[label].iter().sum()
    }

    /// 0 when there are no clips.
    pub(crate) fn accuracy(&self) -> f64 {
        let right: usize = (0..self.0.len()).map(|k| self.0[k][k]).sum();
        share(right, self.total()).unwrap_or(0.0)
    }

    /// Share of a label's clips that were recognised.
    pub(crate) fn recall(&self, label: usize) -> Option<f64> {
        share(self.0[label][label], self.with_label(label))
    }

    /// Share of the clips given this answer for which it is right.
    pub(crate) fn precision(&self, answer: usize) -> Option<f64> {
        let given = self.0.iter().map(|row| row[answer]).sum();
        share(self.0[answer][answer], given)
    }

    /// Harmonic mean of precision and recall; 0 if none of the label's clips were recognised.
    pub(crate) fn f1(&self, label: usize) -> Option<f64> {
        let right = self.0[label][label];
        let given: usize = self.0.iter().map(|row| row[label]).sum();
        share(2 * right, self.with_label(label) + given)
    }

    /// A PNG: rows are labels, columns answers; darker is a larger share of the row.
    pub(crate) fn png(&self, labels: &[&str]) -> Result<Vec<u8>> {
        let labels: Vec<String> = labels.iter().map(|label| fitting(label)).collect();
        let side = CELL * labels.len() as i32;
        let size = Size::new((MARGIN + side + EDGE) as u32, (TOP + side + EDGE) as u32);
        let mut canvas = Canvas::new(size);
        let large = MonoTextStyle::new(&FONT_10X20, INK);
        let small = MonoTextStyle::new(&FONT_7X14, INK);
        let centred = |at, text: &str, canvas: &mut Canvas, style| {
            let middle = TextStyleBuilder::new()
                .alignment(Alignment::Center)
                .baseline(Baseline::Middle)
                .build();
            Text::with_text_style(text, at, style, middle).draw(canvas)
        };
        let title = format!(
            "{:.1} % of {} clips correct",
            100.0 * self.accuracy(),
            self.total()
        );
        centred(
            Point::new(MARGIN + side / 2, 20),
            &title,
            &mut canvas,
            large,
        )?;
        centred(
            Point::new(MARGIN + side / 2, 45),
            "answer",
            &mut canvas,
            small,
        )?;
        centred(
            Point::new(MARGIN / 2, TOP - 14),
            "label",
            &mut canvas,
            small,
        )?;
        for (k, label) in labels.iter().enumerate() {
            let along = CELL * k as i32 + CELL / 2;
            centred(
                Point::new(MARGIN + along, TOP - 14),
                label,
                &mut canvas,
                small,
            )?;
            centred(
                Point::new(MARGIN / 2, TOP + along),
                label,
                &mut canvas,
                small,
            )?;
        }
        for (y, row) in self.0.iter().enumerate() {
            let of_row = row.iter().sum();
            for (x, &count) in row.iter().enumerate() {
                let corner = Point::new(MARGIN + CELL * x as i32, TOP + CELL * y as i32);
                let filling = share(count, of_row).unwrap_or(0.0);
                let cell = Rectangle::new(corner, Size::new_equal(CELL as u32 - 2));
                cell.into_styled(PrimitiveStyle::with_fill(shade(filling)))
                    .draw(&mut canvas)?;
                if count > 0 {
                    let colour = if filling > 0.5 { PAPER } else { INK };
                    let style = MonoTextStyle::new(&FONT_10X20, colour);
                    centred(cell.center(), &count.to_string(), &mut canvas, style)?;
                }
            }
        }
        canvas.png()
    }
}

fn share(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

const CELL: i32 = 72;
const MARGIN: i32 = 100;
const TOP: i32 = 90;
const EDGE: i32 = 12;
const INK: Rgb888 = Rgb888::new(0x1d, 0x23, 0x2b);
const PAPER: Rgb888 = Rgb888::WHITE;

/// Shortened to fit a cell or margin; the fonts only have ASCII.
fn fitting(label: &str) -> String {
    let ascii = label.chars().map(|c| if c.is_ascii() { c } else { '?' });
    ascii.take(10).collect()
}

/// From nearly white to a deep blue that still prints.
fn shade(filling: f64) -> Rgb888 {
    let between = |light: f64, dark: f64| (light + (dark - light) * filling).round() as u8;
    Rgb888::new(
        between(240.0, 16.0),
        between(243.0, 78.0),
        between(247.0, 139.0),
    )
}

/// Pixels that embedded-graphics draws on.
struct Canvas {
    size: Size,
    rgb: Vec<u8>,
}

impl Canvas {
    fn new(size: Size) -> Self {
        let bytes = 3 * size.width as usize * size.height as usize;
        Self {
            size,
            rgb: vec![u8::MAX; bytes],
        }
    }

    fn png(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, self.size.width, self.size.height);
        encoder.set_color(png::ColorType::Rgb);
        let mut writer = encoder
            .write_header()
            .context("cannot write the picture's header")?;
        writer
            .write_image_data(&self.rgb)
            .context("cannot write the picture's pixels")?;
        writer.finish().context("cannot write the picture's end")?;
        Ok(bytes)
    }
}

impl OriginDimensions for Canvas {
    fn size(&self) -> Size {
        self.size
    }
}

impl DrawTarget for Canvas {
    type Color = Rgb888;
    type Error = std::convert::Infallible;

    fn draw_iter<I>(&mut self, pixels: I) -> Result<(), Self::Error>
    where
        I: IntoIterator<Item = Pixel<Rgb888>>,
    {
        let area = self.bounding_box();
        for Pixel(at, colour) in pixels {
            if area.contains(at) {
                let index = 3 * (at.y as usize * self.size.width as usize + at.x as usize);
                let rgb = [colour.r(), colour.g(), colour.b()];
                self.rgb[index..][..3].copy_from_slice(&rgb);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Confusion {
        let mut confusion = Confusion::new(3);
        for (label, answer, times) in [(0, 0, 3), (0, 1, 1), (1, 1, 2)] {
            (0..times).for_each(|_| confusion.add(label, answer));
        }
        confusion
    }

    /// A label without clips and an answer never given have no share.
    #[test]
    fn shares_are_of_what_there_is() {
        let confusion = example();
        assert_eq!(confusion.total(), 6);
        assert_eq!(confusion.accuracy(), 5.0 / 6.0);
        let recalls = [0, 1, 2].map(|k| confusion.recall(k));
        assert_eq!(recalls, [Some(0.75), Some(1.0), None]);
        let precisions = [0, 1, 2].map(|k| confusion.precision(k));
        assert_eq!(precisions, [Some(1.0), Some(2.0 / 3.0), None]);
        let f1 = [0, 1, 2].map(|k| confusion.f1(k));
        assert_eq!(f1, [Some(6.0 / 7.0), Some(4.0 / 5.0), None]);
        assert_eq!(Confusion::new(2).accuracy(), 0.0);
    }

    #[test]
    fn the_picture_is_a_png_of_the_expected_size() {
        let bytes = example().png(&["blues", "jazz", "métal"]).unwrap();
        let decoder = png::Decoder::new(std::io::Cursor::new(bytes));
        let reader = decoder.read_info().unwrap();
        let info = reader.info();
        assert_eq!(info.width, (MARGIN + 3 * CELL + EDGE) as u32);
        assert_eq!(info.height, (TOP + 3 * CELL + EDGE) as u32);
    }
}
