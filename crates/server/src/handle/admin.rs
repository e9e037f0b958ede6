//! Administration: agents, tools, people, directory, policies.

use std::collections::BTreeSet;

use bailiwick_api::wire::{
    AgentKey, AgentSet, DirectoryBody, PersonSet, PolicyActive, PolicyCheck, PolicySetView, PolicySource,
    PolicyUse, ReplayAsk, ToolSet,
};
use bailiwick_core::agent::{Agent, OPERATORS, Person};
use bailiwick_core::registry::Directory;
use bailiwick_core::{AgentId, ToolId};
use bailiwick_engine::Kind;
use bailiwick_token::PublicKey;

use crate::body::{self, Reply};
use crate::guard::Ask;
use crate::refusal::Refusal;
use crate::state::ServerState;
use crate::wire;

pub(crate) async fn agents(state: ServerState, _: Person, _: Ask) -> Result<Reply, Refusal> {
    let registry = state.engine.registry();
    let all: Result<Vec<_>, Refusal> =
        registry.agents().map(|agent| wire::agent(&state.engine, &registry, agent)).collect();
    Reply::json(&all?)
}

pub(crate) async fn agent(state: ServerState, _: Person, ask: Ask) -> Result<Reply, Refusal> {
    one_agent(&state, &ask.id()?)
}

fn one_agent(state: &ServerState, id: &AgentId) -> Result<Reply, Refusal> {
    let registry = state.engine.registry();
    let agent = registry.agent(id).ok_or_else(|| Refusal::missing("agent", id.as_str()))?;
    Reply::json(&wire::agent(&state.engine, &registry, agent)?)
}

pub(crate) async fn set_agent(state: ServerState, by: Person, ask: Ask) -> Result<Reply, Refusal> {
    let set: AgentSet = body::json(&ask.body)?;
    let keys = match set.keys {
        Some(keys) => keys.iter().map(thumbprint).collect::<Result<BTreeSet<_>, _>>()?,
        None => state.engine.look(|r| r.agent(&set.id).map(|a| a.keys.clone()).unwrap_or_default()),
    };
    let agent = Agent { id: set.id.clone(), owner: set.owner, class: set.class, ceiling: set.ceiling, keys };
    state.engine.set_agent(&by.id, agent).await?;
    one_agent(&state, &set.id)
}

/// The thumbprint of a key, checked: a JWK must be a public signing key of a kind that can prove possession.
fn thumbprint(key: &AgentKey) -> Result<String, Refusal> {
    let read = match key {
        AgentKey::Thumbprint(text) => bailiwick_token::Digest::parse(text),
        AgentKey::Jwk(jwk) => PublicKey::from_jwk_str(&jwk.canonical()).map(|key| key.jkt()),
    };
    let refuse = |e: bailiwick_token::TokenRefusal| {
        Refusal::new(422, e.code(), e.to_string(), "send an Ed25519 or P-256 public JWK, or its thumbprint")
    };
    read.map(|jkt| jkt.to_string()).map_err(refuse)
}

pub(crate) async fn retire_agent(state: ServerState, by: Person, ask: Ask) -> Result<Reply, Refusal> {
    let id: AgentId = ask.id()?;
    if state.engine.look(|r| r.agent(&id).is_none()) {
        return Err(Refusal::missing("agent", id.as_str()));
    }
    let halted = state.engine.retire_agent(&by.id, &id, "the agent was retired").await?;
    Reply::json(&wire::halted(halted))
}

pub(crate) async fn tools(state: ServerState, _: Person, _: Ask) -> Result<Reply, Refusal> {
    let registry = state.engine.registry();
    let all: Vec<_> = registry.tools().map(|(id, tool)| wire::tool(&registry, id, tool)).collect();
    Reply::json(&all)
}

pub(crate) async fn tool(state: ServerState, _: Person, ask: Ask) -> Result<Reply, Refusal> {
    one_tool(&state, &ask.id()?)
}

fn one_tool(state: &ServerState, id: &ToolId) -> Result<Reply, Refusal> {
    let view = state.engine.look(|registry| registry.tool(id).map(|tool| wire::tool(registry, id, tool)));
    Reply::json(&view.ok_or_else(|| Refusal::missing("tool", id.as_str()))?)
}

pub(crate) async fn classify(state: ServerState, by: Person, ask: Ask) -> Result<Reply, Refusal> {
    let id: ToolId = ask.id()?;
    let set: ToolSet = body::json(&ask.body)?;
    if set.manifest.tool != id {
        let detail = format!("the path names {id}, the manifest {}", set.manifest.tool);
        return Err(Refusal::new(422, "tool.mismatch", detail, "name the same tool in both"));
    }
    state.engine.classify(&by.id, set.manifest, set.pin).await?;
    one_tool(&state, &id)
}

pub(crate) async fn people(state: ServerState, _: Person, _: Ask) -> Result<Reply, Refusal> {
    let all: Vec<_> = state.engine.look(|registry| registry.people().map(wire::person).collect());
    Reply::json(&all)
}

pub(crate) async fn set_person(state: ServerState, by: Person, ask: Ask) -> Result<Reply, Refusal> {
    let set: PersonSet = body::json(&ask.body)?;
    let held = state.engine.look(|r| r.person(&set.id).map(|p| p.keys.clone()).unwrap_or_default());
    let person =
        Person { id: set.id, groups: set.groups, workload: set.workload, keys: set.keys.unwrap_or(held) };
    let shared =
        state.engine.look(|r| r.people().any(|p| p.id != person.id && !p.keys.is_disjoint(&person.keys)));
    if shared {
        return Err(Refusal::new(
            409,
            "person.key",
            "somebody else signs in with one of these keys",
            "make a new key",
        ));
    }
    if locks_out(&state, &person) {
        let detail = "nobody could administer any more: this is the last operator who can sign in";
        return Err(Refusal::new(
            409,
            "person.last_operator",
            detail,
            "make somebody else an operator first",
        ));
    }
    let view = wire::person(&person);
    state.engine.set_person(&by.id, person).await?;
    Reply::json(&view)
}

/// Whether a change would leave no operator who can sign in.
fn locks_out(state: &ServerState, changed: &Person) -> bool {
    let administers = |p: &Person| !p.workload && p.is_in(OPERATORS) && !p.keys.is_empty();
    let others = state.engine.look(|r| r.people().any(|p| p.id != changed.id && administers(p)));
    !others && !administers(changed)
}

pub(crate) async fn directory(state: ServerState, _: Person, _: Ask) -> Result<Reply, Refusal> {
    let directory = state.engine.look(|registry| registry.directory().clone());
    Reply::json(&DirectoryBody {
        own_domains: directory.own_domains,
        known: directory.known,
        records: directory.records,
    })
}

pub(crate) async fn set_directory(state: ServerState, by: Person, ask: Ask) -> Result<Reply, Refusal> {
    let body: DirectoryBody = body::json(&ask.body)?;
    let directory = Directory {
        own_domains: body.own_domains.clone(),
        known: body.known.clone(),
        records: body.records.clone(),
    };
    state.engine.set_directory(&by.id, directory).await?;
    Reply::json(&body)
}

pub(crate) async fn policies(state: ServerState, _: Person, _: Ask) -> Result<Reply, Refusal> {
    let (version, sources) = state.engine.policies();
    let policies: Vec<_> = sources.into_iter().map(|(name, text)| PolicySource { name, text }).collect();
    let observed = observed(&policies);
    Reply::json(&PolicySetView { version, defaults: version.is_none(), observed, policies })
}

/// Names of rules that are marked as only observed, as far as the texts can be read.
fn observed(policies: &[PolicySource]) -> Vec<String> {
    let sources: Vec<_> = policies.iter().map(|p| (p.name.clone(), p.text.clone())).collect();
    bailiwick_engine::observed_rules(&sources)
}

pub(crate) async fn policy_versions(state: ServerState, _: Person, _: Ask) -> Result<Reply, Refusal> {
    let mut views = state.engine.policy_versions();
    views.reverse();
    Reply::json(&views)
}

pub(crate) async fn policy_version(state: ServerState, _: Person, ask: Ask) -> Result<Reply, Refusal> {
    let wanted = ask.id.clone();
    let (version, sources) = state.engine.policy_version(&wanted)?;
    let policies: Vec<_> = sources.into_iter().map(|(name, text)| PolicySource { name, text }).collect();
    let observed = observed(&policies);
    Reply::json(&PolicySetView { version: Some(version), defaults: false, observed, policies })
}

pub(crate) async fn use_policies(state: ServerState, by: Person, ask: Ask) -> Result<Reply, Refusal> {
    let PolicyUse { version } = body::json(&ask.body)?;
    let version = state.engine.use_policy(&by.id, &version).await?;
    Reply::json(&PolicyActive {
        version,
        observed: bailiwick_engine::observed_rules(&state.engine.policies().1),
    })
}

/// Entries of each list in an answer.
const REPLAYED_MAX: usize = 1000;

pub(crate) async fn replay_policies(state: ServerState, _: Person, ask: Ask) -> Result<Reply, Refusal> {
    let wanted: ReplayAsk = body::json(&ask.body)?;
    let policies: Vec<_> = wanted.policies.into_iter().map(|s| (s.name, s.text)).collect();
    let tasks = wanted.tasks.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
    let replay = state.engine.replay(&policies, wanted.since.unwrap_or_default(), tasks).await?;
    Reply::json(&wire::replay(replay, REPLAYED_MAX))
}

pub(crate) async fn set_policies(state: ServerState, by: Person, ask: Ask) -> Result<Reply, Refusal> {
    let sources = sources(&ask)?;
    let version = state.engine.set_policy(&by.id, &sources).await?;
    Reply::json(&PolicyActive { version, observed: bailiwick_engine::observed_rules(&sources) })
}

pub(crate) async fn check_policies(state: ServerState, _: Person, ask: Ask) -> Result<Reply, Refusal> {
    match state.engine.check_policy(&sources(&ask)?) {
        Ok(()) => Reply::json(&PolicyCheck { ok: true, error: None }),
        Err(error) if error.kind == Kind::Invalid => {
            Reply::json(&PolicyCheck { ok: false, error: Some(error.reason) })
        }
        Err(error) => Err(error.into()),
    }
}

fn sources(ask: &Ask) -> Result<Vec<(String, String)>, Refusal> {
    let sources: Vec<PolicySource> = body::json(&ask.body)?;
    Ok(sources.into_iter().map(|s| (s.name, s.text)).collect())
}
