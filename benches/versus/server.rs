//! Restate's server, for the measurement and for the kill test: with its own defaults, on ports of its own.

use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Free ports, no two of them the same: all are held until the last is there. They are let go then, for the server
/// wants to be told its ports.
pub fn ports<const COUNT: usize>() -> [u16; COUNT] {
    let held = [(); COUNT].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    held.map(|listener| listener.local_addr().expect("an address").port())
}

/// Starts it in this folder, in which all is that it leaves, so that it goes with the folder; it tells nobody of its
/// use.
pub fn start(dir: &Path, [ingress, admin, node]: [u16; 3]) -> io::Result<Child> {
    let program = std::env::var_os("RESTATE_SERVER")
        .ok_or_else(|| io::Error::other("RESTATE_SERVER names the server's binary"))?;
    let temporary = dir.join("tmp");
    std::fs::create_dir_all(&temporary)?;
    let log = std::fs::File::options().append(true).create(true).open(dir.join("server.log"))?;
    Command::new(program)
        .arg("--base-dir")
        .arg(dir.join("restate"))
        .args(["--node-name", "one"])
        .env("TMPDIR", temporary)
        .env("RESTATE_DISABLE_TELEMETRY", "true")
        .env("RESTATE_INGRESS__BIND_ADDRESS", format!("127.0.0.1:{ingress}"))
        .env("RESTATE_ADMIN__BIND_ADDRESS", format!("127.0.0.1:{admin}"))
        .env("RESTATE_BIND_ADDRESS", format!("127.0.0.1:{node}"))
        .env("RESTATE_LISTEN_MODE", "tcp")
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
}
