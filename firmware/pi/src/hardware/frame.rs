//! What an SSD1306 shows: the pixels, and what is drawn of what is heard.

use std::convert::Infallible;

use embedded_graphics::mono_font::iso_8859_1::{
    FONT_6X10, FONT_6X13, FONT_7X13, FONT_8X13, FONT_9X18, FONT_10X20,
};
use embedded_graphics::mono_font::{MonoFont, MonoTextStyle};
use embedded_graphics::pixelcolor::BinaryColor;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::{PrimitiveStyle, Rectangle};
use embedded_graphics::text::{Baseline, Text};

/// Pixels of a row.
pub const WIDTH: usize = 128;
/// Rows.
pub const HEIGHT: usize = 64;
/// Rows of eight that the display takes at a time.
pub const PAGES: usize = HEIGHT / 8;

/// Room that [`Picture::shift`] may take on each axis.
const SHIFTS: i32 = 3;
const USABLE: i32 = WIDTH as i32 - SHIFTS;

/// From the largest: the first in which a word fits is taken. A scale of 2 doubles pixels.
const FONTS: [(&MonoFont<'_>, i32); 8] = [
    (&FONT_10X20, 2),
    (&FONT_8X13, 2),
    (&FONT_7X13, 2),
    (&FONT_6X13, 2),
    (&FONT_10X20, 1),
    (&FONT_9X18, 1),
    (&FONT_8X13, 1),
    (&FONT_6X10, 1),
];

/// What the level bar spans.
const FLOOR_DBFS: f64 = -72.0;
const TOP_DBFS: f64 = -12.0;

/// Pixels as the display has them: a byte is eight rows of a column, the highest the lowest
/// bit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame([[u8; WIDTH]; PAGES]);

impl Frame {
    /// A dark one.
    pub fn new() -> Self {
        Self([[0; WIDTH]; PAGES])
    }

    /// Eight rows.
    pub fn page(&self, page: usize) -> &[u8; WIDTH] {
        &self.0[page]
    }

    fn is_lit(&self, x: usize, y: usize) -> bool {
        self.0[y / 8][x] >> (y % 8) & 1 == 1
    }
}

impl Default for Frame {
    fn default() -> Self {
        Self::new()
    }
}

/// Two rows a line.
impl std::fmt::Display for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for y in (0..HEIGHT).step_by(2) {
            let line: String = (0..WIDTH)
                .map(|x| match (self.is_lit(x, y), self.is_lit(x, y + 1)) {
                    (false, false) => ' ',
                    (true, false) => '▀',
                    (false, true) => '▄',
                    (true, true) => '█',
                })
                .collect();
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

impl OriginDimensions for Frame {
    fn size(&self) -> Size {
        Size::new(WIDTH as u32, HEIGHT as u32)
    }
}

impl DrawTarget for Frame {
    type Color = BinaryColor;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<BinaryColor>>>(
        &mut self,
        pixels: I,
    ) -> Result<(), Infallible> {
        for Pixel(Point { x, y }, colour) in pixels {
            let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) else {
                continue;
            };
            // What lies outside is not drawn.
            if let Some(byte) = self.0.get_mut(y / 8).and_then(|page| page.get_mut(x)) {
                let bit = 1 << (y % 8);
                match colour {
                    BinaryColor::On => *byte |= bit,
                    BinaryColor::Off => *byte &= !bit,
                }
            }
        }
        Ok(())
    }
}

/// Draws each pixel `scale` pixels wide and high.
struct Scaled<'f> {
    frame: &'f mut Frame,
    origin: Point,
    scale: i32,
}

impl Dimensions for Scaled<'_> {
    fn bounding_box(&self) -> Rectangle {
        self.frame.bounding_box()
    }
}

impl DrawTarget for Scaled<'_> {
    type Color = BinaryColor;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<BinaryColor>>>(
        &mut self,
        pixels: I,
    ) -> Result<(), Infallible> {
        let scale = self.scale;
        for Pixel(point, colour) in pixels {
            let corner = self.origin + point * scale;
            let square = Rectangle::new(corner, Size::new_equal(scale as u32));
            self.frame.fill_solid(&square, colour)?;
        }
        Ok(())
    }
}

/// What there is to see.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// A genre, or how things are.
    pub word: String,
    /// From 0 to 1.
    pub confidence: Option<f64>,
    /// Of the sound, where it is listened to.
    pub level_dbfs: Option<f64>,
    /// The dot that shows life.
    pub dot: bool,
    /// Where it all stands; another place now and then spares the pixels.
    pub shift: u32,
}

impl Picture {
    /// The pixels.
    pub fn draw(&self) -> Frame {
        let mut frame = Frame::new();
        let place = self.shift % (SHIFTS * SHIFTS) as u32;
        let origin = Point::new(place as i32 % SHIFTS, place as i32 / SHIFTS);
        let Ok(()) = self.draw_word(origin, &mut frame);
        if let Some(confidence) = self.confidence {
            let Ok(()) = draw_bar(confidence, origin + Point::new(0, 43), 7, true, &mut frame);
        }
        if let Some(level) = self.level_dbfs {
            let share = (level - FLOOR_DBFS) / (TOP_DBFS - FLOOR_DBFS);
            let Ok(()) = draw_bar(share, origin + Point::new(0, 53), 3, false, &mut frame);
        }
        if self.dot {
            let dot = Rectangle::new(origin + Point::new(USABLE - 2, 59), Size::new(2, 2));
            let Ok(()) = frame.fill_solid(&dot, BinaryColor::On);
        }
        frame
    }

    fn draw_word(&self, origin: Point, frame: &mut Frame) -> Result<(), Infallible> {
        let letters = self.word.chars().count() as i32;
        let width = |font: &MonoFont<'_>| font.character_size.width as i32;
        let (font, scale) = FONTS
            .into_iter()
            .find(|(font, scale)| letters * width(font) * scale <= USABLE)
            .unwrap_or(FONTS[FONTS.len() - 1]);
        let fit = (USABLE / (width(font) * scale)) as usize;
        let word: String = self.word.chars().take(fit).collect();
        let height = font.character_size.height as i32 * scale;
        let mut target = Scaled {
            frame,
            origin: origin + Point::new(0, (40 - height) / 2),
            scale,
        };
        let style = MonoTextStyle::new(font, BinaryColor::On);
        Text::with_baseline(&word, Point::zero(), style, Baseline::Top).draw(&mut target)?;
        Ok(())
    }
}

/// A bar of that height, full at 1.
fn draw_bar(
    share: f64,
    corner: Point,
    height: u32,
    outlined: bool,
    frame: &mut Frame,
) -> Result<(), Infallible> {
    if outlined {
        let style = PrimitiveStyle::with_stroke(BinaryColor::On, 1);
        let whole = Rectangle::new(corner, Size::new(USABLE as u32, height));
        whole.into_styled(style).draw(frame)?;
    }
    // Also of what is no number: a cast of that is 0.
    let filled = (share.clamp(0.0, 1.0) * f64::from(USABLE)).round() as u32;
    frame.fill_solid(
        &Rectangle::new(corner, Size::new(filled, height)),
        BinaryColor::On,
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn picture(word: &str) -> Picture {
        Picture {
            word: word.into(),
            confidence: None,
            level_dbfs: None,
            dot: false,
            shift: 0,
        }
    }

    fn lit(frame: &Frame) -> u32 {
        frame.0.as_flattened().iter().map(|b| b.count_ones()).sum()
    }

    /// `SORI_GOLDEN=write` writes them anew; look at them then.
    #[test]
    fn pictures_are_those_that_were_looked_at() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/hardware/golden");
        let jazz = Picture {
            confidence: Some(0.75),
            level_dbfs: Some(-42.0),
            dot: true,
            ..picture("jazz")
        };
        let classical = Picture {
            confidence: Some(0.4),
            level_dbfs: Some(-60.0),
            shift: 8,
            dot: true,
            ..picture("classical")
        };
        let silence = Picture {
            level_dbfs: Some(-70.0),
            ..picture("silence")
        };
        for (name, picture) in [
            ("jazz", jazz),
            ("classical", classical),
            ("silence", silence),
            ("muted", picture("muted")),
            ("no-microphone", picture("no microphone")),
        ] {
            let path = folder.join(name).with_extension("txt");
            let drawn = picture.draw().to_string();
            if std::env::var("SORI_GOLDEN").is_ok_and(|mode| mode == "write") {
                std::fs::write(&path, &drawn).unwrap();
            }
            let golden = std::fs::read_to_string(&path).unwrap();
            assert_eq!(drawn, golden, "{name}:\n{drawn}\nis not\n{golden}");
        }
    }

    #[test]
    fn every_word_stays_on_the_display_wherever_it_is_shifted() {
        for letters in 0..40 {
            let frames: Vec<u32> = (0..20)
                .map(|shift| {
                    let picture = Picture {
                        shift,
                        dot: true,
                        confidence: Some(1.0),
                        level_dbfs: Some(0.0),
                        ..picture(&"W".repeat(letters))
                    };
                    lit(&picture.draw())
                })
                .collect();
            assert!(
                frames.iter().all(|&n| n == frames[0]),
                "{letters}: {frames:?}"
            );
        }
        // No letter of the font: something is drawn, and nothing breaks.
        assert!(lit(&picture("音楽").draw()) > 0);
    }

    #[test]
    fn bars_are_as_long_as_what_they_show() {
        let with = |confidence| {
            let picture = Picture {
                confidence: Some(confidence),
                ..picture("")
            };
            lit(&picture.draw())
        };
        let empty = 2 * 125 + 2 * 5;
        assert_eq!(with(0.0), empty);
        assert_eq!(with(1.0), 7 * 125);
        assert_eq!(with(0.5), empty + 5 * 62);
        for (odd, like) in [(-1.0, 0.0), (7.0, 1.0), (f64::NAN, 0.0)] {
            assert_eq!(with(odd), with(like), "{odd}");
        }
    }
}
