//! The certificate authority of one run.
//!
//! It is made when a run begins and gone when it ends; its key never leaves memory. Only the one process tree that
//! was given its certificate trusts it. It signs a certificate for any host that this tree asks for, because a
//! refusal must be readable too.

use bailiwick_core::Digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// Most hosts whose certificates are kept.
const KEPT_MAX: usize = 256;
/// The longest a run's certificates can be good for: the longest window of a task and a day.
const LIFETIME: Duration = Duration::from_secs(8 * 24 * 3600);
/// Clocks of one machine differ by nothing, those of its containers sometimes do.
const BACKDATED: Duration = Duration::from_secs(3600);

/// Signs certificates for hosts.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    leaf: KeyPair,
    began: SystemTime,
    kept: Mutex<HashMap<String, Arc<ServerConfig>>>,
}

impl Authority {
    pub(crate) fn new() -> Result<Self, rcgen::Error> {
        let began = SystemTime::now();
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name =
            named(&format!("bailiwick run {}", Digest::of(&key.serialize_der()).short()));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (params.not_before, params.not_after) = ((began - BACKDATED).into(), (began + LIFETIME).into());
        let certificate = params.self_signed(&key)?.der().clone();
        let leaf = KeyPair::generate()?;
        Ok(Authority { issuer: Issuer::new(params, key), certificate, leaf, began, kept: Mutex::default() })
    }

    /// The authority's certificate as PEM (RFC 7468).
    pub(crate) fn pem(&self) -> String {
        let text = STANDARD.encode(&self.certificate);
        let lines: Vec<&str> =
            (0..text.len()).step_by(64).filter_map(|at| text.get(at..text.len().min(at + 64))).collect();
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
    }

    /// TLS as this host, and as no other: a client that names another one is refused.
    pub(crate) fn serve_as(&self, host: &str) -> Option<Arc<ServerConfig>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = kept.get(host) {
            return Some(config.clone());
        }
        let config = Arc::new(self.config(host)?);
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(host.to_owned(), config.clone());
        Some(config)
    }

    fn config(&self, host: &str) -> Option<ServerConfig> {
        let mut params = CertificateParams::new(vec![host.to_owned()]).ok()?;
        params.distinguished_name = named("bailiwick run");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) =
            ((self.began - BACKDATED).into(), (self.began + LIFETIME).into());
        let certificate = params.signed_by(&self.leaf, &self.issuer).ok()?;
        let chain = vec![certificate.der().clone(), self.certificate.clone()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.leaf.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = provider.key_provider.load_private_key(key).ok()?;
        let name = if host.parse::<IpAddr>().is_ok() { None } else { Some(host.to_owned()) };
        let only = OnlyAs { name, key: Arc::new(CertifiedKey::new(chain, key)) };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .ok()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(only));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Some(config)
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut all = DistinguishedName::new();
    all.push(DnType::CommonName, name);
    all
}

/// Answers to one name.
#[derive(Debug)]
struct OnlyAs {
    /// The host that the tunnel was asked for; `None` for an address, which clients do not name.
    name: Option<String>,
    key: Arc<CertifiedKey>,
}

impl ResolvesServerCert for OnlyAs {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        match (hello.server_name(), &self.name) {
            (None, _) => Some(self.key.clone()),
            (Some(asked), Some(name)) if asked.eq_ignore_ascii_case(name) => Some(self.key.clone()),
            (Some(_), _) => None,
        }
    }
}
