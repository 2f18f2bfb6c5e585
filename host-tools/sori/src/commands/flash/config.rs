//! Edits the two files that the Pi's firmware reads, by one line and a few words.

/// The I2S microphone.
pub(super) const OVERLAY: &str = "dtoverlay=googlevoicehat-soundcard";

/// `config.txt` with the overlay where it applies to every board, or `None` if it is there.
///
/// A line applies to the boards that the `[filter]`s above it name; filters accumulate, and only
/// `[all]` resets them. So the line goes to the end, under its own `[all]` unless the file ends
/// in one.
pub(super) fn with_overlay(config: &[u8]) -> Option<Vec<u8>> {
    let mut for_all = true;
    for line in config.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii) {
        match line {
            b"[all]" => for_all = true,
            [b'[', ..] => for_all = false,
            // Parameters may follow after a comma.
            _ if for_all
                && line
                    .strip_prefix(OVERLAY.as_bytes())
                    .is_some_and(|rest| matches!(rest, [] | [b',', ..])) =>
            {
                return None;
            }
            _ => {}
        }
    }
    let newline = newline(config);
    let mut changed = config.to_vec();
    end_line(&mut changed, newline);
    if !for_all {
        changed.extend([b"[all]", newline].concat());
    }
    changed.extend([OVERLAY.as_bytes(), newline].concat());
    Some(changed)
}

/// `cmdline.txt`, a single line, without the words that begin with one of `remove`, and with the
/// words of `add` appended.
pub(super) fn with_words(cmdline: &[u8], remove: &[&str], add: &[String]) -> Vec<u8> {
    let end = cmdline.trim_ascii_end().len();
    let (line, ending) = cmdline.split_at(end);
    let is_kept = |word: &&[u8]| {
        !remove
            .iter()
            .any(|start| word.starts_with(start.as_bytes()))
    };
    let kept = line.split(|&byte| byte == b' ').filter(is_kept);
    let words: Vec<&[u8]> = kept.chain(add.iter().map(String::as_bytes)).collect();
    [&words.join(&b' '), ending].concat()
}

/// The file's line ending.
pub(super) fn newline(text: &[u8]) -> &'static [u8] {
    if text.windows(2).any(|pair| pair == b"\r\n") {
        b"\r\n"
    } else {
        b"\n"
    }
}

/// Ends the last line, if it has no end.
pub(super) fn end_line(text: &mut Vec<u8>, newline: &[u8]) {
    if !text.is_empty() && !text.ends_with(b"\n") {
        text.extend(newline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn overlaid(config: &str) -> Option<String> {
        with_overlay(config.as_bytes()).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    /// As Raspberry Pi OS ships it; ending in a filter for some boards; without filters; without
    /// a final newline; from Windows; empty.
    #[test]
    fn the_overlay_is_appended_where_it_holds_for_all_boards() {
        for (before, appended) in [
            (
                "a=1\n\n[cm5]\nb=2\n\n[all]\n",
                "dtoverlay=googlevoicehat-soundcard\n",
            ),
            (
                "a=1\n[pi4]\nb=2\n",
                "[all]\ndtoverlay=googlevoicehat-soundcard\n",
            ),
            (
                "[all]\n[none]\n",
                "[all]\ndtoverlay=googlevoicehat-soundcard\n",
            ),
            ("dtparam=audio=on\n", "dtoverlay=googlevoicehat-soundcard\n"),
            ("a=1", "\ndtoverlay=googlevoicehat-soundcard\n"),
            (
                "a=1\r\n[pi4]\r\nb=2",
                "\r\n[all]\r\ndtoverlay=googlevoicehat-soundcard\r\n",
            ),
            ("", "dtoverlay=googlevoicehat-soundcard\n"),
            // Not the overlay: a comment, another overlay, and one for some boards only.
            (
                "#dtoverlay=googlevoicehat-soundcard\n",
                "dtoverlay=googlevoicehat-soundcard\n",
            ),
            (
                "dtoverlay=googlevoicehat-soundcards\n",
                "dtoverlay=googlevoicehat-soundcard\n",
            ),
            (
                "[pi5]\ndtoverlay=googlevoicehat-soundcard\n",
                "[all]\ndtoverlay=googlevoicehat-soundcard\n",
            ),
        ] {
            let expected = format!("{before}{appended}");
            assert_eq!(overlaid(before).as_deref(), Some(&*expected), "{before:?}");
            assert_eq!(overlaid(&expected), None, "twice: {before:?}");
        }
    }

    #[test]
    fn an_overlay_that_is_there_is_left_alone() {
        for config in [
            "dtoverlay=googlevoicehat-soundcard\n[pi4]\n",
            "[pi4]\na=1\n[all]\n dtoverlay=googlevoicehat-soundcard,x=1\r\n",
        ] {
            assert_eq!(overlaid(config), None, "{config:?}");
        }
    }

    #[test]
    fn words_of_the_command_line_are_replaced_and_its_end_kept() {
        let words = |cmdline: &str, remove: &[&str], add: &[&str]| {
            let add: Vec<String> = add.iter().map(|&word| word.into()).collect();
            String::from_utf8(with_words(cmdline.as_bytes(), remove, &add)).unwrap()
        };
        assert_eq!(words("a b=1 c\n", &[], &["d"]), "a b=1 c d\n");
        assert_eq!(words("a b=1 c\r\n", &["b="], &[]), "a c\r\n");
        assert_eq!(
            words("a ds=nocloud;i=x", &["ds="], &["ds=nocloud;i=y"]),
            "a ds=nocloud;i=y"
        );
    }
}
