//! Hours of sound through the real binary, as fast as it goes: nothing grows, nothing drifts,
//! nothing is missing.
//!
//! One hour, or as many as `SORI_SOAK_HOURS` says.

mod sori;

use std::fs;
use std::io::{BufWriter, Write as _};
use std::time::{Duration, Instant};

use sori::{Sori, music};
use sori_pi::history::{self, Query};

/// What the built-in package listens to: no resampler, and a day fits into a WAV file.
const RATE_HZ: u64 = 16_000;

/// Samples for one output row of the network.
const SAMPLES_A_DECISION: u64 = 32 * 256;

/// Memory may move by so much and is not growing.
const SLACK_KB: u64 = 2048;

/// Seconds after which all comes again.
const PIECE_S: u64 = 120;

/// Of everything: four pieces, silence, noise.
fn everything() -> Vec<u8> {
    let clips = ["jazz.flac", "metal.flac", "classical.flac", "pop.flac"].map(music);
    let mut noise = 1_u32;
    let samples = (0..PIECE_S * RATE_HZ).map(|n| {
        let part = (n / (20 * RATE_HZ)) as usize;
        match part {
            // A clip's samples come three times each.
            0..4 => (clips[part](3 * n) >> 18) as i16,
            4 => 0,
            _ => {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (noise >> 22) as i16
            }
        }
    });
    samples.flat_map(i16::to_le_bytes).collect()
}

#[test]
fn hours_of_sound_leave_no_trace_but_their_rows() {
    let hours: u64 = std::env::var("SORI_SOAK_HOURS").map_or(1, |hours| {
        hours.parse().expect("SORI_SOAK_HOURS is a number")
    });
    let samples = hours * 3600 * RATE_HZ;
    let folder = tempfile::tempdir().unwrap();
    let mut sori = Sori::start(folder.path(), 0, "", |command| {
        command.args(["--fast", "--input", "-"]);
    });
    let mut stdin = BufWriter::new(sori.stdin());
    let feeder = std::thread::spawn(move || {
        let (bytes, piece) = (2 * samples, everything());
        let mut header = Vec::new();
        header.extend(b"RIFF");
        header.extend((36 + bytes as u32).to_le_bytes());
        header.extend(b"WAVEfmt ");
        header.extend(16_u32.to_le_bytes());
        // PCM, mono.
        header.extend([1, 0, 1, 0]);
        header.extend((RATE_HZ as u32).to_le_bytes());
        header.extend((2 * RATE_HZ as u32).to_le_bytes());
        header.extend([2, 0, 16, 0]);
        header.extend(b"data");
        header.extend((bytes as u32).to_le_bytes());
        stdin.write_all(&header).unwrap();
        let mut left = bytes as usize;
        while left > 0 {
            let part = left.min(piece.len());
            stdin.write_all(&piece[..part]).unwrap();
            left -= part;
        }
        stdin.flush().unwrap();
    });

    let started = Instant::now();
    let mut looks: Vec<(u64, usize)> = Vec::new();
    let (mut decisions, mut seconds, mut lines) = (0_u64, 0.0, 0_u64);
    let mut looked = Instant::now();
    while let Some(line) = sori.next_line() {
        lines += 1;
        assert_ne!(line["type"], "lost", "{line}");
        decisions += u64::from(line["type"] == "heard");
        if line["type"] == "span" {
            seconds += line["seconds"].as_f64().unwrap();
        }
        if looked.elapsed() > Duration::from_millis(250) {
            looked = Instant::now();
            looks.extend(look(sori.id()));
        }
    }
    let took = started.elapsed();
    feeder.join().unwrap();
    assert!(sori.wait().success(), "{}", sori.log());

    // One with each output row, and one more where silence begins.
    let rows = samples / SAMPLES_A_DECISION;
    let pieces = samples.div_ceil(PIECE_S * RATE_HZ);
    assert!(
        (rows..=rows + 2 * pieces).contains(&decisions),
        "{decisions} decisions of {rows} rows"
    );
    let sound_s = (rows * SAMPLES_A_DECISION) as f64 / RATE_HZ as f64;
    assert!(
        (seconds - sound_s).abs() < 1.0,
        "{seconds} s in spans of {sound_s} s"
    );
    let (mut kept_s, mut end_ms) = (0.0, None);
    history::read(&sori.history(), &Query::default(), |span| {
        // No drift: each span begins where the last one ended.
        if let Some(end_ms) = end_ms {
            let gap_ms: f64 = span.started_ms as f64 - end_ms;
            assert!(gap_ms.abs() < 600.0, "{gap_ms} ms before {span:?}");
        }
        end_ms = Some(span.started_ms as f64 + 1000.0 * span.seconds);
        kept_s += span.seconds;
        Ok(())
    })
    .unwrap();
    assert!(
        (kept_s - seconds).abs() < 0.01,
        "{kept_s} s kept of {seconds}"
    );

    // The first looks see it fill its buffers and the page of statistics.
    assert!(
        looks.len() >= 8,
        "it took {took:?}: too short to see anything grow"
    );
    let settled = &looks[looks.len() / 4..];
    let half = settled.len() / 2;
    let most = |looks: &[(u64, usize)]| {
        let memory = looks.iter().map(|look| look.0).max().unwrap();
        (memory, looks.iter().map(|look| look.1).max().unwrap())
    };
    let (before, after) = (most(&settled[..half]), most(&settled[half..]));
    println!(
        "{hours} h of sound in {took:.0?}: {decisions} decisions, {lines} lines; at most {} then {} kB, {} then {} open files",
        before.0, after.0, before.1, after.1
    );
    assert!(after.0 <= before.0 + SLACK_KB, "memory grows: {looks:?}");
    assert!(after.1 <= before.1, "files stay open: {looks:?}");
    assert!(after.0 < 40 << 10, "{} kB", after.0);
}

/// Resident kilobytes, and open files.
fn look(id: u32) -> Option<(u64, usize)> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let memory = line.split_whitespace().nth(1)?.parse().ok()?;
    let files = fs::read_dir(format!("/proc/{id}/fd")).ok()?.count();
    Some((memory, files))
}
