use super::*;

const DEBIAN: &str = "../../firmware/pi/debian";
const PI: &str = "../../firmware/pi";

fn about() -> About {
    About::read().expect("Cargo reads the workspace")
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Source and destination of every file in the package.
fn assets() -> Vec<(String, String)> {
    let about = about();
    let assets = about.deb["assets"].as_array().expect("assets");
    let field = |asset: &Value, n: usize| asset[n].as_str().expect("a path").to_owned();
    assets.iter().map(|a| (field(a, 0), field(a, 1))).collect()
}

#[test]
fn every_file_of_the_package_exists_or_is_written_by_dist() {
    let mut there = 0;
    for (source, _) in assets() {
        if !source.starts_with("target/release/") {
            let path = Path::new(PI).join(&source);
            assert!(path.is_file(), "{source} is an asset and no file");
            there += 1;
        }
    }
    assert!(there >= 5, "{there}");
}

#[test]
fn every_file_below_etc_is_a_configuration_file() {
    let about = about();
    let listed = about.deb["conf-files"].as_array().expect("conf-files");
    let below_etc: Vec<String> = assets()
        .into_iter()
        .filter(|(_, destination)| destination.starts_with("etc/"))
        .map(|(source, folder)| {
            let name = Path::new(&source).file_name().expect("a name");
            format!("/{folder}{}", name.to_str().expect("Unicode"))
        })
        .collect();
    assert_eq!(below_etc, ["/etc/sori-pi/sori-pi.toml"]);
    assert_eq!(*listed, below_etc);
}

#[test]
fn the_scripts_that_run_as_root_are_shell_and_leave_room_for_systemds_part() {
    for name in ["preinst", "postinst", "postrm"] {
        let path = format!("{DEBIAN}/{name}");
        let script = text(&path);
        assert!(script.starts_with("#!/bin/sh\nset -e\n"), "{name}");
        assert_eq!(script.matches("\n#DEBHELPER#\n").count(), 1, "{name}");
        let mut shell = Command::new("sh");
        tools::captured(shell.arg("-n").arg(&path)).expect(name);
    }
}

#[test]
fn an_armv6_is_refused_in_words_and_nothing_else_is() {
    let folder = std::env::temp_dir().join(format!("sori-preinst-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let installs_on = |machine: &str| {
        let uname = folder.join("uname");
        fs::write(&uname, format!("#!/bin/sh\necho {machine}\n")).unwrap();
        let mut executable = Command::new("chmod");
        tools::captured(executable.arg("755").arg(&uname)).unwrap();
        let path = std::env::var("PATH").unwrap();
        let mut preinst = Command::new("sh");
        preinst
            .args([&format!("{DEBIAN}/preinst"), "install"])
            .env("PATH", format!("{}:{path}", folder.display()));
        preinst.output().unwrap()
    };
    for machine in ["armv7l", "armv8l", "aarch64"] {
        assert!(installs_on(machine).status.success(), "{machine}");
    }
    let refused = installs_on("armv6l");
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        said.contains("ARMv6") && said.contains("Zero 2 W"),
        "{said}"
    );
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn changelog_and_cargo_agree_on_the_version() {
    let changelog = text(&format!("{DEBIAN}/changelog"));
    let latest = format!("sori-pi ({}) ", about().version());
    assert!(
        changelog.starts_with(&latest),
        "firmware/pi/debian/changelog does not begin with {latest}"
    );
}

#[test]
fn unit_and_user_fit_the_package() {
    let unit = text(&format!("{PI}/systemd/sori-pi.service"));
    for line in [
        "ExecStart=/usr/bin/sori-pi run --config /etc/sori-pi/sori-pi.toml",
        "User=sori",
        "Group=sori",
        "StateDirectory=sori-pi",
    ] {
        assert!(unit.lines().any(|l| l == line), "the unit lacks {line}");
    }
    let users = text(&format!("{PI}/systemd/sori-pi.sysusers"));
    let groups = unit
        .lines()
        .find_map(|l| l.strip_prefix("SupplementaryGroups="));
    for group in groups.expect("groups").split(' ') {
        assert!(
            users.contains(&format!("g {group} -")),
            "nobody makes {group}"
        );
    }
    assert!(users.contains("u sori "));
}
