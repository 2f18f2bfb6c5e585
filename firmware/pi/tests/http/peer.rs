//! A server, and somebody who talks to it.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, OnceLock, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;
use sori_pi::board::{Board, Command, Heard};
use sori_pi::config;
use sori_pi::history::{History, Span};
use sori_pi::model::Model;
use sori_pi::page::{Bound, Doctor, Limits, Shared};
use tempfile::TempDir;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const TOKEN: &str = "0123456789abcdef";

/// It is loaded once: proving itself takes a moment.
pub(crate) fn model() -> Arc<Model> {
    static MODEL: OnceLock<Arc<Model>> = OnceLock::new();
    Arc::clone(MODEL.get_or_init(|| Arc::new(Model::built_in().unwrap())))
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) board: Arc<Board>,
    pub(crate) commands: Receiver<Command>,
    pub(crate) folder: TempDir,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(None, Limits::default(), Arc::new(|| serde_json::json!([])))
    }

    pub(crate) fn with_limits(limits: Limits) -> Self {
        Self::with(None, limits, Arc::new(|| serde_json::json!([])))
    }

    pub(crate) fn with_token() -> Self {
        let doctor = Arc::new(|| serde_json::json!([]));
        Self::with(Some(TOKEN), Limits::default(), doctor)
    }

    pub(crate) fn with(token: Option<&str>, limits: Limits, doctor: Arc<Doctor>) -> Self {
        let (board, commands) = Board::new();
        let folder = tempfile::tempdir().unwrap();
        let shared = Shared {
            board: Arc::clone(&board),
            history: folder.path().join("history.sqlite"),
            model: Arc::new(RwLock::new(model())),
            card: "# A card".into(),
            doctor,
            metrics: Some(Arc::new(|| "sori_up 1\n".into())),
        };
        let config = config::Page {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            token: token.map(String::from),
        };
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (address_sender, address) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let bound = Bound::bind(&config).await.unwrap().with_limits(limits);
                address_sender.send(bound.address()).unwrap();
                let stop = async {
                    let _ = stopped.await;
                };
                bound.serve(shared, stop).await;
            });
            runtime.shutdown_background();
        });
        Self {
            address: address.recv().unwrap(),
            board,
            commands,
            folder,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends a request and reads the answer until the server closes the connection.
    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut stream = self.connect();
        stream
            .write_all(&self.head(method, path, headers, body.len()))
            .unwrap();
        // A server that refuses need not read all of it.
        let _ = stream.write_all(body);
        Answer::read(&mut BufReader::new(stream)).expect(path)
    }

    pub(crate) fn head(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        length: usize,
    ) -> Vec<u8> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|(name, _)| *name == "Host") {
            head += &format!("Host: {}\r\n", self.address);
        }
        if method == "POST" {
            head += &format!("Content-Length: {length}\r\n");
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        (head + "\r\n").into_bytes()
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    pub(crate) fn events(&self) -> Events {
        let mut stream = self.connect();
        stream
            .write_all(&self.head("GET", "/api/events", &[], 0))
            .unwrap();
        let mut reader = BufReader::new(stream);
        let (status, headers) = head(&mut reader).unwrap();
        assert_eq!(status, 200);
        assert_eq!(headers["content-type"], "text/event-stream");
        Events { reader }
    }

    pub(crate) fn fill(&self, spans: i64) {
        let mut history = History::new(&self.folder.path().join("history.sqlite"), 365);
        for n in 0..spans {
            history.push(Span {
                started_ms: 1_000 * n,
                seconds: 1.0,
                verdict: ["jazz", "rock"][n as usize % 2].into(),
                confidence: Some(0.5),
                level_dbfs: -40.0,
                confirmed: false,
            });
        }
        history.write().unwrap();
    }

    pub(crate) fn stop(&mut self) -> Duration {
        let start = Instant::now();
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
        start.elapsed()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

pub(crate) fn head(reader: &mut impl BufRead) -> io::Result<(u16, BTreeMap<String, String>)> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_string()),
        }
    }
    let status = lines[0].split(' ').nth(1).and_then(|s| s.parse().ok());
    let headers = lines[1..].iter().filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_string()));
    Ok((status.expect("a status"), headers.collect()))
}

impl Answer {
    pub(crate) fn read(reader: &mut impl BufRead) -> io::Result<Self> {
        let (status, headers) = head(reader)?;
        let mut body = Vec::new();
        if headers.contains_key("transfer-encoding") {
            loop {
                let chunk = chunk(reader)?;
                match chunk.is_empty() {
                    true => break,
                    false => body.extend(chunk),
                }
            }
        } else {
            reader.read_to_end(&mut body)?;
        }
        Ok(Self {
            status,
            headers,
            body,
        })
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        let json: Value = serde_json::from_slice(&self.body).expect("JSON");
        assert_eq!(json["schema_version"], 1);
        json
    }

    /// The words of a refusal with that status.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.headers["content-type"], "application/json");
        self.json()["error"]["message"].as_str().unwrap().into()
    }
}

pub(crate) fn chunk(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let length = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
    let mut chunk = vec![0; length + 2];
    reader.read_exact(&mut chunk)?;
    chunk.truncate(length);
    Ok(chunk)
}

pub(crate) struct Events {
    reader: BufReader<TcpStream>,
}

impl Events {
    /// The next event of that name; None at the stream's end.
    pub(crate) fn next(&mut self, name: &str) -> Option<Value> {
        let start = Instant::now();
        let mut text = String::new();
        while start.elapsed() < PATIENCE {
            let chunk = chunk(&mut self.reader).ok().filter(|c| !c.is_empty())?;
            text += std::str::from_utf8(&chunk).unwrap();
            while let Some((event, rest)) = text.split_once("\n\n") {
                let (first, data) = event.split_once('\n').unwrap();
                let data = data.strip_prefix("data: ").unwrap();
                let found = first == format!("event: {name}");
                let data = serde_json::from_str(data).unwrap();
                text = rest.into();
                if found {
                    assert!(text.is_empty(), "a chunk is an event here");
                    return Some(data);
                }
            }
        }
        panic!("no event {name}");
    }
}

pub(crate) fn heard(verdict: &str) -> Heard {
    Heard {
        time_ms: 1,
        verdict: verdict.into(),
        confidence: Some(0.75),
        probabilities: [(verdict.to_string(), 0.75)].into(),
        level_dbfs: -40.0,
    }
}

/// A second of a tone, 16 bits.
pub(crate) fn wav(seconds: u32) -> Vec<u8> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 16_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut bytes = io::Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut bytes, spec).unwrap();
    for n in 0..16_000 * seconds {
        let sample = (f64::from(n) * 0.17).sin() + (f64::from(n) * 0.23).sin();
        writer.write_sample((sample * 8000.0) as i16).unwrap();
    }
    writer.finalize().unwrap();
    bytes.into_inner()
}

pub(crate) const WAV: (&str, &str) = ("Content-Type", "audio/wav");
pub(crate) const JSON: (&str, &str) = ("Content-Type", "application/json");
