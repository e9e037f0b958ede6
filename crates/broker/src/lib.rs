//! Real credentials in target systems: minted just in time, narrowed to a task, revoked, and looked for until they
//! are gone.
//!
//! One module per target system, each behind the same contract, [`Broker`]. A connector thinks nothing and
//! remembers nothing: what may be created is decided and recorded above it, and it only creates against a
//! [`Mandate`], which nobody can make without an intent in the log. Everything it does can be done again: after a
//! crash nobody knows how far it came.
//!
//! What every connector promises, and one suite tests on all of them (`tests/it/kit.rs`):
//!
//! * exactly the scope that was asked for, read back from the target after creating;
//! * a name that derives from the lease and is never used again, and a mark that only we can make;
//! * revocation in the fixed order of [`Step`]; what is gone already is success;
//! * a look that is independent of what was done before, and says what it asked and what was answered;
//! * a sweep that finds what carries our mark, and never touches what only looks like it;
//! * secrets that are told once and printed never.

mod error;
pub mod mark;
pub mod postgres;
mod private;
pub mod redis;
mod secret;
pub mod ssh;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use bailiwick_core::lease::{Mandate, Revocability, Step};
use bailiwick_core::tool::Manifest;
use bailiwick_core::value::{Digest, Value};
use bailiwick_core::{AgentId, GrantId, LeaseId, PrincipalId, SystemId, TaskId, Time, ToolId};

pub use error::BrokerError;
pub use private::Tls;
pub use secret::Secret;

/// Something a connector does; it ends with an answer or with a [`BrokerError`].
pub type Doing<'a, T> = Pin<Box<dyn Future<Output = Result<T, BrokerError>> + Send + 'a>>;

/// A target system, as far as credentials go. One per configured target; the engine holds them behind this trait.
pub trait Broker: Send + Sync + 'static {
    /// The target's name in this installation.
    fn system(&self) -> &SystemId;

    /// What can be promised of its credentials.
    fn capabilities(&self) -> Capabilities;

    /// What can be asked for: one manifest for each scope, so that each is a tool that policy decides on.
    fn scopes(&self) -> Vec<Manifest>;

    /// Longest life of a credential of this scope, in seconds; 0 for a scope that there is not.
    fn longest_secs(&self, scope: &ToolId) -> u64;

    /// Whether the target is fit to give out this scope now, and exactly what would be created. Changes nothing.
    ///
    /// # Errors
    /// `scope.*` if it cannot be asked for so; `target.*` if the target is not fit or does not answer.
    fn prepare(&self, spec: Spec) -> Doing<'_, Plan>;

    /// Creates the credential of a mandate. After a crash it is not created again: it is revoked, and its secret,
    /// which nobody has, is lost.
    ///
    /// # Errors
    /// Whatever is not a success may have created it all the same: revoke it.
    fn create<'a>(&'a self, mandate: &'a Mandate, plan: &'a Plan) -> Doing<'a, Created>;

    /// What the credential can really do, read back from the target. Wider than its scope is an error.
    ///
    /// # Errors
    /// `scope.wider`, naming what is too much; `target.gone` if it does not exist.
    fn describe<'a>(&'a self, handle: &'a Handle) -> Doing<'a, Effective>;

    /// Does one step of its revocation. Done before, or nothing there: success.
    ///
    /// # Errors
    /// Then the step is to be tried again, whatever it is.
    fn revoke<'a>(&'a self, handle: &'a Handle, step: Step) -> Doing<'a, Did>;

    /// Does all steps up to `Drop` for many at once, where the target has a cheaper way; an answer for each, in
    /// order. Whoever cannot be ended so is answered with an error, and goes step by step.
    fn revoke_many<'a>(&'a self, handles: &'a [Handle]) -> Doing<'a, Vec<Result<Did, BrokerError>>> {
        let no = || Err(BrokerError::new("target.one_by_one", "this target ends credentials one by one"));
        Box::pin(async move { Ok(handles.iter().map(|_| no()).collect()) })
    }

    /// Looks whether anything of it is left, on every node, by another way than the one that removed it.
    ///
    /// # Errors
    /// If it could not be looked; that is no sign of absence.
    fn look<'a>(&'a self, handle: &'a Handle) -> Doing<'a, Sight>;

    /// Looks for many at once, where the target has a cheaper way to be asked the same of each; an answer for each,
    /// in order. Whoever cannot be looked for so is answered with an error, and is looked for alone.
    fn look_many<'a>(&'a self, handles: &'a [Handle]) -> Doing<'a, Vec<Result<Sight, BrokerError>>> {
        let no = || Err(BrokerError::new("target.one_by_one", "this target is looked at one by one"));
        Box::pin(async move { Ok(handles.iter().map(|_| no()).collect()) })
    }

    /// Lists what carries our mark, or looks as if it did.
    ///
    /// # Errors
    /// If the target cannot be listed.
    fn sweep(&self) -> Doing<'_, Vec<Found>>;

    /// Which lease a login claims to be of, where a target's hosts ask us at each login. `None`: no lease of ours.
    fn claimed(&self, _login: &Login) -> Option<LeaseId> {
        None
    }

    /// What a host is answered that asks about the login of a lease that is in force; `None`: it is not let in.
    fn admit(&self, _login: &Login, _handle: &Handle, _by: &OnBehalf) -> Option<String> {
        None
    }
}

/// A login that a target's host asks about. Everything in it is what the host was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// As whom.
    pub user: String,
    /// The id of what was shown.
    pub key_id: String,
    /// Its serial number.
    pub serial: String,
}

/// Static facts of a connector, for policy and for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// The kind of system, such as `postgres`.
    pub kind: &'static str,
    /// What takes a credential away.
    pub class: Revocability,
    /// Whether the target itself ends logins at an expiry.
    pub native_expiry: bool,
    /// Whether that expiry also ends live sessions.
    pub expiry_ends_sessions: bool,
    /// The shortest life the target can give, in seconds.
    pub ttl_secs_min: u64,
    /// The longest life given out, in seconds.
    pub ttl_secs_max: u64,
    /// Where the target's own log names the credential.
    pub attribution: &'static str,
    /// What stays possible between the kill and its effect, in one sentence.
    pub remains: &'static str,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// The lease to be.
    pub lease: LeaseId,
    /// The scope, `system.scope`.
    pub tool: ToolId,
    /// What it is narrowed with.
    pub args: BTreeMap<String, Value>,
    /// When it ends at the latest.
    pub until: Time,
    /// On whose account.
    pub on_behalf: OnBehalf,
}

/// On whose account a credential is asked for; goes into the mark and the target's own log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnBehalf {
    /// The task.
    pub task: TaskId,
    /// The grant.
    pub grant: GrantId,
    /// The agent.
    pub agent: AgentId,
    /// The person or workflow at the root.
    pub initiator: PrincipalId,
}

/// Exactly what would be created.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Its name in the target.
    pub name: String,
    /// The spec it was made from.
    pub spec: Spec,
    /// What it will be able to do, for people.
    pub effect: String,
    /// Hash of everything above; recorded with the intent.
    pub digest: Digest,
}

impl Plan {
    /// A plan for a spec.
    pub fn new(name: String, spec: Spec, effect: String) -> Plan {
        let args = Value::Map(spec.args.clone()).canonical();
        let until = spec.until.0.to_be_bytes();
        let parts: [&[u8]; 5] =
            [name.as_bytes(), spec.tool.as_str().as_bytes(), args.as_bytes(), effect.as_bytes(), &until];
        Plan { digest: Digest::of_parts(&parts), name, spec, effect }
    }
}

/// A credential that was created.
#[derive(Debug)]
pub struct Created {
    /// The target's own id of it.
    pub external: String,
    /// What its holder needs, by name; secrets among it are told this once.
    pub credential: Credential,
}

/// What the holder of a credential needs to use it.
#[derive(Debug)]
pub struct Credential {
    /// Plain facts: host, port, database, user.
    pub plain: BTreeMap<String, String>,
    /// Secrets by name: password, private key.
    pub secret: BTreeMap<String, Secret>,
    /// Which environment variable each of them goes into for ordinary programs of this kind of system.
    pub env: BTreeMap<String, String>,
}

/// A credential to be looked at or taken away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handle {
    /// The lease.
    pub lease: LeaseId,
    /// Its name in the target.
    pub name: String,
    /// The target's own id, if it is known.
    pub external: Option<String>,
    /// The scope, to compare with.
    pub tool: ToolId,
    /// When it ends by itself.
    pub until: Time,
}

/// What a credential can really do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// One line for each privilege, sorted.
    pub privileges: Vec<String>,
}

impl Effective {
    /// Hash of it, for the log.
    pub fn digest(&self) -> Digest {
        Digest::of(self.privileges.join("\n").as_bytes())
    }
}

/// What a step did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Did {
    /// Live sessions it ended.
    pub sessions_ended: u64,
    /// What else there is to say, for people.
    pub notes: Vec<String>,
}

/// What a look saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    /// Whether nothing was there.
    pub gone: bool,
    /// Live sessions.
    pub sessions: u64,
    /// What was asked, as it could be asked again by hand.
    pub query: String,
    /// What was answered.
    pub answer: String,
}

/// Something in a target that carries our mark, or looks as if it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name there.
    pub name: String,
    /// The target's own id of it.
    pub external: Option<String>,
    /// What it is.
    pub kind: FoundKind,
}

/// What a found thing is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundKind {
    /// Ours: its mark is one that only we can make.
    Ours {
        /// The lease it was made for.
        lease: LeaseId,
    },
    /// It has our kind of name, and no mark of ours. It is shown and never touched.
    Lookalike,
}

/// A value that narrows a scope, exactly as it was decided on: a text or a whole number.
pub(crate) fn plain(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text.clone()),
        Value::Int(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Whether a host name is this machine: what is sent there in clear goes over no wire.
pub(crate) fn is_here(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// What policies can say of a target: its kind, its revocability, and how confidential its data is.
pub(crate) fn attributes(
    capabilities: &Capabilities,
    labels: &bailiwick_core::label::Label,
) -> BTreeMap<String, String> {
    let level = match labels.level {
        bailiwick_core::label::Level::Public => "public",
        bailiwick_core::label::Level::Internal => "internal",
        bailiwick_core::label::Level::Confidential => "confidential",
        bailiwick_core::label::Level::Secret => "secret",
    };
    let classes: Vec<&str> = labels.classes.iter().map(|c| c.as_str()).collect();
    let attributes = [
        ("kind", capabilities.kind),
        ("revocability", capabilities.class.as_str()),
        ("level", level),
        ("data", &classes.join(",")),
    ];
    attributes.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
