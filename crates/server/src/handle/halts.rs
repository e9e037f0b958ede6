//! Freezing, killing, and lifting either.

use bailiwick_api::wire::{HaltAsk, HaltKind, LiftAsk, ScopeKind};
use bailiwick_core::agent::Person;
use bailiwick_core::registry::{Halt, Scope};
use bailiwick_core::tool::ToolPattern;

use crate::body::{self, Reply};
use crate::guard::Ask;
use crate::refusal::Refusal;
use crate::state::ServerState;
use crate::wire;

pub(crate) async fn halt(state: ServerState, by: Person, ask: Ask) -> Result<Reply, Refusal> {
    let ask: HaltAsk = body::json(&ask.body)?;
    let halt = match ask.halt {
        HaltKind::Frozen => Halt::Frozen,
        HaltKind::Killed => Halt::Killed,
    };
    let halted = state.engine.suspend(&by.id, scope(ask.scope, &ask.name)?, halt, &ask.reason).await?;
    Reply::json(&wire::halted(halted))
}

pub(crate) async fn lift(state: ServerState, by: Person, ask: Ask) -> Result<Reply, Refusal> {
    let ask: LiftAsk = body::json(&ask.body)?;
    state.engine.lift(&by.id, scope(ask.scope, &ask.name)?, &ask.reason).await?;
    Reply::done()
}

fn scope(kind: ScopeKind, name: &str) -> Result<Scope, Refusal> {
    Ok(match kind {
        ScopeKind::Agent => Scope::Agent(name.parse()?),
        ScopeKind::Class => Scope::Class(name.parse()?),
        ScopeKind::Task => Scope::Task(name.parse()?),
        ScopeKind::Initiator => Scope::Initiator(name.parse()?),
        ScopeKind::Tool => Scope::Tool(ToolPattern::parse(name)?),
        ScopeKind::All if name.is_empty() => Scope::All,
        ScopeKind::All => {
            let detail = "the scope `all` takes no name";
            return Err(Refusal::new(422, "halt.scope", detail, "leave `name` out, or choose another scope"));
        }
    })
}
