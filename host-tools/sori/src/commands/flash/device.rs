//! Cards in a reader on Linux: which disks may be written to, and how.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use rustix::fs::OFlags;

use super::burn::Card;
use super::image::SECTOR;
use crate::exit::Failure;

/// The kernel's view of disks: a folder with its `proc` and `sys`, so that tests can supply one.
#[derive(Debug, Clone)]
pub(super) struct Kernel(PathBuf);

impl Kernel {
    pub(super) fn running() -> Self {
        Self("/".into())
    }

    fn read(&self, path: impl AsRef<Path>) -> Option<String> {
        let text = fs::read_to_string(self.0.join(path)).ok()?;
        Some(text.trim().to_owned())
    }
}

/// An unused disk.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Disk {
    /// `/dev/sdb`
    pub(super) path: PathBuf,
    /// Its maker's name for it, if the kernel knows it.
    pub(super) model: String,
    pub(super) len: u64,
}

/// Whether a path is a disk rather than a file.
pub(super) fn is_device(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.file_type().is_block_device())
}

impl Disk {
    /// Finds the disk at `path`, which may be a udev link, and checks that it may be written to.
    pub(super) fn find(path: &Path) -> Result<Self> {
        let metadata = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Failure::NoDevice(format!(
                    "{} does not exist: lsblk lists the connected disks",
                    path.display()
                ))
                .into());
            }
            metadata => metadata.with_context(|| format!("cannot examine {}", path.display()))?,
        };
        if !metadata.file_type().is_block_device() {
            return Err(Failure::Usage(format!(
                "{} is not a disk: lsblk lists disks; --out writes a file",
                path.display()
            ))
            .into());
        }
        let device = metadata.rdev();
        let number = format!(
            "{}:{}",
            rustix::fs::major(device),
            rustix::fs::minor(device)
        );
        Self::check(&Kernel::running(), &number)
    }

    /// The disk with a device number, if no part of it is in use.
    fn check(kernel: &Kernel, number: &str) -> Result<Self> {
        let folder = fs::canonicalize(kernel.0.join("sys/dev/block").join(number))
            .with_context(|| format!("the kernel knows no disk {number}"))?;
        let name = folder.file_name().unwrap_or_default().to_owned();
        let path = Path::new("/dev").join(&name);
        let refuse = |why: String| -> Result<Self> {
            Err(Failure::Usage(format!("{} {why}", path.display())).into())
        };
        let of = |folder: &Path, file: &str| kernel.read(folder.join(file));
        if folder.join("partition").exists() {
            let whole = folder
                .parent()
                .and_then(Path::file_name)
                .unwrap_or_default();
            return refuse(format!(
                "is a partition: name the whole card, /dev/{}",
                whole.display()
            ));
        }
        let mut parts = vec![(name.clone(), number.to_owned(), folder.clone())];
        for entry in fs::read_dir(&folder)?.flatten() {
            if let (true, Some(number)) = (
                entry.path().join("partition").exists(),
                of(&entry.path(), "dev"),
            ) {
                parts.push((entry.file_name(), number, entry.path()));
            }
        }
        for (part, number, folder) in &parts {
            let part = Path::new("/dev").join(part);
            if let Some(place) = mounted(kernel, &part, number) {
                let what = if [
                    "/",
                    "/boot",
                    "/boot/efi",
                    "/boot/firmware",
                    "/home",
                    "/usr",
                    "/var",
                ]
                .contains(&&*place)
                {
                    "it is this computer's own disk".to_owned()
                } else {
                    format!("umount {} first", part.display())
                };
                return refuse(format!(
                    "is in use: {} is mounted at {place}; {what}",
                    part.display()
                ));
            }
            if is_swap(kernel, &part) {
                return refuse(format!(
                    "is in use: {} is swap, so it is this computer's own disk",
                    part.display()
                ));
            }
            let holder = fs::read_dir(folder.join("holders"))
                .into_iter()
                .flatten()
                .flatten()
                .next();
            if let Some(holder) = holder {
                return refuse(format!(
                    "is in use: {} is part of {} (LVM, RAID or encryption)",
                    part.display(),
                    holder.file_name().display()
                ));
            }
        }
        if !is_removable(kernel, &folder, &name) {
            return refuse("is a fixed disk of this computer, not a card: lsblk -o NAME,SIZE,MODEL,RM lists disks".to_owned());
        }
        if of(&folder, "ro").as_deref() == Some("1") {
            return refuse("is write-protected: check the lock on the side of the card".to_owned());
        }
        let sectors: u64 = of(&folder, "size")
            .and_then(|size| size.parse().ok())
            .unwrap_or(0);
        if sectors == 0 {
            return Err(Failure::NoDevice(format!("{} contains no card", path.display())).into());
        }
        let names = [
            "device/vendor",
            "device/model",
            "device/name",
            "loop/backing_file",
        ];
        let names: Vec<String> = names.iter().filter_map(|file| of(&folder, file)).collect();
        Ok(Self {
            path,
            model: if names.is_empty() {
                "an unnamed disk".to_owned()
            } else {
                names.join(" ")
            },
            len: sectors * SECTOR,
        })
    }

    /// Opens it for writing. The kernel refuses if anything has started using it.
    pub(super) fn open(&self) -> Result<Writer> {
        let exclusive = OFlags::EXCL.bits() as i32;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(exclusive)
            .open(&self.path);
        let path = self.path.display();
        match file {
            Ok(file) => Ok(Writer(file)),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => bail!(
                "no permission to write to {path}: run sudo \"$(command -v sori)\" flash …, or join the group disk"
            ),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                bail!("{path} is in use: umount its partitions and try again")
            }
            Err(error) => Err(error).with_context(|| format!("cannot open {path}")),
        }
    }

    /// Opens it for reading from the disk, bypassing the page cache.
    pub(super) fn reopen(&self) -> Result<Reader> {
        let cannot = || format!("cannot read {} back", self.path.display());
        let direct = OFlags::DIRECT.bits() as i32;
        let options = |flags| {
            OpenOptions::new()
                .read(true)
                .custom_flags(flags)
                .open(&self.path)
        };
        let file = match options(direct) {
            // Not every driver supports it.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                let file = options(0).with_context(cannot)?;
                rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)
                    .with_context(cannot)?;
                file
            }
            file => file.with_context(cannot)?,
        };
        Ok(Reader {
            file,
            buffer: vec![0; super::burn::CHUNK + ALIGNMENT],
            at: 0,
            ahead: 0..0,
        })
    }
}

/// Where a device is mounted. Some file systems hide the device's number, none its name.
fn mounted(kernel: &Kernel, part: &Path, number: &str) -> Option<String> {
    let table = kernel.read("proc/self/mountinfo")?;
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        let source = fields
            .iter()
            .position(|&field| field == "-")
            .and_then(|dash| fields.get(dash + 2));
        let is_it = fields.get(2) == Some(&number)
            || source.is_some_and(|&source| Path::new(source) == part);
        is_it.then(|| {
            fields
                .get(4)
                .map_or("?".to_owned(), |place| place.replace("\\040", " "))
        })
    })
}

fn is_swap(kernel: &Kernel, part: &Path) -> bool {
    let table = kernel.read("proc/swaps").unwrap_or_default();
    let mut names = table
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next());
    names.any(|name| Path::new(name) == part)
}

/// Whether a disk can be removed: the kernel's flag is set neither for SD card slots nor for most
/// USB disks. A loop device was set up for this purpose.
fn is_removable(kernel: &Kernel, folder: &Path, name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let is_flagged = kernel.read(folder.join("removable")).as_deref() == Some("1");
    let on_usb = folder
        .components()
        .any(|part| part.as_os_str().to_string_lossy().starts_with("usb"));
    let is_sd = name.starts_with("mmcblk")
        && kernel.read(folder.join("device/type")).as_deref() == Some("SD");
    is_flagged || on_usb || is_sd || name.starts_with("loop")
}

pub(super) struct Writer(File);

impl Read for Writer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Writer {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Writer {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

impl Card for Writer {
    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_all()
    }
}

/// The alignment that direct I/O requires of addresses, positions and lengths.
const ALIGNMENT: usize = 4096;

/// A disk read in aligned pieces.
pub(super) struct Reader {
    file: File,
    /// Longer than a piece, so that an aligned one fits.
    buffer: Vec<u8>,
    /// The position on the disk of the next piece.
    at: u64,
    /// The part of the buffer still to be returned.
    ahead: std::ops::Range<usize>,
}

impl Read for Reader {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.ahead.is_empty() {
            let start = self.buffer.as_ptr().align_offset(ALIGNMENT);
            self.file.seek(SeekFrom::Start(self.at))?;
            let n = self
                .file
                .read(&mut self.buffer[start..][..super::burn::CHUNK])?;
            self.at += n as u64;
            self.ahead = start..start + n;
        }
        let n = (&self.buffer[self.ahead.clone()]).read(to)?;
        self.ahead.start += n;
        Ok(n)
    }
}

impl Seek for Reader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let SeekFrom::Start(to) = to else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let before = to % ALIGNMENT as u64;
        self.at = to - before;
        self.ahead = 0..0;
        io::copy(&mut self.take(before), &mut io::sink())?;
        Ok(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel with one disk of two partitions; tests change one thing each.
    struct Fake(tempfile::TempDir, &'static str);

    impl Fake {
        fn new(place: &'static str) -> Self {
            let fake = Self(tempfile::tempdir().unwrap(), place);
            for (path, text) in [
                (
                    "proc/self/mountinfo",
                    "23 1 259:2 / / rw - ext4 /dev/nvme0n1p2 rw\n",
                ),
                (
                    "proc/swaps",
                    "Filename Type Size Used Priority\n/dev/nvme0n1p3 partition 1 0 -2\n",
                ),
            ] {
                fake.write(path, text);
            }
            fake.set("size", "62333952\n")
                .set("ro", "0\n")
                .set("removable", "1\n");
            fake.set("device/vendor", "Generic \n")
                .set("device/model", "SD/MMC\n");
            let name = Path::new(place).file_name().unwrap().to_str().unwrap();
            let infix = if name.ends_with(char::is_numeric) {
                "p"
            } else {
                ""
            };
            for (part, number) in [("1", "8:17"), ("2", "8:18")] {
                fake.set(&format!("{name}{infix}{part}/partition"), part);
                fake.set(&format!("{name}{infix}{part}/dev"), number);
                fs::create_dir(fake.disk().join(format!("{name}{infix}{part}/holders"))).unwrap();
            }
            fs::create_dir_all(fake.0.path().join("sys/dev/block")).unwrap();
            for (number, to) in [
                ("8:16", fake.disk()),
                ("8:17", fake.disk().join(format!("{name}{infix}1"))),
            ] {
                std::os::unix::fs::symlink(to, fake.0.path().join("sys/dev/block").join(number))
                    .unwrap();
            }
            fake
        }

        fn disk(&self) -> PathBuf {
            self.0.path().join("sys/devices").join(self.1)
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn set(&self, file: &str, text: &str) -> &Self {
            self.write(&format!("sys/devices/{}/{file}", self.1), text);
            self
        }

        fn check(&self, number: &str) -> Result<Disk> {
            Disk::check(&Kernel(self.0.path().to_owned()), number)
        }

        fn refusal(&self) -> String {
            self.check("8:16").unwrap_err().to_string()
        }
    }

    const USB: &str = "pci0/usb1/1-2/host6/block/sdb";

    #[test]
    fn a_card_in_a_reader_is_named_and_measured() {
        let disk = Fake::new(USB).check("8:16").unwrap();
        let expected = Disk {
            path: "/dev/sdb".into(),
            model: "Generic SD/MMC".into(),
            len: 31_914_983_424,
        };
        assert_eq!(disk, expected);
    }

    #[test]
    fn what_is_in_use_is_refused_with_what_to_do() {
        let fake = Fake::new(USB);
        let mounts = |line: &str| fake.write("proc/self/mountinfo", line);
        mounts("30 1 8:17 / /media/a\\040b rw - vfat /dev/sdb1 rw\n");
        assert_eq!(
            fake.refusal(),
            "/dev/sdb is in use: /dev/sdb1 is mounted at /media/a b; umount /dev/sdb1 first"
        );
        // btrfs has numbers of its own.
        mounts("30 1 0:35 /@ / rw shared:1 - btrfs /dev/sdb2 rw\n");
        assert!(
            fake.refusal().contains("this computer's own disk"),
            "{}",
            fake.refusal()
        );
        mounts("30 1 8:16 / /mnt rw - ext4 /dev/sdb rw\n");
        assert!(
            fake.refusal().contains("umount /dev/sdb first"),
            "{}",
            fake.refusal()
        );
        mounts("");
        fake.write("proc/swaps", "Filename\n/dev/sdb2 partition 1 0 -2\n");
        assert!(
            fake.refusal().contains("/dev/sdb2 is swap"),
            "{}",
            fake.refusal()
        );
        fake.write("proc/swaps", "Filename\n");
        fake.set("sdb2/holders/dm-0", "");
        assert!(
            fake.refusal().contains("/dev/sdb2 is part of dm-0"),
            "{}",
            fake.refusal()
        );
    }

    #[test]
    fn a_partition_a_fixed_disk_an_empty_or_locked_slot_are_refused() {
        let fake = Fake::new(USB);
        let partition = fake.check("8:17").unwrap_err().to_string();
        assert!(
            partition.contains("name the whole card, /dev/sdb"),
            "{partition}"
        );
        fake.set("ro", "1\n");
        assert!(
            fake.refusal().contains("the lock on the side"),
            "{}",
            fake.refusal()
        );
        fake.set("ro", "0\n").set("size", "0\n");
        assert!(
            fake.refusal().contains("contains no card"),
            "{}",
            fake.refusal()
        );

        let fixed = Fake::new("pci0/ata1/block/sda");
        fixed.set("removable", "0\n");
        assert!(
            fixed.refusal().contains("a fixed disk"),
            "{}",
            fixed.refusal()
        );
        assert!(fixed.check("9:9").is_err());
    }

    /// The kernel's flag says 0 for all of these.
    #[test]
    fn a_slot_for_sd_cards_is_no_fixed_disk_and_soldered_memory_is() {
        let slot = Fake::new("platform/mmc0/block/mmcblk0");
        slot.set("removable", "0\n").set("device/type", "SD\n");
        assert!(slot.check("8:16").is_ok());
        slot.set("device/type", "MMC\n");
        assert!(
            slot.refusal().contains("a fixed disk"),
            "{}",
            slot.refusal()
        );
        let usb = Fake::new(USB);
        usb.set("removable", "0\n");
        assert!(usb.check("8:16").is_ok());
    }

    /// Files can be read so too, which is what this test has; sizes that are no multiple of a
    /// piece, and positions within one.
    #[test]
    fn what_is_read_back_is_what_is_there() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let bytes: Vec<u8> = (0..super::super::burn::CHUNK + 17 * ALIGNMENT)
            .map(|i| (i / 3) as u8)
            .collect();
        file.write_all(&bytes).unwrap();
        file.as_file().sync_all().unwrap();
        let disk = Disk {
            path: file.path().into(),
            model: String::new(),
            len: 0,
        };
        let mut reader = disk.reopen().unwrap();
        let mut back = Vec::new();
        reader.read_to_end(&mut back).unwrap();
        assert!(back == bytes);
        reader.seek(SeekFrom::Start(5_000)).unwrap();
        let mut some = [0; 10];
        reader.read_exact(&mut some).unwrap();
        assert_eq!(some, bytes[5_000..5_010]);
    }
}
