//! Atomic files, tables, and progress bars for terminals.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use comfy_table::{CellAlignment, Table, TableComponent, presets};
use indicatif::{ProgressBar, ProgressStyle};
use sori_package::text::Plain;

/// Writes a file through a temporary one beside it, so that an interrupted or
/// failed run leaves either the old file or the new one. Creates missing folders.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    stream_atomically(path, |file| Ok(file.write_all(bytes)?))
}

/// The same for content too large for memory.
pub(crate) fn stream_atomically(
    path: &Path,
    write: impl FnOnce(&mut File) -> Result<()>,
) -> Result<()> {
    let cannot = || format!("cannot write {}: choose a writable path", path.display());
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder).with_context(cannot)?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".sori-").suffix(".partial");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        // Temporary files are private by default; this one will be the user's file.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder).with_context(cannot)?;
    write(file.as_file_mut()).with_context(cannot)?;
    file.persist(path)
        .map_err(|error| error.error)
        .with_context(cannot)?;
    Ok(())
}

/// Names of files come from outside: what a terminal would obey is shown escaped. JSON has its
/// own escapes, and errors get them as a whole.
pub(crate) trait Shown {
    fn shown(&self) -> Plain<std::path::Display<'_>>;
}

impl Shown for Path {
    fn shown(&self) -> Plain<std::path::Display<'_>> {
        Plain(self.display())
    }
}

/// Prints a line on stdout. `println!` panics when the reader is gone; this returns an error
/// like any other.
pub(crate) fn line(text: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{text}")?;
    Ok(())
}

/// A bar on stderr, which draws nothing unless stderr is a terminal.
pub(crate) fn progress(files: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} files, {eta} left")
        .expect("the template is a constant and valid");
    ProgressBar::new(files as u64).with_style(style)
}

/// A bar for work in stages of different lengths.
#[cfg(feature = "quantize")]
pub(crate) fn stages() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {percent:>3} % {msg}, {elapsed}")
        .expect("the template is a constant and valid");
    ProgressBar::new(1000).with_style(style)
}

/// A bar for `len` bytes that are being `done`: "written", say.
pub(crate) fn bytes(len: u64, done: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {bytes} of {total_bytes} {msg}, {eta} left")
        .expect("the template is a constant and valid");
    ProgressBar::new(len).with_style(style).with_message(done)
}

/// A table without borders, with underlined headings.
pub(crate) fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_style(TableComponent::HeaderLines, '─')
        .set_style(TableComponent::MiddleHeaderIntersections, '─')
        .set_header(headings);
    table
}

/// Aligns columns of numbers to the right.
pub(crate) fn align_right(table: &mut Table, columns: &[usize]) {
    for &column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// A bar of `cells` characters, filled to `fraction`.
pub(crate) fn bar(fraction: f64, cells: usize) -> String {
    const PARTS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let eighths = (fraction.clamp(0.0, 1.0) * 8.0 * cells as f64).round() as usize;
    let mut bar = "█".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        bar.push(PARTS[eighths % 8]);
    }
    let missing = cells - eighths.div_ceil(8);
    bar + &" ".repeat(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let taken = folder.path().join("taken");
        std::fs::create_dir_all(taken.join("a folder is in the way")).unwrap();
        assert!(write_atomically(&taken, b"bytes").is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_bar_has_its_width_at_every_fraction() {
        for n in -1..=33 {
            let bar = bar(f64::from(n) / 32.0, 4);
            assert_eq!(bar.chars().count(), 4, "{n}: {bar:?}");
        }
        assert_eq!(bar(0.5, 4), "██  ");
        assert_eq!(bar(1.0 / 32.0, 4), "▏   ");
    }
}
