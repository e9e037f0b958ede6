//! SSH: one certificate per lease, for one login and a few exact command lines.
//!
//! Nothing is created on the host. What lets a certificate in is asked for at each login, and what ends a session is
//! the relay that it must come through:
//!
//! * The principal is the lease's own name, so a host lets nobody in by the certificate alone: its
//!   `AuthorizedPrincipalsCommand` asks us whether the lease is in force *now*, and whether it is for this login.
//! * With a relay (class B), the certificate is good from the relay's address only, and the relay cuts. Without one
//!   (class D), only its expiry is sure: a live session goes on, and nobody here can see it.
//! * There is no extension in it: no terminal, no forwarding of ports, agents or displays, no file of the user's own.
//! * The whole certificate is the id that is recorded. It is no secret, and says for ever what was given out.

mod certificate;
pub mod relay;
mod scope;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bailiwick_core::lease::{Mandate, Revocability, Step};
use bailiwick_core::tool::{Effect, Manifest, ResourceSpec, Role};
use bailiwick_core::value::Digest;
use bailiwick_core::{LeaseId, SystemId, ToolId};
use tokio::io::AsyncReadExt;

use crate::error::BrokerError;
use crate::mark::Maker;
use crate::secret::Secret;
use crate::{
    Broker, Capabilities, Created, Credential, Did, Doing, Effective, Found, FoundKind, Handle, Login,
    OnBehalf, Plan, Sight, Spec,
};
use certificate::{Authority, Terms};
use relay::Relay;
pub use scope::{PUBLIC_KEY, Scope};

/// How every id of a certificate begins.
const KEY_ID: &str = "bailiwick";
/// How far the clock of a host may be off, in seconds.
const SKEW_SECS: u64 = 60;
/// How long a host may take to say who it is.
const GREETING_WITHIN: Duration = Duration::from_secs(5);

/// A host as a target.
#[derive(Debug, Clone)]
pub struct Config {
    /// The target's name.
    pub system: SystemId,
    /// Where its sshd is.
    pub host: String,
    /// On which port.
    pub port: u16,
    /// The host's public key, as in `known_hosts`, which agents are told.
    pub host_key: String,
    /// The private key of the certificate authority that the host trusts.
    pub authority: Secret,
    /// The relay, if there is one.
    pub relay: Option<Through>,
    /// What can be asked for.
    pub scopes: BTreeMap<String, Scope>,
}

/// The relay, as the two sides see it.
#[derive(Debug, Clone)]
pub struct Through {
    /// Where agents reach it.
    pub agents_reach: (String, u16),
    /// The address from which the host sees it.
    pub from: IpAddr,
}

/// A connector to one SSH host.
pub struct Ssh {
    system: SystemId,
    maker: Maker,
    host: String,
    port: u16,
    host_key: String,
    authority: Authority,
    relay: Option<(Arc<Relay>, Through)>,
    scopes: BTreeMap<String, Scope>,
}

impl Ssh {
    /// A connector. Nothing is connected yet, and the relay is not served yet.
    ///
    /// # Errors
    /// `connector.config` if the authority's key or the host's is none, `scope.*` if a scope cannot be.
    pub fn new(config: Config, maker: Maker) -> Result<Ssh, BrokerError> {
        let bad = |what: &str| BrokerError::new("connector.config", format!("{}: {what}", config.system));
        if !certificate::is_public_key(&config.host_key) {
            return Err(bad("`host_key` is no public key, such as `ssh-ed25519 AAAA…`"));
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':');
        if config.host.is_empty() || config.host.starts_with('-') || !config.host.bytes().all(plain) {
            return Err(bad("`host` is no name and no address"));
        }
        for (name, scope) in &config.scopes {
            ToolId::of(&config.system, name).map_err(|e| BrokerError::new("scope.name", e.to_string()))?;
            scope.check(config.relay.is_some())?;
        }
        let relay = config.relay.map(|through| {
            let relay = Relay::new(maker.clone(), config.host.clone(), config.port, through.from);
            (Arc::new(relay), through)
        });
        Ok(Ssh {
            authority: Authority::parse(&config.authority)?,
            system: config.system,
            maker,
            host: config.host,
            port: config.port,
            host_key: config.host_key,
            relay,
            scopes: config.scopes,
        })
    }

    /// The relay, to be served by whoever knows which leases are in force.
    pub fn relay(&self) -> Option<Arc<Relay>> {
        self.relay.as_ref().map(|(relay, _)| Arc::clone(relay))
    }

    /// The authority's public key, for the host's `TrustedUserCAKeys`.
    pub fn authority(&self) -> String {
        self.authority.public()
    }

    fn scope(&self, tool: &ToolId) -> Result<&Scope, BrokerError> {
        self.scopes.get(tool.action()).filter(|_| tool.system() == self.system.as_str()).ok_or_else(|| {
            BrokerError::new("scope.unknown", format!("{} has no scope {}", self.system, tool.action()))
        })
    }

    /// The networks a certificate of this scope is good from.
    fn sources(&self, scope: &Scope) -> String {
        match &self.relay {
            Some((_, through)) => through.from.to_string(),
            None => scope.sources.join(","),
        }
    }

    async fn prepared(&self, spec: Spec) -> Result<Plan, BrokerError> {
        let scope = self.scope(&spec.tool)?;
        let known = scope.args();
        let fits = |n: &str| n == "ttl_s" || n == PUBLIC_KEY || known.contains(n);
        if let Some(name) = spec.args.keys().find(|n| !fits(n)) {
            return Err(BrokerError::new("scope.argument", format!("the scope takes no argument `{name}`")));
        }
        own_key(&spec)?;
        let lines = scope.filled(&spec.args)?;
        let effect = format!(
            "as {} on {}:{}, from {}: {}",
            scope.user,
            self.host,
            self.port,
            self.sources(scope),
            lines.join(" | ")
        );
        let name = self.maker.name(&spec.lease)?;
        self.greeted().await?;
        Ok(Plan::new(name, spec, effect))
    }

    /// The host is there and speaks SSH (RFC 4253 section 4.2).
    async fn greeted(&self) -> Result<(), BrokerError> {
        let mut stream = match &self.relay {
            Some((relay, _)) => relay.connect().await?,
            None => relay::connect(&self.host, self.port, None).await?,
        };
        let mut begun = [0; 4];
        let read = tokio::time::timeout(GREETING_WITHIN, stream.read_exact(&mut begun)).await;
        match read {
            Ok(Ok(_)) if begun == *b"SSH-" => Ok(()),
            _ => {
                let what = format!("{}:{} does not greet as an SSH server", self.host, self.port);
                Err(BrokerError::new("target.unreachable", what))
            }
        }
    }

    fn created(&self, plan: &Plan) -> Result<Created, BrokerError> {
        let scope = self.scope(&plan.spec.tool)?;
        let (key, private) = match own_key(&plan.spec)? {
            Some(key) => (key, None),
            None => {
                let (key, file) = certificate::new_key(&plan.name)?;
                (key, Some(file))
            }
        };
        // The dead man's switch of the host comes late where we can end things ourselves, and not where we cannot.
        let late = if self.relay.is_some() { SKEW_SECS } else { 0 };
        let line = self.authority.issue(&Terms {
            key,
            serial: serial(&plan.name),
            key_id: key_id(&plan.spec.lease, &plan.spec.on_behalf),
            principal: plan.name.clone(),
            after: now_secs().saturating_sub(SKEW_SECS),
            before: plan.spec.until.0.div_ceil(1000).saturating_add(late),
            force_command: scope::force_command(&scope.filled(&plan.spec.args)?),
            source_address: self.sources(scope),
        })?;
        Ok(Created { external: line.clone(), credential: self.credential(plan, scope, line, private) })
    }

    fn credential(&self, plan: &Plan, scope: &Scope, line: String, private: Option<Secret>) -> Credential {
        let mut plain = BTreeMap::from(
            [
                ("host", self.host.clone()),
                ("port", self.port.to_string()),
                ("user", scope.user.clone()),
                ("name", plan.name.clone()),
                ("certificate", line),
                ("host_key", self.host_key.clone()),
            ]
            .map(|(k, v)| (k.to_owned(), v)),
        );
        let mut secret = BTreeMap::new();
        secret.extend(private.map(|file| ("private_key".to_owned(), file)));
        if let Some((relay, through)) = &self.relay {
            plain.insert("relay_host".to_owned(), through.agents_reach.0.clone());
            plain.insert("relay_port".to_owned(), through.agents_reach.1.to_string());
            secret.insert("relay_pass".to_owned(), relay.pass(&plan.name));
        }
        let env = [("BAILIWICK_SSH_HOST", "host"), ("BAILIWICK_SSH_USER", "user")];
        Credential {
            plain,
            secret,
            env: env.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
        }
    }

    /// What the certificate says, compared with what its scope allows.
    fn described(&self, handle: &Handle) -> Result<Effective, BrokerError> {
        let scope = self.scope(&handle.tool)?;
        let gone = || BrokerError::new("target.gone", format!("no certificate of {} is known", handle.name));
        let terms = self.authority.read(handle.external.as_deref().ok_or_else(gone)?)?;
        let late = if self.relay.is_some() { SKEW_SECS } else { 0 };
        let latest = handle.until.0.div_ceil(1000).saturating_add(late);
        let fits = terms.principal == handle.name
            && terms.serial == serial(&handle.name)
            && terms.before <= latest
            && terms.source_address == self.sources(scope)
            && scope.could_force(&terms.force_command);
        if !fits {
            return Err(BrokerError::new(
                "scope.wider",
                format!("{} has a certificate that says more", handle.name),
            ));
        }
        let privileges = vec![
            format!("log in as {} until {}", scope.user, terms.before),
            format!("from {}", terms.source_address),
            format!("run {}", terms.force_command),
        ];
        Ok(Effective { privileges })
    }

    async fn ended(&self, handle: &Handle) -> Did {
        match &self.relay {
            Some((relay, _)) => Did { sessions_ended: relay.cut(&handle.name).await, notes: Vec::new() },
            None => {
                let what = "there is no relay: a session that was open may go on, and is not seen here";
                Did { sessions_ended: 0, notes: vec![what.to_owned()] }
            }
        }
    }

    fn looked(&self, handle: &Handle) -> Sight {
        let query = format!("sessions of {} in the relay; the end of its certificate", handle.name);
        let end = handle.until.0.div_ceil(1000);
        match &self.relay {
            Some((relay, _)) => {
                let sessions = relay.count(&handle.name);
                let answer = format!(
                    "{sessions} sessions; its principal is refused at every login, its certificate runs out at {}",
                    end.saturating_add(SKEW_SECS)
                );
                Sight { gone: sessions == 0, sessions, query, answer }
            }
            None => {
                let left = end.saturating_sub(now_secs());
                // Only once it was asked for is there a certificate at all.
                let gone = left == 0 || handle.external.is_none();
                let answer = match (&handle.external, left) {
                    (None, _) => "nobody was given a certificate".to_owned(),
                    (_, 0) => format!("the certificate ran out at {end}"),
                    (_, left) => format!("the certificate is good for {left} s more"),
                };
                Sight { gone, sessions: 0, query, answer }
            }
        }
    }

    fn swept(&self) -> Vec<Found> {
        let names = self.relay.iter().flat_map(|(relay, _)| relay.names());
        let found = |name: String| {
            let lease = self.maker.lease(&name)?;
            Some(Found { name, external: None, kind: FoundKind::Ours { lease } })
        };
        names.filter_map(found).collect()
    }
}

/// A new authority's private key.
///
/// # Errors
/// `connector.random` if the machine gives no random bytes.
pub fn new_authority() -> Result<Secret, BrokerError> {
    certificate::new_key("bailiwick").map(|(_, file)| file)
}

/// The key that the agent brought, if it brought one.
fn own_key(spec: &Spec) -> Result<Option<[u8; 32]>, BrokerError> {
    let Some(given) = spec.args.get(PUBLIC_KEY) else { return Ok(None) };
    let key = crate::plain(given).as_deref().and_then(certificate::public_key);
    let odd = || BrokerError::new("scope.argument", format!("`{PUBLIC_KEY}` is no Ed25519 key of OpenSSH"));
    key.map(Some).ok_or_else(odd)
}

/// The id of a certificate: what the host's own log says of a login.
fn key_id(lease: &LeaseId, by: &OnBehalf) -> String {
    format!("{KEY_ID}:{lease}:{}:{}", by.agent, by.initiator)
}

/// The serial number of a name's certificate.
fn serial(name: &str) -> u64 {
    let digest = Digest::of_parts(&[b"ssh serial v1", name.as_bytes()]);
    digest.as_bytes().iter().take(8).fold(0, |n, b| (n << 8) | u64::from(*b))
}

fn now_secs() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(u64::MAX, |d| d.as_secs())
}

impl Broker for Ssh {
    fn system(&self) -> &SystemId {
        &self.system
    }

    fn capabilities(&self) -> Capabilities {
        let (class, remains) = match self.relay {
            Some(_) => (
                Revocability::B,
                "a command that runs when its session is cut ends within three seconds, unless it has left its process group",
            ),
            None => (
                Revocability::D,
                "a session that is open when the credential ends goes on until its holder ends it; new logins are refused",
            ),
        };
        Capabilities {
            kind: "ssh",
            class,
            native_expiry: true,
            expiry_ends_sessions: self.relay.is_some(),
            ttl_secs_min: 1,
            ttl_secs_max: self.scopes.values().map(|s| s.ttl_s).max().unwrap_or(0),
            attribution: "the certificate's id and serial number in the log of sshd",
            remains,
        }
    }

    fn longest_secs(&self, scope: &ToolId) -> u64 {
        self.scope(scope).map_or(0, |scope| scope.ttl_s)
    }

    fn scopes(&self) -> Vec<Manifest> {
        let manifest = |(name, scope): (&String, &Scope)| {
            let mut manifest = Manifest::new(ToolId::of(&self.system, name).ok()?, scope.effect);
            manifest.reversible = scope.reversible || scope.effect == Effect::Read;
            for arg in scope.args() {
                manifest = manifest.narrowed_by(arg);
            }
            manifest = manifest.arg("ttl_s", Role::Free).arg(PUBLIC_KEY, Role::Free);
            if let Some(key) = manifest.args.get_mut(PUBLIC_KEY) {
                // Random letters and digits read as an account now and then. Nothing but the key's bytes is used.
                key.scan = Some(Vec::new());
            }
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
        Box::pin(async move { self.created(plan) })
    }

    fn describe<'a>(&'a self, handle: &'a Handle) -> Doing<'a, Effective> {
        Box::pin(async move { self.described(handle) })
    }

    fn revoke<'a>(&'a self, handle: &'a Handle, step: Step) -> Doing<'a, Did> {
        Box::pin(async move {
            match step {
                Step::EndSessions => Ok(self.ended(handle).await),
                // New logins are refused since the end was recorded: the host asks, and so does the relay.
                _ => Ok(Did::default()),
            }
        })
    }

    fn look<'a>(&'a self, handle: &'a Handle) -> Doing<'a, Sight> {
        Box::pin(async move { Ok(self.looked(handle)) })
    }

    fn sweep(&self) -> Doing<'_, Vec<Found>> {
        Box::pin(async move { Ok(self.swept()) })
    }

    fn claimed(&self, login: &Login) -> Option<LeaseId> {
        let rest = login.key_id.strip_prefix(KEY_ID)?.strip_prefix(':')?;
        LeaseId::parse(rest.split(':').next()?).ok()
    }

    fn admit(&self, login: &Login, handle: &Handle, by: &OnBehalf) -> Option<String> {
        let scope = self.scope(&handle.tool).ok()?;
        let fits = login.user == scope.user
            && login.key_id == key_id(&handle.lease, by)
            && login.serial == serial(&handle.name).to_string();
        fits.then(|| format!("restrict {}", handle.name))
    }
}
