//! `agent add|ls|show|retire`: who can be given authority. Registering grants nothing.

use std::path::PathBuf;

use bailiwick_api::wire::{AgentKey, AgentSet, AgentView, HaltedView};
use bailiwick_core::capability::Capability;
use bailiwick_core::tool::ToolPattern;
use bailiwick_core::value::Value;
use bailiwick_core::{AgentClass, AgentId, PrincipalId};
use bailiwick_token::PublicKey;
use clap::{Args, Subcommand};
use serde::Deserialize;

use crate::config::yaml;
use crate::ctx::Ctx;
use crate::fail::{Done, Failure};
use crate::out::{Paint, several, table};

/// What can be done with agents.
#[derive(Debug, Subcommand)]
pub(crate) enum Agent {
    /// Register an agent, or change it; makes its key if it has none here
    Add(Add),
    /// List the agents
    Ls,
    /// One agent: owner, class, keys, ceiling
    Show {
        /// Its name
        agent: AgentId,
    },
    /// Retire an agent for good; what it holds ends now
    Retire {
        /// Its name
        agent: AgentId,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// Registers an agent.
#[derive(Debug, Args)]
pub(crate) struct Add {
    /// Its name
    #[arg(required_unless_present = "file")]
    agent: Option<AgentId>,
    /// A file with id, owner, class and ceiling
    #[arg(short, long, conflicts_with_all = ["agent", "owner", "class", "may"])]
    file: Option<PathBuf>,
    /// The person who answers for it [default: you]
    #[arg(long)]
    owner: Option<PrincipalId>,
    /// Its class [default: `default`]
    #[arg(long)]
    class: Option<AgentClass>,
    /// What it could ever be given: `system.action`, `system.prefix*` or `system.*`
    #[arg(long, value_name = "TOOL")]
    may: Vec<String>,
    /// Register this public key (a JWK file) instead of making one here
    #[arg(long, value_name = "FILE")]
    jwk: Option<PathBuf>,
}

/// The file of an agent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AgentFile {
    id: AgentId,
    owner: PrincipalId,
    class: AgentClass,
    #[serde(default)]
    ceiling: Vec<Capability>,
}

pub(crate) async fn run(ctx: &Ctx, agent: Agent) -> Done {
    match agent {
        Agent::Add(add) => self::add(ctx, add).await,
        Agent::Ls => ls(ctx).await,
        Agent::Show { agent } => show(ctx, &agent).await,
        Agent::Retire { agent, yes } => retire(ctx, &agent, yes).await,
    }
}

async fn add(ctx: &Ctx, add: Add) -> Done {
    let people = ctx.people()?;
    let all = people.agents().await?;
    let mut set = stated(ctx, &add, &all)?;
    let held = all.into_iter().find(|a| a.id == set.id);
    let (key, made) = public_key(ctx, &add, &set.id)?;
    let mut keys: Vec<AgentKey> = held
        .iter()
        .flat_map(|a| &a.keys)
        .filter(|k| **k != key.jkt().to_string())
        .cloned()
        .map(AgentKey::Thumbprint)
        .collect();
    keys.push(AgentKey::Jwk(
        Value::from_serialize(&key.to_jwk()).map_err(|e| Failure::failed(e.code(), e.to_string(), ""))?,
    ));
    set.keys = Some(keys);
    let view = people.set_agent(&set).await?;
    ctx.out.show(&view, |paint| registered(&view, paint));
    if let Some(path) = made {
        ctx.out.say(&format!(" its key is at {}", path.display()));
    }
    Ok(())
}

/// What the agent shall be. What is not said stays as it is registered, so that a bare name only makes its key.
fn stated(ctx: &Ctx, add: &Add, all: &[AgentView]) -> Result<AgentSet, Failure> {
    if let Some(path) = &add.file {
        let file: AgentFile = yaml::parse(path, &yaml::slurp(path)?)?;
        return Ok(AgentSet {
            id: file.id,
            owner: file.owner,
            class: file.class,
            ceiling: file.ceiling,
            keys: None,
        });
    }
    let Some(id) = add.agent.clone() else { return Err(Failure::usage("name the agent", "")) };
    let held = all.iter().find(|a| a.id == id);
    let owner = match add.owner.clone().or(held.map(|a| a.owner.clone())) {
        Some(owner) => owner,
        None => ctx
            .keys()?
            .operator()?
            .ok_or_else(|| Failure::usage("nobody owns it", "Say who with --owner."))?,
    };
    let class = match add.class.clone().or(held.map(|a| a.class.clone())) {
        Some(class) => class,
        None => AgentClass::parse("default")?,
    };
    let ceiling = match (add.may.as_slice(), held) {
        ([], Some(held)) => held.ceiling.clone(),
        (may, _) => may
            .iter()
            .map(|t| Ok(Capability::to_use(ToolPattern::parse(t)?)))
            .collect::<Result<_, Failure>>()?,
    };
    Ok(AgentSet { id, owner, class, ceiling, keys: None })
}

/// The key to register, and where the private half is if it is ours.
fn public_key(ctx: &Ctx, add: &Add, agent: &AgentId) -> Result<(PublicKey, Option<PathBuf>), Failure> {
    match &add.jwk {
        Some(path) => Ok((PublicKey::from_jwk_str(&yaml::slurp(path)?)?, None)),
        None => {
            let keys = ctx.keys()?;
            Ok((keys.agent(agent)?.public().clone(), Some(keys.agent_path(agent))))
        }
    }
}

fn registered(view: &AgentView, paint: Paint) -> String {
    let uses = view.ceiling.iter().filter(|c| c.may_use).count();
    let hands_to: std::collections::BTreeSet<String> = view
        .ceiling
        .iter()
        .filter_map(|c| c.delegate.as_ref())
        .flat_map(|d| &d.to)
        .map(ToString::to_string)
        .collect();
    let hands = if hands_to.is_empty() {
        "nobody".to_owned()
    } else {
        hands_to.into_iter().collect::<Vec<_>>().join(", ")
    };
    format!(
        "registered {}   {}   owner {}\nmay ever be given {uses} actions, may hand work to: {hands}; holds nothing now",
        paint.bold(view.id.as_str()),
        view.spiffe,
        view.owner
    )
}

async fn ls(ctx: &Ctx) -> Done {
    let agents = ctx.people()?.agents().await?;
    ctx.out.show(&agents, |paint| {
        let rows = agents.iter().map(|a| {
            let state = if a.suspended.is_some() { paint.red("suspended") } else { "ready".to_owned() };
            vec![
                a.id.to_string(),
                a.class.to_string(),
                a.owner.to_string(),
                a.keys.len().to_string(),
                a.ceiling.len().to_string(),
                state,
            ]
        });
        table(paint, &["agent", "class", "owner", "keys", "ceiling", "state"], rows.collect())
    });
    Ok(())
}

async fn show(ctx: &Ctx, agent: &AgentId) -> Done {
    let view = ctx.people()?.agent(agent).await?;
    ctx.out.show(&view, |paint| {
        let mut lines = vec![
            format!("{}   {}", paint.bold(view.id.as_str()), view.spiffe),
            format!("owner    {}   class {}", view.owner, view.class),
        ];
        lines.extend(view.suspended.iter().map(|why| format!("{} {why}", paint.red("suspended"))));
        lines.extend(view.keys.iter().map(|k| format!("key      {k}")));
        lines.push("ceiling  what it could ever be given; grants nothing".to_owned());
        lines.extend(view.ceiling.iter().map(|c| format!("         {}", capability(c))));
        lines.join("\n")
    });
    Ok(())
}

/// A capability in one line.
pub(crate) fn capability(c: &Capability) -> String {
    let mut text = c.tool.to_string();
    if !c.args.is_empty() {
        let args: Vec<String> = c
            .args
            .iter()
            .map(|(name, constraint)| {
                format!("{name}: {}", serde_json::to_string(constraint).unwrap_or_default())
            })
            .collect();
        text.push_str(&format!("({})", args.join(", ")));
    }
    if let Some(uses) = c.limits.uses {
        text.push_str(&format!("  at most {uses}×"));
    }
    text.push_str(if c.may_use { "  use" } else { "" });
    if let Some(delegate) = &c.delegate {
        let to: Vec<&str> = delegate.to.iter().map(AgentId::as_str).collect();
        text.push_str(&format!("  hand on to {}", to.join(", ")));
    }
    text
}

async fn retire(ctx: &Ctx, agent: &AgentId, yes: bool) -> Done {
    super::confirm(yes, &format!("Retire {agent} for good? Its name can never be used again."))?;
    let halted = ctx.people()?.retire_agent(agent).await?;
    ctx.out.show(&halted, |paint| format!("retired {agent}\n{}", toll(&halted, paint)));
    Ok(())
}

/// What a halt did, in words.
pub(crate) fn toll(halted: &HaltedView, paint: Paint) -> String {
    let (tasks, grants) = (several(halted.tasks.len(), "task"), several(halted.grants.len(), "grant"));
    let mut text = format!("{tasks} stopped, {grants} revoked");
    if halted.in_flight > 0 {
        text.push_str(
            &paint.yellow(&format!("; {} calls were under way, their effect is unknown", halted.in_flight)),
        );
    }
    if halted.standing > 0 {
        text.push_str(&paint.red(&format!("; {} credentials are still being revoked", halted.standing)));
    }
    text
}
