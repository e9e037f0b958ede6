//! Deciding one call: load, judge, append, and only then say yes.

use bailiwick_api::{Allow, Answer, Call, Caller, Denial, Pending};
use bailiwick_core::Time;
use bailiwick_core::decision::{Outcome, PENDING, Request, Scene, could_be_allowed, decide};
use bailiwick_core::event::{Decided, Ruled, Why};
use bailiwick_core::label::Label;
use bailiwick_core::task::Task;
use bailiwick_store::AppendError;

use crate::error::EngineError;
use crate::log::Engine;
use crate::memory::Deposit;
use crate::names;

impl Engine {
    /// Decides one tool call. When this returns a yes, the decision is durable.
    pub async fn decide(&self, caller: &Caller, call: Call) -> Result<Answer, EngineError> {
        self.rule(caller, call, |outcome, task, _| answer(outcome, task)).await
    }

    /// Decides one tool call and makes something of the outcome while the task is at hand.
    pub(crate) async fn rule<T>(
        &self,
        caller: &Caller,
        call: Call,
        answer: impl FnOnce(Outcome, &Task, &Decided) -> T,
    ) -> Result<T, EngineError> {
        let cell = self.cell(&caller.task);
        let mut held = cell.lock().await;
        self.refresh(&caller.task, &mut held).await?;
        for _ in 0..64 {
            let authority = self.authority();
            let Some(task) = held.as_ref() else { return Err(EngineError::missing("task", &caller.task)) };
            let now = self.now();
            let request = request(caller, &call, task)?;
            let scene =
                Scene { registry: &authority.registry, task, policy: &*authority.policy, now, fresh: true };
            let ruling = decide(scene, &request);
            let (events, decided) = (ruling.events(), ruling.decided().clone());
            let manifest = authority.registry.tool(&call.tool).and_then(|t| t.manifest.as_ref());
            let left = (ruling.decided().outcome == Ruled::Allow)
                .then(|| Deposit::of_call(task, manifest, ruling.decided(), &call.args))
                .flatten();
            let left = self.news(left).await;
            let rows = self.written_rows(left.as_ref(), now, request.decision.as_str());
            let committed = ruling
                .commit(async |at, events| {
                    self.append_with(&caller.task, task, at, &events, now, rows, vec![]).await
                })
                .await;
            match committed {
                Ok(outcome) => {
                    self.remember_written(left, now).await;
                    let answer = answer(outcome, task, &decided);
                    if let Some(task) = held.as_mut() {
                        events.iter().for_each(|e| task.apply(e, now));
                    }
                    return Ok(answer);
                }
                Err(AppendError::Conflict { .. }) => self.moved(&caller.task, &mut held).await?,
                Err(error) => {
                    held.forget();
                    return Err(error.into());
                }
            }
        }
        Err(EngineError::new(
            crate::Kind::Unavailable,
            "store.contended",
            "too many writers at once; try again in a moment",
        ))
    }

    /// The tools that could be allowed to this caller, with their pinned definitions.
    pub async fn list(&self, caller: &Caller) -> Result<Vec<bailiwick_api::ToolView>, EngineError> {
        let now = self.now();
        self.with_task(&caller.task, |task, authority| {
            let scene =
                Scene { registry: &authority.registry, task, policy: &*authority.policy, now, fresh: true };
            let Some(grant) = at_the_door(scene, caller) else { return Vec::new() };
            authority
                .registry
                .tools()
                .filter(|(id, _)| could_be_allowed(scene, grant, id))
                .filter_map(|(id, tool)| {
                    let definition = authority.registry.definition(id)?.clone();
                    Some(bailiwick_api::ToolView { tool: id.clone(), definition, pin: tool.seen? })
                })
                .collect()
        })
        .await
    }

    /// Whether a call of this caller may still run.
    pub async fn live(&self, caller: &Caller) -> bool {
        let now = self.now();
        let look = |task: &Task, authority: &crate::log::Authority| {
            let scene =
                Scene { registry: &authority.registry, task, policy: &*authority.policy, now, fresh: true };
            at_the_door(scene, &Caller { proof: None, until: Time(u64::MAX), ..caller.clone() }).is_some()
        };
        self.with_task(&caller.task, look).await.unwrap_or(false)
    }
}

/// Steps 1 to 3 for a question that changes nothing.
pub(crate) fn at_the_door<'a>(scene: Scene<'a>, caller: &Caller) -> Option<&'a bailiwick_core::grant::Grant> {
    let refused = bailiwick_core::decision::refused_at_the_door(
        scene,
        &caller.grant,
        &caller.agent,
        &caller.instance,
        caller.until,
        None,
    );
    if refused.is_some() { None } else { scene.task.grant(&caller.grant) }
}

fn request(caller: &Caller, call: &Call, task: &Task) -> Result<Request, EngineError> {
    let id = &task.opening().task;
    Ok(Request {
        decision: names::decision(id, task.version())?,
        fresh_approval: names::approval(id, task.version())?,
        grant: caller.grant.clone(),
        agent: caller.agent.clone(),
        instance: caller.instance.clone(),
        token_until: caller.until,
        proof: caller.proof.as_ref().map(|p| (p.id, p.until)),
        tool: call.tool.clone(),
        args: call.args.clone(),
        definition: call.definition,
        approval: call.approval.clone(),
        claims: Label::bottom(),
        says: call.says.clone(),
    })
}

pub(crate) fn answer(outcome: Outcome, task: &Task) -> Answer {
    match outcome {
        Outcome::Allow(permit) => Answer::Allow(Allow {
            decision: permit.decision().clone(),
            tool: permit.tool().clone(),
            args: permit.args().clone(),
            until: permit.until(),
        }),
        Outcome::Ask(decided) => pending(decided, task),
        Outcome::Deny(decided) => Answer::Deny(refused(&decided, task)),
    }
}

/// A refused call. A task that declared less says so: what would have been plain by a chain is judged without it.
fn refused(decided: &Decided, task: &Task) -> Denial {
    let mut denial = denial(&decided.decision, &decided.why, &format!("{} was refused", decided.tool));
    if let Some(weaker) = task.opening().guarantees().warning() {
        denial.text = format!("{} (This task has {weaker}.)", denial.text);
    }
    denial
}

/// A question that was opened now, or one that is waiting already.
fn pending(decided: Decided, task: &Task) -> Answer {
    let open = decided.asked.as_ref().map(|a| (a.approval.clone(), a.until)).or_else(|| {
        let id = decided.approval.clone()?;
        Some((id.clone(), task.approval(&id)?.until))
    });
    let Some((approval, until)) = open else {
        return Answer::Deny(refused(&decided, task));
    };
    let verb = if decided.why.code == PENDING { "still waits" } else { "waits" };
    let text = format!(
        "{} {verb} for a person: {}. Nothing has been done. Call it again with exactly the same arguments once {} is approved; no answer means no.",
        decided.tool, decided.why.reason, approval
    );
    Answer::Ask(Pending { decision: decided.decision, approval, until, text })
}

/// The denial contract: one paragraph, and its machine form.
pub(crate) fn denial(decision: &bailiwick_core::DecisionId, why: &Why, what: &str) -> Denial {
    let remedy = if why.remedy.is_empty() { String::new() } else { format!(" {}", why.remedy) };
    Denial {
        decision: decision.clone(),
        step: why.step,
        code: why.code.clone(),
        rule: why.rule.clone(),
        reason: why.reason.clone(),
        remedy: why.remedy.clone(),
        text: format!("{what}: {} (rule {}).{remedy} Decision {decision}.", why.reason, why.rule),
        retry: matches!(
            why.code.as_str(),
            "control.stale" | "caller.replayed" | "caller.expired" | "caller.proofs_full"
        ),
    }
}
