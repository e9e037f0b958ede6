//! What an enforcement point asks of the control plane, and the witness it gets back.
//!
//! A `Permit` of the core cannot cross a process, so an enforcement point has a witness of its own:
//! [`Allowed`]. It can only come out of [`Answer::allowed`], that is, out of an answer of a decision point,
//! and a forwarder takes it by value: one decision, one call.

use bailiwick_core::{
    AgentId, ApprovalId, DecisionId, Digest, GrantId, PrincipalId, TaskId, TenantId, Time, ToolId, Value,
};
use std::future::Future;

/// Who is calling, as proven by a verified token and proof of possession. Only `token` verification and
/// tests make one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The tenant whose authority minted the token.
    pub tenant: TenantId,
    /// The task the token is for.
    pub task: TaskId,
    /// The grant the token carries.
    pub grant: GrantId,
    /// The agent that holds it.
    pub agent: AgentId,
    /// The human or workflow at the root of the chain.
    pub initiator: PrincipalId,
    /// Thumbprint (RFC 7638) of the key that proved possession: one running instance of the agent.
    pub instance: String,
    /// When the token expires.
    pub until: Time,
    /// The proof of possession that came with this request; recorded with the decision, so that it cannot
    /// be used twice on any node or after a restart.
    pub proof: Option<ProofSeen>,
}

/// One proof of possession, reduced to what must be remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProofSeen {
    /// Hash of the proof's `jti` and key.
    pub id: Digest,
    /// After this the proof is refused for its age and need not be remembered.
    pub until: Time,
}

/// One tool call to be decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The tool.
    pub tool: ToolId,
    /// The arguments, parsed once. Must be an object.
    pub args: Value,
    /// Hash of the tool's definition as this enforcement point sees it now, if it sees one.
    pub definition: Option<Digest>,
    /// An approval to present, when the caller resumes a pending call.
    pub approval: Option<ApprovalId>,
    /// What the agent says it is doing: recorded as untrusted words, never an input to the decision.
    pub says: Option<String>,
}

/// The answer to a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Go ahead, once, with exactly these arguments.
    Allow(Allow),
    /// A human must say yes first.
    Ask(Pending),
    /// No.
    Deny(Denial),
}

/// The body of an allow.
#[derive(Debug, Clone, PartialEq)]
pub struct Allow {
    /// The decision that allowed it.
    pub decision: DecisionId,
    /// The tool.
    pub tool: ToolId,
    /// What to send upstream.
    pub args: Value,
    /// The enforcement point must not start the call after this time.
    pub until: Time,
}

/// The body of an ask: nothing is held open; come back with the handle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// The decision that asked.
    pub decision: DecisionId,
    /// The handle to come back with.
    pub approval: ApprovalId,
    /// After this, no answer means no.
    pub until: Time,
    /// Words for the caller.
    pub text: String,
}

/// The body of a refusal, fit to be read by a model and by a machine (no policy source, no other agent's
/// scope, no secret).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The decision that refused.
    pub decision: DecisionId,
    /// Which step of the procedure refused, 1 to 10.
    pub step: u8,
    /// Stable code, such as `chain.not_enabled`.
    pub code: String,
    /// The deciding rule: a policy id, or the name of the built-in rule.
    pub rule: String,
    /// Why, for people.
    pub reason: String,
    /// What would help.
    pub remedy: String,
    /// The whole as one short paragraph.
    pub text: String,
    /// Whether the same call may succeed later without anything else changing.
    pub retry: bool,
}

/// The witness a forwarder wants. It cannot be built except from an answer that allows.
///
/// ```compile_fail
/// let forged = bailiwick_api::Allowed { allow: todo!() };
/// ```
#[derive(Debug)]
pub struct Allowed {
    allow: Allow,
}

impl Answer {
    /// The witness, if this answer allows; otherwise the answer back.
    pub fn allowed(self) -> Result<Allowed, Box<Answer>> {
        match self {
            Answer::Allow(allow) => Ok(Allowed { allow }),
            other => Err(Box::new(other)),
        }
    }
}

impl Allowed {
    /// The decision behind it.
    pub fn decision(&self) -> &DecisionId {
        &self.allow.decision
    }
    /// The tool that may be called.
    pub fn tool(&self) -> &ToolId {
        &self.allow.tool
    }
    /// The arguments to send.
    pub fn args(&self) -> &Value {
        &self.allow.args
    }
    /// The latest start.
    pub fn until(&self) -> Time {
        self.allow.until
    }
}

/// What came of an allowed call.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// How it went.
    pub status: OutcomeStatus,
    /// The structured result, if it was JSON within the caps; feeds labels and explained values.
    pub result: Option<Value>,
    /// What else the agent is shown of it: texts that are no JSON, and what was not clean enough for `result`. By them
    /// it is known again what agents wrote earlier; they explain nothing.
    pub words: Vec<String>,
    /// Bytes of the result as received.
    pub bytes: u64,
    /// A short note on failure, from the enforcement point, without upstream secrets.
    pub note: Option<String>,
}

/// How an allowed call went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutcomeStatus {
    /// The upstream answered with a result.
    Done,
    /// The upstream answered with an error.
    Failed,
    /// No answer, or none that can be trusted: it may have happened.
    Unknown,
}

/// One tool as an agent may see it.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolView {
    /// The tool.
    pub tool: ToolId,
    /// The pinned definition (an MCP tool object with the upstream's own name), delivered as recorded,
    /// never the live text.
    pub definition: Value,
    /// Its hash.
    pub pin: Digest,
}

/// A handoff asked for by the parent.
#[derive(Debug, Clone, PartialEq)]
pub struct HandoffAsk {
    /// The agent that shall get the child grant.
    pub to: AgentId,
    /// Capabilities asked for, in the JSON form of the core's `Capability`. Empty: what the chain foresees
    /// for that agent, within the parent's delegate rights.
    pub capabilities: Vec<Value>,
    /// How long, in milliseconds; never beyond the parent.
    pub ttl_ms: Option<u64>,
    /// Further handoffs the child may make.
    pub depth: u8,
    /// Fields offered to the child; only those that the chain's step names are delivered.
    pub payload: Value,
}

/// A handoff made.
#[derive(Debug, Clone, PartialEq)]
pub struct HandoffMade {
    /// The decision behind it.
    pub decision: DecisionId,
    /// The child's grant; the child fetches its own token for it with its own key.
    pub grant: GrantId,
    /// The child.
    pub to: AgentId,
    /// The capabilities it got, in the JSON form of the core's `Capability`.
    pub capabilities: Vec<Value>,
    /// When the grant ends.
    pub until: Time,
    /// The payload as delivered.
    pub delivered: Value,
    /// Names of the fields that were not delivered.
    pub stripped: Vec<String>,
    /// Where the values in it came from, in words. What the sender says of them proves nothing.
    pub sources: Vec<String>,
}

/// An addition to the chain that an agent asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct AmendAsk {
    /// The calls it wants to make, each as in a chain: `id`, `tool`, `args` with a constraint each, and if wanted
    /// `after`, `min` and `max`. Who takes them is the caller.
    pub steps: Vec<Value>,
    /// What the agent says it needs them for: recorded as untrusted words.
    pub says: Option<String>,
}

/// State of a pending question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApprovalState {
    /// Nobody has decided yet.
    Waiting {
        /// After this, no answer means no.
        until: Time,
    },
    /// Yes, once, for exactly this act; present the handle with the same arguments.
    Approved {
        /// Until when it may be used.
        until: Time,
        /// The arguments that were approved, when the approver narrowed them.
        narrowed: Option<Value>,
    },
    /// No, with the reason given.
    Denied {
        /// The approver's words.
        reason: String,
    },
    /// Nobody answered in time, or it has been used, or the task is over.
    Closed {
        /// Why.
        reason: String,
    },
}

/// The control plane could not answer. Every one of these means: do not act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct PointError {
    /// Stable code: `store.unavailable`, `policy.unavailable`, `caller.unknown`, `request.malformed` …
    pub code: String,
    /// Why, for the caller.
    pub reason: String,
    /// Whether trying again may help.
    pub retry: bool,
}

/// What an enforcement point asks. One implementation is the engine in the same process, another the HTTP
/// client; nothing else differs.
pub trait DecisionPoint: Send + Sync + 'static {
    /// Decides one call; a yes is durable before this returns.
    fn decide(&self, caller: &Caller, call: Call) -> impl Future<Output = Result<Answer, PointError>> + Send;

    /// The tools that could be allowed to this caller for some arguments.
    fn list(&self, caller: &Caller) -> impl Future<Output = Result<Vec<ToolView>, PointError>> + Send;

    /// Records what came of an allowed call. Must be called exactly once per [`Allowed`].
    fn report(
        &self,
        caller: &Caller,
        decision: &DecisionId,
        outcome: Outcome,
    ) -> impl Future<Output = Result<(), PointError>> + Send;

    /// The same, but may return before the record is durable, if the tool only reads and nothing that is decided later
    /// can miss what was read.
    fn report_soon(
        &self,
        caller: &Caller,
        decision: &DecisionId,
        outcome: Outcome,
    ) -> impl Future<Output = Result<(), PointError>> + Send {
        self.report(caller, decision, outcome)
    }

    /// Makes a child grant, or refuses and names what was too much.
    fn hand_off(
        &self,
        caller: &Caller,
        ask: HandoffAsk,
    ) -> impl Future<Output = Result<Result<HandoffMade, Denial>, PointError>> + Send;

    /// Asks people for an addition to the chain. It is never made by asking: the question waits, or it is refused.
    fn amend(
        &self,
        _caller: &Caller,
        _ask: AmendAsk,
    ) -> impl Future<Output = Result<Result<Pending, Denial>, PointError>> + Send {
        std::future::ready(Err(PointError {
            code: "amendment.unsupported".to_owned(),
            reason: "this decision point takes no amendments".to_owned(),
            retry: false,
        }))
    }

    /// The state of a question this caller asked.
    fn approval(
        &self,
        caller: &Caller,
        approval: &ApprovalId,
    ) -> impl Future<Output = Result<ApprovalState, PointError>> + Send;

    /// Tells the control plane which definitions a system offers now (each an MCP tool object). New ones
    /// are recorded as proposed, changed ones are quarantined; neither can be called until a human has
    /// classified them. Returns nothing: what may be called is `list`'s and `decide`'s to say.
    fn observe(
        &self,
        system: &str,
        definitions: Vec<Value>,
    ) -> impl Future<Output = Result<(), PointError>> + Send;

    /// Whether a call that was allowed may still run: false as soon as its task or grant is no longer live.
    /// Enforcement points watch this for calls in flight and cancel them.
    fn live(&self, caller: &Caller) -> impl Future<Output = bool> + Send;
}
