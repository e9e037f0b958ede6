//! The gateway for databases beside its engine: logins for its sessions, and its certificate.

use std::path::Path;
use std::sync::Arc;

use bailiwick_api::{Call, Caller, PointError};
use bailiwick_core::LeaseId;
use bailiwick_engine::{Engine, Given, Leased};
use bailiwick_gateway::Secret;
use bailiwick_gateway::postgres::{Lender, Login, NotLent};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::fail::Failure;

/// Logins that the engine has made for sessions.
pub(crate) struct EngineLender(pub(crate) Engine);

impl Lender for EngineLender {
    async fn lend(&self, caller: &Caller, call: Call) -> Result<Login, NotLent> {
        match self.0.lend(caller, call).await {
            Ok(Leased::Given(given)) => login(&given).ok_or_else(|| {
                NotLent::Failed(PointError {
                    code: "lease.odd".to_owned(),
                    reason: "the login that was made is not one of a database".to_owned(),
                    retry: false,
                })
            }),
            Ok(Leased::Ask(pending)) => Err(NotLent::Ask(pending)),
            Ok(Leased::Deny(denial)) => Err(NotLent::Deny(denial)),
            Err(error) => Err(NotLent::Failed(error.into())),
        }
    }

    async fn give_back(&self, caller: &Caller, lease: &LeaseId) {
        if let Err(error) = self.0.give_back(caller, lease).await {
            tracing::warn!(%lease, code = %error.code, "a session's login was not given back; it ends with its task");
        }
    }
}

fn login(given: &Given) -> Option<Login> {
    let plain = |name: &str| given.credential.plain.get(name).cloned();
    Some(Login {
        lease: given.lease.id().clone(),
        host: plain("host")?,
        port: plain("port")?.parse().ok()?,
        database: plain("database")?,
        user: plain("user")?,
        password: Secret::new(given.credential.secret.get("password")?.expose()),
    })
}

/// The certificate by which clients know the gateway.
///
/// # Errors
/// A [`Failure`] that says which file is not what it should be.
pub(crate) fn tls(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, Failure> {
    let unusable = |path: &Path, what: &str| {
        let next = "`postgres_gateway` takes PEM files: the certificate chain, and its private key.";
        Failure::usage(format!("{} {what}", path.display()), next)
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|_| unusable(certificate, "holds no certificate"))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|_| unusable(key, "holds no private key"))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| unusable(certificate, "cannot be served"))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|_| unusable(certificate, "and its key do not fit together"))?;
    Ok(Arc::new(config))
}
