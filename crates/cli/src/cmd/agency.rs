//! `connect`, `call`, `handoff` and `amend`: what is done as an agent, with the agent's key and never a person's.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bailiwick_api::wire::{AmendAnswer, AmendBody, HandoffAnswer, HandoffBody};
use bailiwick_core::value::Value;
use bailiwick_core::{AgentId, ApprovalId, GrantId, SystemId, TaskId, ToolId};
use bailiwick_gateway::ConnectConfig;
use clap::Args;

use crate::config::Secrets;
use crate::ctx::Ctx;
use crate::fail::{Done, Exit, Failure};
use crate::gate::Guarded;
use crate::holder::{Holder, Wants};
use crate::keys::signing_key;
use crate::out::several;

/// How long one call through the connector may take.
const CALL_WITHIN: Duration = Duration::from_secs(310);

/// Which agent, with which key, for what.
#[derive(Debug, Args)]
pub(crate) struct Identity {
    /// The agent
    #[arg(long, env = "BAILIWICK_AGENT")]
    agent: AgentId,
    /// The task: the agent's newest live grant in it
    #[arg(long, env = "BAILIWICK_TASK", conflicts_with = "grant", required_unless_present = "grant")]
    task: Option<TaskId>,
    /// Or exactly this grant
    #[arg(long, env = "BAILIWICK_GRANT")]
    grant: Option<GrantId>,
    /// The file of its key [default: in the data folder]
    #[arg(long, value_name = "FILE", env = "BAILIWICK_AGENT_KEY_FILE")]
    key: Option<PathBuf>,
}

impl Identity {
    pub(crate) fn holder(&self, ctx: &Ctx) -> Result<Holder, Failure> {
        let wants = match (&self.grant, &self.task) {
            (Some(grant), _) => Wants::Grant(grant.clone()),
            (None, Some(task)) => Wants::Task(task.clone()),
            (None, None) => return Err(Failure::usage("for which task?", "Name it with --task or --grant.")),
        };
        holder(ctx, &self.agent, self.key.as_deref(), wants)
    }
}

/// An agent with its key: from this file, else from the data folder.
pub(crate) fn holder(
    ctx: &Ctx,
    agent: &AgentId,
    key: Option<&Path>,
    wants: Wants,
) -> Result<Holder, Failure> {
    let config = ctx.config(Secrets::Leave)?;
    let path = match key {
        Some(path) => path.to_owned(),
        None => ctx.keys()?.agent_path(agent),
    };
    let key = signing_key(&path)?.ok_or_else(|| {
        let what = format!("there is no key of {agent} at {}", path.display());
        let next = format!("Make one with `bailiwick agent add {agent}`, or name its file with --key.");
        Failure::new(Exit::NotSignedIn, "not_signed_in", what, next)
    })?;
    Holder::new(&ctx.server()?, &config.trust_domain, agent, key, wants)
}

/// Connects a stock MCP client, which starts this as its tool server.
#[derive(Debug, Args)]
pub(crate) struct Connect {
    #[command(flatten)]
    identity: Identity,
    /// Offer the tools of this system only, under their own names
    #[arg(long)]
    system: Option<SystemId>,
}

pub(crate) async fn connect(ctx: &Ctx, connect: Connect) -> Done {
    let holder = connect.identity.holder(ctx)?;
    let server = ctx.server()?;
    let url = match &connect.system {
        Some(system) => format!("{server}/mcp/{system}"),
        None => format!("{server}/mcp"),
    };
    let config = ConnectConfig { url, request_timeout: CALL_WITHIN };
    let input = tokio::io::BufReader::new(tokio::io::stdin());
    bailiwick_gateway::connect(config, holder, input, tokio::io::stdout())
        .await
        .map_err(|e| Failure::failed(e.code(), e.to_string(), ""))
}

/// Calls one tool as an agent, to try things out.
#[derive(Debug, Args)]
pub(crate) struct Call {
    #[command(flatten)]
    identity: Identity,
    /// The tool, system.action
    tool: ToolId,
    /// Its arguments, as a JSON object
    #[arg(value_name = "JSON", default_value = "{}")]
    args: String,
    /// An approval to present
    #[arg(long)]
    approval: Option<ApprovalId>,
}

/// Prints the tool's result. Ends with 3 when it was refused, 4 when a person has been asked, 1 when the tool failed.
pub(crate) async fn call(ctx: &Ctx, call: Call) -> Done {
    let args: serde_json::Value = serde_json::from_str(&call.args)
        .map_err(|e| Failure::usage(format!("the arguments are not JSON: {e}"), "Write a JSON object."))?;
    let holder = Arc::new(call.identity.holder(ctx)?);
    // A token first, so that a refusal of the agent is told apart from one of the call.
    holder.token().await?;
    let trouble = |e: anyhow::Error| Failure::failed("call.failed", format!("{e:#}"), "");
    let gate = Guarded::new(&ctx.server()?, holder, CALL_WITHIN).map_err(trouble)?;
    let handle = call.approval.as_ref().map(ApprovalId::as_str);
    let asked = gate.call_with(call.tool.as_str(), args, handle);
    let called = ctx.out.wait("calling", asked).await.map_err(trouble)?;
    let decision = called.decision();
    let word = |name: &str| decision[name].as_str().unwrap_or_default().to_owned();
    match decision["effect"].as_str() {
        Some("deny") => Err(Failure::new(Exit::Denied, &word("reason_code"), called.text(), "")),
        Some("ask") => {
            let next = format!("bailiwick approve {}", word("approval"));
            Err(Failure::new(Exit::Pending, &word("reason_code"), called.text(), next))
        }
        _ => {
            ctx.out.show(&called.result, |_| called.text().to_owned());
            if called.is_error() {
                Err(Failure::failed("tool.failed", "the tool failed", ""))
            } else {
                Ok(())
            }
        }
    }
}

/// Hands part of an agent's authority to another agent.
#[derive(Debug, Args)]
pub(crate) struct Handoff {
    #[command(flatten)]
    identity: Identity,
    /// The agent that shall act
    #[arg(long)]
    to: AgentId,
    /// What it shall be able to do, as JSON; without it, what the task foresees
    #[arg(long, value_name = "JSON")]
    capability: Vec<String>,
    /// Data for it, as a JSON object
    #[arg(long, value_name = "JSON", default_value = "{}")]
    payload: String,
    /// How long, such as 5m
    #[arg(long, value_name = "TIME")]
    ttl: Option<String>,
    /// How often it may hand on itself
    #[arg(long, default_value_t = 0)]
    depth: u8,
}

pub(crate) async fn handoff(ctx: &Ctx, handoff: Handoff) -> Done {
    let read = |text: &String| {
        Value::parse(text.as_bytes()).map_err(|e| Failure::usage(e.to_string(), "Write JSON."))
    };
    let body = HandoffBody {
        to: handoff.to.clone(),
        capabilities: handoff.capability.iter().map(read).collect::<Result<_, _>>()?,
        ttl_s: handoff.ttl.as_deref().map(super::task::duration_secs).transpose()?,
        depth: handoff.depth,
        payload: read(&handoff.payload)?,
    };
    let holder = handoff.identity.holder(ctx)?;
    let answer: HandoffAnswer = ctx.out.wait("deciding", holder.post("/v1/handoffs", &body)).await?;
    if let HandoffAnswer::Deny(denial) = &answer {
        let next = format!("{}  bailiwick why {}", denial.remedy, denial.decision);
        return Err(Failure::new(Exit::Denied, &denial.code, denial.reason.clone(), next));
    }
    ctx.out.show(&answer, |paint| match &answer {
        HandoffAnswer::Allow(made) => {
            let stripped =
                if made.stripped.is_empty() { "nothing".to_owned() } else { made.stripped.join(", ") };
            format!(
                "{} holds {} ({})   not delivered: {stripped}",
                paint.bold(made.to.as_str()),
                made.grant,
                several(made.capabilities.len(), "capability")
            )
        }
        HandoffAnswer::Deny(_) => String::new(),
    });
    Ok(())
}

/// Asks people for an addition to the chain of an agent's task.
#[derive(Debug, Args)]
pub(crate) struct Amend {
    #[command(flatten)]
    identity: Identity,
    /// A call it wants to make, as JSON: `{"id": "tell", "tool": "mail.send", "args": {"to": {"exact": "ann@example.org"}}}`
    #[arg(value_name = "STEP", required = true)]
    steps: Vec<String>,
    /// What the agent says it needs it for
    #[arg(long)]
    reason: Option<String>,
}

/// Ends with 4 when people are asked, with 3 when it was refused; never with 0, because asking amends nothing.
pub(crate) async fn amend(ctx: &Ctx, amend: Amend) -> Done {
    let read = |text: &String| {
        Value::parse(text.as_bytes())
            .map_err(|e| Failure::usage(e.to_string(), "Write each step as a JSON object."))
    };
    let body =
        AmendBody { steps: amend.steps.iter().map(read).collect::<Result<_, _>>()?, says: amend.reason };
    let holder = amend.identity.holder(ctx)?;
    match ctx.out.wait("deciding", holder.post("/v1/amendments", &body)).await? {
        AmendAnswer::Deny(denial) => {
            let next = format!("{}  bailiwick why {}", denial.remedy, denial.decision);
            Err(Failure::new(Exit::Denied, &denial.code, denial.reason, next))
        }
        AmendAnswer::Ask(asked) => {
            let next = format!("bailiwick approve {}", asked.approval);
            Err(Failure::new(Exit::Pending, "amendment.needed", asked.text, next))
        }
    }
}
