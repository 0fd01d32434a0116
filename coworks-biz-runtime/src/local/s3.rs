//! A real S3 server in this process: the `s3s-fs` library.

use std::io;
use std::path::Path;

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
    servers.spawn(super::serve::serve(listener, service));
    Ok(())
}
