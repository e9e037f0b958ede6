//! The ledger: signed heads, events, receipts. One tenant sees its own events and no other's (INV12).

use bailiwick_api::wire::{AuditKeyView, CheckpointView, LedgerEvent, LedgerPage, ProofView};
use bailiwick_audit::{AuditError, Checkpoint, InclusionReceipt, NoteVerifier, TileRange, inclusion_proof};
use bailiwick_core::agent::Person;
use bailiwick_core::{Time, Value};
use bailiwick_engine::{Engine, EngineError};
use bailiwick_store::Recorded;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::body::Reply;
use crate::guard::Ask;
use crate::refusal::Refusal;
use crate::state::ServerState;

/// Events in one page.
const PAGE_MAX: usize = 1000;

pub(crate) async fn checkpoint(state: ServerState, _: Person, _: Ask) -> Result<Reply, Refusal> {
    Reply::json(&CheckpointView { note: state.engine.checkpoint().await? })
}

pub(crate) async fn key(state: ServerState, _: Person, _: Ask) -> Result<Reply, Refusal> {
    Reply::json(&AuditKeyView { vkey: state.engine.vkey() })
}

pub(crate) async fn ledger(state: ServerState, _: Person, ask: Ask) -> Result<Reply, Refusal> {
    let from = ask.number("from")?.unwrap_or(0);
    let limit =
        ask.number("limit")?.map_or(100, |n| usize::try_from(n).unwrap_or(PAGE_MAX)).clamp(1, PAGE_MAX);
    let scanned = state.engine.store().scan(from, limit).await.map_err(EngineError::from)?;
    let next = (scanned.len() == limit).then(|| from.saturating_add(limit as u64));
    let own = scanned.iter().filter(|r| is_own(&state.engine, r));
    let events: Result<Vec<_>, Refusal> = own.map(view).collect();
    Reply::json(&LedgerPage { events: events?, next })
}

/// Whether an event belongs to this tenant.
pub(crate) fn is_own(engine: &Engine, recorded: &Recorded) -> bool {
    recorded.stream.strip_prefix(engine.tenant().as_str()).is_some_and(|rest| rest.starts_with('/'))
}

fn view(recorded: &Recorded) -> Result<LedgerEvent, Refusal> {
    let event = Value::parse(&recorded.bytes).map_err(|e| broken(&e.to_string()))?;
    Ok(LedgerEvent {
        index: recorded.index,
        stream: recorded.stream.clone(),
        at: recorded.version,
        time: Time(recorded.time_ms),
        kind: recorded.kind.clone(),
        bytes: STANDARD.encode(&recorded.bytes),
        event,
    })
}

pub(crate) async fn proof(state: ServerState, _: Person, ask: Ask) -> Result<Reply, Refusal> {
    let index: u64 = ask.id.parse().map_err(|_| {
        Refusal::new(400, "proof.index", "an index is a whole number", "take it from the event")
    })?;
    let found = state.engine.store().scan(index, 1).await.map_err(EngineError::from)?;
    let event = found.into_iter().find(|r| r.index == index && is_own(&state.engine, r));
    let event = event.ok_or_else(|| Refusal::missing("event", &ask.id))?;
    let checkpoint = state.engine.checkpoint().await?;
    let verifier = NoteVerifier::parse(&state.engine.vkey()).map_err(|e| broken(&e.to_string()))?;
    let size = Checkpoint::open(&checkpoint, &verifier).map_err(|e| broken(&e.to_string()))?.size;
    let receipt = InclusionReceipt { index, proof: path(&state.engine, index, size).await?, checkpoint };
    Reply::json(&ProofView { index, bytes: STANDARD.encode(&event.bytes), receipt: receipt.to_string() })
}

/// The audit path. The plan says which stored hashes it takes; they are read first, then put together.
async fn path(engine: &Engine, index: u64, size: u64) -> Result<Vec<bailiwick_audit::Hash>, Refusal> {
    let plan = bailiwick_audit::ProofPlan::inclusion(index, size).map_err(|e| broken(&e.to_string()))?;
    let mut fetched = std::collections::VecDeque::new();
    for TileRange { level, start, count } in plan.ranges() {
        let hashes = engine.store().tile_hashes(level, start, u64::from(count)).await;
        fetched.push_back(hashes.map_err(EngineError::from)?);
    }
    inclusion_proof(index, size, |_| Ok::<_, AuditError>(fetched.pop_front().unwrap_or_default()))
        .map_err(|e| broken(&e.to_string()))
}

fn broken(why: &str) -> Refusal {
    Refusal::new(
        503,
        "ledger.unreadable",
        format!("the ledger cannot be read: {why}"),
        "stop the node and compare its folder with a copy or an exported bundle",
    )
}
