//! TLS as PostgreSQL's client asks for it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio_postgres::Socket;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect};

use crate::{TlsStream, Trust};

/// The words of PostgreSQL's client when a server that must speak TLS does not.
pub(crate) const NO_TLS: &str = "server does not support TLS";

/// How to make a connection private, if at all.
#[derive(Clone)]
pub struct PostgresTls {
    trust: Option<Trust>,
    name: Option<String>,
}

impl PostgresTls {
    /// Not at all: for a server on this machine, or where the operator said so. A server that is asked for TLS all the
    /// same is not connected to.
    pub fn none() -> Self {
        PostgresTls { trust: None, name: None }
    }

    /// With a verified certificate, which must name the host, or `name` if there is one.
    pub fn verifying(trust: &Trust, name: Option<String>) -> Self {
        PostgresTls { trust: Some(trust.announcing(b"postgresql")), name }
    }
}

/// `SSLRequest` (PostgreSQL's protocol, message formats): its length, and the code 80877103.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

impl Trust {
    /// Asks a PostgreSQL server for TLS on a fresh connection and speaks it, for those who speak its protocol themselves.
    /// The server of this name says one byte in clear; nothing is said to it that is not private.
    ///
    /// # Errors
    /// If the server speaks no TLS or is not to be believed: [`crate::refusal`] says why.
    pub async fn connect_postgres<S>(&self, name: &str, mut stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        stream.write_all(&SSL_REQUEST).await?;
        stream.flush().await?;
        if stream.read_u8().await? != b'S' {
            return Err(io::Error::other(NO_TLS));
        }
        self.announcing(b"postgresql").connect(name, stream).await
    }
}

impl MakeTlsConnect<Socket> for PostgresTls {
    type Stream = PostgresStream;
    type TlsConnect = Handshake;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> io::Result<Handshake> {
        let name = self.name.clone().unwrap_or_else(|| host.to_owned());
        Ok(Handshake { trust: self.trust.clone(), name })
    }
}

/// One handshake to be made.
pub struct Handshake {
    trust: Option<Trust>,
    name: String,
}

impl TlsConnect<Socket> for Handshake {
    type Stream = PostgresStream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<PostgresStream>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move {
            let trust = self.trust.ok_or_else(|| io::Error::other("TLS is not set up"))?;
            Ok(PostgresStream(trust.connect(&self.name, socket).await?))
        })
    }
}

/// The private connection.
pub struct PostgresStream(TlsStream<Socket>);

impl tokio_postgres::tls::TlsStream for PostgresStream {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for PostgresStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for PostgresStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
