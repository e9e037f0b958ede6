//! RESP, the protocol of Redis (version 2 of it): as much as an administrator's connection needs.
//!
//! What a server sends is bounded before it is believed: length, nesting and time.

use std::time::Duration;

use bailiwick_tls::Trust;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::error::BrokerError;
use crate::secret::Secret;

/// How long a server may take for one answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Longest line, in bytes.
const LINE_MAX: u64 = 64 * 1024;
/// Longest text, in bytes.
const TEXT_MAX: usize = 16 << 20;
/// Most members of a list.
const LIST_MAX: usize = 100_000;
/// Deepest nesting.
const DEPTH_MAX: u8 = 8;

/// Where a server is, and who we are there.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
    password: Option<Secret>,
    /// Whether TLS was asked for, and whom to believe then, by which name.
    private: Option<Option<(Trust, String)>>,
}

impl Address {
    /// Reads `redis://[USER[:PASSWORD]@]HOST[:PORT]`, and the same with `rediss://`.
    pub(super) fn parse(url: &str) -> Option<Address> {
        let (rest, private) = match url.strip_prefix("rediss://") {
            Some(rest) => (rest, Some(None)),
            None => (url.strip_prefix("redis://")?, None),
        };
        let (who, place) = rest.rsplit_once('@').map_or((None, rest), |(who, place)| (Some(who), place));
        let place = place.trim_end_matches('/');
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (place, 6379),
        };
        if host.is_empty() || host.contains('/') {
            return None;
        }
        let (user, password) = match who {
            None => ("default", None),
            Some(who) => {
                let (user, password) = who.split_once(':').unwrap_or((who, ""));
                (if user.is_empty() { "default" } else { user }, Some(Secret::new(password.to_owned())))
            }
        };
        Some(Address { host: host.to_owned(), port, user: user.to_owned(), password, private })
    }

    /// Whether it is reached by TLS alone.
    pub(super) fn is_private(&self) -> bool {
        self.private.is_some()
    }

    /// Whom to believe there. Until this was said, nothing is sent to a private address.
    pub(super) fn believe(&mut self, trust: Trust, name: Option<String>) {
        let name = name.unwrap_or_else(|| self.host.clone());
        self.private = Some(Some((trust, name)));
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, BrokerError> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(|e| broken(&e))?;
        match &self.private {
            None => Ok(Box::new(stream)),
            Some(Some((trust, name))) => {
                Ok(Box::new(trust.connect(name, stream).await.map_err(|e| broken(&e))?))
            }
            Some(None) => Err(BrokerError::new("target.no_tls", "nobody said whom to believe there")),
        }
    }
}

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    Text(String),
    Int(i64),
    Nil,
    List(Vec<Reply>),
}

impl Reply {
    pub(super) fn text(&self) -> Option<&str> {
        if let Reply::Text(text) = self { Some(text) } else { None }
    }
    pub(super) fn list(&self) -> &[Reply] {
        if let Reply::List(items) = self { items } else { &[] }
    }
    /// The value after a name in a list of names and values.
    pub(super) fn field(&self, name: &str) -> Option<&Reply> {
        self.list().chunks(2).find(|pair| pair.first().and_then(Reply::text) == Some(name))?.get(1)
    }
}

/// What a connection goes over.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A connection of an administrator.
pub(super) struct Connection {
    stream: BufReader<Box<dyn Stream>>,
}

impl Connection {
    pub(super) async fn open(address: &Address) -> Result<Connection, BrokerError> {
        let stream = timed(address.connect()).await?;
        let mut connection = Connection { stream: BufReader::new(stream) };
        if let Some(password) = &address.password {
            connection.ask(&["AUTH", &address.user, password.expose()]).await?;
        }
        Ok(connection)
    }

    /// Sends one command and reads its answer.
    pub(super) async fn ask(&mut self, words: &[&str]) -> Result<Reply, BrokerError> {
        let mut out = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            out.extend_from_slice(word.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        timed(async {
            self.stream.get_mut().write_all(&out).await.map_err(|e| broken(&e))?;
            self.stream.get_mut().flush().await.map_err(|e| broken(&e))?;
            self.reply(0).await
        })
        .await
    }

    async fn reply(&mut self, depth: u8) -> Result<Reply, BrokerError> {
        let line = self.line().await?;
        let (kind, rest) = line.split_at_checked(1).ok_or_else(|| odd("an empty line"))?;
        match kind {
            "+" => Ok(Reply::Text(rest.to_owned())),
            "-" => Err(refused(rest)),
            ":" => rest.parse().map(Reply::Int).map_err(|_| odd("not a number")),
            "$" => self.text(rest).await,
            "*" if depth < DEPTH_MAX => self.list(rest, depth).await,
            _ => Err(odd("a kind of answer that is not known")),
        }
    }

    async fn text(&mut self, length: &str) -> Result<Reply, BrokerError> {
        if length == "-1" {
            return Ok(Reply::Nil);
        }
        let length: usize = length.parse().ok().filter(|n| *n <= TEXT_MAX).ok_or_else(|| odd("a length"))?;
        let mut bytes = vec![0; length.saturating_add(2)];
        self.stream.read_exact(&mut bytes).await.map_err(|e| broken(&e))?;
        bytes.truncate(length);
        Ok(Reply::Text(String::from_utf8_lossy(&bytes).into_owned()))
    }

    async fn list(&mut self, length: &str, depth: u8) -> Result<Reply, BrokerError> {
        if length == "-1" {
            return Ok(Reply::Nil);
        }
        let length: usize = length.parse().ok().filter(|n| *n <= LIST_MAX).ok_or_else(|| odd("a length"))?;
        let mut items = Vec::new();
        for _ in 0..length {
            items.push(Box::pin(self.reply(depth.saturating_add(1))).await?);
        }
        Ok(Reply::List(items))
    }

    async fn line(&mut self) -> Result<String, BrokerError> {
        let mut line = Vec::new();
        let mut limited = (&mut self.stream).take(LINE_MAX);
        limited.read_until(b'\n', &mut line).await.map_err(|e| broken(&e))?;
        if !line.ends_with(b"\r\n") {
            return Err(odd("a line that does not end"));
        }
        line.truncate(line.len().saturating_sub(2));
        String::from_utf8(line).map_err(|_| odd("a line that is not text"))
    }
}

async fn timed<T>(doing: impl Future<Output = Result<T, BrokerError>>) -> Result<T, BrokerError> {
    let late = |_| BrokerError::new("target.unreachable", "the server did not answer within 5 s");
    tokio::time::timeout(ANSWER, doing).await.map_err(late)?
}

fn broken(error: &std::io::Error) -> BrokerError {
    crate::private::unproven(error).unwrap_or_else(|| {
        BrokerError::new("target.unreachable", format!("the connection failed: {}", error.kind()))
    })
}

fn odd(what: &str) -> BrokerError {
    BrokerError::new("target.odd", format!("the server does not speak RESP: {what}"))
}

/// Error lines begin with a word; what follows may repeat our command, but none of ours holds a secret in clear.
fn refused(line: &str) -> BrokerError {
    let code = if line.starts_with("NOPERM") || line.starts_with("WRONGPASS") || line.starts_with("NOAUTH") {
        "target.forbidden"
    } else {
        "target.refused"
    };
    BrokerError::new(code, line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    async fn answered(bytes: &'static [u8]) -> Result<Reply, BrokerError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0; 14];
            stream.read_exact(&mut asked).await.unwrap();
            assert_eq!(&asked, b"*1\r\n$4\r\nPING\r\n");
            stream.write_all(bytes).await.unwrap();
        });
        let address = Address::parse(&format!("redis://127.0.0.1:{port}")).unwrap();
        Connection::open(&address).await.unwrap().ask(&["PING"]).await
    }

    #[tokio::test]
    async fn answers_are_read_and_odd_ones_are_errors() {
        assert_eq!(answered(b"+PONG\r\n").await, Ok(Reply::Text("PONG".to_owned())));
        assert_eq!(answered(b"$-1\r\n").await, Ok(Reply::Nil));
        let pair = Reply::List(vec![Reply::Text("a\r\nb".to_owned()), Reply::Int(-3)]);
        assert_eq!(answered(b"*2\r\n$4\r\na\r\nb\r\n:-3\r\n").await, Ok(pair));
        assert_eq!(answered(b"-NOPERM no\r\n").await.unwrap_err().code(), "target.forbidden");
        for bad in [
            &b"*99999999999\r\n"[..],
            b"$99999999999\r\n",
            b"!\r\n",
            b"\r\n",
            b":x\r\n",
            b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n",
        ] {
            assert_eq!(answered(bad).await.unwrap_err().code(), "target.odd", "{bad:?}");
        }
        assert_eq!(answered(b"$5\r\nab").await.unwrap_err().code(), "target.unreachable");
    }

    #[test]
    fn an_address_is_read_strictly() {
        let full = Address::parse("redis://ops:pa:ss@db.example:7000").unwrap();
        let full_is_private = full.is_private();
        assert_eq!((full.host.as_str(), full.port, full.user.as_str()), ("db.example", 7000, "ops"));
        assert_eq!(full.password.unwrap().expose(), "pa:ss");
        assert_eq!(Address::parse("redis://h").unwrap().port, 6379);
        assert!(Address::parse("rediss://h").unwrap().is_private() && !full_is_private);
        for bad in ["redis+tls://h", "h:1", "redis://", "redis://h:x", "redis://h/0/1:2"] {
            assert!(Address::parse(bad).is_none(), "{bad}");
        }
    }
}
