//! An HTTP API over TLS that says what it was told to say, byte for byte, and remembers what it was asked.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// One request as it arrived.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map_or("", |(_, v)| v)
    }
}

/// What the API does.
pub(crate) enum Reaction {
    /// Sends these bytes and closes.
    Bytes(Vec<u8>),
    /// Sends these bytes and then nothing, for ever.
    ThenSilence(Vec<u8>),
    /// Sends these bytes over and over.
    Endless(Vec<u8>),
}

/// A running API; ends with the runtime.
#[derive(Clone)]
pub(crate) struct TestApi {
    pub(crate) port: u16,
    /// The certificate to trust, as PEM.
    pub(crate) ca: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl TestApi {
    /// Serves TLS on a listener of this machine, as `localhost`.
    pub(crate) fn start(
        listener: TcpListener,
        answer: impl Fn(&Seen) -> Reaction + Send + Sync + 'static,
    ) -> TestApi {
        let (ca, config) = certified("localhost");
        let acceptor = TlsAcceptor::from(config);
        let port = listener.local_addr().unwrap().port();
        let api = TestApi { port, ca, seen: Arc::default() };
        let (seen, answer) = (api.seen.clone(), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, seen, answer) = (acceptor.clone(), seen.clone(), answer.clone());
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let Some(asked) = read(&mut stream).await else { return };
                    seen.lock().unwrap().push(asked.clone());
                    react(&mut stream, answer(&asked)).await;
                });
            }
        });
        api
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.port)
    }

    /// What was asked so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn react<S: AsyncWrite + Unpin>(stream: &mut S, reaction: Reaction) {
    match reaction {
        Reaction::Bytes(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
        }
        Reaction::ThenSilence(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.flush().await;
            tokio::time::sleep(Duration::from_secs(600)).await;
        }
        Reaction::Endless(bytes) => while stream.write_all(&bytes).await.is_ok() {},
    }
}

/// Reads one request with a length, or without a body.
async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Option<Seen> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let mut seen = Seen { method: words.next()?.into(), target: words.next()?.into(), ..Seen::default() };
    seen.headers = lines.filter_map(|l| l.split_once(": ")).map(|(n, v)| (n.into(), v.into())).collect();
    let length = seen.header("content-length").parse().unwrap_or(0);
    let mut body = bytes.split_off(end + 4);
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    seen.body = String::from_utf8_lossy(&body).into_owned();
    Some(seen)
}

/// A certificate authority and a server that it vouches for under this name.
pub(crate) fn certified(name: &str) -> (String, Arc<rustls::ServerConfig>) {
    use base64::Engine as _;
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca = params.self_signed(&key).unwrap().der().clone();
    let issuer = Issuer::new(params, key);
    let leaf = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&leaf, &issuer).unwrap();
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf.serialize_der())),
            )
            .unwrap();
    let pem = base64::engine::general_purpose::STANDARD.encode(&ca);
    (format!("-----BEGIN CERTIFICATE-----\n{pem}\n-----END CERTIFICATE-----\n"), Arc::new(config))
}

/// A whole response.
pub(crate) fn response(status: &str, headers: &str, body: &str) -> Reaction {
    let length = body.len();
    Reaction::Bytes(
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}")
            .into_bytes(),
    )
}

/// A whole JSON response.
pub(crate) fn json(body: &str) -> Reaction {
    response("200 OK", "Content-Type: application/json\r\n", body)
}
