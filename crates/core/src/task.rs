//! A task: the fold over its events. The log is the state.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use crate::amendment::{Amended, Proposal, Proposed, shown};
use crate::approval::{Approval, State, Vote};
use crate::capability::Spent;
use crate::chain::{Chain, Progress};
use crate::decision::SHORTENED;
use crate::event::{
    Asked, Cause, Charge, Decided, HandedOff, NewGrant, Opening, Reported, Ruled, TaskEvent, Went,
};
use crate::grant::{Grant, Held, Tree};
use crate::ids::{AgentId, ApprovalId, DecisionId, GrantId, LeaseId, StepId};
use crate::label::Label;
use crate::lease::{Lease, LeaseFact, Receipt};
use crate::origin::{Explained, Identifier, Kind, Origin, Wanted, Written, identify, leaves, said, scan};
use crate::seeking::Seeking;
use crate::time::Time;
use crate::tool::Effect;
use crate::value::{Digest, Value};

/// A task as its events have made it.
#[derive(Debug, Clone)]
pub struct Task {
    opening: Opening,
    chain: Option<Chain>,
    amended: BTreeMap<StepId, ApprovalId>,
    opened: Time,
    version: u64,
    state: TaskState,
    grants: Tree,
    progress: Progress,
    done: Progress,
    explained: Explained,
    written: Written,
    seen: BTreeMap<Identifier, (String, String)>,
    approvals: BTreeMap<ApprovalId, Approval>,
    calls: BTreeMap<DecisionId, OpenCall>,
    leases: BTreeMap<LeaseId, Lease>,
    receipt: Option<(Receipt, Time)>,
    proofs: BTreeMap<Digest, Time>,
    tokens: BTreeMap<GrantId, Digest>,
    handoffs: u32,
    asks: u32,
    refusals: u32,
    seeking: BTreeMap<AgentId, Seeking>,
    newest: Time,
}

/// Whether a task is alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskState {
    /// It is.
    Open,
    /// Nothing is allowed until a person resumes it.
    Frozen {
        /// By whom.
        by: String,
        /// Why.
        reason: String,
    },
    /// It is over.
    Ended {
        /// Why.
        cause: Cause,
        /// When.
        at: Time,
        /// In words.
        reason: String,
    },
}

/// An allowed call whose outcome has not come yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenCall {
    /// Whose.
    pub grant: GrantId,
    /// Which tool.
    pub tool: crate::ids::ToolId,
    /// Which capability it was charged to.
    pub capability: Option<u16>,
    /// The chain step it is.
    pub step: Option<StepId>,
    /// When it was allowed.
    pub since: Time,
}

/// Proofs of possession are remembered until they are refused for their age; this many at most.
const PROOFS_MAX: usize = 50_000;

/// How many values that nobody vouches for one task remembers the place of. Past this, people are told less.
const SEEN_MAX: usize = 2_000;

impl Task {
    /// A task from its first event. `None` if the first event is not an opening.
    pub fn begin(event: &TaskEvent, at: Time) -> Option<Task> {
        let TaskEvent::Opened(opening) = event else { return None };
        let root = Grant {
            id: opening.grant.clone(),
            agent: opening.agent.clone(),
            parent: None,
            depth: 0,
            since: 0,
            held: opening.capabilities.iter().cloned().map(|c| held(c, None)).collect(),
            until: opening.limits.until,
            label: Default::default(),
            revoked: false,
            refusals: 0,
        };
        Some(Task {
            opened: at,
            version: 1,
            state: TaskState::Open,
            grants: Tree::of(root),
            progress: Progress::new(),
            done: Progress::new(),
            explained: explained_at_opening(opening),
            written: Written::default(),
            seen: BTreeMap::new(),
            approvals: BTreeMap::new(),
            calls: BTreeMap::new(),
            leases: BTreeMap::new(),
            receipt: None,
            proofs: BTreeMap::new(),
            tokens: BTreeMap::new(),
            handoffs: 0,
            asks: 0,
            refusals: 0,
            seeking: BTreeMap::new(),
            newest: at,
            chain: opening.chain.clone(),
            amended: BTreeMap::new(),
            opening: opening.clone(),
        })
    }

    /// A task from all its events. `None` for an empty stream or one that does not begin with an opening.
    pub fn fold<'a>(events: impl IntoIterator<Item = (&'a TaskEvent, Time)>) -> Option<Task> {
        let mut events = events.into_iter();
        let (first, at) = events.next()?;
        let mut task = Task::begin(first, at)?;
        events.for_each(|(event, at)| task.apply(event, at));
        Some(task)
    }

    /// Folds one more event. Total: an event that makes no sense changes nothing but the version.
    pub fn apply(&mut self, event: &TaskEvent, at: Time) {
        self.version += 1;
        self.newest = self.newest.max(at);
        match event {
            TaskEvent::Opened(_) => {}
            TaskEvent::Decided(decided) => self.on_decided(decided, at),
            TaskEvent::Reported(reported) => self.on_reported(reported),
            TaskEvent::HandedOff(handed) => self.on_handed_off(handed),
            TaskEvent::TokenMinted { grant, hash, proof, .. } => {
                self.tokens.insert(grant.clone(), *hash);
                if let Some((proof, until)) = proof {
                    self.remember(*proof, *until, at);
                }
            }
            TaskEvent::AmendmentProposed(proposed) => self.on_proposed(proposed, at),
            TaskEvent::Amended(amended) => self.on_amended(amended),
            TaskEvent::Voted { approval, by, vote } => {
                if let Some(approval) = self.approvals.get_mut(approval) {
                    take_vote(approval, by, vote);
                }
            }
            TaskEvent::GrantRevoked { grant, .. } => {
                if let Some(grant) = self.grants.get_mut(grant) {
                    grant.revoked = true;
                }
            }
            TaskEvent::Frozen { by, reason } => {
                if self.state == TaskState::Open {
                    self.state = TaskState::Frozen { by: by.clone(), reason: reason.clone() };
                }
            }
            TaskEvent::Resumed { .. } => {
                if matches!(self.state, TaskState::Frozen { .. }) {
                    self.state = TaskState::Open;
                    self.asks = 0;
                    self.refusals = 0;
                    self.seeking.clear();
                }
            }
            TaskEvent::Ended { cause, reason, .. } => {
                if !self.has_ended() {
                    self.state = TaskState::Ended { cause: *cause, at, reason: reason.clone() };
                }
            }
            TaskEvent::LeaseRequested(intent) => {
                let id = intent.lease.clone();
                self.leases.entry(id).or_insert_with(|| Lease::new(intent.clone(), at));
            }
            TaskEvent::Lease { lease, fact } => {
                if let Some(lease) = self.leases.get_mut(lease) {
                    lease.apply(fact, at);
                    if matches!(fact, LeaseFact::Found { .. }) && lease.is_standing() {
                        self.receipt = None;
                    }
                }
            }
            TaskEvent::Receipted(receipt) => self.receipt = Some((receipt.clone(), at)),
        }
    }

    /// How it was opened.
    pub fn opening(&self) -> &Opening {
        &self.opening
    }
    /// The chain that holds now: the one it was opened with, and what people added to it.
    pub fn chain(&self) -> Option<&Chain> {
        self.chain.as_ref()
    }
    /// The amendment that a step came with, if it was not there from the beginning.
    pub fn amended_by(&self, step: &StepId) -> Option<&ApprovalId> {
        self.amended.get(step)
    }
    /// When it was opened.
    pub fn opened(&self) -> Time {
        self.opened
    }
    /// How many events have been folded.
    pub fn version(&self) -> u64 {
        self.version
    }
    /// The newest time in its log.
    pub fn newest(&self) -> Time {
        self.newest
    }
    /// Whether it is alive.
    pub fn state(&self) -> &TaskState {
        &self.state
    }
    /// Whether it is over for good.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, TaskState::Ended { .. })
    }
    /// A grant.
    pub fn grant(&self, id: &GrantId) -> Option<&Grant> {
        self.grants.get(id)
    }
    /// All grants.
    pub fn grants(&self) -> impl Iterator<Item = &Grant> {
        self.grants.iter()
    }
    /// How often each step has been taken.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }
    /// Values whose origin is known.
    pub fn explained(&self) -> &Explained {
        &self.explained
    }
    /// Where the task has come across a value that nobody vouches for: a tool and a field of its result.
    pub fn seen(&self, wanted: &Wanted) -> Option<(String, String)> {
        wanted.value().and_then(|id| self.seen.get(id).cloned())
    }
    /// A question.
    pub fn approval(&self, id: &ApprovalId) -> Option<&Approval> {
        self.approvals.get(id)
    }
    /// All questions.
    pub fn approvals(&self) -> impl Iterator<Item = &Approval> {
        self.approvals.values()
    }
    /// Allowed calls without an outcome.
    pub fn open_calls(&self) -> &BTreeMap<DecisionId, OpenCall> {
        &self.calls
    }
    /// A lease.
    pub fn lease(&self, id: &LeaseId) -> Option<&Lease> {
        self.leases.get(id)
    }
    /// Leases.
    pub fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.leases.values()
    }
    /// Its receipt, and when it was given.
    pub fn receipt(&self) -> Option<&(Receipt, Time)> {
        self.receipt.as_ref()
    }
    /// Handoffs made.
    pub fn handoffs(&self) -> u32 {
        self.handoffs
    }
    /// Questions asked since it was opened or last resumed.
    pub fn asks(&self) -> u32 {
        self.asks
    }
    /// Refusals since it was opened or last resumed.
    pub fn refusals(&self) -> u32 {
        self.refusals
    }
    /// What each agent has tried for beyond what it has, since it was opened or last resumed.
    pub fn seeking(&self) -> &BTreeMap<AgentId, Seeking> {
        &self.seeking
    }
    /// The sum of it over all agents.
    pub fn seeking_score(&self) -> u32 {
        self.seeking.values().fold(0, |sum, agent| sum.saturating_add(agent.score()))
    }
    /// Hash of the newest token minted for a grant.
    pub fn token_hash(&self, grant: &GrantId) -> Option<Digest> {
        self.tokens.get(grant).copied()
    }
    /// Whether a proof of possession has been used in this task before.
    pub fn has_seen(&self, proof: &Digest) -> bool {
        self.proofs.contains_key(proof)
    }

    /// The grant and its ancestors up to the root. Bounded: parents are always older, so there is no cycle.
    pub fn lineage<'a>(&'a self, grant: &'a Grant) -> impl Iterator<Item = &'a Grant> {
        self.grants.up(&grant.id)
    }

    /// Whether nothing of its own keeps the grant from acting: the task is open and inside its window, and no
    /// grant on the way to the root is revoked or over. (Suspensions are the registry's to say.)
    pub fn is_live(&self, grant: &GrantId, now: Time) -> bool {
        self.state == TaskState::Open
            && now < self.opening.limits.until
            && self.grants.get(grant).is_some_and(|g| self.lineage(g).all(|g| !g.revoked && now < g.until))
    }

    /// The end that the outcome of a call brings, if the chain declares one that is reached by it: the steps it
    /// names went well as often as they must, and no call is in flight.
    pub fn end_after(&self, reported: &Reported) -> Option<TaskEvent> {
        let chain = self.chain.as_ref()?;
        let mut done = self.done.clone();
        let step = self.calls.get(&reported.decision).and_then(|call| call.step.as_ref());
        if let Some(step) = step.filter(|_| went_well(reported)) {
            *done.entry(step.clone()).or_insert(0) += 1;
        }
        let alone = self.calls.keys().all(|call| *call == reported.decision);
        (alone && self.state == TaskState::Open && chain.has_reached_its_end(&done)).then(|| {
            let steps: Vec<&str> = chain.ends_with.iter().map(|s| s.as_str()).collect();
            TaskEvent::Ended {
                cause: Cause::Completed,
                by: String::from("bailiwick"),
                reason: alloc::format!("the chain ends with {}", steps.join(", ")),
            }
        })
    }

    fn on_decided(&mut self, decided: &Decided, at: Time) {
        if let Some((proof, until)) = decided.proof {
            self.remember(proof, until, at);
        }
        match decided.outcome {
            Ruled::Allow => self.on_allowed(decided, at),
            Ruled::Ask => {
                if let Some(asked) = &decided.asked {
                    self.asks = self.asks.saturating_add(1);
                    // A handle names one question for ever: used or answered, it never waits again (INV3).
                    let handle = asked.approval.clone();
                    self.approvals.entry(handle).or_insert_with(|| question(decided, asked, at));
                }
            }
            Ruled::Deny => {
                self.count_refusal(&decided.grant);
                let agent = self.seeking.entry(decided.agent.clone()).or_default();
                agent.note(&decided.why, decided.tool.as_str(), false);
            }
        }
    }

    fn on_allowed(&mut self, decided: &Decided, at: Time) {
        if let Some(step) = &decided.chain_step {
            *self.progress.entry(step.clone()).or_insert(0) += 1;
        }
        self.note_written(decided);
        if let Some(charge) = &decided.charge {
            self.charge(&decided.grant, charge);
        }
        if let Some(approval) = decided.approval.as_ref().and_then(|id| self.approvals.get_mut(id)) {
            // The first use stays the one that is told, and a no stays a no.
            if matches!(approval.state, State::Waiting | State::Approved) {
                approval.state = State::Used { decision: decided.decision.clone() };
            }
        }
        self.calls.insert(
            decided.decision.clone(),
            OpenCall {
                grant: decided.grant.clone(),
                tool: decided.tool.clone(),
                capability: decided.charge.as_ref().map(|c| c.capability),
                step: decided.chain_step.clone(),
                since: at,
            },
        );
    }

    /// What an effect carries into the world is no evidence when it comes back, unless the person who opened the
    /// task chose it.
    fn note_written(&mut self, decided: &Decided) {
        if decided.effect == Some(Effect::Read) {
            return;
        }
        let Some(args) = decided.args.as_map().filter(|args| !args.contains_key(SHORTENED)) else {
            return self.written.add_unseen();
        };
        let chosen = |name: &String| decided.origins.get(name) == Some(&Origin::Chain);
        for (_, value) in args.iter().filter(|(name, _)| !chosen(name)) {
            self.written.add(value, &self.explained);
        }
    }

    fn on_proposed(&mut self, proposed: &Proposed, at: Time) {
        if let Some((proof, until)) = proposed.proof {
            self.remember(proof, until, at);
        }
        match (proposed.outcome, &proposed.asked) {
            (Ruled::Ask, Some(asked)) => {
                self.asks = self.asks.saturating_add(1);
                if let Some(question) = proposal(proposed, asked, at) {
                    self.approvals.entry(question.id.clone()).or_insert(question);
                }
            }
            (Ruled::Deny, _) => self.count_refusal(&proposed.grant),
            _ => {}
        }
    }

    /// Adds to the chain what people said yes to, once.
    ///
    /// INVARIANT: nothing is added that is not, step by step, what a question asked and enough people answered.
    fn on_amended(&mut self, amended: &Amended) {
        let asked = self.approvals.get_mut(&amended.approval).filter(|a| a.state == State::Approved);
        let Some((approval, proposal)) = asked.and_then(|a| a.amends.clone().map(|p| (a, p))) else { return };
        let exactly = proposal.steps == amended.steps && approval.grant == amended.grant;
        let (Some(chain), Some(grant)) = (self.chain.as_mut(), self.grants.get_mut(&amended.grant)) else {
            return;
        };
        if !exactly || self.state != TaskState::Open {
            return;
        }
        approval.state = State::Used { decision: approval.decision.clone() };
        for step in &amended.steps {
            self.amended.insert(step.id.clone(), amended.approval.clone());
            chain.steps.push(step.clone());
        }
        let gains = proposal.adds.into_iter().filter_map(|add| add.gains);
        grant.held.extend(gains.map(|(c, from)| Held { amended: true, upheld: false, ..held(c, from) }));
    }

    fn on_reported(&mut self, reported: &Reported) {
        let Some(call) = self.calls.remove(&reported.decision) else { return };
        if let Some(step) = call.step.as_ref().filter(|_| went_well(reported)) {
            *self.done.entry(step.clone()).or_insert(0) += 1;
        }
        if let Some(taken) =
            call.step.as_ref().filter(|_| came_to_nothing(reported)).and_then(|s| self.progress.get_mut(s))
        {
            *taken = taken.saturating_sub(1);
        }
        if let Some(capability) = call.capability {
            self.charge(&call.grant, &Charge { capability, spent: reported.spent });
        }
        self.taint(&call.grant, &reported.label);
        for (id, field) in &reported.shows {
            if self.seen.len() < SEEN_MAX {
                let place = || (String::from(call.tool.as_str()), field.clone());
                self.seen.entry(id.clone()).or_insert_with(place);
            }
        }
        // What a caller claims explains nothing, whatever the event says.
        let vouched = reported.explains.iter().filter(|_| !reported.claimed);
        for (id, field) in vouched.filter(|(id, _)| !self.written.may_be(id)) {
            let origin = Origin::Result { tool: String::from(call.tool.as_str()), field: field.clone() };
            self.explained.add(id.clone(), origin);
        }
    }

    fn on_handed_off(&mut self, handed: &HandedOff) {
        if let Some((proof, until)) = handed.proof {
            self.remember(proof, until, self.newest);
        }
        let Some(new) = handed.grant.as_ref().filter(|_| handed.outcome == Ruled::Allow) else {
            let agent = self.seeking.entry(handed.from.clone()).or_default();
            agent.note(&handed.why, handed.to.as_str(), true);
            return self.count_refusal(&handed.parent);
        };
        let Some(depth) = self.place_for(handed, new) else { return };
        if let Some(step) = &handed.chain_step {
            *self.progress.entry(step.clone()).or_insert(0) += 1;
            *self.done.entry(step.clone()).or_insert(0) += 1;
        }
        self.handoffs = self.handoffs.saturating_add(1);
        let child = child_grant(handed, new, depth);
        self.grants.hang(child);
    }

    /// The depth of a new grant. `None` if it cannot hang in the tree: its parent or what it was cut from does
    /// not exist, or its name is taken.
    ///
    /// INVARIANT: every parent is older than its child, so each walk to the root ends there.
    fn place_for(&self, handed: &HandedOff, new: &NewGrant) -> Option<u8> {
        let parent = self.grants.get(&handed.parent)?;
        let cut = new.capabilities.iter().all(|(_, from)| usize::from(*from) < parent.held.len());
        (cut && self.grants.get(&new.grant).is_none()).then(|| parent.depth.saturating_add(1))
    }

    /// What a branch has read is known on the whole way to the root: a child answers its parent where nobody
    /// sees it (A31).
    fn taint(&mut self, grant: &GrantId, label: &Label) {
        let mut at = Some(grant.clone());
        while let Some(grant) = at.take().and_then(|id| self.grants.get_mut(&id)) {
            grant.label = grant.label.join(label);
            at = grant.parent.clone();
        }
    }

    /// Charges a capability and every ancestor it was cut from.
    fn charge(&mut self, grant: &GrantId, charge: &Charge) {
        let mut at = Some((grant.clone(), charge.capability));
        while let Some((id, place)) = at.take() {
            let Some(grant) = self.grants.get_mut(&id) else { return };
            let Some(held) = grant.held.get_mut(usize::from(place)) else { return };
            held.spent = held.spent.plus(charge.spent);
            at = grant.parent.clone().zip(held.from);
        }
    }

    fn count_refusal(&mut self, grant: &GrantId) {
        self.refusals = self.refusals.saturating_add(1);
        if let Some(grant) = self.grants.get_mut(grant) {
            grant.refusals = grant.refusals.saturating_add(1);
        }
    }

    fn remember(&mut self, proof: Digest, until: Time, now: Time) {
        if self.proofs.len() >= PROOFS_MAX / 2 {
            self.proofs.retain(|_, until| *until > now);
        }
        if !self.proofs_full() {
            self.proofs.insert(proof, until);
        }
    }

    /// Whether no further proof can be remembered: then nothing more is allowed until some have aged.
    pub fn proofs_full(&self) -> bool {
        self.proofs.len() >= PROOFS_MAX
    }
}

/// Whether a call counts toward the end that its chain declares. What its caller alone says does not: whoever holds an
/// agent's key could say it of a call that was never made.
fn went_well(reported: &Reported) -> bool {
    reported.went == Went::Done && !reported.claimed
}

/// Whether a call that was allowed changed nothing, so that its step has not been taken. Whoever asked cannot say that
/// of itself: it could take one step again and again.
fn came_to_nothing(reported: &Reported) -> bool {
    reported.undone && reported.went == Went::Failed && !reported.claimed
}

fn held(capability: crate::capability::Capability, from: Option<u16>) -> Held {
    let upheld = from.is_none();
    Held { capability, from, spent: Spent::default(), upheld, amended: false }
}

fn explained_at_opening(opening: &Opening) -> Explained {
    let mut known = Explained::default();
    let names = |name: &String| opening.types.get(name).is_none_or(|t| t.kind.names_something());
    for (name, value) in opening.inputs.iter().filter(|(name, _)| names(name)) {
        let origin = Origin::Input { name: name.clone() };
        let Some(declared) = opening.types.get(name) else {
            known.add_value(value, &origin);
            continue;
        };
        // The name of a record vouches for that record, even where it looks like an address.
        let of = declared.as_value_type();
        for leaf in leaves(value) {
            let typed = of.as_ref().and_then(|of| of.identify(&leaf));
            let whole = identify(&leaf);
            let same =
                whole.kind == Kind::Plain || typed.as_ref().is_some_and(|typed| typed.kind == whole.kind);
            typed.into_iter().chain(same.then_some(whole)).for_each(|id| known.add(id, origin.clone()));
        }
    }
    let said = if opening.chain.is_none() { said(&opening.intent) } else { scan(&opening.intent) };
    for id in said {
        known.add(id, Origin::Intent);
    }
    known
}

fn question(decided: &Decided, asked: &Asked, at: Time) -> Approval {
    Approval {
        id: asked.approval.clone(),
        decision: decided.decision.clone(),
        grant: decided.grant.clone(),
        agent: decided.agent.clone(),
        instance: decided.instance.clone(),
        tool: decided.tool.clone(),
        shown: decided.args.clone(),
        act: asked.act,
        policy: decided.policy,
        rule: decided.why.rule.clone(),
        reason: decided.why.reason.clone(),
        terms: asked.terms.clone(),
        asked: at,
        until: asked.until,
        yes: BTreeSet::new(),
        narrowed: None,
        amends: None,
        state: State::Waiting,
    }
}

/// The question of an amendment. Its tool is the first it would add; `None` if it adds nothing.
fn proposal(proposed: &Proposed, asked: &Asked, at: Time) -> Option<Approval> {
    let tool = proposed.adds.first()?.tool.clone();
    Some(Approval {
        id: asked.approval.clone(),
        decision: proposed.decision.clone(),
        grant: proposed.grant.clone(),
        agent: proposed.agent.clone(),
        instance: proposed.instance.clone(),
        tool,
        shown: Value::from([("steps", shown(&proposed.steps))]),
        act: asked.act,
        policy: proposed.policy,
        rule: proposed.why.rule.clone(),
        reason: proposed.why.reason.clone(),
        terms: asked.terms.clone(),
        asked: at,
        until: asked.until,
        yes: BTreeSet::new(),
        narrowed: None,
        amends: Some(Proposal { steps: proposed.steps.clone(), adds: proposed.adds.clone() }),
        state: State::Waiting,
    })
}

/// A vote only ever moves a waiting question. Narrowing starts the count again: everybody votes on one act.
fn take_vote(approval: &mut Approval, by: &crate::ids::PrincipalId, vote: &Vote) {
    if approval.state != State::Waiting {
        return;
    }
    match vote {
        Vote::Deny { reason } => {
            approval.state = State::Denied { by: by.clone(), reason: reason.clone() };
            return;
        }
        Vote::Narrow { args, act } => {
            approval.narrowed = Some(args.clone());
            approval.act = *act;
            approval.yes.clear();
        }
        Vote::Approve => {}
    }
    approval.yes.insert(by.clone());
    if approval.yes.len() >= usize::from(approval.terms.quorum.max(1)) {
        approval.state = State::Approved;
    }
}

fn child_grant(handed: &HandedOff, new: &NewGrant, depth: u8) -> Grant {
    let held: Vec<Held> = new.capabilities.iter().cloned().map(|(c, from)| held(c, Some(from))).collect();
    Grant {
        id: new.grant.clone(),
        agent: handed.to.clone(),
        parent: Some(handed.parent.clone()),
        depth,
        since: handed.epoch,
        held,
        until: new.until,
        label: new.label.clone(),
        revoked: false,
        refusals: 0,
    }
}
