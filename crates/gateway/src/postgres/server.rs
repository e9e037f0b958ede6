//! The gateway's side towards the database: one connection, logged in with the login of one session.
//!
//! Only messages of the extended protocol are ever sent, each with one statement that was judged. How names and texts
//! are read is fixed when the connection begins, and no statement that is let through can change it.

use bailiwick_core::LeaseId;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::wire::{BadWire, Fields, Frame, Out, SERVER_MAX, read_body, read_frame};
use crate::secret::Secret;

/// How long connecting and logging in may take.
const LOGIN_WITHIN: Duration = Duration::from_secs(15);

/// A login that exists for one session. The agent never sees it.
#[derive(Debug, Clone)]
pub struct Login {
    /// The lease behind it.
    pub lease: LeaseId,
    /// A host, or the folder of a socket.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The database.
    pub database: String,
    /// The login's name.
    pub user: String,
    /// Its password.
    pub password: Secret,
}

/// Why there is no connection to the database.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoServer {
    /// It cannot be reached, or broke off.
    #[error("the database cannot be reached")]
    Away,
    /// It took too long.
    #[error("the database took too long to log in")]
    Slow,
    /// It refused.
    #[error("the database refused the session's login (SQLSTATE {0})")]
    Refused(String),
    /// It asked for something that is not spoken here.
    #[error("the database asks for a way to log in that is not spoken here")]
    Unknown,
}

impl From<BadWire> for NoServer {
    fn from(_: BadWire) -> Self {
        NoServer::Away
    }
}

impl From<std::io::Error> for NoServer {
    fn from(_: std::io::Error) -> Self {
        NoServer::Away
    }
}

trait Duplex: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Duplex for T {}

/// A connection that is logged in.
pub(crate) struct Server {
    stream: BufReader<Box<dyn Duplex>>,
    /// What is to be sent next.
    pub(crate) out: Out,
    /// What the server says of itself, for the client.
    pub(crate) says: BTreeMap<String, String>,
    /// How to have a running statement cancelled.
    pub(crate) cancel: Cancel,
}

/// What it takes to have the running statement cancelled.
#[derive(Debug, Clone)]
pub(crate) struct Cancel {
    host: String,
    port: u16,
    key: Vec<u8>,
}

impl Server {
    /// Connects and logs in, with these settings besides our own.
    pub(crate) async fn connect(
        login: &Login,
        settings: &BTreeMap<String, String>,
    ) -> Result<Self, NoServer> {
        timeout(LOGIN_WITHIN, Self::connected(login, settings)).await.map_err(|_| NoServer::Slow)?
    }

    async fn connected(login: &Login, settings: &BTreeMap<String, String>) -> Result<Self, NoServer> {
        let stream = dial(&login.host, login.port).await?;
        let cancel = Cancel { host: login.host.clone(), port: login.port, key: Vec::new() };
        let mut server =
            Server { stream: BufReader::new(stream), out: Out::default(), says: BTreeMap::new(), cancel };
        server.greet(login, settings);
        server.flush().await?;
        server.log_in(login.password.expose()).await?;
        Ok(server)
    }

    fn greet(&mut self, login: &Login, settings: &BTreeMap<String, String>) {
        let fixed = [
            ("user", login.user.as_str()),
            ("database", &login.database),
            ("application_name", "bailiwick"),
            ("client_encoding", "UTF8"),
            ("standard_conforming_strings", "on"),
            ("search_path", "pg_catalog, public, pg_temp"),
        ];
        let theirs = settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let all: BTreeMap<&str, &str> = theirs.chain(fixed).collect();
        self.out.message(0, |body| {
            body.extend_from_slice(&196_608_i32.to_be_bytes());
            for (name, value) in all {
                body.extend_from_slice(name.as_bytes());
                body.push(0);
                body.extend_from_slice(value.as_bytes());
                body.push(0);
            }
            body.push(0);
        });
    }

    async fn log_in(&mut self, password: &str) -> Result<(), NoServer> {
        let mut scram: Option<ScramSha256> = None;
        loop {
            let frame = self.read().await?;
            let mut fields = Fields::of(&frame.body);
            match frame.tag {
                b'R' => match fields.long()? {
                    0 => {}
                    10 => {
                        let begun = begin(&mut fields, password)?;
                        self.out.message(b'p', |body| {
                            body.extend_from_slice(SCRAM_SHA_256.as_bytes());
                            body.push(0);
                            body.extend_from_slice(
                                &i32::try_from(begun.message().len()).unwrap_or(0).to_be_bytes(),
                            );
                            body.extend_from_slice(begun.message());
                        });
                        scram = Some(begun);
                        self.flush().await?;
                    }
                    11 => {
                        let scram = scram.as_mut().ok_or(NoServer::Unknown)?;
                        scram.update(frame.body.get(4..).unwrap_or_default())?;
                        self.out.message(b'p', |body| body.extend_from_slice(scram.message()));
                        self.flush().await?;
                    }
                    12 => {
                        let scram = scram.as_mut().ok_or(NoServer::Unknown)?;
                        scram.finish(frame.body.get(4..).unwrap_or_default())?;
                    }
                    _ => return Err(NoServer::Unknown),
                },
                b'S' => self.said(&frame)?,
                b'K' => self.cancel.key = frame.body,
                b'E' => return Err(NoServer::Refused(state_of(&frame))),
                b'N' => {}
                b'Z' => return Ok(()),
                _ => return Err(NoServer::Unknown),
            }
        }
    }

    /// Takes note of what the server says of itself.
    pub(crate) fn said(&mut self, frame: &Frame) -> Result<(), BadWire> {
        let mut fields = Fields::of(&frame.body);
        let (name, value) = (fields.text()?.to_owned(), fields.text()?.to_owned());
        // The name of the login is nobody's business.
        if name != "session_authorization" {
            self.says.insert(name, value);
        }
        Ok(())
    }

    /// Sends what was written.
    pub(crate) async fn flush(&mut self) -> Result<(), BadWire> {
        let bytes = self.out.take();
        self.stream.write_all(&bytes).await?;
        self.stream.flush().await?;
        Ok(())
    }

    /// The next message.
    pub(crate) async fn read(&mut self) -> Result<Frame, BadWire> {
        read_frame(&mut self.stream, SERVER_MAX).await
    }
}

/// SCRAM-SHA-256 and nothing weaker (RFC 7677): the login's password was made for it.
fn begin(fields: &mut Fields<'_>, password: &str) -> Result<ScramSha256, NoServer> {
    while !fields.is_empty() {
        match fields.text()? {
            "" => break,
            offered if offered == SCRAM_SHA_256 => {
                return Ok(ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported()));
            }
            _ => {}
        }
    }
    Err(NoServer::Unknown)
}

/// The SQLSTATE of an error.
pub(crate) fn state_of(frame: &Frame) -> String {
    let mut fields = Fields::of(&frame.body);
    while let Ok(kind) = fields.byte() {
        match (kind, fields.text()) {
            (b'C', Ok(state)) => return state.chars().take(5).collect(),
            (0, _) | (_, Err(_)) => break,
            _ => {}
        }
    }
    "XX000".to_owned()
}

/// What an error says in words: its message, detail and hint.
pub(crate) fn words_of(frame: &Frame) -> Vec<String> {
    let mut fields = Fields::of(&frame.body);
    let mut words = Vec::new();
    while let Ok(kind) = fields.byte() {
        match (kind, fields.text()) {
            (b'M' | b'D' | b'H', Ok(text)) => words.push(text.to_owned()),
            (0, _) | (_, Err(_)) => break,
            _ => {}
        }
    }
    words
}

impl Cancel {
    /// Asks the server to cancel what runs on the connection.
    pub(crate) async fn send(&self) -> Result<(), NoServer> {
        let mut out = Out::default();
        out.message(0, |body| {
            body.extend_from_slice(&80_877_102_i32.to_be_bytes());
            body.extend_from_slice(&self.key);
        });
        let sent = async {
            let mut stream = dial(&self.host, self.port).await?;
            stream.write_all(&out.take()).await?;
            stream.flush().await?;
            // The server closes the connection once it has passed the request on.
            let _ = read_body(&mut stream, 0).await;
            Ok(())
        };
        timeout(LOGIN_WITHIN, sent).await.map_err(|_| NoServer::Slow)?
    }
}

async fn dial(host: &str, port: u16) -> Result<Box<dyn Duplex>, NoServer> {
    if host.starts_with('/') {
        return Ok(Box::new(UnixStream::connect(format!("{host}/.s.PGSQL.{port}")).await?));
    }
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}
