//! Which addresses a host name may lead to (threat A45).
//!
//! A name is resolved once per connection, every address it gives is judged, and the connection goes to what was
//! judged: a name that answers differently the second time gains nothing. Only public addresses are reached.
//! What is private, on this machine, or a cloud's metadata service is reached only where the operator named it:
//! as the host itself, or by a network.

use bailiwick_core::constraint::Cidr;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

type Lookup = dyn Fn(String) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> + Send + Sync;

/// Resolves names and judges what they lead to.
#[derive(Clone)]
pub struct Guard {
    lookup: Arc<Lookup>,
    networks: Arc<Vec<Cidr>>,
}

/// A name led to an address that nobody named.
#[derive(Debug, thiserror::Error)]
#[error("its name leads to an address that is not public")]
pub(crate) struct NotPublic;

impl Guard {
    /// Asks the system's resolver.
    pub fn system() -> Self {
        Self::with(|name| {
            Box::pin(async move {
                let found = tokio::net::lookup_host((name, 0)).await?;
                Ok(found.map(|address| address.ip()).collect())
            })
        })
    }

    /// Asks something else; for tests.
    pub fn with(
        lookup: impl Fn(String) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Guard { lookup: Arc::new(lookup), networks: Arc::default() }
    }

    /// The same with networks that may be reached besides the public ones.
    pub(crate) fn allowing(&self, networks: Vec<Cidr>) -> Self {
        Guard { lookup: self.lookup.clone(), networks: Arc::new(networks) }
    }

    /// One address that is not allowed spoils all: which of them is connected to is not ours to choose.
    async fn resolve(&self, name: String) -> Result<Vec<IpAddr>, Box<dyn std::error::Error + Send + Sync>> {
        let local = name.eq_ignore_ascii_case("localhost");
        let found = (self.lookup)(name).await?;
        match found.iter().all(|ip| self.admits(*ip) || (local && ip.is_loopback())) {
            true if !found.is_empty() => Ok(found),
            true => Err(Box::new(io::Error::from(io::ErrorKind::NotFound))),
            false => Err(Box::new(NotPublic)),
        }
    }

    fn admits(&self, ip: IpAddr) -> bool {
        is_public(ip) || self.networks.iter().any(|network| network.holds(ip))
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        let name = name.as_str().to_owned();
        Box::pin(async move {
            let found = guard.resolve(name).await?;
            let all: Addrs = Box::new(found.into_iter().map(|ip| SocketAddr::new(ip, 0)));
            Ok(all)
        })
    }
}

/// Whether an address is one of the public Internet (the registries of RFC 6890, and addresses that carry
/// another one inside).
pub(crate) fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => match carried(ip) {
            Some(inner) => is_public_v4(inner),
            None => is_public_v6(ip),
        },
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    !(ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_documentation()
        || ip.is_broadcast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b == 18 || b == 19)))
}

/// Only global unicast space, less what in it is not: documentation, benchmarking, Teredo, ORCHID.
fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, ..] = ip.segments();
    (0x2000..0x4000).contains(&a)
        && !(a == 0x2001 && (b < 0x0200 || b == 0x0db8))
        && !(a == 0x3fff && b < 0x1000)
}

/// The IPv4 address inside a mapped, compatible, translated (RFC 6052, RFC 8215) or 6to4 address.
fn carried(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let last = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match ip.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => Some(last(high, low)),
        [0x64, 0xff9b, .., high, low] => Some(last(high, low)),
        [0x2002, high, low, ..] => Some(last(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // proves: A45
    #[test]
    fn private_loopback_metadata_and_disguised_addresses_are_not_public() {
        for bad in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "192.0.0.8",
            "198.18.0.1",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::a00:1",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "fec0::1",
            "100::1",
            "3fff::1",
            "::ffff:0:7f00:1",
        ] {
            assert!(!is_public(bad.parse().unwrap()), "{bad}");
        }
        for good in ["8.8.8.8", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"] {
            assert!(is_public(good.parse().unwrap()), "{good}");
        }
    }

    fn fixed(ips: &'static [&'static str]) -> Guard {
        Guard::with(move |_| Box::pin(async move { Ok(ips.iter().map(|ip| ip.parse().unwrap()).collect()) }))
    }

    // proves: A45
    #[tokio::test]
    async fn one_private_address_among_public_ones_spoils_the_name() {
        assert!(fixed(&["8.8.8.8"]).resolve("api.example.com".into()).await.is_ok());
        assert!(fixed(&["8.8.8.8", "10.0.0.7"]).resolve("api.example.com".into()).await.is_err());
        assert!(fixed(&["127.0.0.1"]).resolve("api.example.com".into()).await.is_err());
        assert!(fixed(&[]).resolve("api.example.com".into()).await.is_err());
    }

    #[tokio::test]
    async fn what_the_operator_names_is_reached() {
        let ten = || vec![Cidr::parse("10.0.0.0/8").unwrap()];
        assert!(fixed(&["10.0.0.7"]).allowing(ten()).resolve("crm.internal".into()).await.is_ok());
        assert!(fixed(&["192.168.0.7"]).allowing(ten()).resolve("crm.internal".into()).await.is_err());
        assert!(fixed(&["127.0.0.1"]).resolve("localhost".into()).await.is_ok());
        assert!(fixed(&["10.0.0.7"]).resolve("localhost".into()).await.is_err());
    }
}
