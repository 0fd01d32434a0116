//! An SMTP server in the process of the test: it speaks the protocol, and misbehaves as it is told.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lettre::transport::smtp::client::Certificate;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// A mail as it was handed over.
#[derive(Debug, Clone)]
pub(crate) struct Mail {
    pub(crate) user: Option<String>,
    pub(crate) encrypted: bool,
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
    pub(crate) data: String,
}

/// When a connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encrypts {
    Never,
    WhenAsked,
    FromTheStart,
}

/// What the server does, and with what it answers.
#[derive(Debug, Clone)]
pub(crate) struct Manners {
    pub(crate) encrypts: Encrypts,
    /// The user and the password, without which no mail is taken.
    pub(crate) login: Option<(&'static str, &'static str)>,
    /// Recipients that are refused, with these words.
    pub(crate) refuses: &'static [(&'static str, &'static str)],
    /// What is said to a mail.
    pub(crate) taken: &'static str,
    /// The verb after which nothing more is said.
    pub(crate) silent_after: Option<&'static str>,
}

impl Default for Manners {
    fn default() -> Self {
        Self { encrypts: Encrypts::Never, login: None, refuses: &[], taken: "250 taken", silent_after: None }
    }
}

/// A server that is there until it is dropped.
pub(crate) struct Server {
    pub(crate) port: u16,
    /// What a client has to trust.
    pub(crate) root: Certificate,
    mails: Arc<Mutex<Vec<Mail>>>,
    connections: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start(manners: Manners) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let root = Certificate::from_pem(made.cert.pem().as_bytes()).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let tls = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let (mails, connections) = <(Arc<Mutex<Vec<Mail>>>, Arc<AtomicUsize>)>::default();
        let (kept, counted) = (Arc::clone(&mails), Arc::clone(&connections));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // Its connections go with it.
            let mut talks = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                let (manners, acceptor, kept) = (manners.clone(), acceptor.clone(), Arc::clone(&kept));
                talks.spawn(async move {
                    // A client may hang up wherever it likes.
                    let _ = talk(Box::new(stream), &manners, &acceptor, &kept).await;
                });
            }
        });
        Self { port, root, mails, connections, _tasks: tasks }
    }

    pub(crate) fn mails(&self) -> Vec<Mail> {
        self.mails.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

async fn talk(
    stream: Box<dyn Stream>,
    manners: &Manners,
    acceptor: &TlsAcceptor,
    mails: &Mutex<Vec<Mail>>,
) -> std::io::Result<()> {
    let mut encrypted = manners.encrypts == Encrypts::FromTheStart;
    let stream = if encrypted { Box::new(acceptor.accept(stream).await?) as Box<dyn Stream> } else { stream };
    let mut stream = BufReader::new(stream);
    say(&mut stream, "220 test").await?;
    let fresh = Mail { user: None, encrypted, from: String::new(), to: vec![], data: String::new() };
    let (mut mail, mut user) = (fresh.clone(), None);
    loop {
        let line = hear(&mut stream).await?;
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_uppercase();
        if manners.silent_after == Some(&*verb) {
            std::future::pending::<()>().await;
        }
        let may_send = manners.login.is_none() || user.is_some();
        match &*verb {
            "EHLO" => {
                let mut lines = vec!["250-test greets you", "250-8BITMIME"];
                if manners.encrypts == Encrypts::WhenAsked && !encrypted {
                    lines.push("250-STARTTLS");
                }
                if manners.login.is_some() {
                    lines.push("250-AUTH PLAIN");
                }
                lines.push("250 OK");
                say(&mut stream, &lines.join("\r\n")).await?;
            }
            "STARTTLS" if manners.encrypts == Encrypts::WhenAsked => {
                say(&mut stream, "220 go ahead").await?;
                stream = BufReader::new(Box::new(acceptor.accept(stream.into_inner()).await?));
                encrypted = true;
            }
            "AUTH" => {
                let given = line.strip_prefix("AUTH PLAIN ").and_then(|text| STANDARD.decode(text).ok());
                let wanted = manners.login.map(|(user, word)| format!("\0{user}\0{word}").into_bytes());
                user = (given == wanted).then(|| manners.login.unwrap().0.to_owned());
                let answer = if user.is_some() { "235 welcome" } else { "535 5.7.8 wrong password" };
                say(&mut stream, answer).await?;
            }
            "MAIL" | "RCPT" if !may_send => say(&mut stream, "530 5.7.0 log in first").await?,
            "MAIL" => {
                mail = Mail { user: user.clone(), encrypted, from: address(&line), ..fresh.clone() };
                say(&mut stream, "250 OK").await?;
            }
            "RCPT" => {
                let to = address(&line);
                match manners.refuses.iter().find(|(refused, _)| *refused == to) {
                    Some((_, words)) => say(&mut stream, words).await?,
                    None => {
                        mail.to.push(to);
                        say(&mut stream, "250 OK").await?;
                    }
                }
            }
            "DATA" if mail.to.is_empty() => say(&mut stream, "503 for whom?").await?,
            "DATA" => {
                say(&mut stream, "354 go on").await?;
                loop {
                    let line = hear(&mut stream).await?;
                    if line == "." {
                        break;
                    }
                    mail.data.push_str(line.strip_prefix('.').unwrap_or(&line));
                    mail.data.push_str("\r\n");
                }
                if manners.taken.starts_with('2') {
                    mails.lock().unwrap().push(mail.clone());
                }
                say(&mut stream, manners.taken).await?;
            }
            "NOOP" | "RSET" => say(&mut stream, "250 OK").await?,
            "QUIT" => return say(&mut stream, "221 bye").await,
            _ => say(&mut stream, "502 what?").await?,
        }
    }
}

async fn say(stream: &mut BufReader<Box<dyn Stream>>, text: &str) -> std::io::Result<()> {
    stream.write_all(format!("{text}\r\n").as_bytes()).await?;
    stream.flush().await
}

async fn hear(stream: &mut BufReader<Box<dyn Stream>>) -> std::io::Result<String> {
    let mut line = String::new();
    match stream.read_line(&mut line).await? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(line.trim_end_matches(['\r', '\n']).to_owned()),
    }
}

/// What is within `<` and `>`.
fn address(line: &str) -> String {
    let inside = line.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    inside.map(|(address, _)| address.to_owned()).unwrap_or_default()
}
