use std::io::{Cursor, Write as _};

use hound::SampleFormat;

use super::*;

fn written(
    spec: hound::WavSpec,
    write: impl Fn(&mut hound::WavWriter<&mut Cursor<Vec<u8>>>),
) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut file, spec).expect("a WAV in memory");
    write(&mut writer);
    writer.finalize().expect("a WAV in memory");
    file.into_inner()
}

fn spec(bits: u16, format: SampleFormat, channels: u16, rate_hz: u32) -> hound::WavSpec {
    hound::WavSpec {
        channels,
        sample_rate: rate_hz,
        bits_per_sample: bits,
        sample_format: format,
    }
}

fn listen(bytes: &[u8], speed: Speed) -> (Result<Layout, Trouble>, Vec<i32>, Kind) {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), bytes).expect("a temporary file");
    let mut wav = Wav::new(file.path(), speed);
    let layout = wav.open();
    let mut samples = Vec::new();
    loop {
        if let Err(trouble) = wav.read(&mut samples) {
            return (layout, samples, trouble.kind);
        }
    }
}

#[test]
fn every_width_any_rate_and_any_channels_give_24_bits() {
    for (bits, format, channels, rate_hz) in [
        (8, SampleFormat::Int, 1, 8000),
        (16, SampleFormat::Int, 2, 44_100),
        (24, SampleFormat::Int, 3, 48_000),
        (32, SampleFormat::Int, 1, 192_000),
        (32, SampleFormat::Float, 2, 11_025),
    ] {
        let count = 3000 * i32::from(channels);
        let bytes = written(spec(bits, format, channels, rate_hz), |writer| {
            for n in 0..count {
                let n = n % 100 - 50;
                match format {
                    SampleFormat::Int => writer.write_sample(n << (bits - 8)),
                    SampleFormat::Float => writer.write_sample(n as f32 / 128.0),
                }
                .expect("a WAV in memory");
            }
        });
        let expected: Vec<i32> = (0..count).map(|n| (n % 100 - 50) << 16).collect();
        let layout = Layout {
            rate_hz,
            channels: channels.into(),
        };
        let heard = listen(&bytes, Speed::Full);
        assert_eq!(heard, (Ok(layout), expected, Kind::Ended), "{bits} bits");
    }
}

#[test]
fn a_file_at_real_speed_takes_its_time() {
    let bytes = written(spec(16, SampleFormat::Int, 1, 8000), |writer| {
        for n in 0..1600 {
            writer.write_sample(n as i16).expect("a WAV in memory");
        }
    });
    let started = Instant::now();
    assert_eq!(listen(&bytes, Speed::Real).1.len(), 1600);
    assert!(started.elapsed() >= Duration::from_millis(199));
}

#[test]
fn what_was_cut_off_or_has_no_known_length_is_heard_to_its_end() {
    let whole = written(spec(16, SampleFormat::Int, 2, 16_000), |writer| {
        for n in 0..4000 {
            writer.write_sample(n as i16).expect("a WAV in memory");
        }
    });
    // In the middle of a frame.
    let (_, samples, kind) = listen(&whole[..whole.len() - 1001], Speed::Full);
    assert_eq!((samples.len(), kind), (4000 - 502, Kind::Ended));
    let length = whole.len() - 8000 - 4;
    for unknown in [0, u32::MAX, 0x7fff_f000] {
        let mut piped = whole.clone();
        piped[length..length + 4].copy_from_slice(&u32::to_le_bytes(unknown));
        assert_eq!(listen(&piped, Speed::Full).1.len(), 4000, "{unknown:#x}");
    }
    // Chunks before and after the samples are none.
    let mut tagged = whole.clone();
    tagged.extend(b"LIST\x04\0\0\0abcd");
    assert_eq!(listen(&tagged, Speed::Full).1.len(), 4000);
    let mut pictured = whole[..12].to_vec();
    pictured.extend(b"JUNK");
    pictured.extend(200_000u32.to_le_bytes());
    pictured.resize(pictured.len() + 200_000, 0);
    pictured.extend(&whole[12..]);
    assert_eq!(listen(&pictured, Speed::Full).1.len(), 4000);
}

#[test]
fn what_comes_slowly_by_a_pipe_is_waited_for_and_nothing_of_it_is_lost() {
    let whole = written(spec(16, SampleFormat::Int, 2, 8000), |writer| {
        for n in 0..2000 {
            writer.write_sample(n as i16).expect("a WAV in memory");
        }
    });
    let (reader, mut writer) = io::pipe().expect("a pipe");
    let mut wav = Wav::new(Path::new("-"), Speed::Full);
    wav.input = Some(File::from(std::os::fd::OwnedFd::from(reader)));
    assert_eq!(wav.open().map_err(|trouble| trouble.kind), Err(Kind::Quiet));
    // Half a head.
    writer.write_all(&whole[..30]).expect("a pipe");
    let quiet = wav.open().expect_err("half a head");
    assert_eq!(quiet.kind, Kind::Quiet);
    assert!(quiet.text.contains("standard input"), "{quiet}");
    // The rest of it, and a frame and a half.
    writer.write_all(&whole[30..50]).expect("a pipe");
    assert!(wav.open().is_ok());
    let mut samples = Vec::new();
    assert_eq!(wav.read(&mut samples), Ok(()));
    assert_eq!(samples, [0, 1 << 8]);
    let asked = Instant::now();
    assert_eq!(wav.read(&mut samples), Ok(()));
    assert!(
        asked.elapsed() >= Duration::from_millis(200),
        "nothing is waited for"
    );
    assert_eq!(samples.len(), 2);
    let rest = thread::spawn(move || {
        for piece in whole[50..].chunks(333) {
            writer.write_all(piece).expect("a pipe");
        }
    });
    let ended = loop {
        if let Err(trouble) = wav.read(&mut samples) {
            break trouble.kind;
        }
    };
    rest.join().expect("the writer is well");
    assert_eq!(ended, Kind::Ended);
    assert_eq!(samples, (0..2000).map(|n| n << 8).collect::<Vec<_>>());
}

#[test]
fn what_is_no_wav_is_refused_with_what_would_do() {
    let many = written(spec(16, SampleFormat::Int, 65, 8000), |_| {});
    let odd = written(spec(16, SampleFormat::Int, 1, 4000), |_| {});
    let whole = written(spec(16, SampleFormat::Int, 1, 8000), |_| {});
    for (bytes, part) in [
        (&b""[..], "it is empty"),
        (b"ID3\x04 an mp3 of some length and more", "not a WAV file"),
        (b"RIFF\x10\0\0\0AVI LIST", "not a WAV file"),
        (b"RIFF\x10\0\0\0WAVEdata\0\0\0\0", "describes"),
        (&odd, "4000 Hz"),
        (&many, "65 channels"),
        (&whole[..30], "ends before"),
    ] {
        let trouble = listen(bytes, Speed::Full).0.expect_err(part);
        assert_eq!(trouble.kind, Kind::Unusable);
        for part in [part, "ffmpeg -i"] {
            assert!(trouble.text.contains(part), "{part} is not in: {trouble}");
        }
    }
    let trouble = Wav::new(Path::new("/nowhere.wav"), Speed::Real)
        .open()
        .expect_err("no file");
    assert!(trouble.text.contains("/nowhere.wav"), "{trouble}");
    let trouble = Wav::new(Path::new("/"), Speed::Real)
        .open()
        .expect_err("a folder");
    assert_eq!(trouble.kind, Kind::Unusable, "{trouble}");
}

/// What the page and `sori` make of the same file, here from a file and at full speed.
#[test]
fn a_file_of_floats_is_rounded_as_everywhere() {
    let bytes = written(spec(32, SampleFormat::Float, 1, 16_000), |writer| {
        for n in 0..5_000u32 {
            let x = f64::from(n.wrapping_mul(2_654_435_761)) / f64::from(1u32 << 31) - 1.0;
            writer.write_sample(x as f32).expect("a WAV in memory");
        }
        for x in [f32::NAN, f32::INFINITY] {
            writer.write_sample(x).expect("a WAV in memory");
        }
    });
    let mut reader = sori_sound::Reader::new(&bytes[..], None).expect("a WAV file");
    let (mut expected, mut block) = (Vec::new(), Vec::new());
    while reader.next_block(None, &mut block).expect("in memory") {
        expected.extend_from_slice(&block);
    }
    assert_eq!(expected[5_000..], [0, 0]);
    assert_eq!(listen(&bytes, Speed::Full).1, expected);
}
