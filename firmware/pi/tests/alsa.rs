//! Capture by the real alsa-lib, from a FIFO in place of a card, with faults in between.
//!
//! The program that captures is this one, started again with the shim before alsa-lib.

mod preload;
mod shim;

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sori_pi::board::Board;
use sori_pi::capture::{self, Kind, Next, Settings};
use sori_pi::meter::{Meter, Reading};

use shim::{DEVICE, Microphone, RATE_HZ};

/// On a busy machine everything takes its time.
const LONG: Duration = Duration::from_secs(60);

/// After the end of a cause; a second more is for a busy machine.
const BACK: Duration = Duration::from_millis(3000);

/// What the program that captures says ten times a second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Said {
    state: String,
    problem: Option<String>,
    rate_hz: u32,
    channels: usize,
    frames: u64,
    overruns: u64,
    suspends: u64,
    reopened: u64,
    dropped: u64,
    /// Frames that came through the ring.
    heard: u64,
    gaps: u64,
    /// Of the last tenth of a second in which there was sound, each channel.
    rms_dbfs: Vec<f64>,
    zero: Vec<bool>,
    offset: Vec<f64>,
}

/// Not a test of its own: what the tests start.
#[test]
#[ignore = "the others start it, with the shim"]
fn captures() {
    let (board, _commands) = Board::new();
    let stop = Arc::new(AtomicBool::new(false));
    let source = capture::microphone(DEVICE).expect("built with ALSA");
    let settings = Settings {
        settle_ms: 300,
        buffer_s: 4,
    };
    let (thread, mut consumer) =
        capture::start(source, settings, Arc::clone(&board), Arc::clone(&stop)).expect("a thread");
    let told = Arc::clone(&stop);
    std::thread::spawn(move || {
        let _ = std::io::stdin().read(&mut [0]);
        told.store(true, Ordering::Relaxed);
    });
    let (mut heard, mut gaps) = (0, 0);
    let mut meters = Vec::new();
    let mut readings: Vec<Reading> = Vec::new();
    let mut said = Instant::now();
    let mut ended = false;
    while !ended {
        match consumer.next(Duration::from_millis(50)) {
            Next::Block(block) => {
                heard += block.len() as u64;
                gaps += u64::from(block.missing.is_some());
                meters.resize(block.layout.channels, Meter::new(RATE_HZ));
                for (n, &sample) in block.frames.iter().enumerate() {
                    meters[n % block.layout.channels].push(sample);
                }
                consumer.recycle(block);
            }
            Next::Nothing => {}
            Next::Ended => ended = true,
        }
        if said.elapsed() < Duration::from_millis(100) && !ended {
            continue;
        }
        said = Instant::now();
        let new: Vec<Reading> = meters.iter_mut().filter_map(Meter::take).collect();
        if !new.is_empty() {
            readings = new;
        }
        let status = board.status().capture;
        let line = Said {
            state: format!("{:?}", status.state),
            problem: status.problem,
            rate_hz: status.rate_hz,
            channels: status.channels,
            frames: status.frames,
            overruns: status.overruns,
            suspends: status.suspends,
            reopened: status.reopened,
            dropped: status.dropped_frames,
            heard,
            gaps,
            rms_dbfs: readings.iter().map(|r| r.rms_dbfs.max(-300.0)).collect(),
            zero: readings.iter().map(Reading::is_zero).collect(),
            offset: readings.iter().map(|r| r.offset).collect(),
        };
        let line = serde_json::to_string(&line).expect("plain values");
        println!("\nsaid {line}");
    }
    thread.join().expect("capture never panics");
}

/// The program that captures.
struct Capturing {
    child: Child,
    lines: mpsc::Receiver<Said>,
}

impl Capturing {
    fn start(microphone: &Microphone) -> Self {
        let itself = std::env::current_exe().expect("this test");
        let mut command = Command::new(itself);
        command
            .args(["--exact", "captures", "--ignored", "--nocapture"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = microphone.prepare(&mut command).spawn().expect("this test");
        let stdout = child.stdout.take().expect("piped");
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(json) = line.strip_prefix("said ") {
                    let said = serde_json::from_str(json).expect("what it says");
                    let _ = sender.send(said);
                }
            }
        });
        Self { child, lines }
    }

    /// The first line from now on of which that is true.
    fn until(&self, what: &str, is: impl Fn(&Said) -> bool) -> Said {
        while self.lines.try_recv().is_ok() {}
        let until = Instant::now() + LONG;
        let mut last = None;
        while let Ok(said) = self.lines.recv_timeout(LONG) {
            if is(&said) {
                return said;
            }
            last = Some(said);
            if Instant::now() > until {
                break;
            }
        }
        panic!("never: {what}; at last {last:?}");
    }

    fn listens(&self) -> Said {
        self.until("it listens", |said| {
            said.state == "Listening" && said.heard > 0
        })
    }

    /// Stops it; what it says last, within two seconds and one for a busy machine.
    fn ends(&mut self) -> Said {
        drop(self.child.stdin.take());
        let told = Instant::now();
        let said = self.lines.iter().last().expect("it says something");
        assert!(told.elapsed() < BACK, "{:?}", told.elapsed());
        said
    }

    /// It hears more within [`BACK`].
    fn is_back(&self, heard: u64) -> Said {
        let since = Instant::now();
        let said = self.until("sound is back", |said| {
            said.heard > heard && said.state == "Listening"
        });
        assert!(since.elapsed() < BACK, "{:?}: {said:?}", since.elapsed());
        said
    }
}

impl Drop for Capturing {
    fn drop(&mut self) {
        // Its input ends with this: it stops, or it is stopped.
        drop(self.child.stdin.take());
        let until = Instant::now() + LONG;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > until {
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A sine of 1 kHz at -40 dBFS with an offset on the left, and nothing on the right.
fn one_microphone(n: u64) -> [i32; 2] {
    let phase = (n % 48) as f64 / 48.0 * std::f64::consts::TAU;
    let sample = 0.01 * phase.sin() + 0.1;
    // As in 24 of 32 bits.
    [((sample * 8_388_608.0) as i32) << 8, 0]
}

#[test]
fn alsa_gives_32_bits_of_both_channels_at_48_khz() {
    let microphone = Microphone::new(one_microphone);
    let mut capturing = Capturing::start(&microphone);
    capturing.listens();
    // A whole tenth of a second of it.
    let said = capturing.until("a second", |said| said.heard > u64::from(RATE_HZ));
    assert_eq!((said.rate_hz, said.channels), (RATE_HZ, 2));
    assert_eq!(said.zero, [false, true], "{said:?}");
    assert!((said.rms_dbfs[0] - -43.01).abs() < 0.5, "{said:?}");
    assert!((said.offset[0] - 0.1).abs() < 0.001, "{said:?}");
    assert_eq!((said.gaps, said.overruns, said.dropped), (0, 0, 0));
    // Told to stop, it has heard everything but the first 300 ms.
    let said = capturing.ends();
    assert_eq!(said.frames, said.heard + 14_400, "{said:?}");
}

#[test]
fn what_a_device_offers_is_told_and_a_name_that_is_none_is_absent() {
    // Part of every ALSA: it takes everything.
    let offers = capture::alsa::offers("null").expect("a device");
    assert!(
        offers.starts_with("S32_LE, ") && offers.contains("S16_LE"),
        "{offers}"
    );
    for name in [
        "nosuchthing",
        "hw:CARD=nosuchthing,DEV=0",
        "hw:7",
        "",
        "a\0b",
    ] {
        let mut source = capture::microphone(name).expect("built with ALSA");
        let trouble = source.open().expect_err(name);
        assert_eq!(trouble.kind, Kind::Absent, "{name:?}: {trouble}");
        assert!(trouble.text.contains("sori-pi mic list"), "{trouble}");
        assert!(source.read(&mut Vec::new()).is_err());
    }
}

#[test]
fn an_overrun_and_a_sleep_are_counted_and_survived() {
    let microphone = Microphone::new(one_microphone);
    let capturing = Capturing::start(&microphone);
    capturing.listens();
    microphone.fail("epipe 3");
    let said = capturing.until("three overruns", |said| said.overruns == 3);
    capturing.is_back(said.heard);
    microphone.fail("estrpipe 2");
    let said = capturing.until("two sleeps", |said| said.suspends == 2);
    let said = capturing.is_back(said.heard);
    assert_eq!((said.reopened, said.problem.as_deref()), (0, None));
    assert!(said.gaps >= 2, "{said:?}");
    let happened = ["epipe", "estrpipe"].map(|fault| microphone.happened(fault));
    assert_eq!(happened, [3, 2]);
}

#[test]
fn a_device_that_is_unplugged_is_taken_again_when_it_is_back() {
    let microphone = Microphone::new(one_microphone);
    let capturing = Capturing::start(&microphone);
    capturing.listens();
    microphone.fail("enodev");
    let said = capturing.until("it is told", |said| said.state == "NoMicrophone");
    let problem = said.problem.unwrap_or_default();
    assert!(problem.contains("mic is missing"), "{problem}");
    // It is tried again and again.
    let until = Instant::now() + LONG;
    while microphone.happened("open enodev") < 4 {
        assert!(Instant::now() < until, "it gave up");
        std::thread::sleep(Duration::from_millis(50));
    }
    let said = capturing.until("a line", |_| true);
    microphone.heal();
    let said = capturing.is_back(said.heard);
    assert_eq!((said.reopened, said.problem.as_deref()), (1, None));
    assert!(said.gaps >= 1, "{said:?}");
}

#[test]
fn a_device_in_use_at_the_start_is_taken_when_it_is_free() {
    let microphone = Microphone::new(one_microphone);
    microphone.fail("ebusy");
    let capturing = Capturing::start(&microphone);
    let said = capturing.until("it is told", |said| said.problem.is_some());
    let problem = said.problem.unwrap_or_default();
    assert!(problem.contains("in use"), "{problem}");
    microphone.heal();
    let said = capturing.is_back(0);
    assert_eq!((said.reopened, said.gaps), (0, 0));
}

#[test]
fn short_reads_lose_nothing() {
    let microphone = Microphone::new(one_microphone);
    microphone.fail("short 64");
    let capturing = Capturing::start(&microphone);
    let said = capturing.until("a second", |said| said.heard > u64::from(RATE_HZ));
    assert!(microphone.happened("short") > 600, "{said:?}");
    assert_eq!((said.gaps, said.overruns, said.dropped), (0, 0, 0));
    assert!((said.rms_dbfs[0] - -43.01).abs() < 0.5, "{said:?}");
}

#[test]
fn a_device_that_says_nothing_is_noticed_and_opened_anew() {
    let microphone = Microphone::new(one_microphone);
    let capturing = Capturing::start(&microphone);
    capturing.listens();
    microphone.fail("silent");
    let said = capturing.until("it is told", |said| said.problem.is_some());
    let problem = said.problem.unwrap_or_default();
    assert!(problem.contains("delivers no data"), "{problem}");
    // A device that is open again and still says nothing is no cure.
    let said = capturing.until("opened anew", |said| said.reopened >= 2);
    assert_eq!(said.state, "NoMicrophone");
    microphone.heal();
    let said = capturing.is_back(said.heard);
    assert_eq!(said.problem, None);
}
