//! A real S3 server in this process: the `s3s-fs` library.

use std::io;
use std::path::Path;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::config::S3Server;

/// Serves the folder, with the credentials of `server`.
pub(super) fn serve(
    listener: TcpListener,
    dir: &Path,
    bucket: &str,
    server: &S3Server,
    servers: &mut JoinSet<()>,
) -> io::Result<()> {
    // A bucket is a folder.
    std::fs::create_dir_all(dir.join(bucket))?;
    let files = FileSystem::new(dir).map_err(|e| io::Error::other(format!("{e:?}")))?;
    let mut service = S3ServiceBuilder::new(files);
    service.set_auth(SimpleAuth::from_single(&*server.access_key, server.secret_key.expose()));
    let service = service.build();
    servers.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => {
                    // Small answers in two writes would wait 40 ms for each other.
                    let _ = stream.set_nodelay(true);
                    stream
                }
                Err(e) => {
                    tracing::warn!("the local S3 server could not accept a connection: {e}");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    continue;
                }
            };
            let service = service.clone();
            connections.spawn(async move {
                let http = Builder::new(TokioExecutor::new());
                // A client that goes away in the middle is its own affair.
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            });
            while connections.try_join_next().is_some() {}
        }
    });
    Ok(())
}
