//! `targets:` in the configuration: the systems that credentials are given out in.
//!
//! A scope is stated in types, never in a target's own language: tables and columns, prefixes and commands. What we
//! need to reach a target is a reference to a secret, as everywhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use bailiwick_broker::mark::Maker;
use bailiwick_broker::{Broker, BrokerError, postgres, redis};
use bailiwick_core::ids::SystemId;
use bailiwick_core::tool::Manifest;
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{Base, ConfigError, secret};

/// A target with its connector's settings.
#[derive(Debug)]
pub(crate) enum Target {
    /// A PostgreSQL server.
    Postgres(postgres::Config),
    /// A Redis server.
    Redis(redis::Config),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum TargetEntry {
    Postgres(PostgresEntry),
    Redis(RedisEntry),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RedisEntry {
    nodes: Vec<Spanned<String>>,
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
    scopes: BTreeMap<String, postgres::Scope>,
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
        TargetEntry::Postgres(entry) => Ok(Target::Postgres(postgres::Config {
            system,
            admin: fetched("host=localhost", "`url`", &entry.url, base)?,
            replicas: entry
                .replicas
                .iter()
                .map(|r| fetched("host=localhost", "a replica", r, base))
                .collect::<Result<_, _>>()?,
            agents_reach: entry.agents_reach.map(|r| (r.host, r.port)),
            scopes: entry.scopes,
        })),
        TargetEntry::Redis(entry) => Ok(Target::Redis(redis::Config {
            system,
            nodes: entry
                .nodes
                .iter()
                .map(|n| fetched("redis://localhost", "a node", n, base))
                .collect::<Result<_, _>>()?,
            agents_reach: entry.agents_reach.map(|r| (r.host, r.port)),
            scopes: entry.scopes,
        })),
    }
}

impl Target {
    /// Its name.
    pub(crate) fn system(&self) -> &SystemId {
        match self {
            Target::Postgres(config) => &config.system,
            Target::Redis(config) => &config.system,
        }
    }

    /// Its connector. Nothing is connected yet.
    pub(crate) fn connector(&self, maker: Maker) -> Result<Arc<dyn Broker>, BrokerError> {
        Ok(match self {
            Target::Postgres(config) => Arc::new(postgres::Postgres::new(config.clone(), maker)?),
            Target::Redis(config) => Arc::new(redis::Redis::new(config.clone(), maker)?),
        })
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
        out.extend(connector.scopes());
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
