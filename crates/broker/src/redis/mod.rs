//! Redis: one ACL user per lease, by key prefix and command. Class A: deleting the user closes its connections.
//!
//! What measurements say and this follows (versions 7 and later):
//!
//! * `ACL DELUSER` closes the user's connections; `off` and `resetpass` do not. So the user is deleted at once.
//! * `SCAN`, `KEYS` and their like list the key names of the whole database: no scope can grant them.
//! * An ACL file that was saved while the user was there brings it back after a restart: where one is configured, it
//!   is saved after each deletion.
//! * A user has no comment. Our mark is a second password hash: a MAC of the name, to which nobody knows a password.

mod resp;

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest;
use bailiwick_core::label::Label;
use bailiwick_core::lease::{Mandate, Revocability, Step};
use bailiwick_core::tool::{Effect, Manifest, ResourceSpec, Role};
use bailiwick_core::value::Value;
use bailiwick_core::{SystemId, ToolId};
use serde::Deserialize;

use crate::error::BrokerError;
use crate::mark::{Maker, PREFIX};
use crate::private::Tls;
use crate::secret::Secret;
use crate::{
    Broker, Capabilities, Created, Credential, Did, Doing, Effective, Found, FoundKind, Handle, Plan, Sight,
    Spec,
};
use resp::{Address, Connection, Reply};

/// Commands that reach beyond a user's keys, whatever its patterns are. No scope grants them.
const NEVER: &[&str] = &[
    "acl",
    "bgrewriteaof",
    "bgsave",
    "client",
    "cluster",
    "config",
    "dbsize",
    "debug",
    "eval",
    "eval_ro",
    "evalsha",
    "evalsha_ro",
    "failover",
    "fcall",
    "fcall_ro",
    "flushall",
    "flushdb",
    "function",
    "info",
    "keys",
    "latency",
    "memory",
    "migrate",
    "module",
    "monitor",
    "object",
    "pfdebug",
    "psubscribe",
    "psync",
    "publish",
    "randomkey",
    "replicaof",
    "replconf",
    "reset",
    "restore",
    "restore-asking",
    "role",
    "save",
    "scan",
    "script",
    "shutdown",
    "slaveof",
    "slowlog",
    "spublish",
    "ssubscribe",
    "subscribe",
    "swapdb",
    "sync",
    "wait",
];
/// Longest value that narrows a prefix, in bytes.
const VALUE_MAX: usize = 128;

/// A Redis server as a target.
#[derive(Debug, Clone)]
pub struct Config {
    /// The target's name.
    pub system: SystemId,
    /// How we reach each node, `redis://USER:PASSWORD@HOST:PORT`, or `rediss://` for TLS; the first one is told to agents. ACLs are not
    /// replicated, so users are made and deleted on all.
    pub nodes: Vec<Secret>,
    /// Where agents reach it, if that is elsewhere.
    pub agents_reach: Option<(String, u16)>,
    /// How its nodes at `rediss://` prove who they are, if not by a certificate that this system trusts.
    pub tls: Option<Tls>,
    /// What can be asked for.
    pub scopes: BTreeMap<String, Scope>,
}

/// What users of one scope may do.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// What they do at most.
    pub effect: Effect,
    /// The keys.
    pub keys: Vec<Keys>,
    /// The commands, in lower case.
    pub commands: BTreeSet<String>,
    /// What the data is.
    #[serde(default)]
    pub labels: Label,
    /// Longest life of a user, in seconds.
    #[serde(default = "an_hour")]
    pub ttl_s: u64,
}

fn an_hour() -> u64 {
    3600
}

/// Keys that begin alike: `prefix*`, or `prefixVALUE:*` with the value of an argument.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// How they begin.
    pub prefix: String,
    /// The argument that goes on where the prefix ends.
    #[serde(default)]
    pub arg: Option<String>,
    /// Whether they may be written too.
    #[serde(default)]
    pub write: bool,
}

impl Scope {
    fn check(&self) -> Result<(), BrokerError> {
        let plain = |c: &String| {
            !c.is_empty() && c.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        if let Some(bad) = self.commands.iter().find(|c| !plain(c) || NEVER.contains(&c.as_str())) {
            return Err(BrokerError::new("scope.command", format!("no scope can grant the command `{bad}`")));
        }
        if self.commands.is_empty() || self.keys.is_empty() || self.keys.iter().any(|k| k.prefix.is_empty()) {
            return Err(BrokerError::new("scope.empty", "a scope needs commands, and keys with a prefix"));
        }
        Ok(())
    }

    fn args(&self) -> BTreeSet<&str> {
        self.keys.iter().filter_map(|k| k.arg.as_deref()).collect()
    }

    /// The patterns, as Redis prints them.
    fn patterns(&self, args: &BTreeMap<String, Value>) -> Result<Vec<String>, BrokerError> {
        self.keys.iter().map(|keys| keys.pattern(args)).collect()
    }

    fn told(&self, patterns: &[String]) -> String {
        let commands: Vec<&str> = self.commands.iter().map(String::as_str).collect();
        format!("{} on {}", commands.join(" "), patterns.join(" "))
    }
}

impl Keys {
    fn pattern(&self, args: &BTreeMap<String, Value>) -> Result<String, BrokerError> {
        let access = if self.write { "~" } else { "%R~" };
        let prefix = escaped(&self.prefix);
        let Some(arg) = &self.arg else { return Ok(format!("{access}{prefix}*")) };
        let plain = args.get(arg).and_then(crate::plain);
        let fine = |v: &String| {
            (1..=VALUE_MAX).contains(&v.len())
                && v.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'@'))
        };
        let value = plain.filter(fine).ok_or_else(|| {
            let what = format!(
                "the scope needs `{arg}`: 1 to {VALUE_MAX} of letters, digits, '-', '_', '.' and '@'"
            );
            BrokerError::new("scope.argument", what)
        })?;
        Ok(format!("{access}{prefix}{value}:*"))
    }
}

/// A prefix in which nothing is a wildcard.
fn escaped(prefix: &str) -> String {
    prefix.chars().fold(String::new(), |mut out, c| {
        if matches!(c, '*' | '?' | '[' | ']' | '\\') {
            out.push('\\');
        }
        out.push(c);
        out
    })
}

/// A connector to one Redis installation.
pub struct Redis {
    system: SystemId,
    maker: Maker,
    nodes: Vec<Address>,
    agents_reach: (String, u16),
    scopes: BTreeMap<String, Scope>,
}

impl Redis {
    /// A connector. Nothing is connected yet.
    ///
    /// # Errors
    /// `connector.config` if an address is none, `scope.*` if a scope cannot be.
    pub fn new(config: Config, maker: Maker) -> Result<Redis, BrokerError> {
        let odd = || {
            let what = format!(
                "{}: an address is redis://USER:PASSWORD@HOST:PORT, or rediss:// for TLS",
                config.system
            );
            BrokerError::new("connector.config", what)
        };
        let mut nodes: Vec<Address> = config
            .nodes
            .iter()
            .map(|n| Address::parse(n.expose()).ok_or_else(odd))
            .collect::<Result<_, _>>()?;
        let private = config.tls.clone().unwrap_or_default();
        for node in &mut nodes {
            if node.is_private() {
                node.believe(private.trust()?, private.name.clone());
            } else if config.tls.is_some() || !crate::is_here(&node.host) {
                let what = format!(
                    "{}: {} must be on this machine or at the end of a tunnel, without `tls`, or be reached by rediss://",
                    config.system, node.host
                );
                return Err(BrokerError::new("connector.config", what));
            }
        }
        let first = nodes.first().ok_or_else(odd)?;
        for (name, scope) in &config.scopes {
            ToolId::of(&config.system, name).map_err(|e| BrokerError::new("scope.name", e.to_string()))?;
            scope.check()?;
        }
        let agents_reach = config.agents_reach.clone().unwrap_or_else(|| (first.host.clone(), first.port));
        Ok(Redis { agents_reach, system: config.system, maker, nodes, scopes: config.scopes })
    }

    fn scope(&self, tool: &ToolId) -> Result<&Scope, BrokerError> {
        self.scopes.get(tool.action()).filter(|_| tool.system() == self.system.as_str()).ok_or_else(|| {
            BrokerError::new("scope.unknown", format!("{} has no scope {}", self.system, tool.action()))
        })
    }

    fn short_mark(&self, name: &str) -> String {
        hex(&self.maker.short_mark(name))
    }

    async fn prepared(&self, spec: Spec) -> Result<Plan, BrokerError> {
        let scope = self.scope(&spec.tool)?;
        let known = scope.args();
        if let Some(name) = spec.args.keys().find(|n| *n != "ttl_s" && !known.contains(n.as_str())) {
            return Err(BrokerError::new("scope.argument", format!("the scope takes no argument `{name}`")));
        }
        let effect = scope.told(&scope.patterns(&spec.args)?);
        let name = self.maker.name(&spec.lease)?;
        for node in &self.nodes {
            let taken = Connection::open(node).await?.ask(&["ACL", "GETUSER", &name]).await?;
            if taken != Reply::Nil {
                return Err(BrokerError::new("target.exists", format!("a user {name} exists already")));
            }
        }
        Ok(Plan::new(name, spec, effect))
    }

    async fn created(&self, plan: &Plan) -> Result<Created, BrokerError> {
        let scope = self.scope(&plan.spec.tool)?;
        let password = Secret::generate()?;
        let mut rules = vec!["reset".to_owned(), "on".to_owned()];
        rules.push(format!(
            "#{}",
            hex(digest::digest(&digest::SHA256, password.expose().as_bytes()).as_ref())
        ));
        rules.push(format!("#{}", self.short_mark(&plan.name)));
        rules.extend(scope.commands.iter().map(|c| format!("+{c}")));
        rules.extend(scope.patterns(&plan.spec.args)?);
        for node in &self.nodes {
            let mut connection = Connection::open(node).await?;
            // So that a create a crash left on its way can be found and ended.
            connection.ask(&["CLIENT", "SETNAME", &plan.name]).await?;
            let mut words = vec!["ACL", "SETUSER", plan.name.as_str()];
            words.extend(rules.iter().map(String::as_str));
            connection.ask(&words).await?;
        }
        let (host, port) = &self.agents_reach;
        let plain = [("host", host.clone()), ("port", port.to_string()), ("user", plan.name.clone())];
        let env = [
            ("REDIS_HOST", "host"),
            ("REDIS_PORT", "port"),
            ("REDIS_USER", "user"),
            ("REDISCLI_AUTH", "password"),
        ];
        Ok(Created {
            external: format!("user:{}", plan.name),
            credential: Credential {
                plain: plain.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
                secret: [("password".to_owned(), password)].into(),
                env: env.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
            },
        })
    }

    /// Reads the user back: exactly the commands of the scope, on patterns of the scope's prefixes, no channels.
    async fn described(&self, handle: &Handle) -> Result<Effective, BrokerError> {
        let scope = self.scope(&handle.tool)?;
        let mut privileges = Vec::new();
        for node in &self.nodes {
            let user = Connection::open(node).await?.ask(&["ACL", "GETUSER", &handle.name]).await?;
            if user == Reply::Nil {
                return Err(BrokerError::new("target.gone", format!("there is no user {}", handle.name)));
            }
            let text = |name: &str| user.field(name).and_then(Reply::text).unwrap_or_default().to_owned();
            let commands: BTreeSet<String> =
                text("commands").split(' ').filter_map(|w| w.strip_prefix('+')).map(str::to_owned).collect();
            let bare = text("commands").starts_with("-@all ");
            let keys = text("keys");
            let prefixes: Vec<String> = scope
                .keys
                .iter()
                .map(|k| format!("{}{}", if k.write { "~" } else { "%R~" }, escaped(&k.prefix)))
                .collect();
            let within = keys.split(' ').all(|k| prefixes.iter().any(|p| k.starts_with(p.as_str())));
            let more =
                user.field("selectors").is_some_and(|s| !s.list().is_empty()) || !text("channels").is_empty();
            if !bare || commands != scope.commands || !within || more {
                let what = format!("{} can do `{}` on `{keys}`", handle.name, text("commands"));
                return Err(BrokerError::new("scope.wider", what));
            }
            privileges = commands.iter().map(|c| format!("{c} on {keys}")).collect();
        }
        Ok(Effective { privileges })
    }

    /// Whether the user is there and ours.
    async fn ours(&self, connection: &mut Connection, name: &str) -> Result<bool, BrokerError> {
        let user = connection.ask(&["ACL", "GETUSER", name]).await?;
        if user == Reply::Nil {
            return Ok(false);
        }
        let mark = self.short_mark(name);
        let hashes = user.field("passwords").map(Reply::list).unwrap_or_default();
        if hashes.iter().any(|h| h.text() == Some(mark.as_str())) {
            return Ok(true);
        }
        let what = format!("a user {name} is there that is not ours; it is left alone");
        Err(BrokerError::new("target.lookalike", what))
    }

    /// Deleting the user blocks logins, cuts data and closes its connections in one step, so it is done first.
    async fn deleted(&self, handle: &Handle) -> Result<Did, BrokerError> {
        let mut did = Did::default();
        for node in &self.nodes {
            let mut connection = Connection::open(node).await?;
            if handle.external.is_none() {
                end_creators(&mut connection, node, &handle.name).await?;
            }
            if !self.ours(&mut connection, &handle.name).await? {
                continue;
            }
            did.sessions_ended += clients(&mut connection, |c| c.user == handle.name).await?.len() as u64;
            connection.ask(&["ACL", "DELUSER", &handle.name]).await?;
            if keeps_users(&mut connection).await? {
                connection.ask(&["ACL", "SAVE"]).await?;
            }
        }
        Ok(did)
    }

    async fn looked(&self, handle: &Handle) -> Result<Sight, BrokerError> {
        let (mut gone, mut sessions, mut answers) = (true, 0, Vec::new());
        for node in &self.nodes {
            let mut connection = Connection::open(node).await?;
            let users = connection.ask(&["ACL", "USERS"]).await?;
            let there = users.list().iter().any(|u| u.text() == Some(handle.name.as_str()));
            let live = clients(&mut connection, |c| c.user == handle.name).await?.len() as u64;
            gone &= !there && live == 0;
            sessions += live;
            answers.push(format!(
                "{}:{}: user {}, connections {live}",
                node.host,
                node.port,
                if there { "there" } else { "absent" }
            ));
        }
        let query = format!("ACL USERS and CLIENT LIST, searched for {}", handle.name);
        Ok(Sight { gone, sessions, query, answer: answers.join("; ") })
    }

    async fn swept(&self) -> Result<Vec<Found>, BrokerError> {
        let mut found: BTreeMap<String, Found> = BTreeMap::new();
        for node in &self.nodes {
            let mut connection = Connection::open(node).await?;
            let users = connection.ask(&["ACL", "USERS"]).await?;
            for name in users.list().iter().filter_map(Reply::text).filter(|n| n.starts_with(PREFIX)) {
                let ours = self.ours(&mut connection, name).await;
                let kind = match (ours, self.maker.lease(name)) {
                    (Ok(true), Some(lease)) => FoundKind::Ours { lease },
                    (Ok(false), _) => continue,
                    (Err(e), _) if e.code() != "target.lookalike" => return Err(e),
                    _ => FoundKind::Lookalike,
                };
                found.insert(name.to_owned(), Found { name: name.to_owned(), external: None, kind });
            }
        }
        Ok(found.into_values().collect())
    }
}

/// One line of `CLIENT LIST`.
struct ClientLine {
    id: String,
    name: String,
    user: String,
}

async fn clients(
    connection: &mut Connection,
    wanted: impl Fn(&ClientLine) -> bool,
) -> Result<Vec<ClientLine>, BrokerError> {
    let all = connection.ask(&["CLIENT", "LIST"]).await?;
    let line = |line: &str| {
        let field = |name: &str| {
            line.split(' ')
                .find_map(|w| w.strip_prefix(name)?.strip_prefix('='))
                .unwrap_or_default()
                .to_owned()
        };
        ClientLine { id: field("id"), name: field("name"), user: field("user") }
    };
    Ok(all.text().unwrap_or_default().lines().map(line).filter(wanted).collect())
}

/// Ends our own connections on which a create of this name may still be under way.
async fn end_creators(connection: &mut Connection, node: &Address, name: &str) -> Result<(), BrokerError> {
    for client in clients(connection, |c| c.name == name && c.user == node.user).await? {
        match connection.ask(&["CLIENT", "KILL", "ID", &client.id]).await {
            Err(error) if error.code() != "target.refused" => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Whether users outlive a restart.
async fn keeps_users(connection: &mut Connection) -> Result<bool, BrokerError> {
    let file = connection.ask(&["CONFIG", "GET", "aclfile"]).await?;
    Ok(file.field("aclfile").and_then(Reply::text).is_some_and(|f| !f.is_empty()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

impl Broker for Redis {
    fn system(&self) -> &SystemId {
        &self.system
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            kind: "redis",
            class: Revocability::A,
            native_expiry: false,
            expiry_ends_sessions: false,
            ttl_secs_min: 1,
            ttl_secs_max: self.scopes.values().map(|s| s.ttl_s).max().unwrap_or(0),
            attribution: "the user's name in CLIENT LIST and ACL LOG",
            remains: "a command that runs when the user is deleted completes; there is no expiry in the server itself",
        }
    }

    fn longest_secs(&self, scope: &ToolId) -> u64 {
        self.scope(scope).map_or(0, |scope| scope.ttl_s)
    }

    fn scopes(&self) -> Vec<Manifest> {
        let manifest = |(name, scope): (&String, &Scope)| {
            let mut manifest = Manifest::new(ToolId::of(&self.system, name).ok()?, scope.effect);
            manifest.reversible = scope.effect == Effect::Read;
            for arg in scope.args() {
                manifest = manifest.narrowed_by(arg);
            }
            manifest = manifest.arg("ttl_s", Role::Free);
            manifest.labels = scope.labels.clone();
            manifest.resource = Some(ResourceSpec {
                kind: "Target".to_owned(),
                from: None,
                known: [(self.system.to_string(), crate::attributes(&self.capabilities(), &scope.labels))]
                    .into(),
            });
            Some(manifest)
        };
        self.scopes.iter().filter_map(manifest).collect()
    }

    fn prepare(&self, spec: Spec) -> Doing<'_, Plan> {
        Box::pin(self.prepared(spec))
    }

    fn create<'a>(&'a self, _mandate: &'a Mandate, plan: &'a Plan) -> Doing<'a, Created> {
        Box::pin(self.created(plan))
    }

    fn describe<'a>(&'a self, handle: &'a Handle) -> Doing<'a, Effective> {
        Box::pin(self.described(handle))
    }

    fn revoke<'a>(&'a self, handle: &'a Handle, step: Step) -> Doing<'a, Did> {
        Box::pin(async move {
            match step {
                Step::Block | Step::Drop => self.deleted(handle).await,
                _ => Ok(Did::default()),
            }
        })
    }

    fn look<'a>(&'a self, handle: &'a Handle) -> Doing<'a, Sight> {
        Box::pin(self.looked(handle))
    }

    fn sweep(&self) -> Doing<'_, Vec<Found>> {
        Box::pin(self.swept())
    }
}
