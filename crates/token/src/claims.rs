//! What a task token says (RFC 9068, 8693, 9396, 7800).
//!
//! The set of claims is closed: a token with any other claim is refused, so nothing can ride along. Two things
//! in particular never travel in a token: an approval, which belongs to one agent and one act, and a session.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Digest, SpiffeId, TokenRefusal, json};

/// How many agents may stand behind the outermost one.
pub const ACT_DEPTH_MAX: u32 = 8;

const TEXT_BYTES_MAX: usize = 1024;
const JTI_BYTES_MAX: usize = 128;
const TAINT_MAX: usize = 64;
const CAPABILITIES_MAX: usize = 256;

/// The claims of a task token. Times are seconds since 1970-01-01 UTC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Who minted it: the control plane's issuer URL.
    pub iss: String,
    /// The one place it is good for. On the wire a string; an array of one is read too.
    #[serde(deserialize_with = "exactly_one")]
    pub aud: String,
    /// First second at which it is worth nothing.
    pub exp: u64,
    /// When it was minted.
    pub iat: u64,
    /// First second at which it is good.
    pub nbf: u64,
    /// Its own id.
    pub jti: String,
    /// The OAuth client: the agent's SPIFFE ID as registered.
    pub client_id: String,
    /// The initiator: human, workflow or system. The same down the whole chain.
    pub sub: String,
    /// The agent that holds this token, and the agents behind it.
    pub act: Actor,
    /// The key of the holder.
    pub cnf: Confirmation,
    /// Exactly one entry: the capabilities of the grant.
    pub authorization_details: Vec<TaskAuthorization>,
    /// The task id. The same down the whole chain.
    pub txn: String,
    /// Hashes of what may not change while the task runs.
    pub tctx: TaskContext,
    /// How many handoffs lie behind this token; 0 for the task's first agent.
    pub del_depth: u32,
    /// How many handoffs may lie behind any token below this one; equal to `del_depth` means no further handoff.
    pub del_max_depth: u32,
    /// SHA-256 of the parent's token; present exactly if `del_depth` is above 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub par_hash: Option<Digest>,
    /// The grant that this token stands for.
    pub grant: String,
    /// The tenant.
    pub tenant: String,
    /// Labels of untrusted data seen so far; only grows down the chain.
    pub taint: Vec<String>,
}

/// An agent in the chain (RFC 8693 section 4.1). Only the outermost is an input to authorization elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Actor {
    /// Who vouches for the identity.
    pub iss: String,
    /// The agent.
    pub sub: SpiffeId,
    /// What kind of subject this is.
    pub sub_profile: SubjectProfile,
    /// The agent that handed the work to this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<Box<Actor>>,
}

/// Kinds of acting subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SubjectProfile {
    /// An AI agent.
    #[serde(rename = "ai_agent")]
    AiAgent,
}

impl Actor {
    /// The first agent of a task.
    #[must_use]
    pub fn first(iss: impl Into<String>, sub: SpiffeId) -> Self {
        Self { iss: iss.into(), sub, sub_profile: SubjectProfile::AiAgent, act: None }
    }

    /// An agent that got its work from `self`.
    #[must_use]
    pub fn handed_to(self, iss: impl Into<String>, sub: SpiffeId) -> Self {
        Self { act: Some(Box::new(self)), ..Self::first(iss, sub) }
    }

    /// How many agents stand behind this one.
    #[must_use]
    pub fn depth(&self) -> u32 {
        let mut depth = 0;
        let mut inner = &self.act;
        while let Some(actor) = inner {
            depth += 1;
            inner = &actor.act;
        }
        depth
    }
}

/// The key that the holder has to prove (RFC 7800): exactly one of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Confirmation {
    /// DPoP: the thumbprint of the holder's public key (RFC 9449 section 6.1).
    #[serde(rename = "jkt")]
    Jkt(Digest),
    /// Mutual TLS: SHA-256 of the holder's certificate in DER (RFC 8705 section 3.1).
    #[serde(rename = "x5t#S256")]
    X5tS256(Digest),
}

/// The one entry of `authorization_details` (RFC 9396).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskAuthorization {
    #[serde(rename = "type")]
    kind: DetailsType,
    /// The capabilities, each an object; their meaning is the decision core's.
    pub capabilities: Vec<Map<String, Value>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum DetailsType {
    #[serde(rename = "bailiwick_task")]
    Task,
}

impl TaskAuthorization {
    /// An entry with these capabilities.
    #[must_use]
    pub fn new(capabilities: Vec<Map<String, Value>>) -> Self {
        Self { kind: DetailsType::Task, capabilities }
    }
}

/// Hashes of what was declared before anything ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskContext {
    /// Of the declared intent.
    pub intent: Digest,
    /// Of the permitted action chain.
    pub chain: Digest,
    /// Of the policy set.
    pub policy: Digest,
}

impl Claims {
    /// Reads claims from a payload: closed set, right types, sound bounds.
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, TokenRefusal> {
        let object = json::object(payload)?;
        if let Some(Value::Array(audiences)) = object.get("aud")
            && audiences.len() != 1
        {
            return Err(TokenRefusal::WrongAudience);
        }
        let claims: Self = serde_json::from_value(Value::Object(object))
            .map_err(|_| TokenRefusal::Claim("one is missing, unknown or of the wrong type"))?;
        claims.check_shape()?;
        Ok(claims)
    }

    /// Bounds that hold for every task token, whoever presents it and whenever.
    pub(crate) fn check_shape(&self) -> Result<(), TokenRefusal> {
        let texts = [
            ("iss", &self.iss),
            ("aud", &self.aud),
            ("client_id", &self.client_id),
            ("sub", &self.sub),
            ("txn", &self.txn),
            ("grant", &self.grant),
            ("tenant", &self.tenant),
        ];
        for (name, text) in texts {
            plain_text(text, TEXT_BYTES_MAX).then_some(()).ok_or(TokenRefusal::Claim(name))?;
        }
        let taint_fits = self.taint.len() <= TAINT_MAX && self.taint.iter().all(|t| plain_text(t, 256));
        let capabilities = match self.authorization_details.as_slice() {
            [one] => one.capabilities.len(),
            _ => return Err(TokenRefusal::Claim("authorization_details")),
        };
        let rules = [
            ("jti", plain_text(&self.jti, JTI_BYTES_MAX)),
            ("taint", taint_fits),
            ("authorization_details", capabilities <= CAPABILITIES_MAX),
            ("nbf", self.iat <= self.nbf && self.nbf < self.exp),
            ("del_max_depth", self.del_max_depth <= ACT_DEPTH_MAX),
            ("del_depth", self.del_depth <= self.del_max_depth),
            ("act", self.act.depth() == self.del_depth),
            ("par_hash", self.par_hash.is_some() == (self.del_depth > 0)),
        ];
        match rules.into_iter().find(|(_, holds)| !holds) {
            Some((name, _)) => Err(TokenRefusal::Claim(name)),
            None => Ok(()),
        }
    }

    /// Whether `self` may stand directly below `parent`: same task, same initiator, same declared context, one
    /// handoff deeper, and nothing larger. Capabilities are compared by the decision core, not here.
    pub(crate) fn check_below(&self, parent: &Self, parent_hash: Digest) -> Result<(), TokenRefusal> {
        let rules = [
            ("iss", self.iss == parent.iss),
            ("tenant", self.tenant == parent.tenant),
            ("sub", self.sub == parent.sub),
            ("txn", self.txn == parent.txn),
            ("tctx", self.tctx == parent.tctx),
            ("exp", self.exp <= parent.exp),
            ("del_max_depth", self.del_max_depth <= parent.del_max_depth),
            ("del_depth", Some(self.del_depth) == parent.del_depth.checked_add(1)),
            ("act", self.act.act.as_deref() == Some(&parent.act)),
            ("par_hash", self.par_hash == Some(parent_hash)),
            ("cnf", self.cnf != parent.cnf),
            ("taint", parent.taint.iter().all(|label| self.taint.contains(label))),
        ];
        match rules.into_iter().find(|(_, holds)| !holds) {
            Some((name, _)) => Err(TokenRefusal::Widened(name)),
            None => Ok(()),
        }
    }
}

/// Not empty, not too long, nothing that would garble a log or a header.
pub(crate) fn plain_text(text: &str, bytes_max: usize) -> bool {
    !text.is_empty() && text.len() <= bytes_max && !text.chars().any(char::is_control)
}

fn exactly_one<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audience {
        One(String),
        Many([String; 1]),
    }
    Ok(match Audience::deserialize(deserializer)? {
        Audience::One(one) | Audience::Many([one]) => one,
    })
}
