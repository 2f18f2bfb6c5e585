//! The target: an sshd of this user's, and a folder for a root.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const SSHD: &str = "/usr/sbin/sshd";

/// On a busy machine everything takes its time.
const LONG: Duration = Duration::from_secs(60);

/// What stands in for the system's programs, in front of all others.
const SHIMS: [(&str, &str); 11] = [
    ("sudo", include_str!("shims/sudo")),
    ("dpkg", include_str!("shims/dpkg")),
    ("dpkg-query", include_str!("shims/dpkg-query")),
    ("apt-get", include_str!("shims/apt-get")),
    ("systemctl", include_str!("shims/systemctl")),
    ("journalctl", include_str!("shims/journalctl")),
    ("df", include_str!("shims/df")),
    ("id", include_str!("shims/id")),
    // Time passes faster, and disks are what they say.
    ("sleep", "#!/bin/sh\nexec /bin/sleep 0.05\n"),
    ("sync", "#!/bin/sh\n"),
    ("sori-pi", include_str!("shims/sori-pi")),
];

pub(crate) struct Pi {
    folder: tempfile::TempDir,
    pub(crate) port: u16,
    sshd: Child,
}

/// A package of a sori-pi that is a script.
pub(crate) struct Build {
    version: &'static str,
    architecture: &'static str,
    depends: &'static str,
    fault: &'static str,
}

impl Build {
    pub(crate) fn new(version: &'static str) -> Self {
        Self {
            version,
            architecture: "arm64",
            depends: "libc6 (>= 2.34)",
            fault: "none",
        }
    }

    pub(crate) fn architecture(self, architecture: &'static str) -> Self {
        Self {
            architecture,
            ..self
        }
    }

    pub(crate) fn depends(self, depends: &'static str) -> Self {
        Self { depends, ..self }
    }

    /// See `shims/sori-pi`.
    pub(crate) fn that_is(self, fault: &'static str) -> Self {
        Self { fault, ..self }
    }
}

fn must(command: &mut Command, package: &str) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}: sudo apt-get install {package}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
}

impl Pi {
    pub(crate) fn start() -> Self {
        assert!(
            Path::new(SSHD).exists(),
            "{SSHD} is missing: sudo apt-get install openssh-server"
        );
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for place in ["bin", "root/etc", "root/usr/bin", "root/var/lib/dpkg/info"] {
            fs::create_dir_all(at(place)).unwrap();
        }
        for (name, script) in SHIMS {
            let path = match name {
                "sori-pi" => at("sori-pi"),
                name => at("bin").join(name),
            };
            fs::write(&path, script).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        for key in ["host", "user"] {
            must(
                Command::new("ssh-keygen")
                    .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                    .arg(at(key)),
                "openssh-client",
            );
        }
        fs::copy(at("user.pub"), at("authorized_keys")).unwrap();
        let enter = format!(
            "#!/bin/sh\nexport PATH={0}/bin:$PATH SORI_DEPLOY_ROOT={0}/root XDG_CACHE_HOME={0}/cache\n\
             echo 'Welcome to this Pi.'\nexec sh -c \"$SSH_ORIGINAL_COMMAND\"\n",
            folder.path().display()
        );
        fs::write(at("enter"), enter).unwrap();
        fs::set_permissions(at("enter"), fs::Permissions::from_mode(0o755)).unwrap();
        // Where its privileges end, if this is root's test.
        let _ = fs::create_dir_all("/run/sshd");
        let port = free_port();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {0}/host\nPidFile none\n\
             AuthorizedKeysFile {0}/authorized_keys\nStrictModes no\nUsePAM no\n\
             PermitRootLogin yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             MaxStartups 100\nMaxSessions 100\nForceCommand {0}/enter\nSetEnv HOME={0}\n",
            folder.path().display()
        );
        fs::write(at("sshd_config"), config).unwrap();
        let sshd = Command::new(SSHD)
            .args(["-D", "-e", "-f"])
            .arg(at("sshd_config"))
            .stdin(Stdio::null())
            .stderr(fs::File::create(at("sshd.log")).unwrap())
            .spawn()
            .unwrap();
        let mut pi = Self { folder, port, sshd };
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = pi.sshd.try_wait().unwrap();
            assert!(
                ended.is_none() && started.elapsed() < LONG,
                "sshd does not start: {}",
                fs::read_to_string(pi.folder.path().join("sshd.log")).unwrap()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        pi.ssh_config("ssh_config", "Compression", "no");
        pi
    }

    pub(crate) fn at(&self, name: &str) -> String {
        let path = self.folder.path().join(name);
        path.to_str().expect("UTF-8").into()
    }

    /// A place in the target's root.
    pub(crate) fn root(&self, name: &str) -> PathBuf {
        self.folder.path().join("root").join(name)
    }

    /// A configuration of ssh in which `pi` is this one, but for one line.
    pub(crate) fn ssh_config(&self, name: &str, key: &str, value: &str) -> String {
        let user = Command::new("id").arg("-un").output().unwrap();
        // The first value counts.
        let text = format!(
            "Host pi\n{key} {value}\nHostName 127.0.0.1\nPort {}\nUser {}\nIdentityFile {}\n\
             IdentitiesOnly yes\nIdentityAgent none\nUserKnownHostsFile {}\n\
             GlobalKnownHostsFile none\nHostKeyAlias pi\nStrictHostKeyChecking yes\n",
            self.port,
            String::from_utf8(user.stdout).unwrap().trim(),
            self.at("user"),
            self.at("known_hosts"),
        );
        let host = fs::read_to_string(self.at("host.pub")).unwrap();
        fs::write(self.at("known_hosts"), format!("pi {host}")).unwrap();
        // ssh tries every IdentityFile: a key that is to be missing must not be named again.
        let text = match (key, value) {
            ("IdentityFile", "none") => {
                let lines = text.lines().filter(|line| !line.contains(&self.at("user")));
                lines.map(|line| format!("{line}\n")).collect()
            }
            _ => text,
        };
        fs::write(self.at(name), text).unwrap();
        self.at(name)
    }

    pub(crate) fn build(&self, build: &Build) -> String {
        let Build {
            version,
            architecture,
            depends,
            fault,
        } = build;
        let tree = self.folder.path().join("tree");
        let _ = fs::remove_dir_all(&tree);
        for place in ["DEBIAN", "usr/bin", "usr/share/sori-pi", "etc/sori-pi"] {
            fs::create_dir_all(tree.join(place)).unwrap();
        }
        let control = format!(
            "Package: sori-pi\nVersion: {version}\nArchitecture: {architecture}\nDepends: {depends}\n\
             Maintainer: Sori\nDescription: Sori on a Raspberry Pi\n"
        );
        fs::write(tree.join("DEBIAN/control"), control).unwrap();
        fs::write(tree.join("DEBIAN/conffiles"), "/etc/sori-pi/sori-pi.toml\n").unwrap();
        fs::write(tree.join("etc/sori-pi/sori-pi.toml"), "# default\n").unwrap();
        let program = fs::read_to_string(self.at("sori-pi")).unwrap();
        let program = program
            .replace("@VERSION@", version)
            .replace("@FAULT@", fault);
        fs::write(tree.join("usr/bin/sori-pi"), program).unwrap();
        fs::set_permissions(
            tree.join("usr/bin/sori-pi"),
            fs::Permissions::from_mode(0o755),
        )
        .unwrap();
        let sums = Command::new("md5sum")
            .arg("usr/bin/sori-pi")
            .current_dir(&tree)
            .output()
            .unwrap();
        fs::write(tree.join("DEBIAN/md5sums"), sums.stdout).unwrap();
        // Enough that a cut can fall into its copy, and it does not compress.
        let mut random = fastrand::Rng::with_seed(1);
        let weights: Vec<u8> = (0..200_000).map(|_| random.u8(..)).collect();
        fs::write(tree.join("usr/share/sori-pi/genre.sori"), weights).unwrap();
        // Whether what is installed is whole.
        fs::write(tree.join("usr/share/sori-pi/version"), version).unwrap();
        let deb = self.at(&format!("sori-pi_{version}_{architecture}.deb"));
        must(
            Command::new("dpkg-deb")
                .args(["-Zgzip", "--root-owner-group", "-b"])
                .arg(&tree)
                .arg(&deb),
            "dpkg",
        );
        deb
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.command_with(&self.at("ssh_config"), arguments)
    }

    pub(crate) fn command_with(&self, ssh_config: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sori"));
        command
            .args(["deploy", "pi", "--ssh-config", ssh_config])
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn deploy(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("it starts")
    }

    /// Switches a fault of the system's on or off, by its name in the shims.
    pub(crate) fn fault(&self, name: &str, on: bool) {
        let path = self.root(&format!("fault-{name}"));
        match on {
            true => fs::write(path, "").unwrap(),
            false => fs::remove_file(path).unwrap(),
        }
    }

    /// The version that dpkg calls installed.
    pub(crate) fn installed(&self) -> Option<String> {
        let status = fs::read_to_string(self.root("var/lib/dpkg/sori-pi")).ok()?;
        let version = status.trim().strip_prefix("installed ")?;
        Some(version.into())
    }

    pub(crate) fn is_active(&self) -> bool {
        self.root("active").exists()
    }

    /// All files are of the installed version, and the service runs.
    pub(crate) fn assert_whole(&self, context: &str) {
        let version = self.installed().unwrap_or_default();
        let of_files = fs::read_to_string(self.root("usr/share/sori-pi/version")).unwrap();
        assert_eq!(of_files, version, "{context}");
        let program = fs::read_to_string(self.root("usr/bin/sori-pi")).unwrap();
        assert!(
            program.contains(&format!("version={version}\n")),
            "{context}"
        );
        let weights = fs::metadata(self.root("usr/share/sori-pi/genre.sori")).unwrap();
        assert_eq!(weights.len(), 200_000, "{context}");
        assert!(self.is_active(), "{context}");
    }

    /// Whether that file was copied.
    pub(crate) fn cached(&self, file: &str) -> bool {
        let bytes = fs::read(file).unwrap();
        let cache = fs::read_dir(self.at("cache/sori-deploy"));
        let mut files = cache.into_iter().flatten().flatten();
        files.any(|file| fs::read(file.path()).is_ok_and(|cached| cached == bytes))
    }

    pub(crate) fn phase(&self) -> Option<String> {
        let state = fs::read_to_string(self.root("var/lib/sori-deploy/state")).ok()?;
        let phase = state.lines().find_map(|line| line.strip_prefix("phase="))?;
        Some(phase.into())
    }

    pub(crate) fn until(&self, claim: &str, holds: impl Fn() -> bool) {
        let started = Instant::now();
        while !holds() {
            assert!(started.elapsed() < LONG, "not in time: {claim}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until nobody works there.
    pub(crate) fn settle(&self) {
        let lock = self.root("var/lib/sori-deploy/lock");
        // What was told to start may not have begun yet.
        std::thread::sleep(Duration::from_millis(300));
        self.until("the work ends", || {
            let mut try_it = Command::new("flock");
            try_it.arg("-n").arg(&lock).arg("true");
            !lock.exists() || try_it.status().unwrap().success()
        });
    }
}

impl Drop for Pi {
    fn drop(&mut self) {
        let _ = self.sshd.kill();
        let _ = self.sshd.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
