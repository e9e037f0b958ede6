//! Questions to people, and their answers.

use bailiwick_api::Caller;
use bailiwick_api::wire::{VoteBody, VoteKind};
use bailiwick_core::ApprovalId;
use bailiwick_core::agent::Person;
use bailiwick_engine::{Engine, Kind, VoteAsk, Waiting};

use crate::body::{self, Reply};
use crate::guard::Ask;
use crate::refusal::Refusal;
use crate::sign_in::answers_for;
use crate::state::ServerState;
use crate::wire;

pub(crate) async fn list(state: ServerState, person: Person, _: Ask) -> Result<Reply, Refusal> {
    let now = state.engine.now();
    let waiting = state.engine.waiting().await?;
    let mine = waiting.iter().filter(|w| may_see(&person, w));
    let views: Vec<_> = mine.map(|w| wire::approval(&w.task, &w.approval, now)).collect();
    Reply::json(&views)
}

pub(crate) async fn card(state: ServerState, person: Person, ask: Ask) -> Result<Reply, Refusal> {
    let id: ApprovalId = ask.id()?;
    let waiting = seen(&state.engine, &person, &id).await?;
    let registry = state.engine.registry();
    Reply::json(&wire::card(&registry, &waiting, &person, state.engine.now()))
}

pub(crate) async fn vote(state: ServerState, by: Person, ask: Ask) -> Result<Reply, Refusal> {
    let id: ApprovalId = ask.id()?;
    let vote: VoteBody = body::json(&ask.body)?;
    let waiting = seen(&state.engine, &by, &id).await?;
    let approval = state.engine.vote(&by.id, &id, answer(vote)?).await?;
    Reply::json(&wire::approval(&waiting.task, &approval, state.engine.now()))
}

fn answer(vote: VoteBody) -> Result<VoteAsk, Refusal> {
    let odd =
        |detail: &str| Err(Refusal::new(422, "vote.malformed", detail, "send only what this vote takes"));
    match (vote.vote, vote.args, vote.reason) {
        (VoteKind::Approve, None, _) => Ok(VoteAsk::Approve),
        (VoteKind::Narrow, Some(args), _) => Ok(VoteAsk::Narrow(args)),
        (VoteKind::Deny, None, Some(reason)) => Ok(VoteAsk::Deny(reason)),
        (VoteKind::Deny, None, None) => odd("a no needs a reason"),
        (VoteKind::Narrow, None, _) => odd("`narrow` needs the smaller arguments"),
        (_, Some(_), _) => {
            odd("only `narrow` takes arguments: to approve is to approve exactly what was asked")
        }
    }
}

/// The question, if the person may see it; what they may not see looks absent.
async fn seen(engine: &Engine, person: &Person, id: &ApprovalId) -> Result<Waiting, Refusal> {
    match engine.question_of(id).await {
        Ok(waiting) if may_see(person, &waiting) => Ok(waiting),
        Err(error) if error.kind != Kind::NotFound => Err(error.into()),
        _ => Err(Refusal::missing("approval", id.as_str())),
    }
}

fn may_see(person: &Person, waiting: &Waiting) -> bool {
    answers_for(person, &waiting.initiator) || person.groups.contains(&waiting.approval.terms.group)
}

/// What the agent that asked may know.
pub(crate) async fn own(state: ServerState, caller: Caller, ask: Ask) -> Result<Reply, Refusal> {
    let id: ApprovalId = ask.id().map_err(|_| Refusal::nothing_here())?;
    Reply::json(&wire::approval_state(state.engine.approval_state(&caller, &id).await?))
}
