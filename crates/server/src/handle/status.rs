//! How the control plane is, and what stands.

use axum::http::StatusCode;
use bailiwick_api::wire::{ClockAdvance, HealthView, InventoryView, KeptHeadView, StandingView, Status};
use bailiwick_core::agent::Person;
use bailiwick_core::tool::Standing;
use bailiwick_engine::HeadState;
use bailiwick_store::HealthState;

use crate::body::Reply;
use crate::guard::Ask;
use crate::handle::tasks::may_see_summary;
use crate::refusal::Refusal;
use crate::state::ServerState;
use crate::wire;

pub(crate) async fn status(state: ServerState, _: Person, _: Ask) -> Result<Reply, Refusal> {
    let engine = &state.engine;
    let health = engine.store().health();
    let head = engine.store().head().await.map_err(bailiwick_engine::EngineError::from)?;
    let (issuer, audience) = engine.token_names();
    let open = engine.inventory().await?.tasks;
    let view = engine.look(|registry| {
        let classified =
            registry.tools().filter(|(_, t)| matches!(t.standing, Standing::Classified { .. })).count()
                as u64;
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            tenant: engine.tenant().clone(),
            issuer: issuer.to_owned(),
            audience: audience.to_owned(),
            backend: health.backend.to_owned(),
            store: store_state(health.state).to_owned(),
            trouble: health.last_error.as_ref().map(ToString::to_string),
            kept_head: engine.head_state().map(kept_head),
            now: engine.now(),
            ledger_size: head.size,
            epoch: registry.version(),
            agents: registry.agents().count() as u64,
            tools_classified: classified,
            tools_waiting: registry.tools().count() as u64 - classified,
            people: registry.people().count() as u64,
            suspensions: wire::suspensions(registry),
            seeking: open.iter().filter(|task| task.seeking > 0).count() as u64,
            test_clock: state.test_clock.is_some(),
        }
    });
    Reply::json(&view)
}

/// The furthest that one request moves the test clock: a year.
const ADVANCE_MAX_S: u64 = 366 * 86_400;

/// Moves the clock of a server that was started for tests, and ends at once what is due.
pub(crate) async fn advance(state: ServerState, _: Person, ask: Ask) -> Result<Reply, Refusal> {
    let ask: ClockAdvance = crate::body::json(&ask.body)?;
    let Some(advance) = state.test_clock.as_ref().filter(|_| ask.seconds <= ADVANCE_MAX_S) else {
        let detail = format!("the clock moves by 0 to {ADVANCE_MAX_S} seconds");
        return Err(Refusal::new(422, "clock.seconds", detail, "move it in smaller steps"));
    };
    advance(ask.seconds * 1000);
    state.engine.reconcile().await?;
    Reply::done()
}

fn kept_head(state: HeadState) -> KeptHeadView {
    let (code, trouble, since) = match state.trouble {
        Some(t) => (Some(t.code), Some(t.reason), Some(t.since)),
        None => (None, None, None),
    };
    KeptHeadView { covers: state.covers, code, trouble, since }
}

fn store_state(state: HealthState) -> &'static str {
    match state {
        HealthState::Up => "up",
        HealthState::Failing => "failing",
        HealthState::Stopped => "stopped",
    }
}

/// The numbers are of everything; the credentials one by one are shown to who may see their task.
pub(crate) async fn standing(state: ServerState, person: Person, _: Ask) -> Result<Reply, Refusal> {
    let s = state.engine.standing().await?;
    let mut credentials = Vec::new();
    for (task, lease) in &s.credentials {
        let summary = state.engine.summary(task).await?;
        if may_see_summary(&state.engine, &person, &summary).await? {
            credentials.push(wire::lease(task, lease, s.at));
        }
    }
    Reply::json(&StandingView {
        tasks: s.tasks,
        grants: s.grants,
        leases: s.leases,
        debts: s.debts,
        credentials,
        targets: s.targets.iter().map(wire::target).collect(),
        at: s.at,
    })
}

pub(crate) async fn inventory(state: ServerState, person: Person, _: Ask) -> Result<Reply, Refusal> {
    let mut tasks = Vec::new();
    for task in state.engine.inventory().await?.tasks {
        if may_see_summary(&state.engine, &person, &task).await? {
            tasks.push(wire::summary(&task));
        }
    }
    let suspensions = state.engine.look(wire::suspensions);
    Reply::json(&InventoryView { tasks, suspensions })
}

pub(crate) async fn healthz(_: ServerState, _: Ask) -> Result<Reply, Refusal> {
    Reply::json(&HealthView { status: "ok".to_owned() })
}

/// Ready means that a decision could be recorded now, in the ledger that the kept head belongs to. A head that cannot be
/// kept for the moment takes no node out of service.
pub(crate) async fn readyz(state: ServerState, _: Ask) -> Result<Reply, Refusal> {
    let up = state.engine.store().health().state == HealthState::Up;
    let readable = state.engine.store().head().await.is_ok();
    let (status, word) = readiness(up && readable, state.engine.head_state().as_ref());
    Reply::json_with(status, &HealthView { status: word.to_owned() })
}

fn readiness(up: bool, head: Option<&HeadState>) -> (StatusCode, &'static str) {
    match head.and_then(|head| head.trouble.as_ref()) {
        _ if !up => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        Some(trouble) if trouble.is_another_past() => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        Some(_) => (StatusCode::OK, "degraded"),
        None => (StatusCode::OK, "ok"),
    }
}

pub(crate) async fn openapi(_: ServerState, _: Ask) -> Result<Reply, Refusal> {
    Reply::json(&bailiwick_api::routes::openapi())
}

#[cfg(test)]
mod tests {
    use bailiwick_core::Time;
    use bailiwick_engine::HeadTrouble;

    use super::*;

    // proves: P4, D6
    #[test]
    fn a_head_that_cannot_be_kept_is_told_and_another_past_is_not_served() {
        let head = |code: &str| HeadState {
            covers: 7,
            trouble: Some(HeadTrouble { code: code.to_owned(), reason: "why".to_owned(), since: Time(5) }),
        };
        let well = HeadState { covers: 7, trouble: None };
        for (up, head, status, word) in [
            (true, None, 200, "ok"),
            (true, Some(well.clone()), 200, "ok"),
            (true, Some(head("ledger.head_unusable")), 200, "degraded"),
            (true, Some(head("ledger.rolled_back")), 503, "unavailable"),
            (true, Some(head("ledger.forked")), 503, "unavailable"),
            (false, Some(well), 503, "unavailable"),
            (false, None, 503, "unavailable"),
        ] {
            let said = readiness(up, head.as_ref());
            assert_eq!((said.0.as_u16(), said.1), (status, word), "{head:?}");
        }
        let told = kept_head(head("ledger.head_unusable"));
        assert_eq!((told.covers, told.since), (7, Some(Time(5))));
        assert_eq!(told.code.as_deref(), Some("ledger.head_unusable"));
    }
}
