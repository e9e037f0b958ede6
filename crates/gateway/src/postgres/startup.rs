//! The first words of a connection: encryption, who the client is, and its password.

use bailiwick_core::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::session::fatal;
use super::wire::{BadWire, Fields, Out, UNPROVEN_MAX, read_body, read_frame};
use super::{Key, known, last_word};
use crate::secret::Secret;

/// Longest first message, in bytes.
const GREETING_MAX: usize = 10_000;
/// Requests in the place of a version (section 54.7).
const CANCEL: i32 = 80_877_102;
const TLS: i32 = 80_877_103;
const GSS: i32 = 80_877_104;
/// The version that is spoken: 3.0.
const VERSION: i32 = 3 << 16;

/// A client's stream, encrypted or not.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Duplex for T {}

/// What a client wants.
pub(crate) enum Asked {
    /// A session.
    Session(Hello),
    /// That a running statement is cancelled.
    Cancel(Key),
}

/// What a client says of itself. Nothing of it is proven yet.
pub(crate) struct Hello {
    pub(crate) stream: Box<dyn Duplex>,
    pub(crate) database: String,
    pub(crate) user: String,
    pub(crate) password: Secret,
    /// Arguments of the scope.
    pub(crate) args: BTreeMap<String, Value>,
    /// Settings that are harmless.
    pub(crate) settings: BTreeMap<String, String>,
}

/// Hears a client out. Off this machine it must encrypt.
pub(crate) async fn greet(
    stream: TcpStream,
    tls: Option<Arc<rustls::ServerConfig>>,
    here: bool,
) -> Result<Asked, BadWire> {
    let mut stream: Box<dyn Duplex> = Box::new(stream);
    let mut encrypted = false;
    // Encryption of two kinds may be asked for before the greeting itself.
    for _ in 0..3 {
        let body = read_body(&mut stream, GREETING_MAX).await?;
        let mut fields = Fields::of(&body);
        match fields.long()? {
            TLS => match tls.clone().filter(|_| !encrypted) {
                Some(config) => {
                    stream.write_all(b"S").await?;
                    stream.flush().await?;
                    stream = Box::new(TlsAcceptor::from(config).accept(stream).await?);
                    encrypted = true;
                }
                None => {
                    stream.write_all(b"N").await?;
                    stream.flush().await?;
                }
            },
            GSS => {
                stream.write_all(b"N").await?;
                stream.flush().await?;
            }
            CANCEL => {
                let key = (fields.long()?, fields.long()?);
                fields.end()?;
                return Ok(Asked::Cancel(key));
            }
            version if version >> 16 == 3 => {
                if !encrypted && !here {
                    last_word(&mut stream, &fatal("28000", "connections from elsewhere must be encrypted"))
                        .await;
                    return Err(BadWire::Malformed("not encrypted"));
                }
                return hello(stream, version, fields).await.map(Asked::Session);
            }
            _ => return Err(BadWire::Malformed("no version that is spoken here")),
        }
    }
    Err(BadWire::Malformed("no greeting"))
}

async fn hello(mut stream: Box<dyn Duplex>, version: i32, mut fields: Fields<'_>) -> Result<Hello, BadWire> {
    let mut stated: BTreeMap<String, String> = BTreeMap::new();
    loop {
        let name = fields.text()?;
        if name.is_empty() {
            break;
        }
        stated.insert(name.to_owned(), fields.text()?.to_owned());
    }
    fields.end()?;
    let user = stated.remove("user").unwrap_or_default();
    let database = stated.remove("database").unwrap_or_else(|| user.clone());
    let mut hello = Hello {
        stream: Box::new(tokio::io::empty()),
        database,
        user,
        password: Secret::new(""),
        args: BTreeMap::new(),
        settings: BTreeMap::new(),
    };
    if let Err(what) = settle(&mut hello, &mut stated) {
        last_word(&mut stream, &fatal("22023", &what)).await;
        return Err(BadWire::Malformed("a setting"));
    }
    let mut out = Out::default();
    if version != VERSION {
        let extensions: Vec<&String> = stated.keys().collect();
        out.message(b'v', |body| {
            body.extend_from_slice(&VERSION.to_be_bytes());
            body.extend_from_slice(&u32::try_from(extensions.len()).unwrap_or(0).to_be_bytes());
            for name in extensions {
                body.extend_from_slice(name.as_bytes());
                body.push(0);
            }
        });
    }
    out.message(b'R', |body| body.extend_from_slice(&3_i32.to_be_bytes()));
    stream.write_all(&out.take()).await?;
    stream.flush().await?;
    let frame = read_frame(&mut stream, UNPROVEN_MAX).await?;
    if frame.tag != b'p' {
        return Err(BadWire::Malformed("no password"));
    }
    let mut fields = Fields::of(&frame.body);
    hello.password = Secret::new(fields.text()?);
    fields.end()?;
    hello.stream = stream;
    Ok(hello)
}

/// Takes what a client sets: harmless settings, and the scope's arguments as `bailiwick.NAME`. Protocol extensions
/// stay, to be declined.
fn settle(hello: &mut Hello, stated: &mut BTreeMap<String, String>) -> Result<(), String> {
    let mut all: Vec<(String, String)> = options(&stated.remove("options").unwrap_or_default())?;
    let names: Vec<String> = stated.keys().filter(|name| !name.starts_with("_pq_.")).cloned().collect();
    all.extend(names.into_iter().filter_map(|name| stated.remove_entry(&name)));
    for (name, value) in all {
        let name = name.to_ascii_lowercase();
        if let Some(arg) = name.strip_prefix("bailiwick.") {
            let value = value.parse().map_or_else(|_| Value::Text(value.clone()), Value::Int);
            hello.args.insert(arg.to_owned(), value);
        } else if name == "client_encoding" {
            // What is spoken is UTF-8, whatever was asked for, and the client is told so.
        } else if known::set(&name, &value) {
            hello.settings.insert(name, value);
        } else {
            return Err(format!("the setting `{}` is not taken here", crate::envelope::cut(&name, 64)));
        }
    }
    Ok(())
}

/// Reads `-c name=value` and `--name=value`; a backslash keeps a blank (libpq's `options`).
fn options(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => word.extend(chars.next()),
            c if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    let mut out = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let setting = match word.as_str() {
            "-c" => words.next().unwrap_or_default(),
            other => match other.strip_prefix("--").or_else(|| other.strip_prefix("-c")) {
                Some(setting) => setting.to_owned(),
                None => return Err("`options` holds settings only, as -c name=value".to_owned()),
            },
        };
        let (name, value) = setting.split_once('=').ok_or("`options` holds settings as name=value")?;
        out.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(out)
}

/// The words that end the greeting: all is well, what the server is like, how to cancel, and ready.
pub(crate) fn welcome(says: &BTreeMap<String, String>, key: Key, session: &str) -> Vec<u8> {
    let mut out = Out::default();
    out.message(b'R', |body| body.extend_from_slice(&0_i32.to_be_bytes()));
    for (name, value) in says {
        out.parameter(name, value);
    }
    out.parameter(SESSION, session);
    out.message(b'K', |body| {
        body.extend_from_slice(&key.0.to_be_bytes());
        body.extend_from_slice(&key.1.to_be_bytes());
    });
    out.ready(b'I');
    out.take()
}

/// The parameter by which a session is told its own name, under which it can be renewed.
pub(crate) const SESSION: &str = "bailiwick_session";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_as_libpq_writes_them() {
        let read = |text| options(text).unwrap();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(read("-c bailiwick.customer=7"), [pair("bailiwick.customer", "7")]);
        assert_eq!(read("  --x-y=a\\ b -cz=1"), [pair("x_y", "a b"), pair("z", "1")]);
        assert!(options("-B 5").is_err() && options("-c nothing").is_err());
    }
}
