//! `connect`, `call`, `run` and `handoff`: what is done as an agent, with the agent's key and never a person's.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bailiwick_api::wire::{EndCause, HandoffAnswer, HandoffBody, TaskEnd, TaskOpen};
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
use crate::out::plain;

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
    fn holder(&self, ctx: &Ctx) -> Result<Holder, Failure> {
        let config = ctx.config(Secrets::Leave)?;
        let path = match &self.key {
            Some(path) => path.clone(),
            None => ctx.keys()?.agent_path(&self.agent),
        };
        let key = signing_key(&path)?.ok_or_else(|| {
            let what = format!("there is no key of {} at {}", self.agent, path.display());
            let next =
                format!("Make one with `bailiwick agent add {}`, or name its file with --key.", self.agent);
            Failure::new(Exit::NotSignedIn, "not_signed_in", what, next)
        })?;
        let wants = match (&self.grant, &self.task) {
            (Some(grant), _) => Wants::Grant(grant.clone()),
            (None, Some(task)) => Wants::Task(task.clone()),
            (None, None) => return Err(Failure::usage("for which task?", "Name it with --task or --grant.")),
        };
        Holder::new(&ctx.server()?, &config.trust_domain, &self.agent, key, wants)
    }
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

/// Runs a command as an agent: it gets to know where its tools are, and no key.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The agent
    #[arg(long)]
    agent: AgentId,
    /// An open task; without one, a task is opened for this run and ended after it
    #[arg(long, conflicts_with = "intent")]
    task: Option<TaskId>,
    /// The intent of the task to open
    #[arg(long, required_unless_present = "task")]
    intent: Option<String>,
    /// How long the opened task may take, such as 20m
    #[arg(long, value_name = "TIME", conflicts_with = "task")]
    ttl: Option<String>,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

pub(crate) async fn run(ctx: &Ctx, run: Run) -> Done {
    let server = ctx.server()?;
    let (task, ours) = match (&run.task, &run.intent) {
        (Some(task), _) => (task.clone(), None),
        (None, intent) => {
            let ttl_s = run.ttl.as_deref().map(super::task::duration_secs).transpose()?;
            let intent = intent.clone().unwrap_or_default();
            let ask = TaskOpen { ttl_s, ..TaskOpen::new(intent, run.agent.clone()) };
            let people = ctx.people()?;
            let opened = people.open_task(&ask).await?;
            ctx.out.say(&format!(" task {} for {}", opened.task, run.agent));
            (opened.task, Some(people))
        }
    };
    let status = child(ctx, &run, &server, &task)?.status().await;
    if let Some(people) = ours {
        let good = status.as_ref().is_ok_and(std::process::ExitStatus::success);
        let cause = if good { EndCause::Completed } else { EndCause::Failed };
        people.end_task(&task, &TaskEnd { cause, reason: "the command has ended".to_owned() }).await?;
        ctx.out.say(&format!(" task {task} ended; nothing of it stands"));
    }
    let name = run.command.first().map(String::as_str).unwrap_or_default();
    let status = status.map_err(|e| {
        Failure::failed("run.failed", format!("{} could not be started: {e}", plain(name, 60)), "")
    })?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::failed("run.failed", format!("{} ended with {status}", plain(name, 60)), ""))
}

/// The command with its surroundings. No person's key goes with it, and the agent's key stays in its file, which
/// only the connector opens.
fn child(ctx: &Ctx, run: &Run, server: &str, task: &TaskId) -> Result<tokio::process::Command, Failure> {
    let own = std::env::current_exe().map_err(|e| Failure::failed("run.failed", e.to_string(), ""))?;
    let mut connector = vec![own.to_string_lossy().into_owned()];
    if let Some(config) = ctx.config_path() {
        connector.extend(["--config".to_owned(), absolute(config)]);
    }
    connector.extend(
        ["--server", server, "connect", "--agent", run.agent.as_str(), "--task", task.as_str()]
            .map(str::to_owned),
    );
    let mut words = run.command.iter();
    let mut child = tokio::process::Command::new(words.next().map_or("", String::as_str));
    child
        .args(words)
        .env_remove("BAILIWICK_KEY")
        .env("BAILIWICK_URL", server)
        .env("BAILIWICK_MCP_URL", format!("{server}/mcp"))
        .env("BAILIWICK_MCP_COMMAND", serde_json::to_string(&connector).unwrap_or_default())
        .env("BAILIWICK_AGENT", run.agent.as_str())
        .env("BAILIWICK_TASK", task.as_str());
    Ok(child)
}

fn absolute(path: &std::path::Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).to_string_lossy().into_owned()
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
                "{} holds {} ({} capabilities)   not delivered: {stripped}",
                paint.bold(made.to.as_str()),
                made.grant,
                made.capabilities.len()
            )
        }
        HandoffAnswer::Deny(_) => String::new(),
    });
    Ok(())
}
