//! A cable to pull: a TCP proxy that ends its connections after so many bytes, and lets nobody in
//! after that.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

pub(crate) struct Proxy {
    pub(crate) port: u16,
    cable: Arc<Cable>,
}

struct Cable {
    /// Bytes, both ways, since the limit was set.
    passed: AtomicU64,
    limit: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
}

impl Cable {
    fn pull(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn carry(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut bytes = [0; 4096];
        while let Ok(len @ 1..) = from.read(&mut bytes) {
            let limit = self.limit.load(Ordering::SeqCst);
            let before = self.passed.fetch_add(len as u64, Ordering::SeqCst);
            let left = limit.saturating_sub(before).min(len as u64) as usize;
            if to.write_all(&bytes[..left]).is_err() || left < len {
                break;
            }
        }
        if self.passed.load(Ordering::SeqCst) >= self.limit.load(Ordering::SeqCst) {
            self.pull();
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }
}

impl Proxy {
    pub(crate) fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let cable = Arc::new(Cable {
            passed: AtomicU64::new(0),
            limit: AtomicU64::new(u64::MAX),
            open: Mutex::new(Vec::new()),
        });
        let carried = Arc::clone(&cable);
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let is_cut = || {
                    carried.passed.load(Ordering::SeqCst) >= carried.limit.load(Ordering::SeqCst)
                };
                let Ok(far) = TcpStream::connect(("127.0.0.1", to)) else {
                    continue;
                };
                if is_cut() {
                    continue;
                }
                let copies = [&near, &far].map(|stream| stream.try_clone().unwrap());
                carried.open.lock().unwrap().extend(copies);
                let ways = [
                    (near.try_clone().unwrap(), far.try_clone().unwrap()),
                    (far, near),
                ];
                for (from, to) in ways {
                    let cable = Arc::clone(&carried);
                    thread::spawn(move || cable.carry(from, to));
                }
            }
        });
        Self { port, cable }
    }

    pub(crate) fn passed(&self) -> u64 {
        self.cable.passed.load(Ordering::SeqCst)
    }

    /// Counts anew.
    pub(crate) fn cut_after(&self, bytes: u64) {
        self.cable.limit.store(bytes, Ordering::SeqCst);
        self.cable.passed.store(0, Ordering::SeqCst);
    }

    /// Ends the connections of now; new ones go through.
    pub(crate) fn cut_now(&self) {
        self.cable.pull();
    }
}
