//! `sori flash` on images laid out as Raspberry Pi OS lays its own out: what it writes, what it
//! leaves alone, and what it refuses. `cargo xtask flash` repeats it with other tools than the
//! crates that are used here, and on devices.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Cursor, Read as _, Write as _};
use std::process::{Command, Output};

use fatfs::{FileSystem, FormatVolumeOptions, FsOptions};
use serde_json::{Value, json};
use sori_nn::testing::{Noise, Table};
use sori_sign::SecretKey;

const SECTOR: usize = 512;
/// As Raspberry Pi OS has it; the partitions are shorter, the first just long enough for FAT32.
const BOOT_START: usize = 16_384 * SECTOR;
const BOOT_LEN: usize = 72_000 * SECTOR;
const ROOT_LEN: usize = 4_096 * SECTOR;

const CONFIG: &str = "# For more options and information see http://rptl.io/configtxt\n\
    dtparam=audio=on\n\n[cm5]\ndtoverlay=dwc2,dr_mode=host\n\n[all]\n";
const OVERLAY: &str = "dtoverlay=googlevoicehat-soundcard\n";

/// What is on the boot partition, by path.
type Files = BTreeMap<String, Vec<u8>>;

fn files(list: &[(&str, &str)]) -> Files {
    let mut files: Files = list
        .iter()
        .map(|&(path, text)| (path.into(), text.into()))
        .collect();
    // Something as large as a kernel, and in a folder.
    files.insert("kernel8.img".into(), noise(1, 3_000_000));
    files.insert(
        "overlays/googlevoicehat-soundcard.dtbo".into(),
        noise(2, 2_000),
    );
    files.insert("config.txt".into(), CONFIG.into());
    files
}

/// Bookworm: a script, had from the command line.
fn bookworm() -> Files {
    files(&[
        (
            "issue.txt",
            "Raspberry Pi reference 2025-05-13\nGenerated using pi-gen, stage2\n",
        ),
        (
            "cmdline.txt",
            "console=serial0,115200 console=tty1 root=PARTUUID=8a1b2c3d-02 rootfstype=ext4 fsck.repair=yes rootwait quiet init=/usr/lib/raspberrypi-sys-mods/firstboot\n",
        ),
    ])
}

/// Trixie: cloud-init.
fn trixie() -> Files {
    files(&[
        (
            "issue.txt",
            "Raspberry Pi reference 2025-10-01\nGenerated using pi-gen, stage2\n",
        ),
        (
            "cmdline.txt",
            "console=serial0,115200 console=tty1 root=PARTUUID=8a1b2c3d-02 rootfstype=ext4 fsck.repair=yes rootwait resize\n",
        ),
        ("meta-data", "dsmode: local\ninstance_id: rpios-image\n"),
        (
            "user-data",
            "#cloud-config\n\n# All of it explained\n#hostname: raspberrypi\nssh_pwauth: false\n\n## Run commands\n#runcmd:\n#- [ ls, -l, / ]\n",
        ),
        ("network-config", "# network:\n#   version: 2\n"),
    ])
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; len];
    rng.fill(&mut bytes);
    bytes
}

/// A partition table, the boot partition with `files`, and a second one.
fn image(files: &Files) -> Vec<u8> {
    image_labelled(*b"bootfs     ", files)
}

fn image_labelled(label: [u8; 11], files: &Files) -> Vec<u8> {
    let mut image = vec![0; BOOT_START];
    // A boot loader's code, which nothing may touch.
    image[..440].copy_from_slice(&noise(3, 440));
    for (at, kind, start, len) in [
        (446, 0x0c, BOOT_START, BOOT_LEN),
        (462, 0x83, BOOT_START + BOOT_LEN, ROOT_LEN),
    ] {
        image[at + 4] = kind;
        image[at + 8..at + 12].copy_from_slice(&((start / SECTOR) as u32).to_le_bytes());
        image[at + 12..at + 16].copy_from_slice(&((len / SECTOR) as u32).to_le_bytes());
    }
    image[510..512].copy_from_slice(&[0x55, 0xaa]);
    let mut boot = Cursor::new(vec![0; BOOT_LEN]);
    let options = FormatVolumeOptions::new()
        .bytes_per_cluster(512)
        .volume_label(label);
    fatfs::format_volume(&mut boot, options).unwrap();
    boot.set_position(0);
    let fs = FileSystem::new(&mut boot, FsOptions::new()).unwrap();
    fs.root_dir().create_dir("overlays").unwrap();
    for (path, bytes) in files {
        fs.root_dir()
            .create_file(path)
            .unwrap()
            .write_all(bytes)
            .unwrap();
    }
    fs.unmount().unwrap();
    image.extend(boot.into_inner());
    image.extend(noise(4, ROOT_LEN));
    image
}

/// Every file of an image's boot partition, and that is all.
fn boot_files(image: &[u8]) -> Files {
    type Dir<'a, 'b> = fatfs::Dir<'a, &'b mut Cursor<Vec<u8>>>;
    fn collect(folder: &Dir<'_, '_>, prefix: &str, files: &mut Files) {
        for entry in folder.iter().map(Result::unwrap) {
            let path = format!("{prefix}{}", entry.file_name());
            if entry.is_file() {
                let mut bytes = Vec::new();
                entry.to_file().read_to_end(&mut bytes).unwrap();
                files.insert(path, bytes);
            } else if !entry.file_name().starts_with('.') {
                collect(&entry.to_dir(), &format!("{path}/"), files);
            }
        }
    }
    let mut boot = Cursor::new(image[BOOT_START..][..BOOT_LEN].to_vec());
    let fs = FileSystem::new(&mut boot, FsOptions::new()).unwrap();
    assert!(!fs.read_status_flags().unwrap().dirty());
    let mut files = Files::new();
    collect(&fs.root_dir(), "", &mut files);
    files
}

/// A folder with an image, a Debian package and a key.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new(files: &Files) -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        fs::write(bench.at("raspios.img"), image(files)).unwrap();
        fs::write(
            bench.at("sori-pi_0.1.0-1_arm64.deb"),
            [&b"!<arch>\n"[..], &noise(5, 200_000)].concat(),
        )
        .unwrap();
        fs::write(bench.at("sori-pi_0.1.0-1_armhf.deb"), b"!<arch>\n").unwrap();
        fs::write(bench.at("id.pub"), "ssh-ed25519 AAAAC3Nza ada@laptop\n").unwrap();
        fs::write(bench.at("password"), "password\n").unwrap();
        bench
    }

    fn at(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// Runs in the folder; `arguments` are words.
    fn flash(&self, arguments: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_sori"))
            .arg("flash")
            .args(arguments.split(' '))
            .current_dir(self.0.path())
            .env_remove("SORI_WIFI_PASSWORD")
            .output()
            .unwrap()
    }

    /// What a run that has to work printed.
    #[track_caller]
    fn works(&self, arguments: &str) -> String {
        let output = self.flash(arguments);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(output.stderr.is_empty(), "progress without a terminal");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The exit code and the one line of a run that has to fail, and to leave no file.
    #[track_caller]
    fn refuses(&self, arguments: &str) -> (i32, String) {
        let before = fs::read(self.at("raspios.img")).unwrap();
        let count = || fs::read_dir(self.0.path()).unwrap().count();
        let files = count();
        let output = self.flash(arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!error.contains("panicked"), "{error}");
        assert_eq!(count(), files, "{error}");
        assert!(
            fs::read(self.at("raspios.img")).unwrap() == before,
            "{error}"
        );
        (output.status.code().unwrap(), error)
    }

    fn image(&self, name: &str) -> Vec<u8> {
        fs::read(self.at(name)).unwrap()
    }
}

const DEB: &str = "--deb sori-pi_0.1.0-1_arm64.deb";

const GENRE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/genre/genre.sori");
const SETTINGS: &str = include_str!("../../../firmware/pi/sori-pi.toml");

/// All that lies outside the boot partition, and all files but those that `changed` names.
#[track_caller]
fn only_changed(before: &[u8], after: &[u8], changed: &[&str]) {
    assert_eq!(before.len(), after.len());
    assert!(before[..BOOT_START] == after[..BOOT_START]);
    assert!(before[BOOT_START + BOOT_LEN..] == after[BOOT_START + BOOT_LEN..]);
    let (before, mut after) = (boot_files(before), boot_files(after));
    after.retain(|path, _| !path.starts_with("sori-"));
    let names: Vec<_> = after
        .iter()
        .filter(|(path, bytes)| before.get(*path) != Some(bytes))
        .map(|(path, _)| path.as_str())
        .collect();
    assert_eq!(names, changed);
    assert!(before.keys().all(|path| after.contains_key(path)));
}

fn text(files: &Files, path: &str) -> String {
    String::from_utf8(files[path].clone()).unwrap()
}

fn yaml(files: &Files, path: &str) -> Value {
    let text = text(files, path);
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The key of the network `IEEE` with the passphrase `password` (IEEE 802.11, J.4.2).
const PSK: &str = "f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e";

#[test]
fn cloud_init_is_told_everything_and_all_else_stays() {
    let bench = Bench::new(&trixie());
    let says = bench.works(&format!(
        "raspios.img --out sori.img {DEB} --hostname attic --user ada --ssh-key id.pub --wifi IEEE --country de --wifi-password-file password"
    ));
    for part in [
        "Raspberry Pi OS of 2025-10-01, 64-bit, set up by cloud-init",
        "googlevoicehat-soundcard added",
        "sori-pi_0.1.0-1_arm64.deb, 200.0 kB",
        "hostname: attic",
        "user: ada, by SSH with the key",
        "Wi-Fi: IEEE, DE",
    ] {
        assert!(says.contains(part), "{part}: {says}");
    }
    let (before, after) = (bench.image("raspios.img"), bench.image("sori.img"));
    only_changed(
        &before,
        &after,
        &["cmdline.txt", "config.txt", "network-config", "user-data"],
    );
    let files = boot_files(&after);
    assert_eq!(text(&files, "config.txt"), format!("{CONFIG}{OVERLAY}"));
    assert_eq!(
        files["sori-pi_0.1.0-1_arm64.deb"],
        bench.image("sori-pi_0.1.0-1_arm64.deb")
    );
    assert!(text(&files, "sori-install.sh").starts_with("#!/bin/sh\n"));
    assert!(
        text(&files, "sori-install.service")
            .contains("ExecStart=/bin/sh /boot/firmware/sori-install.sh")
    );

    let cmdline = text(&files, "cmdline.txt");
    let theirs = text(&trixie(), "cmdline.txt");
    let ours = cmdline
        .strip_prefix(theirs.trim_end())
        .unwrap()
        .strip_suffix('\n')
        .unwrap();
    let (instance, country) = ours.trim().split_once(' ').unwrap();
    assert!(instance.starts_with("ds=nocloud;i=sori-"), "{cmdline}");
    assert_eq!(country, "cfg80211.ieee80211_regdom=DE");

    assert!(text(&files, "user-data").starts_with(&text(&trixie(), "user-data")));
    let user_data = yaml(&files, "user-data");
    assert_eq!(user_data["hostname"], "attic");
    assert_eq!(user_data["ssh_pwauth"], false);
    let user = &user_data["users"][0];
    assert_eq!(user["name"], "ada");
    assert_eq!(user["lock_passwd"], true);
    assert_eq!(
        user["ssh_authorized_keys"],
        json!(["ssh-ed25519 AAAAC3Nza ada@laptop"])
    );
    assert_eq!(
        user_data["runcmd"],
        json!([
            ["systemctl", "enable", "--now", "ssh"],
            [
                "install",
                "-m",
                "644",
                "/boot/firmware/sori-install.service",
                "/etc/systemd/system/"
            ],
            ["systemctl", "enable", "--now", "--no-block", "sori-install"],
        ])
    );
    let network = yaml(&files, "network-config");
    let wlan0 = &network["network"]["wifis"]["wlan0"];
    assert_eq!(
        wlan0["access-points"],
        json!({ "IEEE": { "password": PSK } })
    );
    assert!(
        !after.windows(10).any(|bytes| bytes == b"\"password\""),
        "the passphrase itself"
    );
}

#[test]
fn the_first_run_script_is_told_everything_and_all_else_stays() {
    let bench = Bench::new(&bookworm());
    let says = bench.works(&format!(
        "raspios.img --out sori.img {DEB} --ssh-key id.pub --wifi IEEE --country DE --wifi-password-file password"
    ));
    assert!(
        says.contains("Raspberry Pi OS of 2025-05-13, 64-bit, set up by firstrun.sh"),
        "{says}"
    );
    assert!(
        says.contains("hostname: sori") && says.contains("user: pi,"),
        "{says}"
    );
    let (before, after) = (bench.image("raspios.img"), bench.image("sori.img"));
    only_changed(
        &before,
        &after,
        &["cmdline.txt", "config.txt", "firstrun.sh"],
    );
    let files = boot_files(&after);
    assert_eq!(text(&files, "config.txt"), format!("{CONFIG}{OVERLAY}"));
    let cmdline = text(&bookworm(), "cmdline.txt");
    assert_eq!(
        text(&files, "cmdline.txt"),
        format!(
            "{} systemd.run=/boot/firmware/firstrun.sh systemd.run_success_action=reboot systemd.unit=kernel-command-line.target cfg80211.ieee80211_regdom=DE\n",
            cmdline.trim_end()
        )
    );
    let script = text(&files, "firstrun.sh");
    for line in [
        "imager_custom set_hostname sori",
        "imager_custom enable_ssh -k 'ssh-ed25519 AAAAC3Nza ada@laptop'",
        "/usr/lib/userconf-pi/userconf pi '!'",
        &format!("imager_custom set_wlan 'IEEE' '{PSK}' DE"),
        "install -m 644 /boot/firmware/sori-install.service /etc/systemd/system/",
        "systemctl enable sori-install",
        "rm -f /boot/firmware/firstrun.sh",
        "exit 0",
    ] {
        assert!(script.lines().any(|l| l == line), "{line}\n{script}");
    }
}

/// What Raspberry Pi Imager wrote there is the user's.
#[test]
fn settings_that_are_there_stay_unless_others_are_given() {
    let user_data = "#cloud-config\nhostname: cellar\nmanage_etc_hosts: true\nusers:\n- name: bob\n  ssh_authorized_keys:\n    - ssh-ed25519 BBBB bob\nruncmd:\n  - [ rfkill, unblock, wifi ]\n";
    let network = "network:\n  version: 2\n  wifis: {}\n";
    let mut files = trixie();
    files.insert("user-data".into(), user_data.into());
    files.insert("network-config".into(), network.into());
    files.insert(
        "cmdline.txt".into(),
        "rootwait ds=nocloud;i=rpi-imager-1764 cfg80211.ieee80211_regdom=GB\n".into(),
    );
    let bench = Bench::new(&files);
    let says = bench.works(&format!("raspios.img --out sori.img {DEB}"));
    assert!(
        says.contains("hostname: as in the image\nuser: as in the image"),
        "{says}"
    );
    let after = boot_files(&bench.image("sori.img"));
    let ours = "  - [install, -m, \"644\", /boot/firmware/sori-install.service, /etc/systemd/system/]\n  - [systemctl, enable, --now, --no-block, sori-install]\n";
    assert_eq!(text(&after, "user-data"), format!("{user_data}{ours}"));
    assert_eq!(text(&after, "network-config"), network);
    let cmdline = text(&after, "cmdline.txt");
    assert!(
        cmdline.starts_with("rootwait cfg80211.ieee80211_regdom=GB ds=nocloud;i=sori-"),
        "{cmdline}"
    );

    bench.works(&format!(
        "raspios.img --out named.img {DEB} --hostname attic --user ada"
    ));
    let user_data = yaml(&boot_files(&bench.image("named.img")), "user-data");
    assert_eq!(user_data["hostname"], "attic");
    assert_eq!(user_data["users"][0]["name"], "ada");
    assert_eq!(user_data["users"].as_array().unwrap().len(), 1);

    // Bookworm mends such a script and its words if it finds them as they were.
    let script = "#!/bin/sh\nset +e\nraspi-config nonint do_hostname cellar\n/usr/lib/userconf-pi/userconf 'bob' 'x'\nrm -f /boot/firstrun.sh\nsed -i 's| systemd.run.*||g' /boot/cmdline.txt\nexit 0\n";
    let words = "rootwait systemd.run=/boot/firstrun.sh systemd.run_success_action=reboot systemd.unit=kernel-command-line.target\n";
    let mut files = bookworm();
    files.insert("firstrun.sh".into(), script.into());
    files.insert("cmdline.txt".into(), words.into());
    let bench = Bench::new(&files);
    bench.works(&format!("raspios.img --out sori.img {DEB}"));
    let after = boot_files(&bench.image("sori.img"));
    assert_eq!(text(&after, "cmdline.txt"), words);
    let (head, tail) = script.split_at(script.find("rm -f").unwrap());
    let mended = text(&after, "firstrun.sh");
    assert!(
        mended.starts_with(head) && mended.ends_with(tail),
        "{mended}"
    );
    assert!(
        mended.contains("\nsystemctl enable sori-install\n"),
        "{mended}"
    );
    assert_eq!(mended.matches("/userconf ").count(), 1, "{mended}");
}

#[test]
fn preparing_twice_is_preparing_once() {
    for files in [trixie(), bookworm()] {
        let bench = Bench::new(&files);
        bench.works(&format!(
            "raspios.img --out once.img {DEB} --ssh-key id.pub"
        ));
        bench.works(&format!("once.img --out twice.img {DEB} --ssh-key id.pub"));
        let (once, twice) = (
            boot_files(&bench.image("once.img")),
            boot_files(&bench.image("twice.img")),
        );
        for (path, bytes) in &twice {
            assert_eq!(once.get(path), Some(bytes), "{path}");
        }
        assert_eq!(once.len(), twice.len());
        // What is there already is not touched, and the same inputs are the same bits.
        assert!(bench.image("once.img") == bench.image("twice.img"));
        bench.works(&format!(
            "raspios.img --out again.img {DEB} --ssh-key id.pub"
        ));
        assert!(bench.image("once.img") == bench.image("again.img"));
    }
}

#[test]
fn a_package_of_one_s_own_and_settings_are_carried() {
    let bench = Bench::new(&trixie());
    let named = SETTINGS.replace("#package = ", "package = ");
    // As shipped, where the service finds the package by itself; and with its path.
    for settings in [SETTINGS, &named] {
        fs::write(bench.at("sori-pi.toml"), settings).unwrap();
        bench.works(&format!(
            "raspios.img --out sori.img {DEB} --package {GENRE} --config sori-pi.toml"
        ));
        let files = boot_files(&bench.image("sori.img"));
        assert!(files["genre.sori"] == fs::read(GENRE).unwrap());
        assert_eq!(text(&files, "sori-pi.toml"), settings);
    }
}

/// Into a file, from there to a card as a file says that it is done, and once more with others.
#[test]
fn what_is_carried_stays_unless_another_is_given() {
    for files in [trixie(), bookworm()] {
        let bench = Bench::new(&files);
        fs::write(bench.at("sori-pi.toml"), SETTINGS).unwrap();
        bench.works(&format!(
            "raspios.img --out sori.img {DEB} --package {GENRE} --config sori-pi.toml --user ada --ssh-key id.pub"
        ));
        let once = boot_files(&bench.image("sori.img"));
        // There is no target/dist to take one from.
        let says = bench.works("sori.img --out card.img");
        for part in [
            "sori-pi_0.1.0-1_arm64.deb, 200.0 kB, already there",
            "genre.sori, 1.1 MB, already there",
            "sori-pi.toml, 2.8 kB, already there",
            "user: as in the image",
        ] {
            assert!(says.contains(part), "{part}: {says}");
        }
        let mut card = boot_files(&bench.image("card.img"));
        // cloud-init's name for what it was told: another one is as good.
        card.insert("cmdline.txt".into(), once["cmdline.txt"].clone());
        assert!(card == once);

        fs::write(bench.at("sori-pi_0.2.0-1_arm64.deb"), "!<arch>\n").unwrap();
        let other = format!("{SETTINGS}# mine\n");
        fs::write(bench.at("other.toml"), &other).unwrap();
        let says = bench
            .works("sori.img --out card.img --deb sori-pi_0.2.0-1_arm64.deb --config other.toml");
        assert!(says.contains("0.2.0-1_arm64.deb, 8 bytes\n"), "{says}");
        let card = boot_files(&bench.image("card.img"));
        assert!(!card.contains_key("sori-pi_0.1.0-1_arm64.deb"));
        assert_eq!(text(&card, "sori-pi_0.2.0-1_arm64.deb"), "!<arch>\n");
        assert_eq!(text(&card, "sori-pi.toml"), other);
        assert!(card["genre.sori"] == once["genre.sori"]);
    }
}

/// What would be refused there, where nobody looks.
#[test]
fn a_package_that_the_pi_would_not_listen_with_is_refused() {
    let bench = Bench::new(&trixie());
    let with = |package: &str, config: &str| {
        format!("raspios.img --out sori.img {DEB} --package {package} --config {config}")
    };
    let key = SecretKey::generate().unwrap();
    let signed = SETTINGS.replace("#key = \"ed25519:", "key = \"ed25519:");
    let signed = signed.replace(
        "ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
        &key.public().to_string(),
    );
    for (name, text) in [
        ("sori-pi.toml", SETTINGS),
        ("key.toml", &signed),
        ("nokey.toml", "[model]\nkey = \"ed25519:AA==\"\n"),
        ("away.toml", "[model]\npackage = \"/home/pi/my.sori\"\n"),
    ] {
        fs::write(bench.at(name), text).unwrap();
    }
    let genre = fs::read(GENRE).unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(bench.at(name), bytes).unwrap();
    write("mine.sori", &sori_sign::sign(&genre, &key).unwrap());
    let other = SecretKey::generate().unwrap();
    write("other.sori", &sori_sign::sign(&genre, &other).unwrap());
    let mut noise = Noise::new(1);
    write("deaf.sori", &Table::random(&mut noise).bytes(&mut noise));

    for (package, config, code, says) in [
        (GENRE, "away.toml", 2, "\"/home/pi/my.sori\" instead of"),
        (
            GENRE,
            "key.toml",
            5,
            "by the key in key.toml: it is not signed",
        ),
        ("other.sori", "key.toml", 5, "it is signed by"),
        (
            GENRE,
            "nokey.toml",
            1,
            "in [model]: this is not a public key",
        ),
        ("deaf.sori", "sori-pi.toml", 5, "no mel contract"),
        ("id.pub", "sori-pi.toml", 5, "cannot use id.pub"),
        (GENRE, "id.pub", 1, "id.pub is not TOML"),
    ] {
        let (was, error) = bench.refuses(&with(package, config));
        assert!(was == code && error.contains(says), "{says}: {error}");
    }
    bench.works(&with("mine.sori", "key.toml"));
    // What stays has to fit what is given.
    let carrying = "sori.img --out new.img --package";
    let (code, error) = bench.refuses(&format!("{carrying} {GENRE}"));
    assert!(
        code == 5 && error.contains("the key in sori-pi.toml on the boot partition"),
        "{error}"
    );
    // The model that is built in needs neither.
    bench.works(&format!(
        "raspios.img --out sori.img {DEB} --config key.toml"
    ));
    bench.works(&format!(
        "raspios.img --out sori.img {DEB} --config away.toml"
    ));
}

/// A user whom Raspberry Pi Imager has set up, with a password.
#[test]
fn a_key_alone_is_for_the_user_whom_the_image_has() {
    let key = "ssh-ed25519 AAAAC3Nza ada@laptop";
    let mut files = trixie();
    let user_data = "#cloud-config\nhostname: attic\nenable_ssh: true\nusers:\n- name: bob\n  groups: users,adm\n  lock_passwd: false\n  passwd: $5$abc$def\n\nssh_pwauth: true\n";
    files.insert("user-data".into(), user_data.into());
    let bench = Bench::new(&files);
    let mut once = Files::new();
    for (from, to, user) in [
        ("raspios.img", "sori.img", ""),
        ("sori.img", "again.img", ""),
        ("sori.img", "named.img", " --user bob"),
    ] {
        let says = bench.works(&format!("{from} --out {to} {DEB} --ssh-key id.pub{user}"));
        assert!(
            says.contains("user: bob, as in the image, and by SSH"),
            "{says}"
        );
        let after = boot_files(&bench.image(to));
        let told = yaml(&after, "user-data");
        assert_eq!(
            told["users"],
            json!([{
                "name": "bob", "groups": "users,adm", "lock_passwd": false,
                "passwd": "$5$abc$def", "ssh_authorized_keys": [key],
            }])
        );
        assert_eq!(told["ssh_pwauth"], true);
        assert_eq!(
            told["runcmd"][0],
            json!(["systemctl", "enable", "--now", "ssh"])
        );
        if once.is_empty() {
            once = after;
        } else {
            assert!(once == after);
        }
    }

    let imager = "#!/bin/sh\n\nset +e\n\nif [ -f /usr/lib/raspberrypi-sys-mods/imager_custom ]; then\n   /usr/lib/raspberrypi-sys-mods/imager_custom enable_ssh\nelse\n   systemctl enable ssh\nfi\nif [ -f /usr/lib/userconf-pi/userconf ]; then\n   /usr/lib/userconf-pi/userconf 'bob' '$5$abc$def'\nfi\nrm -f /boot/firstrun.sh\nsed -i 's| systemd.run.*||g' /boot/cmdline.txt\nexit 0\n";
    let mut files = bookworm();
    files.insert("firstrun.sh".into(), imager.into());
    files.insert(
        "cmdline.txt".into(),
        "rootwait systemd.run=/boot/firstrun.sh systemd.run_success_action=reboot systemd.unit=kernel-command-line.target\n".into(),
    );
    let bench = Bench::new(&files);
    for (from, to) in [("raspios.img", "sori.img"), ("sori.img", "again.img")] {
        let says = bench.works(&format!("{from} --out {to} {DEB} --ssh-key id.pub"));
        assert!(
            says.contains("user: bob, as in the image, and by SSH"),
            "{says}"
        );
        let script = text(&boot_files(&bench.image(to)), "firstrun.sh");
        // After Imager's, when the first user is theirs; and passwords still let them in.
        let ours = script.split_once("userconf 'bob' '$5$abc$def'").unwrap().1;
        assert_eq!(
            ours.matches(&format!("imager_custom enable_ssh '{key}'\n"))
                .count(),
            1
        );
        assert!(
            !ours.contains("userconf") && !script.contains(" -k"),
            "{script}"
        );
    }
}

#[test]
fn a_key_for_nobody_knows_whom_is_refused() {
    let mut two = trixie();
    two.insert(
        "user-data".into(),
        "#cloud-config\nusers:\n- name: bob\n- name: eve\n".into(),
    );
    let mut script = bookworm();
    script.insert(
        "firstrun.sh".into(),
        "#!/bin/sh\nuseradd bob\nexit 0\n".into(),
    );
    script.insert(
        "cmdline.txt".into(),
        "rootwait systemd.run=/boot/firmware/firstrun.sh\n".into(),
    );
    for files in [two, script] {
        let bench = Bench::new(&files);
        let command = format!("raspios.img --out sori.img {DEB} --ssh-key id.pub");
        let (code, error) = bench.refuses(&command);
        assert!(code == 2 && error.contains("--user NAME"), "{error}");
        let says = bench.works(&format!("{command} --user eve"));
        assert!(
            says.contains("user: eve, by SSH with the key; replaces the image's users"),
            "{says}"
        );
    }
}

/// Raspberry Pi Imager was told a network and no user.
#[test]
fn a_script_that_sets_up_no_user_gets_one() {
    let mut files = bookworm();
    files.insert(
        "firstrun.sh".into(),
        "#!/bin/sh\nimager_custom set_hostname attic\nexit 0\n".into(),
    );
    files.insert(
        "cmdline.txt".into(),
        "rootwait systemd.run=/boot/firmware/firstrun.sh\n".into(),
    );
    let bench = Bench::new(&files);
    let command = format!("raspios.img --out sori.img {DEB} --ssh-key id.pub");
    let says = bench.works(&command);
    assert!(says.contains("user: pi, by SSH with the key\n"), "{says}");
    assert!(says.contains("hostname: as in the image"), "{says}");
}

/// cloud-init does nothing a second time for the same instance.
#[test]
fn a_card_that_has_installed_sori_installs_it_again() {
    let mut cmdlines = Vec::new();
    for log in [None, None, Some("installed")] {
        let mut files = trixie();
        if let Some(log) = log {
            files.insert("sori-install.log".into(), log.into());
        }
        let bench = Bench::new(&files);
        bench.works(&format!("raspios.img --out sori.img {DEB}"));
        cmdlines.push(text(&boot_files(&bench.image("sori.img")), "cmdline.txt"));
    }
    assert_eq!(cmdlines[0], cmdlines[1]);
    assert_ne!(cmdlines[0], cmdlines[2]);
}

/// The writing itself needs a device: `cargo xtask flash --devices`.
#[test]
fn the_appliance_is_recognized_and_not_prepared() {
    let bench = Bench::new(&Files::new());
    let appliance = image_labelled(*b"SORI-BOOT  ", &files(&[("sori-pi.toml", SETTINGS)]));
    fs::write(bench.at("raspios.img"), appliance).unwrap();
    for (arguments, says) in [
        ("", "needs no preparation: sori flash IMAGE --to DEVICE"),
        (
            " --ssh-key id.pub --config id.pub",
            "omit --config, --ssh-key;",
        ),
        (" --wifi IEEE --country DE", "omit --wifi;"),
    ] {
        let (code, error) = bench.refuses(&format!("raspios.img --out sori.img{arguments}"));
        assert!(code == 2 && error.contains(says), "{error}");
    }
}

#[test]
fn a_32_bit_system_gets_the_32_bit_package() {
    let mut files = trixie();
    files.insert("kernel7.img".into(), noise(6, 1_000));
    let bench = Bench::new(&files);
    let (code, error) = bench.refuses(&format!("raspios.img --out sori.img {DEB}"));
    assert!(
        code == 2 && error.contains("needs sori-pi_*_armhf.deb"),
        "{error}"
    );
    let (code, error) = bench.refuses("raspios.img --out sori.img");
    assert!(code == 2 && error.contains("cargo xtask dist"), "{error}");
    fs::create_dir_all(bench.at("target/dist")).unwrap();
    fs::rename(
        bench.at("sori-pi_0.1.0-1_armhf.deb"),
        bench.at("target/dist/sori-pi_0.1.0-1_armhf.deb"),
    )
    .unwrap();
    let says = bench.works("raspios.img --out sori.img");
    assert!(says.contains("32-bit"), "{says}");
    assert!(boot_files(&bench.image("sori.img")).contains_key("sori-pi_0.1.0-1_armhf.deb"));
}

#[test]
fn a_boot_partition_without_space_is_told_before_anything_is_written() {
    let bench = Bench::new(&trixie());
    let large = fs::File::create(bench.at("sori-pi_9_arm64.deb")).unwrap();
    (&large).write_all(b"!<arch>\n").unwrap();
    large.set_len(BOOT_LEN as u64).unwrap();
    let (code, error) = bench.refuses("raspios.img --out sori.img --deb sori-pi_9_arm64.deb");
    assert_eq!(code, 1);
    assert!(
        error.contains("MB free but 36.9 MB are needed: nothing was written"),
        "{error}"
    );
}

#[test]
fn what_cannot_be_prepared_is_refused_with_what_to_do() {
    let bench = Bench::new(&trixie());
    for (arguments, code, says) in [
        ("--yes", 2, "name an image of Raspberry Pi OS or a card"),
        ("raspios.img", 2, "--out FILE.img or --to DEVICE"),
        (
            "raspios.img --out raspios.img",
            2,
            "--out is the image itself",
        ),
        (
            "none.img --out sori.img",
            1,
            "cannot read none.img: check the path",
        ),
        ("id.pub --out sori.img", 1, "shorter than a partition table"),
        (
            "raspios.img --out sori.img --deb id.pub",
            1,
            "not a sori-pi_*.deb",
        ),
        (
            "raspios.img --out sori.img --hostname a.b",
            2,
            "invalid value 'a.b'",
        ),
        (
            "raspios.img --out sori.img --user sori",
            2,
            "reserved for the system",
        ),
        ("raspios.img --out sori.img --wifi IEEE", 2, "--country"),
        (
            "raspios.img --out sori.img --wifi IEEE --country DE",
            2,
            "SORI_WIFI_PASSWORD",
        ),
        (
            "raspios.img --out sori.img --ssh-key password",
            1,
            "not an SSH public key",
        ),
        (
            "raspios.img --out sori.img --board pico2",
            2,
            "cannot be used with",
        ),
        (
            "raspios.img --out sori.img --firmware a.elf",
            2,
            "cannot be used with",
        ),
        (
            "raspios.img --to sori.img",
            if cfg!(target_os = "linux") { 4 } else { 2 },
            "sori.img",
        ),
    ] {
        let (was, error) = bench.refuses(arguments);
        assert_eq!(was, code, "{arguments}: {error}");
        assert!(error.contains(says), "{arguments}: {error}");
    }

    let broken = |change: &dyn Fn(&mut Files), says: &str| {
        let mut files = trixie();
        change(&mut files);
        let bench = Bench::new(&files);
        let (code, error) = bench.refuses(&format!("raspios.img --out sori.img {DEB}"));
        assert!(code == 1 && error.contains(says), "{error}");
    };
    broken(
        &|files| drop(files.remove("issue.txt")),
        "it is neither Raspberry Pi OS",
    );
    broken(
        &|files| {
            drop(files.insert(
                "issue.txt".into(),
                "Raspberry Pi reference 2023-05-03\n".into(),
            ))
        },
        "Raspberry Pi OS of 2023-05-03: sori-pi needs 2023-10-10",
    );
    broken(
        &|files| drop(files.remove("kernel8.img")),
        "the boot partition has no kernel",
    );
    broken(&|files| drop(files.remove("config.txt")), "no config.txt");
    broken(
        &|files| drop(files.insert("user-data".into(), "#!/bin/sh\n".into())),
        "cannot edit user-data on the boot partition",
    );

    // As a download that broke off leaves it, and a card that was pulled.
    let image = bench.image("raspios.img");
    fs::write(bench.at("raspios.img"), &image[..image.len() - 1]).unwrap();
    let (_, error) = bench.refuses(&format!("raspios.img --out sori.img {DEB}"));
    assert!(
        error.contains("it is incomplete; download it again"),
        "{error}"
    );
    let mut dirty = image;
    dirty[BOOT_START + 0x41] |= 1;
    fs::write(bench.at("raspios.img"), &dirty).unwrap();
    let (_, error) = bench.refuses(&format!("raspios.img --out sori.img {DEB}"));
    assert!(error.contains("fsck.vfat"), "{error}");
}

/// The password from where no other user of the machine can see it.
#[test]
fn the_password_comes_from_the_environment_or_standard_input() -> io::Result<()> {
    use std::process::Stdio;

    let bench = Bench::new(&trixie());
    let command = |out: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sori"));
        let words = format!("flash raspios.img --out {out} {DEB} --wifi IEEE --country DE");
        command
            .args(words.split(' '))
            .current_dir(bench.0.path())
            .stdout(Stdio::null());
        command
    };
    assert!(
        command("a.img")
            .env("SORI_WIFI_PASSWORD", "password")
            .status()?
            .success()
    );
    let mut piped = command("b.img");
    piped
        .args(["--wifi-password-file", "-"])
        .stdin(Stdio::piped());
    let mut piped = piped.spawn()?;
    piped.stdin.take().unwrap().write_all(b"password\n")?;
    assert!(piped.wait()?.success());
    for name in ["a.img", "b.img"] {
        let network = yaml(&boot_files(&bench.image(name)), "network-config");
        assert_eq!(
            network["network"]["wifis"]["wlan0"]["access-points"]["IEEE"]["password"],
            PSK
        );
    }
    Ok(())
}
