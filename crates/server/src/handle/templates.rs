//! Task templates: registered by operators, opened by whoever may open tasks.

use bailiwick_api::wire::{TaskOpen, TemplateAdd, TemplateOpen, TemplateView};
use bailiwick_core::agent::Person;
use bailiwick_core::template::{Registered, TemplateId};

use super::tasks;
use crate::body::{self, Reply};
use crate::guard::Ask;
use crate::refusal::Refusal;
use crate::state::ServerState;

pub(crate) async fn list(state: ServerState, _: Person, _: Ask) -> Result<Reply, Refusal> {
    let all: Vec<_> = state.engine.templates().into_iter().map(view).collect();
    Reply::json(&all)
}

pub(crate) async fn one(state: ServerState, _: Person, ask: Ask) -> Result<Reply, Refusal> {
    Reply::json(&view(state.engine.template(&ask.id)?))
}

pub(crate) async fn add(state: ServerState, by: Person, ask: Ask) -> Result<Reply, Refusal> {
    let TemplateAdd { name, version, template } = body::json(&ask.body)?;
    let id = state.engine.add_template(&by.id, &name, version, template).await?;
    Reply::json(&view(state.engine.template(&id.to_string())?))
}

pub(crate) async fn remove(state: ServerState, by: Person, ask: Ask) -> Result<Reply, Refusal> {
    // The version is named: what is removed must be what somebody looked at.
    let id = TemplateId::parse(&ask.id).map_err(Refusal::from)?;
    state.engine.remove_template(&by.id, &id).await?;
    Reply::json(&view(state.engine.template(&ask.id)?))
}

/// Everything but the intent, the inputs and a shorter window is as the template says.
pub(crate) async fn open(state: ServerState, by: Person, ask: Ask) -> Result<Reply, Refusal> {
    let new: TemplateOpen = body::json(&ask.body)?;
    let (id, Registered { template: says, .. }) = state.engine.template(&ask.id)?;
    if let Some(other) = new.agent.filter(|agent| *agent != says.agent) {
        let what = format!("{id} begins with {}, not with {other}", says.agent);
        return Err(Refusal::new(
            422,
            "template.agent",
            what,
            "leave the agent out, or use another template",
        ));
    }
    let task = TaskOpen {
        inputs: new.inputs,
        types: says.inputs,
        chain: says.chain,
        ttl_s: new.ttl_s.or(says.ttl_s),
        asks: says.asks,
        handoffs: says.handoffs,
        depth: says.depth,
        refusals: says.refusals,
        seeking: says.seeking,
        template: Some(id.to_string()),
        ..TaskOpen::new(new.intent, says.agent)
    };
    tasks::opened(&state, by, task).await
}

fn view((id, held): (TemplateId, Registered)) -> TemplateView {
    TemplateView {
        template: id.to_string(),
        name: id.name,
        version: id.version,
        by: held.by,
        removed: held.removed,
        says: held.template,
    }
}
