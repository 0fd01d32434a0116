//! What every system's step does in the kill test: an effect on a server, told with a key.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Sends one request over a connection of its own; the status, and the body as it came.
pub async fn request(server: &str, method: &str, path: &str, body: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(server).await?;
    let length = body.len();
    let kind = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {server}\r\nconnection: close\r\n{kind}content-length: {length}\r\n\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned());
    Ok((status, body))
}

/// Has the effect `key`; an error where the server refuses it.
pub async fn effect(server: &str, key: &str) -> Result<(), String> {
    match request(server, "POST", &format!("/{key}"), "").await {
        Ok((200, _)) => Ok(()),
        Ok((status, _)) => Err(format!("the server answered {status}")),
        Err(error) => Err(error.to_string()),
    }
}
