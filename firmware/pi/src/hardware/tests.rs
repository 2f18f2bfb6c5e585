//! The whole of it, on parts that write down what is done to them.

use std::sync::mpsc::Receiver;

use super::lights::{bar, encode};
use super::testing::Bench;
use super::*;
use crate::board::{Heard, News};

const ALL: &str = "
    [gpio]
    lights = { jazz = 6, rock = 13 }
    activity = 5
    button = 17
    [display]
    bus = \"/dev/i2c-1\"
    [lights]
    spi = \"/dev/spidev0.0\"
    count = 8
";

/// All parts, and time that goes as the test says.
struct Running {
    bench: Bench,
    board: Arc<Board>,
    commands: Receiver<Command>,
    hardware: Hardware<Bench>,
    now: Duration,
    steps: u32,
}

impl Running {
    fn new(config: &str) -> Self {
        let config = Config::read(config, Path::new("c"), []).expect(config);
        let (board, commands) = Board::new();
        let bench = Bench::default();
        bench.world(|world| world.has_display = true);
        Self {
            hardware: Hardware::new(bench.clone(), &config, board.clone()),
            bench,
            board,
            commands,
            now: Duration::ZERO,
            steps: 0,
        }
    }

    fn run(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        while self.now < end {
            let next = self.hardware.step(self.now);
            // A page takes its time.
            self.now = next.max(self.now + Duration::from_millis(5));
            self.steps += 1;
        }
    }

    fn hear(&self, verdict: &str, level_dbfs: f64) {
        self.board
            .update(|status| status.capture.state = State::Listening);
        self.board.set_level_q8((level_dbfs * 256.0) as i32);
        self.board.publish(News::Heard(Arc::new(Heard {
            time_ms: 0,
            verdict: verdict.into(),
            confidence: Some(0.5),
            probabilities: Default::default(),
            level_dbfs,
        })));
    }

    fn lit(&self) -> Vec<u8> {
        self.bench.world(|world| {
            let lit = world.outputs.iter().filter(|&(_, lit)| *lit);
            lit.map(|(pin, _)| *pin).collect()
        })
    }

    fn problems(&self) -> Vec<String> {
        self.board.status().hardware_problems
    }
}

#[test]
fn all_parts_show_what_is_heard_and_are_dark_at_the_end() {
    let mut running = Running::new(ALL);
    running.run(200);
    assert_eq!(running.lit(), [0; 0]);
    running.hear("jazz", -40.0);
    running.run(200);
    assert_eq!(running.lit(), [5, 6]);
    let expected = encode(&bar(-40.0, 8));
    assert_eq!(running.bench.world(|world| world.bar.clone()), expected);
    assert!(running.bench.world(|world| world.display_on));
    running.hear("unknown", -40.0);
    running.run(200);
    assert_eq!(running.lit(), [0; 0]);
    running.hear("rock", -20.0);
    running.run(200);
    assert_eq!(running.lit(), [5, 13]);
    // Muted shows at once, though the listening thread has not said so.
    running.board.set_muted(true);
    running.run(200);
    assert_eq!(running.lit(), [0; 0]);
    let dark = encode(&bar(f64::NEG_INFINITY, 8));
    assert_eq!(running.bench.world(|world| world.bar.clone()), dark);
    running.board.set_muted(false);
    running.run(200);
    assert_eq!(running.lit(), [5, 13]);
    assert_eq!(running.problems(), [""; 0]);
    let Running {
        bench, hardware, ..
    } = running;
    drop(hardware);
    bench.world(|world| {
        assert!(world.outputs.values().all(|lit| !lit), "{world:?}");
        assert!(!world.display_on && world.bar == dark);
    });
}

#[test]
fn the_bar_falls_slowly_and_is_sent_twenty_times_a_second_at_most() {
    let mut running = Running::new(ALL);
    running.hear("jazz", -20.0);
    running.run(100);
    let loud = running.bench.world(|world| world.bar.clone());
    running.hear("jazz", -90.0);
    running.run(100);
    assert_eq!(running.bench.world(|world| world.bar.clone()), loud);
    let before = running.bench.world(|world| world.bar_frames);
    running.run(4000);
    let after = running.bench.world(|world| world.bar_frames);
    assert!((3..=80).contains(&(after - before)), "{}", after - before);
    let dark = encode(&bar(-90.0, 8));
    assert_eq!(running.bench.world(|world| world.bar.clone()), dark);
}

#[test]
fn a_short_press_mutes_a_second_unmutes_and_a_long_one_confirms() {
    let mut running = Running::new(ALL);
    running.hear("jazz", -40.0);
    running.run(500);
    for (held_ms, expected) in [
        (80, Command::Mute(true)),
        (200, Command::Mute(false)),
        (1500, Command::Confirm),
    ] {
        running.bench.world(|world| world.held = true);
        running.run(held_ms);
        running.bench.world(|world| world.held = false);
        running.run(300);
        assert_eq!(running.commands.try_recv(), Ok(expected));
        assert!(
            running.commands.try_recv().is_err(),
            "one press, one command"
        );
        if let Command::Mute(muted) = expected {
            running.board.set_muted(muted);
        }
    }
}

#[test]
fn a_part_that_is_missing_is_told_and_stops_no_other() {
    let mut running = Running::new(ALL);
    running.bench.world(|world| {
        world.has_display = false;
        world.missing.insert("spi", "no spi: dtparam=spi=on".into());
    });
    running.hear("jazz", -40.0);
    running.run(3000);
    assert_eq!(running.lit(), [5, 6]);
    let problems = running.problems();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(
        problems[0].contains("no display responds at 0x3c"),
        "{problems:?}"
    );
    assert!(problems[1].contains("dtparam=spi=on"), "{problems:?}");
    running.bench.world(|world| {
        world.has_display = true;
        world.missing.clear();
    });
    running.run(17_000);
    assert_eq!(running.problems(), [""; 0]);
    assert!(
        running
            .bench
            .world(|world| world.display_on && !world.bar.is_empty())
    );
    // Pulled out while it works, and put back.
    running.bench.world(|world| world.has_display = false);
    running.run(2000);
    assert_eq!(running.problems().len(), 1);
    running.bench.world(|world| {
        world.has_display = true;
        world.display_bytes = 0;
    });
    running.run(17_000);
    assert_eq!(running.problems(), [""; 0]);
    assert!(running.bench.world(|world| world.display_bytes) > 1024);
}

#[test]
fn without_a_pi_it_is_said_once() {
    let mut running = Running::new(ALL);
    let problem = "no GPIO: this is no Raspberry Pi";
    running
        .bench
        .world(|world| world.missing.insert("gpio", problem.into()));
    running.run(40_000);
    assert_eq!(running.problems(), [problem]);
}

#[test]
fn unknown_labels_and_pins_of_others_are_told_and_not_touched() {
    let mut running = Running::new(&ALL.replace("jazz = 6", "jaz = 6, pop = 3"));
    running.board.update(|status| {
        status.recognizer.labels = vec!["jazz".into(), "pop".into(), "rock".into()]
    });
    running.hear("pop", -40.0);
    running.run(500);
    let problems = running.problems();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(
        problems[0].contains("lights.pop on GPIO 3 is disabled"),
        "{problems:?}"
    );
    assert!(
        problems[1].contains("lights.jaz will never light"),
        "{problems:?}"
    );
    assert_eq!(running.lit(), [5]);
    let opened = running.bench.world(|world| world.opened.clone());
    assert!(!opened.contains(&"output 3".to_string()), "{opened:?}");
}

#[test]
fn a_still_picture_is_not_sent_again() {
    let mut running = Running::new("[display]\nbus = \"/dev/i2c-1\"\n");
    running.hear("jazz", -40.0);
    running.run(3000);
    running.bench.world(|world| world.display_bytes = 0);
    let steps = running.steps;
    running.run(10_000);
    // The dot: each second an area of two commands and two bytes.
    let bytes = running.bench.world(|world| world.display_bytes);
    assert!((100..=130).contains(&bytes), "{bytes}");
    assert!(running.steps - steps <= 150, "{}", running.steps - steps);
}

#[test]
fn a_stop_is_heeded_at_once_and_nothing_configured_needs_no_thread() {
    let (board, _commands) = Board::new();
    let earlier = vec!["of an earlier configuration".to_string()];
    board.update(|status| status.hardware_problems = earlier);
    run_with(
        Bench::default(),
        &Config::default(),
        board.clone(),
        &AtomicBool::new(false),
    );
    assert_eq!(board.status().hardware_problems, [""; 0]);
    let bench = Bench::default();
    bench.world(|world| world.has_display = true);
    let stop = Arc::new(AtomicBool::new(false));
    let config = Config::read(ALL, Path::new("c"), []).unwrap();
    let thread = thread::spawn({
        let (bench, stop) = (bench.clone(), stop.clone());
        move || run_with(bench, &config, board, &stop)
    });
    while !bench.world(|world| world.display_on && !world.bar.is_empty()) {
        thread::yield_now();
    }
    let asked = Instant::now();
    stop.store(true, Ordering::Relaxed);
    thread.join().unwrap();
    // 200 ms are promised; the machine that tests may be busy.
    assert!(
        asked.elapsed() < Duration::from_secs(2),
        "{:?}",
        asked.elapsed()
    );
    bench.world(|world| assert!(!world.display_on && world.outputs.values().all(|lit| !lit)));
}

#[test]
fn off_a_pi_the_real_parts_are_told_and_nothing_breaks() {
    let (board, _commands) = Board::new();
    let config = Config::read(ALL, Path::new("c"), []).unwrap();
    let mut hardware = Hardware::new(rpi::RaspberryPi::default(), &config, board.clone());
    for second in 0..3 {
        hardware.step(Duration::from_secs(second));
    }
    if !Path::new("/dev/gpiomem").exists() {
        let problems = board.status().hardware_problems;
        assert!(problems[0].contains("not a Raspberry Pi"), "{problems:?}");
    }
}

/// `cargo test -p sori-pi what_polling_costs -- --ignored --nocapture`
#[test]
#[ignore = "measures for half a minute"]
fn what_polling_costs() {
    for (what, config) in [
        ("a button", "[gpio]\nbutton = 17\n"),
        (
            "two lights",
            "[gpio]\nlights = { jazz = 6 }\nactivity = 5\n",
        ),
        ("all parts", ALL),
    ] {
        let config = Config::read(config, Path::new("c"), []).unwrap();
        let thread = thread::spawn(move || {
            let (board, _commands) = Board::new();
            let bench = Bench::default();
            bench.world(|world| world.has_display = true);
            let mut hardware = Hardware::new(bench, &config, board);
            let (started, before) = (Instant::now(), thread_cpu_ns());
            while started.elapsed() < Duration::from_secs(10) {
                let next = hardware.step(started.elapsed());
                thread::sleep(next.saturating_sub(started.elapsed()));
            }
            (thread_cpu_ns() - before) as f64 / started.elapsed().as_nanos() as f64
        });
        println!("{what}: {:.3} % of a core", 100.0 * thread.join().unwrap());
    }
}

fn thread_cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}
