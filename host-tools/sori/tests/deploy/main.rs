//! `sori deploy` against a real sshd on loopback, in a root of its own: the system's programs that
//! would change this machine are scripts (`shims/`) that change a folder. The worker, the
//! connection and its faults are real; dpkg, systemd and sudo are not.
#![cfg(target_os = "linux")]

mod pi;
mod proxy;

use std::fs;
use std::process::Output;

use pi::{Build, Pi};
use proxy::Proxy;
use serde_json::Value;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The exit code, and stderr, which must be one line.
fn refusal(output: &Output) -> (i32, String) {
    let stderr = text(&output.stderr);
    assert!(!stderr.contains("panicked"), "{stderr}");
    assert_eq!(
        stderr.lines().count(),
        1,
        "{stderr}\n{}",
        text(&output.stdout)
    );
    (output.status.code().expect("no signal"), stderr)
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn the_first_installs_the_second_changes_nothing_and_the_third_upgrades() {
    let pi = Pi::start();
    let one = pi.build(&Build::new("1.0-1"));
    let would = json(&pi.deploy(&["--json", "--dry-run", "--deb", &one]));
    assert_eq!(would["outcome"], "possible");
    assert_eq!(would["target"]["architecture"], "arm64");
    assert_eq!(would["target"]["installed"], Value::Null);
    assert_eq!(pi.installed(), None, "a dry run changes nothing");
    assert!(!pi.root("var/lib/sori-deploy").exists());

    let first = json(&pi.deploy(&["--json", "--deb", &one]));
    assert_eq!(
        (&first["outcome"], &first["copied"]),
        (&"ok".into(), &true.into())
    );
    assert_eq!(pi.installed().as_deref(), Some("1.0-1"));
    assert!(pi.is_active());

    let again = json(&pi.deploy(&["--json", "--deb", &one]));
    assert_eq!(
        (&again["outcome"], &again["copied"]),
        (&"unchanged".into(), &false.into())
    );
    let two = pi.build(&Build::new("1.1-1"));
    let output = pi.deploy(&["--deb", &two]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    for part in [
        "arm64",
        "glibc",
        "sori-pi 1.0-1",
        "golden vectors match there",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert_eq!(pi.installed().as_deref(), Some("1.1-1"));
}

/// One that does not start, one whose installation fails half-way, and one that starts and ends.
#[test]
fn what_does_not_become_healthy_is_rolled_back() {
    let pi = Pi::start();
    let sick = pi.build(&Build::new("2.0-1").that_is("sick"));
    // With nothing to go back to, nothing stays.
    let (code, why) = refusal(&pi.deploy(&["--deb", &sick]));
    assert_eq!(code, 1);
    assert!(why.contains("did not become healthy: it is sick"), "{why}");
    assert_eq!(pi.installed(), None);
    assert!(!pi.root("usr/bin/sori-pi").exists());

    let good = pi.build(&Build::new("1.0-1"));
    assert!(pi.deploy(&["--deb", &good]).status.success());
    for fault in ["sick", "dying", "uninstallable"] {
        let bad = pi.build(&Build::new("2.0-1").that_is(fault));
        let (code, why) = refusal(&pi.deploy(&["--deb", &bad]));
        assert_eq!(code, 1, "{fault}: {why}");
        assert!(
            why.contains("the previous version was restored"),
            "{fault}: {why}"
        );
        assert_eq!(pi.installed().as_deref(), Some("1.0-1"), "{fault}");
        assert!(pi.is_active(), "{fault}");
        let said = text(&pi.deploy(&["--dry-run", "--deb", &bad]).stdout);
        assert!(said.contains("the last deploy of this file:"), "{said}");
    }
    // The kept package may be gone: then the installed files are packed again.
    fs::remove_file(pi.root("var/lib/sori-deploy/current.deb")).unwrap();
    let config = pi.root("etc/sori-pi/sori-pi.toml");
    fs::write(&config, "# mine\n").unwrap();
    let bad = pi.build(&Build::new("2.0-1").that_is("sick"));
    let (_, why) = refusal(&pi.deploy(&["--deb", &bad]));
    assert!(why.contains("the previous version was restored"), "{why}");
    assert_eq!(pi.installed().as_deref(), Some("1.0-1"));
    assert_eq!(fs::read_to_string(&config).unwrap(), "# mine\n");
    // Nor does the next version take it for one that came with the package.
    let next = pi.build(&Build::new("2.1-1"));
    assert!(pi.deploy(&["--deb", &next]).status.success());
    assert_eq!(fs::read_to_string(&config).unwrap(), "# mine\n");
}

#[test]
fn what_cannot_work_there_is_refused_before_anything_changes() {
    let pi = Pi::start();
    let good = pi.build(&Build::new("1.0-1"));
    assert!(pi.deploy(&["--deb", &good]).status.success());
    let named_arm = pi.build(&Build::new("1.1-1").architecture("armhf"));
    let unnamed_arm = pi.at("mine.deb");
    fs::copy(&named_arm, &unnamed_arm).unwrap();
    let text_file = pi.at("text.deb");
    fs::write(&text_file, "text").unwrap();
    let glibc = pi.build(&Build::new("1.2-1").depends("libc6 (>= 9.99)"));
    let library = pi.build(&Build::new("1.3-1").depends("libnone"));
    let wrong = pi.build(&Build::new("1.4-1").that_is("unprovable"));
    for (deb, code, why) in [
        (&named_arm, 5, "is for armhf but the target is arm64"),
        (
            &unnamed_arm,
            5,
            "the package is for armhf but this system is arm64",
        ),
        (
            &text_file,
            2,
            "is not a Debian package: cargo xtask dist builds one",
        ),
        (&glibc, 5, "it needs glibc 9.99 but this system has 2.36"),
        (&library, 5, "its dependencies cannot be installed"),
        (
            &wrong,
            5,
            "the new program does not work here: error: other bits",
        ),
    ] {
        let (found, said) = refusal(&pi.deploy(&["--deb", deb]));
        assert!(said.contains(why), "{said}");
        assert_eq!(found, code, "{said}");
        assert_eq!(pi.installed().as_deref(), Some("1.0-1"), "{said}");
        assert!(pi.is_active(), "{said}");
    }

    let next = pi.build(&Build::new("1.5-1"));
    for (fault, code, why) in [
        ("full", 1, "not enough space on /: 0.1 MB are free"),
        ("sudo-asks", 2, "sudo asks"),
        ("no-dpkg", 5, "has no dpkg"),
        ("read-only", 5, "--model-only works there"),
    ] {
        pi.fault(fault, true);
        let (found, said) = refusal(&pi.deploy(&["--deb", &next]));
        pi.fault(fault, false);
        assert!(said.contains(why), "{said}");
        assert_eq!(found, code, "{said}");
        assert!(!pi.cached(&next), "{said}: it was copied for nothing");
    }
    assert_eq!(pi.installed().as_deref(), Some("1.0-1"));
    let empty = tempfile::tempdir().unwrap();
    let output = pi.command(&[]).current_dir(empty.path()).output().unwrap();
    let (code, why) = refusal(&output);
    assert!(code == 2 && why.contains("no sori-pi_…_arm64.deb"), "{why}");
}

#[test]
fn who_cannot_be_reached_and_who_does_not_let_one_in_are_told_apart() {
    let pi = Pi::start();
    let deb = pi.build(&Build::new("1.0-1"));
    for (change, code, why) in [
        (&["IdentityFile", "none"][..], 4, "ssh-copy-id pi"),
        (&["HostName", "nowhere.invalid"], 4, "the name is unknown"),
        (&["Port", "1"], 4, "systemctl enable --now ssh"),
        (&["HostKeyAlias", "other"], 4, "ssh-keygen -R pi"),
        (&["Nonsense", "yes"], 2, "correct ssh's configuration"),
    ] {
        let config = pi.ssh_config("changed", change[0], change[1]);
        let output = pi.command_with(&config, &["--deb", &deb]).output().unwrap();
        let (found, said) = refusal(&output);
        assert!(said.contains(why), "{said}");
        assert_eq!(found, code, "{said}");
    }
    let nothing = tempfile::tempdir().unwrap();
    let output = pi
        .command(&["--deb", &deb])
        .env("PATH", nothing.path())
        .output()
        .unwrap();
    let (code, why) = refusal(&output);
    assert!(code == 2 && why.contains("ssh is not installed"), "{why}");
}

#[test]
fn a_package_alone_is_taken_by_the_running_service_or_what_was_there_is_back() {
    let pi = Pi::start();
    let genre = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/genre/genre.sori");
    let (_, why) = refusal(&pi.deploy(&["--model-only", genre]));
    assert!(why.contains("sori-pi is not installed there"), "{why}");
    let deb = pi.build(&Build::new("1.0-1"));
    assert!(pi.deploy(&["--deb", &deb]).status.success());

    let first = json(&pi.deploy(&["--json", "--model-only", genre]));
    assert_eq!(first["outcome"], "ok");
    let place = pi.root("var/lib/sori-pi/genre.sori");
    assert_eq!(fs::read(&place).unwrap(), fs::read(genre).unwrap());
    let said = text(&pi.deploy(&["--model-only", genre]).stdout);
    assert!(said.contains("already listens with it"), "{said}");

    // Another package, to a service that refuses it when it sees it, and to one that says no before.
    let other = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/golden/mel-512.sori"
    );
    for (fault, code, why) in [
        ("refuses", 1, "the previous version was restored"),
        (
            "disproves",
            5,
            "nothing was changed: the package cannot be used",
        ),
    ] {
        pi.fault(fault, true);
        let (found, said) = refusal(&pi.deploy(&["--model-only", other]));
        pi.fault(fault, false);
        assert!(said.contains(why), "{said}");
        assert_eq!(found, code, "{said}");
        assert_eq!(
            fs::read(&place).unwrap(),
            fs::read(genre).unwrap(),
            "{fault}"
        );
    }
    let (code, why) = refusal(&pi.deploy(&["--model-only", &deb]));
    assert!(code == 5 && why.contains("not a Sori package"), "{why}");
}

#[test]
fn root_writes_no_package_where_only_the_service_says_so() {
    let pi = Pi::start();
    let genre = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/genre/genre.sori");
    let deb = pi.build(&Build::new("1.0-1"));
    assert!(pi.deploy(&["--deb", &deb]).status.success());
    pi.fault("elsewhere", true);
    let (code, why) = refusal(&pi.deploy(&["--model-only", genre]));
    assert!(code == 5 && why.contains("does not name"), "{why}");
    let config = pi.root("etc/sori-pi/sori-pi.toml");
    let place = pi.root("etc/passwd");
    fs::write(
        config,
        format!("[model]\npackage = \"{}\"\n", place.display()),
    )
    .unwrap();
    assert!(pi.deploy(&["--model-only", genre]).status.success());
    assert_eq!(fs::read(place).unwrap(), fs::read(genre).unwrap());
}

#[test]
fn what_the_unit_sets_for_the_service_holds_for_who_asks_it() {
    let pi = Pi::start();
    fs::write(
        pi.root("environment"),
        "OTHER=no \"SORI_PI_MQTT_PASSWORD=a\\\" \\$b\" SORI_PI_PAGE_LISTEN=0.0.0.0:80\n",
    )
    .unwrap();
    let deb = pi.build(&Build::new("1.0-1"));
    let output = pi.deploy(&["--deb", &deb]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let genre = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/genre/genre.sori");
    let output = pi.deploy(&["--model-only", genre]);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn a_service_without_a_microphone_is_healthy_and_its_user_is_told() {
    let pi = Pi::start();
    pi.fault("deaf", true);
    let deb = pi.build(&Build::new("1.0-1"));
    let deployed = json(&pi.deploy(&["--json", "--deb", &deb]));
    assert_eq!(deployed["outcome"], "ok");
    let note = deployed["note"].as_str().unwrap_or_default();
    assert!(note.contains("sori-pi mic doctor"), "{note}");
}

/// Where in a deploy the connection ends: in its making, the copy, the start, the waiting.
#[test]
fn a_connection_cut_anywhere_leaves_the_old_or_the_new_and_the_next_deploy_succeeds() {
    // More of them: `SORI_DEPLOY_CUTS=100 cargo test -p sori --test deploy`.
    let cuts = std::env::var("SORI_DEPLOY_CUTS").map_or(4, |cuts| cuts.parse().expect("a number"));
    let pi = Pi::start();
    let debs = ["1.0-1", "1.1-1"].map(|version| pi.build(&Build::new(version)));
    let proxy = Proxy::start(pi.port);
    let config = pi.ssh_config("proxied", "Port", &proxy.port.to_string());
    let through = |deb: &str| {
        let arguments = ["--patience", "2", "--deb", deb];
        pi.command_with(&config, &arguments).output().unwrap()
    };
    assert!(through(&debs[0]).status.success());
    let whole = proxy.passed();
    let small = whole - fs::metadata(&debs[0]).unwrap().len();
    let mut random = fastrand::Rng::with_seed(8);
    let (mut unfinished, mut finished) = (0, 0);
    for cut in 0..cuts {
        let (old, new) = (
            &["1.0-1", "1.1-1"][cut % 2],
            &["1.0-1", "1.1-1"][(cut + 1) % 2],
        );
        let deb = &debs[(cut + 1) % 2];
        // Most of the bytes are the copy: every second cut is behind it.
        let after = match cut % 2 {
            0 => random.u64(..whole),
            _ => whole - random.u64(..small / 2),
        };
        proxy.cut_after(after);
        let output = through(deb);
        proxy.cut_after(u64::MAX);
        pi.settle();
        let now = pi.installed();
        let context = format!("cut {cut} after {after} of {whole} bytes");
        assert!(
            now.as_deref() == Some(old) || now.as_deref() == Some(new),
            "{context}: {now:?}"
        );
        pi.assert_whole(&context);
        match output.status.success() {
            true => {
                finished += 1;
                assert_eq!(now.as_deref(), Some(*new), "{context}");
            }
            false => {
                unfinished += 1;
                let (_, why) = refusal(&output);
                assert!(why.contains("rerun the command"), "{why}");
            }
        }
        let again = pi.deploy(&["--deb", deb]);
        assert!(again.status.success(), "{context}: {}", text(&again.stderr));
        assert_eq!(pi.installed().as_deref(), Some(*new), "{context}");
        pi.assert_whole(&context);
    }
    println!("{unfinished} of {cuts} cuts ended a deploy, {finished} came too late");
    assert!(unfinished > 0, "no cut did anything");
}

#[test]
fn a_connection_that_comes_back_is_used() {
    let pi = Pi::start();
    let deb = pi.build(&Build::new("1.0-1").that_is("slow"));
    let proxy = Proxy::start(pi.port);
    let config = pi.ssh_config("proxied", "Port", &proxy.port.to_string());
    let arguments = ["--json", "--deb", &deb];
    let child = pi
        .command_with(&config, &arguments)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    pi.until("it installs", || {
        pi.phase().as_deref() == Some("installing")
    });
    proxy.cut_now();
    let output = child.wait_with_output().unwrap();
    assert_eq!(json(&output)["outcome"], "ok");
    assert_eq!(pi.installed().as_deref(), Some("1.0-1"));
}

/// As after a cut of power: the work ended in the middle, and nobody goes on with it.
#[test]
fn an_interrupted_work_is_completed_by_the_next_deploy() {
    let pi = Pi::start();
    let deb = pi.build(&Build::new("1.0-1"));
    assert!(pi.deploy(&["--deb", &deb]).status.success());
    let next = pi.build(&Build::new("1.1-1").that_is("deadly"));
    let (_, why) = refusal(&pi.deploy(&["--deb", &next]));
    assert!(why.contains("stopped while installing"), "{why}");
    let next = pi.build(&Build::new("1.1-1"));
    let output = pi.deploy(&["--deb", &next]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("interrupted there (installing)"));
    assert_eq!(pi.installed().as_deref(), Some("1.1-1"));
    pi.assert_whole("after an interruption");
}

#[test]
fn a_package_that_dpkg_cannot_complete_is_replaced_if_it_is_ours() {
    let pi = Pi::start();
    let deb = pi.build(&Build::new("1.0-1"));
    fs::write(pi.root("unfinished"), "ii  dash\niF  cups\niF  sori-pi\n").unwrap();
    let (code, why) = refusal(&pi.deploy(&["--deb", &deb]));
    assert!(
        code == 5 && why.contains("cannot complete an earlier installation"),
        "{why}"
    );
    fs::write(pi.root("unfinished"), "ii  dash\niF  sori-pi\n").unwrap();
    assert!(pi.deploy(&["--deb", &deb]).status.success());
}

/// Twice, while dpkg unpacks, and once with yet another version: none of them has proved itself.
#[test]
fn after_several_interruptions_the_way_back_is_what_was_there_before_them() {
    let pi = Pi::start();
    let good = pi.build(&Build::new("1.0-1"));
    assert!(pi.deploy(&["--deb", &good]).status.success());
    for version in ["2.0-1", "2.0-1", "2.1-1"] {
        let deadly = pi.build(&Build::new(version).that_is("deadly"));
        let (_, why) = refusal(&pi.deploy(&["--deb", &deadly]));
        assert!(why.contains("stopped while installing"), "{why}");
    }
    pi.fault("power", true);
    let (_, why) = refusal(&pi.deploy(&["--deb", &pi.build(&Build::new("2.2-1"))]));
    assert!(why.contains("stopped while starting"), "{why}");
    assert_eq!(pi.installed().as_deref(), Some("2.2-1"));
    let sick = pi.build(&Build::new("2.3-1").that_is("sick"));
    let (_, why) = refusal(&pi.deploy(&["--deb", &sick]));
    assert!(why.contains("the previous version was restored"), "{why}");
    assert_eq!(pi.installed().as_deref(), Some("1.0-1"));
    pi.assert_whole("after all of them");
}

/// The power goes when the new version is installed, and has not proved itself.
#[test]
fn after_an_interruption_the_way_back_is_what_was_there_before_it() {
    let pi = Pi::start();
    // Builds of one version, as a developer makes them.
    let kept = pi.at("kept.deb");
    fs::rename(pi.build(&Build::new("1.0-1")), &kept).unwrap();
    assert!(pi.deploy(&["--deb", &kept]).status.success());
    let program = fs::read(pi.root("usr/bin/sori-pi")).unwrap();
    let sick = pi.build(&Build::new("1.0-1").that_is("sick"));

    pi.fault("power", true);
    let (_, why) = refusal(&pi.deploy(&["--deb", &sick]));
    assert!(why.contains("stopped while starting"), "{why}");
    let (_, why) = refusal(&pi.deploy(&["--deb", &sick]));
    assert!(why.contains("the previous version was restored"), "{why}");
    assert_eq!(fs::read(pi.root("usr/bin/sori-pi")).unwrap(), program);
    assert!(pi.is_active());
    let again = json(&pi.deploy(&["--json", "--deb", &kept]));
    assert_eq!(again["outcome"], "unchanged");

    // What was there before is not there now, whatever its version.
    pi.fault("power", true);
    refusal(&pi.deploy(&["--deb", &sick]));
    let again = json(&pi.deploy(&["--json", "--deb", &kept]));
    assert_eq!(again["outcome"], "ok");
    assert_eq!(fs::read(pi.root("usr/bin/sori-pi")).unwrap(), program);
    let info = pi.root("var/lib/dpkg/info/sori-pi.md5sums");
    fs::write(info, "of another build\n").unwrap();
    let again = json(&pi.deploy(&["--json", "--deb", &kept]));
    assert_eq!(again["outcome"], "ok", "somebody installed another");
}
