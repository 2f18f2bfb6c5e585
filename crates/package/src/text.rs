//! Text that came from outside, on its way to a terminal or a log.

use core::fmt::{self, Write as _};

/// Whether a character shows as itself and nothing else: no control character (Unicode's Cc,
/// with which terminals move, color and rename), no line or paragraph separator, and none of
/// the marks that reorder the text around them (Unicode Standard Annex 9, §2).
///
/// ```
/// use sori_package::text::is_plain;
/// assert!("소리, Ångström".chars().all(is_plain));
/// assert!(!is_plain('\u{1b}') && !is_plain('\n') && !is_plain('\u{202e}'));
/// ```
pub const fn is_plain(c: char) -> bool {
    !matches!(
        c,
        '\0'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{61c}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
    )
}

/// Shows any text with what is not [plain](is_plain) escaped, as Rust writes it.
///
/// ```
/// use sori_package::text::Plain;
/// assert_eq!(Plain("jazz\n\u{1b}[2Jverified").to_string(), r"jazz\n\u{1b}[2Jverified");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Plain<T>(
    /// What is shown: a label, a file's name, a message that contains one.
    pub T,
);

impl<T: fmt::Display> fmt::Display for Plain<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

struct Escaping<'f, 'b>(&'f mut fmt::Formatter<'b>);

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(|c| !is_plain(c)) {
            let (plain, from) = rest.split_at(at);
            self.0.write_str(plain)?;
            let mut chars = from.chars();
            if let Some(c) = chars.next() {
                match c.is_control() {
                    true => write!(self.0, "{}", c.escape_default())?,
                    false => write!(self.0, "{}", c.escape_unicode())?,
                }
            }
            rest = chars.as_str();
        }
        self.0.write_str(rest)
    }
}
