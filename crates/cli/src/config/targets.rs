//! `targets:` in the configuration: the systems that credentials are given out in.
//!
//! A scope is stated in types, never in a target's own language: tables and columns, prefixes and commands. What we
//! need to reach a target is a reference to a secret, as everywhere.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use bailiwick_broker::mark::Maker;
use bailiwick_broker::{Broker, BrokerError, Secret, Tls, postgres, redis, ssh};
use bailiwick_core::ids::SystemId;
use bailiwick_core::tool::Manifest;
use bailiwick_gateway::postgres as gateway;
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{Base, ConfigError, secret};

/// A target with its connector's settings.
#[derive(Debug)]
pub(crate) enum Target {
    /// A PostgreSQL server.
    Postgres {
        /// Its connector's settings.
        config: postgres::Config,
        /// Whether agents reach it through our gateway, and never hold a login.
        gateway: bool,
    },
    /// A Redis server.
    Redis(redis::Config),
    /// An SSH host.
    Ssh(SshTarget),
}

/// An SSH host, and what the node itself does for it.
#[derive(Debug)]
pub(crate) struct SshTarget {
    /// For the connector.
    pub(crate) config: ssh::Config,
    /// Where the relay listens, if there is one.
    pub(crate) listen: Option<SocketAddr>,
    /// By what the host proves itself when it asks whom to let in.
    pub(crate) host_token: Secret,
}

/// A connector, and its relay with the address to serve it at.
pub(crate) struct Connector {
    /// For the engine.
    pub(crate) broker: Arc<dyn Broker>,
    /// For the node.
    pub(crate) relay: Option<(Arc<ssh::relay::Relay>, SocketAddr)>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum TargetEntry {
    Postgres(PostgresEntry),
    Redis(RedisEntry),
    Ssh(SshEntry),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SshEntry {
    host: String,
    #[serde(default = "ssh_port")]
    port: u16,
    host_key: String,
    authority: Spanned<String>,
    host_token: Spanned<String>,
    #[serde(default)]
    relay: Option<RelayEntry>,
    scopes: BTreeMap<String, ssh::Scope>,
}

fn ssh_port() -> u16 {
    22
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RelayEntry {
    listen: SocketAddr,
    from: IpAddr,
    #[serde(default)]
    agents_reach: Option<Reach>,
}

/// Shortest token of a host, in characters.
const HOST_TOKEN_MIN: usize = 24;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RedisEntry {
    nodes: Vec<Spanned<String>>,
    #[serde(default)]
    tls: Option<TlsEntry>,
    #[serde(default)]
    agents_reach: Option<Reach>,
    scopes: BTreeMap<String, redis::Scope>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PostgresEntry {
    url: Spanned<String>,
    #[serde(default)]
    replicas: Vec<Spanned<String>>,
    #[serde(default)]
    agents_reach: Option<Reach>,
    #[serde(default)]
    through: Through,
    #[serde(default)]
    tls: Option<TlsEntry>,
    #[serde(default = "scram_rounds")]
    scram_rounds: NonZeroU32,
    scopes: BTreeMap<String, postgres::Scope>,
}

/// How a target proves who it is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsEntry {
    /// The file of its authority's certificates, as PEM; without it, whatever this system trusts.
    #[serde(default)]
    authority: Option<Spanned<PathBuf>>,
    /// The name in its certificate, if not the host.
    #[serde(default)]
    name: Option<String>,
}

impl TlsEntry {
    fn read(self, base: Base<'_>) -> Result<Tls, ConfigError> {
        let authority = self.authority.map(|file| {
            let path = base.root.join(&file.value);
            let help = "State the file of the authority's certificates, as PEM.";
            let no = |e: std::io::Error| {
                ConfigError::new("config.malformed", format!("{}: {e}", path.display()), help)
                    .at(file.referenced)
            };
            std::fs::read(&path).map_err(no)
        });
        Ok(Tls { authority: authority.transpose()?, name: self.name })
    }
}

fn scram_rounds() -> NonZeroU32 {
    postgres::ROUNDS
}

/// How agents reach a target.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Through {
    /// With a credential of their own.
    #[default]
    Credential,
    /// Through our gateway, which holds it.
    Gateway,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reach {
    host: String,
    port: u16,
}

pub(super) fn target(name: &str, entry: Spanned<TargetEntry>, base: Base<'_>) -> Result<Target, ConfigError> {
    let place = entry.referenced;
    let system = SystemId::parse(name)
        .map_err(|e| ConfigError::new("config.malformed", e.to_string(), "").at(place))?;
    match entry.value {
        TargetEntry::Postgres(entry) => Ok(Target::Postgres {
            gateway: entry.through == Through::Gateway,
            config: postgres::Config {
                system,
                admin: fetched("host=localhost", "`url`", &entry.url, base)?,
                replicas: entry
                    .replicas
                    .iter()
                    .map(|r| fetched("host=localhost", "a replica", r, base))
                    .collect::<Result<_, _>>()?,
                agents_reach: entry.agents_reach.map(|r| (r.host, r.port)),
                scram_rounds: entry.scram_rounds,
                tls: entry.tls.map(|tls| tls.read(base)).transpose()?,
                scopes: entry.scopes,
            },
        }),
        TargetEntry::Redis(entry) => {
            let unset = if entry.tls.is_some() { "rediss://localhost" } else { "redis://localhost" };
            Ok(Target::Redis(redis::Config {
                system,
                nodes: entry
                    .nodes
                    .iter()
                    .map(|n| fetched(unset, "a node", n, base))
                    .collect::<Result<_, _>>()?,
                agents_reach: entry.agents_reach.map(|r| (r.host, r.port)),
                tls: entry.tls.map(|tls| tls.read(base)).transpose()?,
                scopes: entry.scopes,
            }))
        }
        TargetEntry::Ssh(entry) => ssh_target(system, entry, base).map(Target::Ssh),
    }
}

fn ssh_target(system: SystemId, entry: SshEntry, base: Base<'_>) -> Result<SshTarget, ConfigError> {
    let place = entry.host_token.referenced;
    let host_token = fetched(UNSET_TOKEN, "`host_token`", &entry.host_token, base)?;
    if host_token.expose().len() < HOST_TOKEN_MIN {
        let what = format!("`host_token` has fewer than {HOST_TOKEN_MIN} characters");
        return Err(
            ConfigError::new("config.malformed", what, "Make one with `openssl rand -hex 32`.").at(place)
        );
    }
    let reach = |r: RelayEntry| {
        let here = || (r.listen.ip().to_string(), r.listen.port());
        let agents_reach = r.agents_reach.as_ref().map_or_else(here, |r| (r.host.clone(), r.port));
        ssh::Through { agents_reach, from: r.from }
    };
    // An authority's key that is left where it is: one of the right form, for nothing.
    let unset = ssh::new_authority().map_err(|e| ConfigError::new("config.malformed", e.to_string(), ""))?;
    Ok(SshTarget {
        host_token,
        listen: entry.relay.as_ref().map(|r| r.listen),
        config: ssh::Config {
            system,
            host: entry.host,
            port: entry.port,
            host_key: entry.host_key,
            authority: fetched(unset.expose(), "`authority`", &entry.authority, base)?,
            relay: entry.relay.map(reach),
            scopes: entry.scopes,
        },
    })
}

/// What stands for a token that is left where it is.
const UNSET_TOKEN: &str = "left where it is, and so unknown";

impl Target {
    /// Its name.
    pub(crate) fn system(&self) -> &SystemId {
        match self {
            Target::Postgres { config, .. } => &config.system,
            Target::Redis(config) => &config.system,
            Target::Ssh(target) => &target.config.system,
        }
    }

    /// By what its hosts prove themselves, if they ask anything.
    pub(crate) fn host_token(&self) -> Option<&Secret> {
        if let Target::Ssh(target) = self { Some(&target.host_token) } else { None }
    }

    /// Its connector. Nothing is connected yet.
    pub(crate) fn connector(&self, maker: Maker) -> Result<Connector, BrokerError> {
        let broker: Arc<dyn Broker> = match self {
            Target::Postgres { config, gateway } => {
                let connector = postgres::Postgres::new(config.clone(), maker)?;
                Arc::new(if *gateway { connector.proxied()? } else { connector })
            }
            Target::Redis(config) => Arc::new(redis::Redis::new(config.clone(), maker)?),
            Target::Ssh(target) => {
                let ssh = Arc::new(ssh::Ssh::new(target.config.clone(), maker)?);
                return Ok(Connector { relay: ssh.relay().zip(target.listen), broker: ssh });
            }
        };
        Ok(Connector { broker, relay: None })
    }
}

/// The databases that agents reach through our gateway, each believed as its connector believes it.
///
/// # Errors
/// `connector.config` if a certificate of an authority is none.
pub(crate) fn carried(targets: &[Target]) -> Result<Vec<gateway::PostgresSpec>, BrokerError> {
    let spec = |config: &postgres::Config| {
        let private = |tls: bailiwick_broker::Tls| {
            Ok::<_, BrokerError>(gateway::ServerTls { trust: tls.trust()?, name: tls.name })
        };
        Ok(gateway::PostgresSpec {
            system: config.system.clone(),
            tls: config.private()?.map(private).transpose()?,
            scopes: config.scopes.iter().map(|(name, scope)| (name.clone(), carried_scope(scope))).collect(),
        })
    };
    let through = |target: &Target| match target {
        Target::Postgres { config, gateway: true } => Some(spec(config)),
        _ => None,
    };
    targets.iter().filter_map(through).collect()
}

fn carried_scope(scope: &postgres::Scope) -> gateway::Scope {
    let columns = |columns: &postgres::Columns| match columns {
        columns if columns.is_none() => gateway::Columns::None,
        postgres::Columns::Some(columns) => gateway::Columns::Some(columns.clone()),
        _ => gateway::Columns::All,
    };
    let verbs = |verbs: &postgres::Verbs| gateway::Verbs {
        select: columns(&verbs.select),
        insert: columns(&verbs.insert),
        update: columns(&verbs.update),
        delete: verbs.delete,
    };
    let full = |table: &str| if table.contains('.') { table.to_owned() } else { format!("public.{table}") };
    gateway::Scope {
        tables: scope.tables.iter().map(|(table, v)| (full(table), verbs(v))).collect(),
        functions: scope.functions.iter().map(|name| full(name)).collect(),
        rows: scope.rows.keys().cloned().collect(),
        ttl_s: scope.ttl_s,
    }
}

/// What can be asked for in all targets: manifests like those of tools, so that policies can name them.
pub(super) fn scopes(targets: &[Target]) -> Result<Vec<Manifest>, ConfigError> {
    let mut out = Vec::new();
    for target in targets {
        // Names and marks do not matter here.
        let connector = target.connector(Maker::new(&[0; 32])).map_err(|e| {
            ConfigError::new("config.malformed", format!("target `{}`: {e}", target.system()), "")
        })?;
        out.extend(connector.broker.scopes());
    }
    Ok(out)
}

fn fetched(
    unset: &str,
    what: &str,
    given: &Spanned<String>,
    base: Base<'_>,
) -> Result<bailiwick_broker::Secret, ConfigError> {
    let at = |e: ConfigError| e.at(given.referenced);
    let reference = secret::must_refer(what, &given.value).map_err(at)?;
    let found = base.secret(&reference).map_err(at)?;
    // Left where it is, it stands for an address of the right form.
    let text = if found.expose().is_empty() { unset } else { found.expose() };
    Ok(bailiwick_broker::Secret::new(text.to_owned()))
}
