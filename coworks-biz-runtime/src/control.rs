//! How another process of the same program tells the engine what to do: one order and one answer,
//! as lines of JSON, over a Unix socket beside the database that only its owner can open.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

use crate::engine::{Answer, Engine, EngineError, Order};
use crate::value::LARGEST;

/// How long a caller waits for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// An order of more than this many bytes is none: one with the largest conf has less.
const LONGEST: usize = LARGEST + (1 << 20);

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    Done(Answer),
    Refused(String),
    Failed(String),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The engine refuses.
    #[error("{0}")]
    Refused(String),
    /// The engine failed.
    #[error("{0}")]
    Failed(String),
    /// It does not answer.
    #[error(
        "the process that serves has not answered within {} seconds; it may do it all the same: look at `runs`, \
         or repeat a trigger with `--idempotency-key`", PATIENCE.as_secs()
    )]
    Silent,
    /// The socket does not work.
    #[error("the process that serves cannot be reached at {}: {source}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// The socket that belongs to a database.
fn socket_of(database: &Path) -> PathBuf {
    let mut path = database.to_owned().into_os_string();
    path.push(".sock");
    path.into()
}

/// A path by which the system takes a socket: at most 108 bytes. A longer one goes by its folder, which
/// has to stay open meanwhile.
fn short(path: &Path) -> std::io::Result<(PathBuf, Option<File>)> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok((path.to_owned(), None));
    };
    if path.as_os_str().len() < 100 || dir.as_os_str().is_empty() {
        return Ok((path.to_owned(), None));
    }
    let dir = File::open(dir)?;
    Ok((Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name), Some(dir)))
}

/// Takes orders for an engine, as long as it lives.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Listens beside the database. The engine owns that, so that a socket that is there is one that
    /// a killed process has left.
    pub fn start(engine: Arc<Engine>, database: &Path) -> Result<Self, ControlError> {
        let path = socket_of(database);
        let io = |source| ControlError::Io { path: path.clone(), source };
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(io(e)),
            _ => {}
        }
        let (by, _dir) = short(&path).map_err(io)?;
        let listener = UnixListener::bind(by).map_err(io)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(io)?;
        let task = tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => drop(tokio::spawn(answer(Arc::clone(&engine), stream))),
                    Err(error) => {
                        tracing::warn!(target: "coworks_biz::engine", "an order could not be taken: {error}");
                        // Such as too many open files: some are closed in a while.
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        });
        Ok(Self { path, task })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        // Nobody can reach it any more either way.
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn answer(engine: Arc<Engine>, mut stream: tokio::net::UnixStream) {
    let (read, mut write) = stream.split();
    let mut line = String::new();
    let read = tokio::io::BufReader::new(read.take(LONGEST as u64)).read_line(&mut line).await;
    if read.unwrap_or(0) == 0 {
        return;
    }
    let reply = match serde_json::from_str::<Order>(&line) {
        Err(error) => Reply::Refused(format!(
            "the process that serves does not know this order; is it an older version? ({error})"
        )),
        Ok(order) => match engine.order(order).await {
            Ok(answer) => Reply::Done(answer),
            Err(EngineError::Refused(refusal)) => Reply::Refused(refusal.to_string()),
            Err(error) => Reply::Failed(error.to_string()),
        },
    };
    if let Ok(mut text) = serde_json::to_string(&reply) {
        text.push('\n');
        // Who does not wait for the answer does not get it; what was done is done.
        let _ = write.write_all(text.as_bytes()).await;
    }
}

/// Has the process that serves this database do something; `None` where there is none.
pub fn ask(database: &Path, order: &Order) -> Result<Option<Answer>, ControlError> {
    let path = socket_of(database);
    let io = |source| ControlError::Io { path: path.clone(), source };
    let connected = short(&path).and_then(|(by, _dir)| UnixStream::connect(by));
    let mut stream = match connected {
        Ok(stream) => stream,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => return Ok(None),
        Err(e) => return Err(io(e)),
    };
    stream.set_read_timeout(Some(PATIENCE)).map_err(io)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(io)?;
    let mut text = serde_json::to_string(order).map_err(|e| io(e.into()))?;
    text.push('\n');
    if text.len() > LONGEST {
        let (size, most) = (text.len().div_ceil(1 << 20), LARGEST >> 20);
        return Err(ControlError::Refused(format!(
            "what is asked for has {size} MiB, and a conf may have {most} MiB: store it elsewhere, such as in S3, \
             and give where"
        )));
    }
    stream.write_all(text.as_bytes()).map_err(io)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).map_err(|e| match e.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => ControlError::Silent,
        _ => io(e),
    })?;
    match serde_json::from_str(&line).map_err(|e| io(e.into()))? {
        Reply::Done(answer) => Ok(Some(answer)),
        Reply::Refused(why) => Err(ControlError::Refused(why)),
        Reply::Failed(why) => Err(ControlError::Failed(why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_path_is_reached_by_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("x".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let socket = socket_of(&deep.join("biz.db"));
        let (by, _open) = short(&socket).unwrap();
        assert!(by.as_os_str().len() < 100, "{by:?}");
        let listener = std::os::unix::net::UnixListener::bind(&by).unwrap();
        assert!(socket.exists(), "it is beside the database");
        let (again, _open) = short(&socket).unwrap();
        UnixStream::connect(again).unwrap();
        drop(listener);
        let (path, open) = short(Path::new("/srv/biz.db.sock")).unwrap();
        assert!(path == Path::new("/srv/biz.db.sock") && open.is_none());
    }

    #[test]
    fn where_nobody_serves_there_is_no_answer() {
        let dir = tempfile::tempdir().unwrap();
        assert!(ask(&dir.path().join("biz.db"), &Order::Status).unwrap().is_none());
    }
}
