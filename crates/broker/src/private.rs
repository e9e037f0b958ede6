//! Connections to targets that leave this machine: over TLS, with the server's certificate verified, or not at all.

use bailiwick_tls::{Refusal, Trust, refusal};

use crate::error::BrokerError;

/// How a target proves who it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// The certificates of its authority, in PEM; `None`: whatever this system trusts.
    pub authority: Option<Vec<u8>>,
    /// The name in its certificate, if it is not the host that we connect to.
    pub name: Option<String>,
}

impl Tls {
    /// Whom this believes.
    ///
    /// # Errors
    /// `connector.config` if the authority's certificates are none.
    pub fn trust(&self) -> Result<Trust, BrokerError> {
        let trust = self.authority.as_deref().map_or_else(Trust::of_system, Trust::of_authority);
        trust.map_err(|e| BrokerError::new("connector.config", e.to_string()))
    }
}

/// What of TLS an error is about, if it is: `target.distrusted` or `target.no_tls`.
pub(crate) fn unproven(error: &(dyn std::error::Error + 'static)) -> Option<BrokerError> {
    Some(match refusal(error)? {
        Refusal::Distrusted(why) => BrokerError::new("target.distrusted", why),
        Refusal::NoTls(why) => BrokerError::new("target.no_tls", why),
    })
}
