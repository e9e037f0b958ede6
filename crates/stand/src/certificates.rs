//! An authority that signs certificates for throw-away servers: good ones, and ones that must be refused.

use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};

/// An authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate with its key, both as PEM.
pub struct Certificate {
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Authority {
    /// A new one, which nobody knows but who is given its certificate.
    #[expect(clippy::new_without_default, reason = "it makes a key")]
    pub fn new() -> Authority {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "authority of the stand");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = pem("CERTIFICATE", params.self_signed(&key).expect("a certificate").der());
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// Its own certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for a server of this name.
    pub fn sign(&self, name: &str) -> Certificate {
        self.sign_until(name, 4000)
    }

    /// One that has expired.
    pub fn sign_expired(&self, name: &str) -> Certificate {
        self.sign_until(name, 2020)
    }

    fn sign_until(&self, name: &str, year: i32) -> Certificate {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        (params.not_before, params.not_after) = (date_time_ymd(2019, 1, 1), date_time_ymd(year, 1, 1));
        let signed = params.signed_by(&key, &self.issuer).expect("a certificate");
        Certificate { chain: pem("CERTIFICATE", signed.der()), key: pem("PRIVATE KEY", &key.serialize_der()) }
    }
}

impl Certificate {
    /// Writes `server.crt` and `server.key` into a folder, for `user` alone.
    pub(crate) fn write(&self, folder: &Path, user: &str) {
        for (name, text) in [("server.crt", &self.chain), ("server.key", &self.key)] {
            let file = folder.join(name);
            std::fs::write(&file, text).expect("a file");
            let mode = Command::new("chmod").arg("600").arg(&file).status();
            assert!(mode.is_ok_and(|s| s.success()));
            if crate::is_root() {
                let owner = Command::new("chown").arg(user).arg(&file).status();
                assert!(owner.is_ok_and(|s| s.success()));
            }
        }
    }
}

/// RFC 7468.
fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
