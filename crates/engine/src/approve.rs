//! Questions to people: who may answer, what an answer is bound to, what waits.

use bailiwick_api::{ApprovalState, Caller};
use bailiwick_core::amendment::take_up;
use bailiwick_core::approval::{Approval, FrozenAct, State, Vote, is_narrower};
use bailiwick_core::decision::{Scene, may_vote, pin_of};
use bailiwick_core::event::{Guarantees, TaskEvent};
use bailiwick_core::value::{Digest, Value};
use bailiwick_core::{ApprovalId, PrincipalId, TaskId, Time};

use crate::error::EngineError;
use crate::log::Engine;
use crate::names;

/// A person's answer.
#[derive(Debug, Clone, PartialEq)]
pub enum VoteAsk {
    /// Yes, once, to exactly this.
    Approve,
    /// Yes to something smaller.
    Narrow(Value),
    /// No.
    Deny(String),
}

/// A question with what a person must see to answer it.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// The task.
    pub task: TaskId,
    /// Who opened it.
    pub initiator: PrincipalId,
    /// Its intent, in that person's words.
    pub intent: String,
    /// How much was declared when it was opened.
    pub guarantees: Guarantees,
    /// The agents from the first to the one that asks.
    pub chain: Vec<String>,
    /// The chain step it would be, as far as one is declared for this tool.
    pub planned: bool,
    /// What the tool does and whether it can be undone.
    pub effect: Option<(bailiwick_core::tool::Effect, bool)>,
    /// Steering values nobody vouches for.
    pub unexplained: Vec<String>,
    /// Where the values of its arguments came from.
    pub sources: Vec<bailiwick_core::origin::Sourced>,
    /// Whether the policies have changed since it was asked, so that no answer counts any more.
    pub void: bool,
    /// The question.
    pub approval: Approval,
    /// The agent's own words: untrusted.
    pub says: Option<String>,
}

impl Engine {
    /// Records a person's answer. The right to answer is checked now and again when the yes is used.
    pub async fn vote(
        &self,
        by: &PrincipalId,
        approval: &ApprovalId,
        vote: VoteAsk,
    ) -> Result<Approval, EngineError> {
        let (task, _) =
            names::home(approval.as_str()).ok_or_else(|| EngineError::missing("approval", approval))?;
        if let VoteAsk::Deny(reason) = &vote
            && reason.trim().is_empty()
        {
            return Err(EngineError::invalid(
                "approval.reason",
                "say why not: the agent and the record need a reason",
            ));
        }
        self.conduct(
            &task,
            |scene| {
                let vote = checked(scene, by, approval, &vote)?;
                let voted = TaskEvent::Voted { approval: approval.clone(), by: by.clone(), vote };
                let amended = amended(scene, approval, &voted)?;
                Ok(std::iter::once(voted).chain(amended).collect::<Vec<_>>())
            },
            Clone::clone,
        )
        .await?;
        self.with_task(&task, |task, _| task.approval(approval).cloned())
            .await?
            .ok_or_else(|| EngineError::missing("approval", approval))
    }

    /// The state of a question, for the agent that asked it.
    pub async fn approval_state(
        &self,
        caller: &Caller,
        approval: &ApprovalId,
    ) -> Result<ApprovalState, EngineError> {
        let now = self.now();
        let state = self
            .with_task(&caller.task, |task, authority| {
                let scene = Scene {
                    registry: &authority.registry,
                    task,
                    policy: &*authority.policy,
                    now,
                    fresh: true,
                };
                crate::decide::at_the_door(scene, caller)?;
                let ends = task.grant(&caller.grant).map_or(now, |g| g.until);
                let policy = scene.policy.version();
                let own = task.approval(approval).filter(|a| a.grant == caller.grant);
                own.map(|a| state(a, now, ends, policy))
            })
            .await?;
        state.ok_or_else(|| EngineError::missing("approval of yours", approval))
    }

    /// Every question that waits for people, oldest first.
    pub async fn waiting(&self) -> Result<Vec<Waiting>, EngineError> {
        let mut out = Vec::new();
        let now = self.now();
        for (key, task) in self.store().view_scan(&self.view("waiting"), "", None, 1000).await? {
            let task = String::from_utf8(task).ok().and_then(|t| TaskId::parse(&t).ok());
            let (Some(task), Ok(approval)) = (task, ApprovalId::parse(&key)) else { continue };
            if let Some(waiting) = self.question(&task, &approval).await?
                && waiting.approval.state == State::Waiting
                && !waiting.void
                && now < waiting.approval.until
            {
                out.push(waiting);
            }
        }
        out.sort_by_key(|w| w.approval.asked);
        Ok(out)
    }

    /// One question with everything a person must see.
    pub async fn question_of(&self, approval: &ApprovalId) -> Result<Waiting, EngineError> {
        let (task, _) =
            names::home(approval.as_str()).ok_or_else(|| EngineError::missing("approval", approval))?;
        self.question(&task, approval).await?.ok_or_else(|| EngineError::missing("approval", approval))
    }

    async fn question(&self, task: &TaskId, approval: &ApprovalId) -> Result<Option<Waiting>, EngineError> {
        let found = self.with_task(task, |held, authority| {
            let approval = held.approval(approval)?.clone();
            let grant = held.grant(&approval.grant)?;
            let mut chain: Vec<String> = held.lineage(grant).map(|g| g.agent.to_string()).collect();
            chain.reverse();
            let manifest = authority.registry.tool(&approval.tool).and_then(|t| t.manifest.as_ref());
            Some(Waiting {
                task: task.clone(),
                initiator: held.opening().initiator.clone(),
                intent: held.opening().intent.clone(),
                guarantees: held.opening().guarantees(),
                chain,
                planned: approval.amends.is_none()
                    && held.chain().is_some_and(|c| c.foresees(&approval.agent, &approval.tool)),
                effect: manifest.map(|m| (m.effect, m.reversible)),
                unexplained: Vec::new(),
                sources: Vec::new(),
                says: None,
                void: matches!(approval.state, State::Waiting | State::Approved)
                    && approval.policy != authority.policy.version(),
                approval,
            })
        });
        let Some(mut waiting) = found.await? else { return Ok(None) };
        let asked = self.why(&waiting.approval.decision).await?;
        if let Some(decided) = asked.decided {
            waiting.unexplained = decided.unexplained.into_iter().collect();
            waiting.sources = decided.sources;
            waiting.says = decided.says;
        }
        if let Some(proposed) = asked.proposed {
            let adds = proposed.adds.iter().flat_map(|add| &add.unexplained);
            waiting.unexplained =
                adds.cloned().collect::<std::collections::BTreeSet<_>>().into_iter().collect();
            waiting.says = proposed.says;
        }
        Ok(Some(waiting))
    }
}

/// The amendment that this vote brings about, if it is the last one that an amendment waited for. One that can no
/// longer be taken up refuses the vote: nobody shall believe to have amended what was not.
fn amended(scene: Scene<'_>, id: &ApprovalId, voted: &TaskEvent) -> Result<Option<TaskEvent>, EngineError> {
    if scene.task.approval(id).is_none_or(|a| a.amends.is_none()) {
        return Ok(None);
    }
    let mut task = scene.task.clone();
    task.apply(voted, scene.now);
    if task.approval(id).is_none_or(|a| a.state != State::Approved) {
        return Ok(None);
    }
    take_up(Scene { task: &task, ..scene }, id).map(Some).map_err(|why| {
        let what = format!("{id} can no longer be answered with yes: {}", why.reason);
        EngineError::new(crate::Kind::Conflict, "approval.settled", what)
    })
}

fn checked(scene: Scene<'_>, by: &PrincipalId, id: &ApprovalId, vote: &VoteAsk) -> Result<Vote, EngineError> {
    let approval = scene.task.approval(id).ok_or_else(|| EngineError::missing("approval", id))?;
    let opening = scene.task.opening();
    if !may_vote(scene.registry, &opening.initiator, approval, by) {
        let why = if *by == opening.initiator && !approval.terms.initiator_may {
            "whoever opened the task cannot approve this; ask another member of the group".to_owned()
        } else {
            format!("only members of `{}` can answer this", approval.terms.group)
        };
        return Err(EngineError::forbidden("approval.not_yours", why));
    }
    let settled = match (&approval.state, state(approval, scene.now, scene.now, scene.policy.version())) {
        (State::Waiting, ApprovalState::Waiting { .. }) => None,
        (_, ApprovalState::Closed { reason }) => Some(reason),
        _ => Some("it has been answered already".to_owned()),
    };
    let ended = scene.task.has_ended().then(|| "its task is over".to_owned());
    if let Some(reason) = ended.or(settled) {
        return Err(EngineError::new(
            crate::Kind::Conflict,
            "approval.settled",
            format!("{id} can no longer be answered: {reason}"),
        ));
    }
    Ok(match vote {
        VoteAsk::Approve => Vote::Approve,
        VoteAsk::Deny(reason) => Vote::Deny { reason: reason.chars().take(1000).collect() },
        VoteAsk::Narrow(args) => narrowed(scene, approval, args)?,
    })
}

fn narrowed(scene: Scene<'_>, approval: &Approval, args: &Value) -> Result<Vote, EngineError> {
    if approval.amends.is_some() {
        let reason = "an amendment is answered as it is; deny it, and the agent may ask for less";
        return Err(EngineError::invalid("approval.not_narrower", reason));
    }
    if !is_narrower(args, &approval.shown) || *args == approval.shown {
        let reason =
            "narrowing may only drop members or list items and make numbers smaller; texts stay as they are";
        return Err(EngineError::invalid("approval.not_narrower", reason));
    }
    let manifest = scene.registry.tool(&approval.tool).and_then(|t| t.manifest.as_ref());
    let needed =
        manifest.and_then(|m| m.args.iter().find(|(name, arg)| arg.required && args.get(name).is_none()));
    if let Some((name, _)) = needed {
        let reason =
            format!("{} needs argument `{name}`; a call without it could never be made", approval.tool);
        return Err(EngineError::invalid("approval.not_narrower", reason));
    }
    let Some(decided_by) = scene.task.grant(&approval.grant) else {
        return Err(EngineError::missing("grant", &approval.grant));
    };
    let instance = approval.instance.clone();
    let act = FrozenAct {
        task: &scene.task.opening().task,
        grant: &approval.grant,
        agent: &decided_by.agent,
        instance: &instance,
        tool: &approval.tool,
        pin: pin_of(scene, &approval.tool),
        args,
        policy: scene.policy.version(),
        until: approval.until,
    };
    Ok(Vote::Narrow { args: args.clone(), act: act.digest() })
}

/// What a question's state means to the one who asked. An amendment that was approved holds until the grant ends.
/// One that was asked under other policies is void, so that whoever asked asks anew and nobody waits for nothing.
fn state(approval: &Approval, now: Time, ends: Time, policy: Digest) -> ApprovalState {
    match &approval.state {
        State::Used { .. } if approval.amends.is_some() => {
            ApprovalState::Approved { until: ends, narrowed: None }
        }
        State::Denied { reason, .. } => ApprovalState::Denied { reason: reason.clone() },
        State::Waiting | State::Approved if approval.policy != policy => ApprovalState::Closed {
            reason: "the policies have changed since it was asked, so the agent must ask anew".to_owned(),
        },
        State::Used { .. } => ApprovalState::Closed { reason: "it has been used".to_owned() },
        _ if now >= approval.until => {
            ApprovalState::Closed { reason: "nobody answered or used it in time, which means no".to_owned() }
        }
        State::Approved => {
            ApprovalState::Approved { until: approval.until, narrowed: approval.narrowed.clone() }
        }
        State::Waiting => ApprovalState::Waiting { until: approval.until },
    }
}
