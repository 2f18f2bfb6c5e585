use std::fmt;
use std::io::{self, Read};

use crate::{Layout, wav};

/// Most bytes read at a time: as much as a pipe holds. What has come is returned at once.
const BLOCK: usize = 64 << 10;

/// Mono samples of anything that can be read, as they come.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    layout: Layout,
    /// Bytes that were read; the first `there` of them were not used yet.
    bytes: Vec<u8>,
    there: usize,
    /// Bytes of samples that are still to come, as far as the writer knew.
    left: Option<u64>,
    not_finite: u64,
    is_cut: bool,
}

/// Why nothing can be read.
#[derive(Debug)]
#[non_exhaustive]
pub enum Unreadable {
    /// The reader's reason.
    Io(io::Error),
    /// It is no WAV file that can be read.
    Wav(wav::Unsupported),
    /// It ends before its samples begin.
    Ends,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Wav(unsupported) => unsupported.fmt(f),
            Self::Ends => f.write_str("it ends before its samples begin"),
        }
    }
}

impl std::error::Error for Unreadable {}

impl<R: Read> Reader<R> {
    /// Of samples without a header.
    pub fn raw(input: R, layout: Layout) -> Self {
        Self {
            input,
            layout,
            bytes: Vec::new(),
            there: 0,
            left: None,
            not_finite: 0,
            is_cut: false,
        }
    }

    /// Of a WAV file; with `otherwise`, of raw samples of that layout unless it begins as one.
    ///
    /// # Errors
    /// See [`Unreadable`].
    pub fn new(input: R, otherwise: Option<Layout>) -> Result<Self, Unreadable> {
        let nothing = Layout {
            encoding: crate::Encoding::S16,
            rate_hz: 0,
            channels: 1,
        };
        let mut reader = Self::raw(input, otherwise.unwrap_or(nothing));
        loop {
            let so_far = &reader.bytes[..reader.there];
            match wav::head(so_far) {
                Ok(Some(head)) => {
                    reader.layout = head.layout;
                    reader.left = head.len;
                    reader.use_up(head.begin);
                    return Ok(reader);
                }
                Err(wav::Unsupported::NotWav) if otherwise.is_some() && !wav::is_begun(so_far) => {
                    return Ok(reader);
                }
                Err(unsupported) => return Err(Unreadable::Wav(unsupported)),
                Ok(None) if so_far.len() > wav::MAX_HEAD => {
                    return Err(Unreadable::Wav(wav::Unsupported::Endless));
                }
                Ok(None) => {}
            }
            // Twice as much each time: a head of many chunks is walked anew from its first.
            let most = BLOCK.max(reader.there);
            if reader.fill(most).map_err(Unreadable::Io)? == 0 {
                return match otherwise {
                    // So short that it may have become one.
                    Some(_) if !wav::is_begun(&reader.bytes[..reader.there]) => Ok(reader),
                    _ => Err(Unreadable::Ends),
                };
            }
        }
    }

    /// How the samples lie.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Samples that were NaN or infinite so far, and count as 0.
    pub fn not_finite(&self) -> u64 {
        self.not_finite
    }

    /// It ended within a frame, before the end that its header states, or with an error.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// The next samples, as soon as any arrive: of one channel, counted from 0, or the mean of
    /// all. False at the end.
    ///
    /// # Errors
    /// The reader's.
    ///
    /// # Panics
    /// If there is no such channel.
    pub fn next_block(&mut self, channel: Option<usize>, mono: &mut Vec<i32>) -> io::Result<bool> {
        let Layout {
            encoding, channels, ..
        } = self.layout;
        let frame = self.layout.frame_bytes();
        mono.clear();
        loop {
            let due = self.left.map_or(self.there, |left| {
                usize::try_from(left).map_or(self.there, |left| self.there.min(left))
            });
            let used = due / frame * frame;
            if used > 0 {
                self.not_finite += encoding.mix(&self.bytes[..used], channels, channel, mono);
                self.use_up(used);
                self.left = self.left.map(|left| left - used as u64);
                return Ok(true);
            }
            // A whole frame does not come any more.
            if self.left.is_some_and(|left| left < frame as u64) {
                self.is_cut |= self.left != Some(0);
                return Ok(false);
            }
            let read = self.fill(BLOCK.max(2 * frame));
            self.is_cut |= read.is_err();
            if read? == 0 {
                self.is_cut |= self.there > 0 || self.left.is_some();
                return Ok(false);
            }
        }
    }

    /// Reads once; 0 is the end.
    fn fill(&mut self, most: usize) -> io::Result<usize> {
        self.bytes.resize(self.there + most, 0);
        loop {
            match self.input.read(&mut self.bytes[self.there..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => {
                    let read = read?;
                    self.there += read;
                    return Ok(read);
                }
            }
        }
    }

    fn use_up(&mut self, bytes: usize) {
        self.bytes.copy_within(bytes..self.there, 0);
        self.there -= bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Encoding;

    fn layout(encoding: Encoding, channels: usize) -> Layout {
        Layout {
            encoding,
            rate_hz: 48_000,
            channels,
        }
    }

    /// Returns a few bytes at a time, as a pipe may.
    struct Dribble<'a>(&'a [u8], usize);

    impl Read for Dribble<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let now = self.1.min(self.0.len()).min(buffer.len());
            buffer[..now].copy_from_slice(&self.0[..now]);
            self.0 = &self.0[now..];
            Ok(now)
        }
    }

    fn all(bytes: &[u8], step: usize, raw: Layout, channel: Option<usize>) -> (Vec<i32>, bool) {
        let mut reader = Reader::new(Dribble(bytes, step), Some(raw)).unwrap();
        let (mut samples, mut block) = (Vec::new(), Vec::new());
        while reader.next_block(channel, &mut block).unwrap() {
            samples.extend_from_slice(&block);
        }
        (samples, reader.is_cut())
    }

    #[test]
    fn frames_may_arrive_in_any_pieces() {
        let bytes: Vec<u8> = (0..6 * 100).map(|n| (n * 7 % 251) as u8).collect();
        let whole = all(&bytes, 600, layout(Encoding::S16, 3), None);
        assert_eq!((whole.0.len(), whole.1), (100, false));
        for step in [1, 2, 5, 7] {
            assert_eq!(all(&bytes, step, layout(Encoding::S16, 3), None), whole);
        }
        let cut = all(&bytes[..599], 600, layout(Encoding::S16, 3), None);
        assert_eq!((&cut.0[..], cut.1), (&whole.0[..99], true));
    }

    #[test]
    fn one_channel_of_two_can_be_chosen() {
        let bytes = [100i16, -200, 300, -400].map(i16::to_le_bytes).concat();
        let only = |channel| all(&bytes, 3, layout(Encoding::S16, 2), channel).0;
        assert_eq!(only(Some(0)), [100 << 8, 300 << 8]);
        assert_eq!(only(Some(1)), [-200 << 8, -400 << 8]);
        assert_eq!(only(None), [-50 << 8, -50 << 8]);
    }

    #[test]
    fn a_wav_header_overrides_what_was_expected() {
        let mut bytes = io::Cursor::new(Vec::new());
        let spec = hound::WavSpec {
            channels: 2,
            sample_rate: 22_050,
            bits_per_sample: 32,
            sample_format: hound::SampleFormat::Int,
        };
        let mut writer = hound::WavWriter::new(&mut bytes, spec).unwrap();
        for sample in [256, 768, -256, -768] {
            writer.write_sample(sample).unwrap();
        }
        writer.finalize().unwrap();
        let raw = layout(Encoding::S16, 1);
        let reader = Reader::new(&bytes.get_ref()[..], Some(raw)).unwrap();
        assert_eq!(reader.layout().rate_hz, 22_050);
        let mut bytes = bytes.into_inner();
        // What follows the samples is no sound, as long as their length is known.
        bytes.extend(b"LIST\x04\x00\x00\x00\x7f\x7f\x7f\x7f");
        let heard = |bytes: &[u8]| all(bytes, 5, raw, None);
        assert_eq!(heard(&bytes), (vec![2, -2], false));
        let end = bytes.len() - 12;
        assert_eq!(heard(&bytes[..end - 1]), (vec![2], true));
        let length = bytes.windows(4).position(|w| w == b"data").unwrap() + 4;
        for unknown in [0, 0x7fff_ffff, u32::MAX] {
            bytes[length..][..4].copy_from_slice(&unknown.to_le_bytes());
            assert_eq!(heard(&bytes[..end]).0, [2, -2], "{unknown:x}");
        }
    }

    #[test]
    fn what_begins_as_a_wav_file_must_be_one() {
        let raw = Some(layout(Encoding::S16, 1));
        for bytes in [
            &b"RIFF"[..],
            b"RIFF\x10\0\0\0AVI LIST",
            b"RIFF\x10\0\0\0WAVE",
        ] {
            assert!(Reader::new(bytes, raw).is_err(), "{bytes:?}");
        }
        // Shorter than a tag, and anything else, are samples.
        for bytes in [&b""[..], b"R", b"RIF", b"RAFF\x10\0\0\0"] {
            assert!(Reader::new(bytes, raw).is_ok(), "{bytes:?}");
            assert!(Reader::new(bytes, None).is_err(), "{bytes:?}");
        }
    }

    /// 64-bit lengths, as recorders write them who expect more than 4 GB.
    #[test]
    fn the_length_of_a_long_file_stands_before_its_samples() {
        let mut bytes = b"RF64\xff\xff\xff\xffWAVEds64\x1c\0\0\0".to_vec();
        bytes.extend([0, 6, 3].map(u64::to_le_bytes).concat());
        bytes.extend(b"\0\0\0\0fmt \x10\0\0\0\x01\0\x01\0\x80\x3e\0\0\0\x7d\0\0\x02\0\x10\0");
        bytes.extend(b"data\xff\xff\xff\xff");
        bytes.extend([1i16, 2, 3, 4].map(i16::to_le_bytes).concat());
        let raw = layout(Encoding::S24, 2);
        assert_eq!(all(&bytes, 7, raw, None), (vec![256, 512, 768], false));
        // Its length does not count where the samples have one.
        let length = bytes.windows(4).position(|w| w == b"data").unwrap() + 4;
        bytes[length..][..4].copy_from_slice(&2u32.to_le_bytes());
        assert_eq!(all(&bytes, 7, raw, None), (vec![256], false));
    }

    /// Millions of empty chunks before the samples that never come: seconds, not minutes.
    #[test]
    fn a_head_of_many_chunks_is_walked_a_few_times() {
        let mut bytes = b"RIFF\0\0\0\0WAVE".to_vec();
        for _ in 0..(crate::wav::MAX_HEAD / 8) {
            bytes.extend(b"JUNK\0\0\0\0");
        }
        let began = std::time::Instant::now();
        let refusal = Reader::new(&bytes[..], None).expect_err("no samples");
        assert!(matches!(refusal, Unreadable::Wav(_) | Unreadable::Ends));
        assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
    }
}
