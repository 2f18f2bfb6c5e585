//! A disk whose power can be cut: served to QEMU over NBD, it forgets what was not flushed.
//!
//! A killed emulator alone proves little: all that the guest wrote is in this machine's memory
//! and survives. Here each write waits until the guest flushes. A cut keeps a part of those
//! that wait, in any order, some of them torn, as a card may.
//!
//! The protocol: <https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md>

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, bail};
use fastrand::Rng;

const SECTOR: usize = 512;

/// A disk's file, and what would be lost now.
struct Disk {
    file: File,
    bytes: u64,
    waiting: Vec<(u64, Vec<u8>)>,
}

impl Disk {
    fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut data = vec![0; length];
        self.file.read_exact_at(&mut data, offset)?;
        let end = offset + length as u64;
        for (at, written) in &self.waiting {
            let from = offset.max(*at);
            let until = end.min(at + written.len() as u64);
            if from < until {
                let part = &written[(from - at) as usize..(until - at) as usize];
                data[(from - offset) as usize..(until - offset) as usize].copy_from_slice(part);
            }
        }
        Ok(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        for (at, data) in self.waiting.drain(..) {
            self.file.write_all_at(&data, at)?;
        }
        Ok(())
    }

    /// About half of what waits gets there, in any order; a quarter of that as a part only.
    fn lose_power(&mut self, chance: &mut Rng) -> io::Result<usize> {
        let mut waiting = std::mem::take(&mut self.waiting);
        let count = waiting.len();
        chance.shuffle(&mut waiting);
        for (at, data) in waiting {
            if chance.bool() {
                continue;
            }
            let sectors = data.len() / SECTOR;
            let kept = match chance.u8(..4) {
                0 => chance.usize(..=sectors) * SECTOR,
                _ => data.len(),
            };
            self.file.write_all_at(&data[..kept], at)?;
        }
        Ok(count)
    }
}

/// A disk on a socket, until its client goes.
pub(super) struct Served {
    server: JoinHandle<anyhow::Result<Disk>>,
}

impl Served {
    /// `image` as a disk, for one client of `socket`.
    pub(super) fn start(image: &Path, socket: &Path) -> anyhow::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(image)?;
        let bytes = file.metadata()?.len();
        let mut disk = Disk {
            file,
            bytes,
            waiting: Vec::new(),
        };
        let listener = UnixListener::bind(socket).with_context(|| socket.display().to_string())?;
        let server = thread::spawn(move || {
            let (stream, _) = listener.accept()?;
            let mut connection = Connection { stream };
            connection.negotiate(disk.bytes)?;
            match connection.serve(&mut disk) {
                // The emulator was killed: that is the cut.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
                other => other?,
            }
            Ok(disk)
        });
        Ok(Self { server })
    }

    /// When the client is gone: what of its last writes got there. How many were waiting.
    pub(super) fn cut(self, chance: &mut Rng) -> anyhow::Result<usize> {
        let Ok(disk) = self.server.join() else {
            bail!("the disk's thread panicked");
        };
        Ok(disk?.lose_power(chance)?)
    }
}

const INIT: u64 = u64::from_be_bytes(*b"NBDMAGIC");
const OPTION: u64 = u64::from_be_bytes(*b"IHAVEOPT");
const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
const REQUEST: u32 = 0x2560_9513;
const REPLY: u32 = 0x6744_6698;

/// Newstyle, and no padding after the export.
const HANDSHAKE_FLAGS: u16 = 0b11;
/// There are flags; it knows flush and forced unit access.
const EXPORT_FLAGS: u16 = 1 | 1 << 2 | 1 << 3;
const FORCED: u16 = 1;

const OPTION_ABORT: u32 = 2;
const OPTION_GO: u32 = 7;
const ACKNOWLEDGED: u32 = 1;
const INFORMATION: u32 = 3;
const UNSUPPORTED: u32 = 1 << 31 | 1;

const READ: u16 = 0;
const WRITE: u16 = 1;
const DISCONNECT: u16 = 2;
const FLUSH: u16 = 3;

const OK: u32 = 0;
const IO_ERROR: u32 = 5;
const INVALID: u32 = 22;

/// More than QEMU asks for at once.
const MOST_BYTES: u32 = 32 << 20;

struct Connection {
    stream: UnixStream,
}

impl Connection {
    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn u16(&mut self) -> io::Result<u16> {
        self.take().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> io::Result<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> io::Result<u64> {
        self.take().map(u64::from_be_bytes)
    }

    fn negotiate(&mut self, bytes: u64) -> anyhow::Result<()> {
        let mut hello = Vec::new();
        hello.extend(INIT.to_be_bytes());
        hello.extend(OPTION.to_be_bytes());
        hello.extend(HANDSHAKE_FLAGS.to_be_bytes());
        self.stream.write_all(&hello)?;
        self.u32()?;
        loop {
            if self.u64()? != OPTION {
                bail!("the disk's client does not speak NBD");
            }
            let option = self.u32()?;
            let length = self.u32()?;
            io::copy(&mut (&mut self.stream).take(length.into()), &mut io::sink())?;
            match option {
                OPTION_GO => {
                    let mut export = Vec::new();
                    export.extend(0_u16.to_be_bytes());
                    export.extend(bytes.to_be_bytes());
                    export.extend(EXPORT_FLAGS.to_be_bytes());
                    self.answer(option, INFORMATION, &export)?;
                    self.answer(option, ACKNOWLEDGED, &[])?;
                    return Ok(());
                }
                OPTION_ABORT => bail!("the disk's client gave up"),
                _ => self.answer(option, UNSUPPORTED, &[])?,
            }
        }
    }

    fn answer(&mut self, option: u32, kind: u32, data: &[u8]) -> io::Result<()> {
        let mut reply = Vec::new();
        reply.extend(OPTION_REPLY.to_be_bytes());
        reply.extend(option.to_be_bytes());
        reply.extend(kind.to_be_bytes());
        reply.extend((data.len() as u32).to_be_bytes());
        reply.extend(data);
        self.stream.write_all(&reply)
    }

    fn serve(&mut self, disk: &mut Disk) -> io::Result<()> {
        loop {
            let magic = self.u32()?;
            let flags = self.u16()?;
            let kind = self.u16()?;
            let cookie = self.u64()?;
            let offset = self.u64()?;
            let length = self.u32()?;
            if magic != REQUEST {
                return Err(io::Error::other("no request of NBD"));
            }
            if length > MOST_BYTES {
                return Err(io::Error::other("a request of too many bytes"));
            }
            let fits = offset
                .checked_add(length.into())
                .is_some_and(|end| end <= disk.bytes);
            let mut data = Vec::new();
            if kind == WRITE {
                data.resize(length as usize, 0);
                self.stream.read_exact(&mut data)?;
            }
            let done = match kind {
                _ if !fits => Err(INVALID),
                READ => disk.read(offset, length as usize).map_err(|_| IO_ERROR),
                WRITE => {
                    disk.waiting.push((offset, data));
                    let done = if flags & FORCED == FORCED {
                        disk.flush()
                    } else {
                        Ok(())
                    };
                    done.map(|()| Vec::new()).map_err(|_| IO_ERROR)
                }
                FLUSH => disk.flush().map(|()| Vec::new()).map_err(|_| IO_ERROR),
                DISCONNECT => return Ok(()),
                _ => Err(INVALID),
            };
            let mut reply = Vec::new();
            reply.extend(REPLY.to_be_bytes());
            reply.extend(
                done.as_ref()
                    .map_or_else(|error| *error, |_| OK)
                    .to_be_bytes(),
            );
            reply.extend(cookie.to_be_bytes());
            reply.extend(done.unwrap_or_default());
            self.stream.write_all(&reply)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(bytes: usize) -> Disk {
        let path = std::env::temp_dir().join(format!("sori-disk-{}", std::process::id()));
        std::fs::write(&path, vec![0; bytes]).expect("a place for temporary files");
        let file = OpenOptions::new().read(true).write(true).open(&path);
        let disk = Disk {
            file: file.expect("it was just written"),
            bytes: bytes as u64,
            waiting: Vec::new(),
        };
        std::fs::remove_file(path).expect("it is ours");
        disk
    }

    #[test]
    fn what_was_flushed_stays_and_of_the_rest_only_a_part() {
        let mut disk = disk(64 * SECTOR);
        let sector = |value: u8| vec![value; SECTOR];
        disk.waiting.push((0, sector(1)));
        disk.waiting.push((0, sector(2)));
        // The guest sees its last write before any flush.
        assert_eq!(disk.read(0, SECTOR).unwrap(), sector(2));
        assert_eq!(disk.read(100, 3).unwrap(), [2, 2, 2]);
        disk.flush().unwrap();
        for n in 1..64 {
            disk.waiting.push((n * SECTOR as u64, sector(3)));
        }
        assert_eq!(disk.lose_power(&mut Rng::with_seed(7)).unwrap(), 63);
        assert_eq!(disk.read(0, SECTOR).unwrap(), sector(2));
        let kept = (1..64)
            .filter(|n| disk.read(n * SECTOR as u64, SECTOR).unwrap() == sector(3))
            .count();
        assert!((10..50).contains(&kept), "{kept}");
    }
}
