//! Decisions: asked by agents, explained to people.

use axum::http::StatusCode;
use bailiwick_api::wire::{AmendBody, CallAsk, HandoffBody, OutcomeBody, OutcomeKind, ToolOffer};
use bailiwick_api::{AmendAsk, Answer, Call, Caller, HandoffAsk, Outcome, OutcomeStatus};
use bailiwick_core::DecisionId;
use bailiwick_core::agent::Person;
use bailiwick_engine::Kind;

use crate::body::{self, Reply};
use crate::door::Shut;
use crate::guard::Ask;
use crate::handle::tasks::seen;
use crate::refusal::Refusal;
use crate::state::ServerState;
use crate::wire;

/// Steps of the procedure that are about the caller itself: whoever is refused there has nothing to ask.
const CALLER_STEPS: u8 = 3;

pub(crate) async fn decide(state: ServerState, caller: Caller, ask: Ask) -> Result<Reply, Refusal> {
    let ask: CallAsk = body::json(&ask.body)?;
    if ask.args.as_map().is_none() {
        return Err(Refusal::new(
            422,
            "call.args",
            "`args` must be a JSON object",
            "send {} for no arguments",
        ));
    }
    let call = Call {
        tool: ask.tool,
        args: ask.args,
        definition: ask.definition,
        approval: ask.approval,
        says: ask.says,
    };
    let answer = state.engine.decide(&caller, call).await?;
    let status = match &answer {
        Answer::Deny(denial) if denial.step <= CALLER_STEPS => StatusCode::FORBIDDEN,
        _ => StatusCode::OK,
    };
    Reply::json_with(status, &wire::answer(answer))
}

pub(crate) async fn report(state: ServerState, caller: Caller, ask: Ask) -> Result<Reply, Refusal> {
    let id: DecisionId = ask.id().map_err(|_| not_open())?;
    let body: OutcomeBody = body::json(&ask.body)?;
    use_proof(&state, &caller).await?;
    let printed = || body.result.as_ref().map_or(0, |r| r.canonical().len() as u64);
    let outcome = Outcome {
        status: match body.status {
            OutcomeKind::Done => OutcomeStatus::Done,
            OutcomeKind::Failed => OutcomeStatus::Failed,
            OutcomeKind::Unknown => OutcomeStatus::Unknown,
        },
        bytes: body.bytes.unwrap_or_else(printed).max(printed()),
        result: body.result,
        words: Vec::new(),
        note: body.note,
    };
    match state.engine.report_by_caller(&caller, &id, outcome).await {
        Ok(()) => Reply::done(),
        Err(error) if error.kind == Kind::Unavailable => Err(error.into()),
        Err(error) if matches!(error.code.as_str(), "report.not_open" | "report.not_yours") => {
            Err(not_open())
        }
        Err(error) if error.kind == Kind::NotFound => Err(not_open()),
        Err(error) => Err(error.into()),
    }
}

/// Somebody else's call, a call that never was and one that is reported already look alike (threat A76).
fn not_open() -> Refusal {
    let detail = "this is not an allowed call of yours that waits for its outcome";
    Refusal::new(409, "report.not_open", detail, "report each allowed call once, with the decision's own id")
}

/// Decisions and handoffs record the proof they came with; anything else that changes state remembers it here.
pub(crate) async fn use_proof(state: &ServerState, caller: &Caller) -> Result<(), Refusal> {
    let Some(proof) = &caller.proof else { return Ok(()) };
    if state.engine.use_once("proof", proof.id.as_bytes(), proof.until.plus_ms(1000)).await? {
        return Ok(());
    }
    Err(Refusal::door(Shut {
        code: "dpop.replay",
        error: Some("invalid_dpop_proof"),
        reason: "the proof of possession has been used: make a new one for every request".to_owned(),
        nonce: None,
    }))
}

pub(crate) async fn own_tools(state: ServerState, caller: Caller, _: Ask) -> Result<Reply, Refusal> {
    if !state.engine.live(&caller).await {
        let detail = "what this token was for is over, frozen or revoked";
        return Err(Refusal::new(403, "caller.not_live", detail, "stop; ask the person who opened the task"));
    }
    let tools = state.engine.list(&caller).await?;
    let offers: Vec<_> =
        tools.into_iter().map(|t| ToolOffer { tool: t.tool, definition: t.definition, pin: t.pin }).collect();
    Reply::json(&offers)
}

pub(crate) async fn hand_off(state: ServerState, caller: Caller, ask: Ask) -> Result<Reply, Refusal> {
    let body: HandoffBody = body::json(&ask.body)?;
    let ask = HandoffAsk {
        to: body.to,
        capabilities: body.capabilities,
        ttl_ms: body.ttl_s.map(|s| s.saturating_mul(1000)),
        depth: body.depth,
        payload: body.payload,
    };
    let handed = state.engine.hand_off(&caller, ask).await?;
    let status = match &handed {
        Err(denial) if denial.step <= CALLER_STEPS => StatusCode::FORBIDDEN,
        _ => StatusCode::OK,
    };
    Reply::json_with(status, &wire::handoff(handed))
}

pub(crate) async fn amend(state: ServerState, caller: Caller, ask: Ask) -> Result<Reply, Refusal> {
    let body: AmendBody = body::json(&ask.body)?;
    let asked = state.engine.propose(&caller, AmendAsk { steps: body.steps, says: body.says }).await?;
    let status = match &asked {
        Err(denial) if denial.step <= CALLER_STEPS => StatusCode::FORBIDDEN,
        _ => StatusCode::OK,
    };
    Reply::json_with(status, &wire::amendment(asked))
}

pub(crate) async fn why(state: ServerState, person: Person, ask: Ask) -> Result<Reply, Refusal> {
    let id: DecisionId = ask.id()?;
    let explained = state.engine.why(&id).await.map_err(|e| absent(e, &id))?;
    seen(&state.engine, &person, &explained.task).await.map_err(|r| veiled(r, &id))?;
    Reply::json(&wire::decision(&explained)?)
}

pub(crate) async fn trace(state: ServerState, person: Person, ask: Ask) -> Result<Reply, Refusal> {
    let id: DecisionId = ask.id()?;
    let trace = state.engine.trace(&id).await.map_err(|e| absent(e, &id))?;
    seen(&state.engine, &person, &trace.task).await.map_err(|r| veiled(r, &id))?;
    Reply::json(&wire::trace(&trace)?)
}

fn absent(error: bailiwick_engine::EngineError, id: &DecisionId) -> Refusal {
    if error.kind == Kind::NotFound { Refusal::missing("decision", id.as_str()) } else { error.into() }
}

/// A decision of a task that may not be seen looks absent.
fn veiled(refusal: Refusal, id: &DecisionId) -> Refusal {
    if refusal.problem.status == 404 { Refusal::missing("decision", id.as_str()) } else { refusal }
}
