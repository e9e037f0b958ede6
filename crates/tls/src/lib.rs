//! TLS to the servers that we log in to, with administrators' secrets: PostgreSQL stores, and target systems.
//!
//! A server's certificate must lead to a root that is trusted, be in force, and name the server; there is no way to
//! ask for less. Roots are those that this system trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others), or those
//! of one stated authority and no others.

mod postgres;

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
pub use tokio_rustls::client::TlsStream;

pub use postgres::{Handshake, PostgresStream, PostgresTls};

/// Whom to believe: TLS 1.2 or 1.3 with a verified certificate.
#[derive(Clone)]
pub struct Trust(Arc<ClientConfig>);

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trust")
    }
}

/// Nobody can be believed so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoTrust(String);

impl fmt::Display for NoTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for NoTrust {}

impl Trust {
    /// In the roots that this system trusts.
    ///
    /// # Errors
    /// If this system's roots cannot be used.
    pub fn of_system() -> Result<Trust, NoTrust> {
        let config = builder()?.with_platform_verifier().map_err(no)?;
        Ok(Trust(Arc::new(config.with_no_client_auth())))
    }

    /// In the certificates of one authority, in PEM, and nobody else.
    ///
    /// # Errors
    /// If there is no certificate in it, or one that is not one.
    pub fn of_authority(pem: &[u8]) -> Result<Trust, NoTrust> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            roots
                .add(certificate.map_err(|e| no(format!("the authority is not PEM: {e:?}")))?)
                .map_err(no)?;
        }
        if roots.is_empty() {
            return Err(no("there is no certificate in the authority's file"));
        }
        Ok(Trust(Arc::new(builder()?.with_root_certificates(roots).with_no_client_auth())))
    }

    /// Speaks TLS on a connection to the server of this name, a host name or an address.
    ///
    /// # Errors
    /// If the name is none, or the server is not to be believed: [`refusal`] says why.
    pub async fn connect<S>(&self, name: &str, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        TlsConnector::from(Arc::clone(&self.0)).connect(name, stream).await
    }

    /// The same trust, announcing a protocol (RFC 7301).
    fn announcing(&self, protocol: &[u8]) -> Trust {
        let mut config = ClientConfig::clone(&self.0);
        config.alpn_protocols = vec![protocol.to_vec()];
        Trust(Arc::new(config))
    }
}

/// Why a connection did not become private, in words for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The server's certificate is not to be believed.
    Distrusted(String),
    /// The server speaks no TLS, or none that we do.
    NoTls(String),
}

/// What of TLS an error is about, if it is.
pub fn refusal(error: &(dyn Error + 'static)) -> Option<Refusal> {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let found = error.downcast_ref().or_else(|| inner.and_then(|e| e.downcast_ref::<rustls::Error>()));
        match found {
            Some(rustls::Error::InvalidCertificate(why)) => {
                return Some(Refusal::Distrusted(certificate(why)));
            }
            Some(other) => return Some(Refusal::NoTls(format!("TLS with the server fails: {other}"))),
            None if error.to_string() == postgres::NO_TLS => {
                return Some(Refusal::NoTls("the server speaks no TLS".to_owned()));
            }
            None => next = error.source(),
        }
    }
    None
}

fn certificate(why: &CertificateError) -> String {
    match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the server's certificate has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the server's certificate is not in force yet".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the server's certificate names another server".to_owned()
        }
        // The second one is what an authority of the same name with another key comes to.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "the server's certificate is not from an authority that is trusted".to_owned()
        }
        other => format!("the server's certificate is refused: {other}"),
    }
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, NoTrust> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(no)
}

fn no(why: impl fmt::Display) -> NoTrust {
    NoTrust(why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_that_is_none_is_refused() {
        for bad in [&b""[..], b"no PEM", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(Trust::of_authority(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_refused_certificate_is_found_however_deep_it_is_wrapped() {
        let deep = |why| io::Error::other(rustls::Error::InvalidCertificate(why));
        let told = |why| match refusal(&deep(why)).unwrap() {
            Refusal::Distrusted(why) => why,
            other => panic!("{other:?}"),
        };
        assert_eq!(told(CertificateError::Expired), "the server's certificate has expired");
        assert!(told(CertificateError::UnknownIssuer).contains("not from an authority that is trusted"));
        let garbled = io::Error::other(rustls::Error::DecryptError);
        assert!(matches!(refusal(&garbled), Some(Refusal::NoTls(_))));
        assert_eq!(refusal(&io::Error::other("something else")), None);
    }
}
