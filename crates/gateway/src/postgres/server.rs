//! The gateway's side towards the database: one connection, logged in with the login of one session.
//!
//! It is private, with the server's certificate verified, or it does not leave this machine.
//!
//! Only messages of the extended protocol are ever sent, each with one statement that was judged. How names and texts
//! are read is fixed when the connection begins, and no statement that is let through can change it.

use bailiwick_core::LeaseId;
use bailiwick_tls::{Refusal, refusal};
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::spec::ServerTls;
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
    /// Its server does not prove who it is.
    #[error("the database is not spoken to: {0}")]
    Unproven(String),
    /// It is on another machine, and nothing says how its server proves who it is.
    #[error("the database is not on this machine, and its target states no `tls`")]
    Plain,
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
    fn from(error: std::io::Error) -> Self {
        match refusal(&error) {
            Some(Refusal::Distrusted(why) | Refusal::NoTls(why)) => NoServer::Unproven(why),
            None => NoServer::Away,
        }
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
    tls: Option<ServerTls>,
    key: Vec<u8>,
}

impl Server {
    /// Connects and logs in, with these settings besides our own.
    pub(crate) async fn connect(
        login: &Login,
        tls: Option<&ServerTls>,
        settings: &BTreeMap<String, String>,
    ) -> Result<Self, NoServer> {
        timeout(LOGIN_WITHIN, Self::connected(login, tls, settings)).await.map_err(|_| NoServer::Slow)?
    }

    async fn connected(
        login: &Login,
        tls: Option<&ServerTls>,
        settings: &BTreeMap<String, String>,
    ) -> Result<Self, NoServer> {
        let stream = dial(&login.host, login.port, tls).await?;
        let (host, tls) = (login.host.clone(), tls.cloned());
        let cancel = Cancel { host, port: login.port, tls, key: Vec::new() };
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
            let mut stream = dial(&self.host, self.port, self.tls.as_ref()).await?;
            stream.write_all(&out.take()).await?;
            stream.flush().await?;
            // The server closes the connection once it has passed the request on.
            let _ = read_body(&mut stream, 0).await;
            Ok(())
        };
        timeout(LOGIN_WITHIN, sent).await.map_err(|_| NoServer::Slow)?
    }
}

/// A connection to the server: private where its target says how, plain only where it does not leave this machine.
async fn dial(host: &str, port: u16, tls: Option<&ServerTls>) -> Result<Box<dyn Duplex>, NoServer> {
    if host.starts_with('/') {
        let stream = UnixStream::connect(format!("{host}/.s.PGSQL.{port}")).await?;
        return guarded(host, stream, tls).await;
    }
    if tls.is_none() && !is_here(host) {
        return Err(NoServer::Plain);
    }
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    guarded(host, stream, tls).await
}

async fn guarded<S: Duplex + 'static>(
    host: &str,
    stream: S,
    tls: Option<&ServerTls>,
) -> Result<Box<dyn Duplex>, NoServer> {
    let Some(tls) = tls else { return Ok(Box::new(stream)) };
    let name = tls.name.as_deref().unwrap_or(host);
    Ok(Box::new(tls.trust.connect_postgres(name, stream).await?))
}

/// Whether a host name is this machine.
fn is_here(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use bailiwick_stand::{Authority, Cluster};
    use bailiwick_tls::Trust;

    use super::*;

    const NAME: &str = "db.example";
    const PASSWORD: &str = "of-one-session";

    /// A server that lets `agent` in, from the network only with its password.
    async fn with_a_login(cluster: &Cluster) -> Login {
        let made = format!("CREATE ROLE agent LOGIN PASSWORD '{PASSWORD}'");
        cluster.connect("postgres").await.batch_execute(&made).await.unwrap();
        Login {
            lease: "l-abc-1".parse().unwrap(),
            host: "127.0.0.1".to_owned(),
            port: cluster.port(),
            database: "postgres".to_owned(),
            user: "agent".to_owned(),
            password: Secret::new(PASSWORD),
        }
    }

    fn believing(authority: &Authority, name: Option<&str>) -> ServerTls {
        let trust = Trust::of_authority(authority.pem().as_bytes()).unwrap();
        ServerTls { trust, name: name.map(str::to_owned) }
    }

    async fn refused(login: &Login, tls: Option<&ServerTls>) -> NoServer {
        Server::connect(login, tls, &BTreeMap::new()).await.err().expect("it is refused")
    }

    // proves: X2, X3, Z1
    #[tokio::test]
    async fn a_session_goes_only_to_a_server_whose_certificate_is_in_force_and_names_it() {
        let (authority, other) = (Authority::new(), Authority::new());
        let cluster = Cluster::start_with_certificate(&authority.sign(NAME));
        let login = with_a_login(&cluster).await;
        let server = Server::connect(&login, Some(&believing(&authority, Some(NAME))), &BTreeMap::new())
            .await
            .unwrap();
        assert!(server.says.contains_key("server_version"), "{:?}", server.says);
        let admin = cluster.connect("postgres").await;
        let private = "SELECT count(*) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) \
                       WHERE a.usename = 'agent' AND s.ssl";
        assert_eq!(admin.query_one(private, &[]).await.unwrap().get::<_, i64>(0), 1);
        server.cancel.send().await.unwrap();

        let before = cluster.log().matches("connection authenticated").count();
        for (tls, says) in [
            (believing(&other, Some(NAME)), "not from an authority that is trusted"),
            (believing(&authority, None), "names another server"),
            (believing(&authority, Some("db.example.org")), "names another server"),
        ] {
            let error = refused(&login, Some(&tls)).await;
            assert!(matches!(&error, NoServer::Unproven(why) if why.contains(says)), "{error}");
            let cancel = Cancel { tls: Some(tls), ..server.cancel.clone() };
            assert!(cancel.send().await.is_err(), "nor is a statement's key told to it");
        }
        assert_eq!(cluster.log().matches("connection authenticated").count(), before, "nobody logged in");
        let error = refused(&login, None).await;
        assert!(matches!(error, NoServer::Refused(_)), "this server lets nobody in without TLS: {error}");
    }

    // proves: X2, Z1
    #[tokio::test]
    async fn a_server_with_an_expired_certificate_or_none_or_far_away_is_told_nothing() {
        let authority = Authority::new();
        let tls = believing(&authority, Some(NAME));
        let expired = Cluster::start_with_certificate(&authority.sign_expired(NAME));
        let error = refused(&with_a_login(&expired).await, Some(&tls)).await;
        assert!(matches!(&error, NoServer::Unproven(why) if why.contains("expired")), "{error}");

        let plain = Cluster::start_with_passwords();
        let login = with_a_login(&plain).await;
        let error = refused(&login, Some(&tls)).await;
        assert!(matches!(&error, NoServer::Unproven(why) if why.contains("speaks no TLS")), "{error}");
        assert!(!plain.log().contains("user=agent"), "not even its name was told");
        assert!(
            Server::connect(&login, None, &BTreeMap::new()).await.is_ok(),
            "on this machine it may be plain"
        );

        for host in ["db.example", "192.0.2.1", "localhost.example"] {
            let far = Login { host: host.to_owned(), ..login.clone() };
            assert!(matches!(refused(&far, None).await, NoServer::Plain), "{host}");
        }
    }
}
