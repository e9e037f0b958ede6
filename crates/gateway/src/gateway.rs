//! The enforcement point as a whole: who is let in, who decides, and the tool servers behind.

use crate::door::Door;
use crate::listen::STREAMS_MAX;
use crate::pending::PendingActs;
use crate::session::Sessions;
use crate::upstream::{BadUpstream, Observer, UpstreamSpec, Upstreams};
use bailiwick_api::DecisionPoint;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// What an operator sets.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// Scheme, host and port as clients write them, without a trailing slash.
    pub public_url: String,
    /// Issuers whose tokens are taken, for the metadata of RFC 9728.
    pub authorization_servers: Vec<String>,
    /// Accepted `Host` values, with or without port. Loopback is no exception (threat A48).
    pub hosts: Vec<String>,
    /// Accepted `Origin` values. A request without `Origin` does not come from a browser page and passes.
    pub origins: Vec<String>,
    /// Deadline for reading a request body.
    pub body_timeout: Duration,
    /// Deadline of a whole request.
    pub request_timeout: Duration,
    /// How often a call in flight is checked for still being allowed.
    pub live_poll: Duration,
}

impl GatewayConfig {
    /// The defaults for a gateway that clients reach at `public_url`: its own host, and the three spellings of
    /// loopback on the same port if it is one of them; pages of the same hosts, and no other browser origin.
    pub fn at(public_url: &str) -> Self {
        let public_url = public_url.trim_end_matches('/').to_owned();
        let (scheme, rest) = public_url.split_once("://").unwrap_or(("http", ""));
        let hosts = spellings(&rest.split('/').next().unwrap_or("").to_ascii_lowercase());
        GatewayConfig {
            authorization_servers: vec![public_url.clone()],
            origins: hosts.iter().map(|host| format!("{scheme}://{host}")).collect(),
            hosts,
            body_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(300),
            live_poll: Duration::from_millis(200),
            public_url,
        }
    }

    /// The resource identifier (RFC 8707) that tokens are for: the audience.
    pub fn resource(&self) -> String {
        format!("{}/mcp", self.public_url)
    }
}

/// All names of one authority: loopback has three.
fn spellings(authority: &str) -> Vec<String> {
    let loopback = ["127.0.0.1", "localhost", "[::1]"];
    let port =
        |host: &str| authority.strip_prefix(host).filter(|rest| rest.is_empty() || rest.starts_with(':'));
    match loopback.into_iter().find_map(port) {
        Some(port) => loopback.into_iter().map(|host| format!("{host}{port}")).collect(),
        None => vec![authority.to_owned()],
    }
}

/// An enforcement point for MCP.
pub struct Gateway<P, D> {
    pub(crate) point: Arc<P>,
    pub(crate) door: D,
    pub(crate) upstreams: Upstreams,
    pub(crate) sessions: Sessions,
    pub(crate) pending: PendingActs,
    pub(crate) config: GatewayConfig,
    /// Room for streams of notifications.
    pub(crate) streams: Arc<Semaphore>,
}

impl<P: DecisionPoint, D: Door> Gateway<P, D> {
    /// Starts the tool servers and puts the gateway in front of them. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`BadUpstream`] for the first spec that cannot be served.
    pub fn start(
        point: Arc<P>,
        door: D,
        upstreams: Vec<UpstreamSpec>,
        config: GatewayConfig,
    ) -> Result<Arc<Self>, BadUpstream> {
        let upstreams = Upstreams::start(upstreams, observer(point.clone()))?;
        let (sessions, pending) = (Sessions::default(), PendingActs::default());
        let streams = Arc::new(Semaphore::new(STREAMS_MAX));
        Ok(Arc::new(Gateway { point, door, upstreams, sessions, pending, config, streams }))
    }

    /// Ends the tool servers and what they started; call it before the process ends.
    pub async fn stop(&self) {
        self.upstreams.stop().await;
    }

    /// The tool servers, for inventory.
    pub fn upstreams(&self) -> &Upstreams {
        &self.upstreams
    }
    /// What the operator set.
    pub fn config(&self) -> &GatewayConfig {
        &self.config
    }
}

/// Tells the control plane what a system offers.
fn observer<P: DecisionPoint>(point: Arc<P>) -> Observer {
    Arc::new(move |system, definitions| {
        let point = point.clone();
        Box::pin(async move { point.observe(system.as_str(), definitions).await.map_err(|e| e.to_string()) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_three_names_and_others_one() {
        let hosts = |url: &str| GatewayConfig::at(url).hosts;
        assert_eq!(hosts("http://127.0.0.1:7171"), ["127.0.0.1:7171", "localhost:7171", "[::1]:7171"]);
        assert_eq!(hosts("https://gate.example.com/"), ["gate.example.com"]);
        assert_eq!(hosts("https://localhost.example.com"), ["localhost.example.com"]);
    }
}
