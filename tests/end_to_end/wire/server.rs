//! Servers that speak HTTP by hand, so that a test sees every byte and says what it likes.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::harness::{Ended, Run, World};

/// A request, as it came.
#[derive(Debug, Clone)]
pub struct Heard {
    /// The verb and the address.
    pub line: String,
    /// In their order by name, with names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Heard {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    pub fn path(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }

    /// The last piece of the path: the case that is asked for.
    pub fn case(&self) -> &str {
        self.path().rsplit('/').next().unwrap_or_default()
    }
}

/// What is said to a request, byte by byte.
#[derive(Debug, Clone)]
pub struct Said {
    pub bytes: Vec<u8>,
    pub then: Then,
}

/// What becomes of the connection.
#[derive(Debug, Clone, Copy)]
pub enum Then {
    Keep,
    Close,
    /// It stays, and nothing more is said.
    Hang,
    /// The last piece is said again and again, until nobody listens.
    Repeat,
}

/// An answer with a body of its length.
pub fn say(status: u16, headers: &str, body: impl AsRef<[u8]>) -> Said {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 {status} x\r\n{headers}content-length: {}\r\n\r\n", body.len());
    Said { bytes: [head.as_bytes(), body].concat(), then: Then::Keep }
}

/// Something that is no whole answer.
pub fn raw(bytes: impl Into<Vec<u8>>, then: Then) -> Said {
    Said { bytes: bytes.into(), then }
}

/// A server that is there until it is dropped.
pub struct Server {
    pub address: SocketAddr,
    heard: Arc<Mutex<Vec<Heard>>>,
    connections: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Server {
    pub async fn start(answer: impl Fn(&Heard) -> Said + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (heard, connections) = <(Arc<Mutex<Vec<Heard>>>, Arc<AtomicUsize>)>::default();
        let (kept, counted, answer) = (Arc::clone(&heard), Arc::clone(&connections), Arc::new(answer));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut talks = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                let (kept, answer) = (Arc::clone(&kept), Arc::clone(&answer));
                // A client may hang up wherever it likes.
                talks.spawn(async move { drop(talk(stream, &kept, &*answer).await) });
            }
        });
        Self { address, heard, connections, _tasks: tasks }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn talk(
    mut stream: TcpStream,
    kept: &Mutex<Vec<Heard>>,
    answer: &(dyn Fn(&Heard) -> Said + Send + Sync),
) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut bytes).await? == 0 {
                return Ok(());
            }
        };
        let head = String::from_utf8(bytes.drain(..end).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let line = lines.next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
        let mut headers: Vec<_> = lines
            .map(|line| line.split_once(": ").unwrap_or((line.trim_end_matches(':'), "")))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        headers.sort();
        let mut heard = Heard { line, headers, body: Vec::new() };
        let length = heard.header("content-length").map_or(0, |length| length.parse().unwrap());
        while bytes.len() < length {
            assert!(stream.read_buf(&mut bytes).await? > 0, "a body broke off: {heard:?}");
        }
        heard.body = bytes.drain(..length).collect();
        let said = answer(&heard);
        kept.lock().unwrap().push(heard);
        stream.write_all(&said.bytes).await?;
        match said.then {
            Then::Keep => {}
            Then::Close => return stream.shutdown().await,
            Then::Hang => std::future::pending().await,
            Then::Repeat => loop {
                let at = said.bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
                stream.write_all(&said.bytes[at..]).await?;
            },
        }
    }
}

/// Runs a biz of the program where its calls go to `gateway`, with more in its environment.
pub async fn run(world: &World, gateway: &str, biz: &[&str], env: &[(&str, &str)]) -> (Ended, Run) {
    let mut command = world.command(&[&["run", "--output", "json"], biz].concat());
    command.env("COWORKS_GATEWAY_URL", gateway).envs(env.iter().copied());
    let ended = tokio::task::spawn_blocking(move || Ended::from(command.output().unwrap())).await.unwrap();
    let run = Run(ended.json());
    (ended, run)
}

/// Where an object is on the disk of the S3 server of a world.
pub fn object(world: &World, bucket: &str, key: &str) -> PathBuf {
    world.path("s3").join(bucket).join(key)
}

/// Leaves an object, as a service does that was asked for it.
pub fn leave(file: &std::path::Path, bytes: &[u8]) {
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    // At once: nobody reads a half.
    let draft = file.with_extension("draft");
    std::fs::write(&draft, bytes).unwrap();
    std::fs::rename(draft, file).unwrap();
}
