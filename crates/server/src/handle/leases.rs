//! Leases: asked for and given back by agents; receipts and debts for people; logins for hosts.

use axum::http::StatusCode;
use bailiwick_api::wire::{LeaseAnswer, LeaseAsk, PrincipalsView, Reason, ReceiptView};
use bailiwick_api::{Answer, Call, Caller};
use bailiwick_core::agent::Person;
use bailiwick_core::lease::receipt;
use bailiwick_core::{LeaseId, SystemId, TaskId};
use bailiwick_engine::{Leased, Login};

use crate::body::{self, Reply};
use crate::guard::Ask;
use crate::handle::decisions::use_proof;
use crate::handle::tasks::seen;
use crate::refusal::Refusal;
use crate::state::ServerState;
use crate::wire;

/// Steps of the procedure that are about the caller itself.
const CALLER_STEPS: u8 = 3;

pub(crate) async fn lease(state: ServerState, caller: Caller, ask: Ask) -> Result<Reply, Refusal> {
    let ask: LeaseAsk = body::json(&ask.body)?;
    let call =
        Call { tool: ask.tool, args: ask.args, definition: None, approval: ask.approval, says: ask.says };
    let leased = state.engine.lease(&caller, call).await?;
    let now = state.engine.now();
    let (status, answer) = match leased {
        Leased::Given(given) => {
            (StatusCode::OK, LeaseAnswer::Allow(Box::new(wire::credential(&caller.task, *given, now))))
        }
        Leased::Ask(pending) => match wire::answer(Answer::Ask(pending)) {
            bailiwick_api::wire::CallAnswer::Ask(body) => (StatusCode::OK, LeaseAnswer::Ask(body)),
            _ => return Err(Refusal::nothing_here()),
        },
        Leased::Deny(denial) => {
            let status = if denial.step <= CALLER_STEPS { StatusCode::FORBIDDEN } else { StatusCode::OK };
            (status, LeaseAnswer::Deny(wire::denial(denial)))
        }
    };
    Reply::json_with(status, &answer)
}

pub(crate) async fn give_back(state: ServerState, caller: Caller, ask: Ask) -> Result<Reply, Refusal> {
    let id: LeaseId = ask.id().map_err(|_| Refusal::nothing_here())?;
    use_proof(&state, &caller).await?;
    let lease = state.engine.give_back(&caller, &id).await?;
    Reply::json(&wire::lease(&caller.task, &lease, state.engine.now()))
}

pub(crate) async fn acknowledge(state: ServerState, by: Person, ask: Ask) -> Result<Reply, Refusal> {
    let id: LeaseId = ask.id()?;
    let Reason { reason } = body::json(&ask.body)?;
    let (task, _) = state.engine.look_up(&id).await?;
    let lease = state.engine.acknowledge(&by.id, &id, &reason).await?;
    Reply::json(&wire::lease(&task, &lease, state.engine.now()))
}

/// Whom a host lets in for the login at hand. It hears one thing of whatever is not in force: nobody.
pub(crate) async fn principals(state: ServerState, system: SystemId, mut ask: Ask) -> Result<Reply, Refusal> {
    if ask.id != system.as_str() {
        return Err(Refusal::nothing_here());
    }
    let mut taken = |name: &str| ask.query.remove(name).unwrap_or_default();
    let login = Login { user: taken("user"), key_id: taken("key_id"), serial: taken("serial") };
    let line = state.engine.admit(&system, &login).await?;
    tracing::info!(%system, user = login.user, id = login.key_id, let_in = line.is_some(), "a host asked about a login");
    Reply::json(&PrincipalsView { lines: line.into_iter().collect() })
}

pub(crate) async fn of_task(state: ServerState, person: Person, ask: Ask) -> Result<Reply, Refusal> {
    let id: TaskId = ask.id()?;
    let task = seen(&state.engine, &person, &id).await?;
    let now = state.engine.now();
    let (recorded, given) = task.receipt().cloned().unzip();
    Reply::json(&ReceiptView {
        ended: task.has_ended(),
        credentials: task.leases().map(|l| wire::lease(&id, l, now)).collect(),
        agrees: recorded == receipt(&task),
        receipt: recorded,
        given,
        at: now,
        task: id,
    })
}
