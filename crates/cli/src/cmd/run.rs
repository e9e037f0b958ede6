//! `run`: any command as an agent, unchanged, for as long as its task lasts.
//!
//! The command gets to know where its tools are, a proxy that carries its HTTP requests to the gateway, and a listener
//! that does the same for its sessions with databases. It gets no key: the agent's stays in its file, which this and the
//! connector open, and an API's or a database's stays with the gateway. Proxy and listener serve this run alone.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use bailiwick_api::client::People;
use bailiwick_api::wire::{EndCause, TaskEnd};
use bailiwick_core::{AgentId, TaskId};
use bailiwick_gateway::Proxy;
use bailiwick_gateway::postgres::local::Local;
use clap::Args;
use tokio::process::{Child, Command};

use super::agency::holder;
use super::task::Open;
use crate::ctx::Ctx;
use crate::fail::{Done, Failure};
use crate::holder::{Holder, Wants};
use crate::out::plain;

/// How long a command may take to end after it was asked to.
const END_WITHIN: std::time::Duration = std::time::Duration::from_secs(10);
/// Variables by which programs find a proxy.
const PROXY_VARIABLES: [&str; 6] =
    ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"];
/// Variables by which programs find certificates: OpenSSL, curl, Python, Node, Git, Cargo, AWS, Deno.
const CERTIFICATE_VARIABLES: [&str; 8] = [
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
    "DENO_CERT",
];

/// Runs a command as an agent.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The agent
    #[arg(long, env = "BAILIWICK_AGENT")]
    agent: AgentId,
    /// An open task; without one, a task is opened for this run and ended after it
    #[arg(long, conflicts_with = "intent")]
    task: Option<TaskId>,
    /// The intent of the task to open
    #[arg(long, required_unless_present = "task")]
    intent: Option<String>,
    /// The template of the task to open: registered, as NAME@VERSION, or a file
    #[arg(short, long, value_name = "NAME@VERSION|FILE", conflicts_with = "task")]
    template: Option<String>,
    /// An input of the task to open, as NAME=VALUE
    #[arg(long = "var", visible_alias = "input", value_name = "NAME=VALUE", conflicts_with = "task")]
    vars: Vec<String>,
    /// How long the opened task may take, such as 20m
    #[arg(long, value_name = "TIME", conflicts_with = "task")]
    ttl: Option<String>,
    /// The file of the agent's key [default: in the data folder]
    #[arg(long, value_name = "FILE", env = "BAILIWICK_AGENT_KEY_FILE")]
    key: Option<PathBuf>,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

pub(crate) async fn run(ctx: &Ctx, run: Run) -> Done {
    let server = ctx.server()?;
    let (task, ours) = task(ctx, &run).await?;
    let status = supervise(ctx, &run, &server, &task).await;
    if let Some(people) = ours {
        let good = status.as_ref().is_ok_and(ExitStatus::success);
        let cause = if good { EndCause::Completed } else { EndCause::Failed };
        people.end_task(&task, &TaskEnd { cause, reason: "the command has ended".to_owned() }).await?;
        ctx.out.say(&format!(" task {task} ended; nothing of it stands"));
    }
    let status = status?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::failed("run.failed", format!("{} ended with {status}", name(&run)), ""))
}

/// The task that was named, or a new one with who may end it.
async fn task(ctx: &Ctx, run: &Run) -> Result<(TaskId, Option<People>), Failure> {
    if let Some(task) = &run.task {
        return Ok((task.clone(), None));
    }
    let open = Open {
        intent: run.intent.clone().unwrap_or_default(),
        template: run.template.clone(),
        agent: Some(run.agent.clone()),
        vars: run.vars.clone(),
        ttl: run.ttl.clone(),
    };
    let people = ctx.people()?;
    let (_, opened) = super::task::opened(&people, &open).await?;
    ctx.out.say(&format!(" task {} for {}", opened.task, run.agent));
    Ok((opened.task, Some(people)))
}

/// Runs the command behind its proxy until it ends, or until this is asked to stop.
async fn supervise(ctx: &Ctx, run: &Run, server: &str, task: &TaskId) -> Result<ExitStatus, Failure> {
    let agent = || holder(ctx, &run.agent, run.key.as_deref(), Wants::Task(task.clone()));
    let proxy =
        Proxy::start(server, agent()?).await.map_err(|e| Failure::failed(e.code(), e.to_string(), ""))?;
    // What the gateway does not tell now, it refuses later: no reason not to start.
    let databases = Local::start(server, agent()?).await.ok().flatten();
    let certificate = certificate(&proxy)?;
    let mut command = command(ctx, run, server, task)?;
    behind(&mut command, &proxy, certificate.path()).await;
    if let Some(databases) = &databases {
        in_front_of(&mut command, databases);
    }
    let mut child = command
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| Failure::failed("run.failed", format!("{} could not be started: {e}", name(run)), ""))?;
    let ended = tokio::select! {
        ended = child.wait() => ended,
        () = super::up::asked_to_stop() => stop(&mut child).await,
    };
    ended.map_err(|e| Failure::failed("run.failed", format!("{} was lost: {e}", name(run)), ""))
}

/// The authority's certificate in a file that is gone after the run.
fn certificate(proxy: &Proxy<Holder>) -> Result<tempfile::NamedTempFile, Failure> {
    let unusable = |e: std::io::Error| Failure::failed("run.failed", format!("no temporary file: {e}"), "");
    let mut file =
        tempfile::Builder::new().prefix("bailiwick-run-").suffix(".pem").tempfile().map_err(unusable)?;
    file.write_all(proxy.authority_pem().as_bytes()).map_err(unusable)?;
    Ok(file)
}

/// The command with its surroundings. No person's key goes with it.
fn command(ctx: &Ctx, run: &Run, server: &str, task: &TaskId) -> Result<Command, Failure> {
    let own = std::env::current_exe().map_err(|e| Failure::failed("run.failed", e.to_string(), ""))?;
    let mut connector = vec![own.to_string_lossy().into_owned()];
    if let Some(config) = ctx.config_path() {
        connector.extend(["--config".to_owned(), absolute(config)]);
    }
    connector.extend(
        ["--server", server, "connect", "--agent", run.agent.as_str(), "--task", task.as_str()]
            .map(str::to_owned),
    );
    if let Some(key) = &run.key {
        connector.extend(["--key".to_owned(), absolute(key)]);
    }
    let mut words = run.command.iter();
    let mut child = Command::new(words.next().map_or("", String::as_str));
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

/// Sends the command's HTTP requests through the proxy. Each API has a base URL too, for clients that take one.
async fn behind(command: &mut Command, proxy: &Proxy<Holder>, certificate: &Path) {
    for variable in PROXY_VARIABLES {
        command.env(variable, proxy.url());
    }
    for variable in ["NO_PROXY", "no_proxy"] {
        command.env_remove(variable);
    }
    for variable in CERTIFICATE_VARIABLES {
        command.env(variable, certificate);
    }
    // Node reads proxy variables only when told to.
    command.env("NODE_USE_ENV_PROXY", "1");
    // What the gateway does not tell now, it refuses later: no reason not to start.
    for api in proxy.offered().await.unwrap_or_default() {
        let variable = format!("BAILIWICK_API_{}", api.system.replace('-', "_").to_ascii_uppercase());
        command.env(variable, proxy.base_url(&api.system));
    }
}

/// Sends the command's sessions with databases through the listener: `PG…` where there is one choice only, and a URL
/// for each scope.
fn in_front_of(command: &mut Command, databases: &Local<Holder>) {
    let at = databases.address();
    command
        .env("PGHOST", at.ip().to_string())
        .env("PGPORT", at.port().to_string())
        .env("PGPASSWORD", databases.password())
        .env("PGSSLMODE", "disable");
    for variable in
        ["PGSERVICE", "PGSERVICEFILE", "PGHOSTADDR", "PGPASSFILE", "PGUSER", "PGDATABASE", "DATABASE_URL"]
    {
        command.env_remove(variable);
    }
    let word = |name: &str| name.replace(|c: char| !c.is_ascii_alphanumeric(), "_").to_ascii_uppercase();
    for database in databases.databases() {
        for scope in &database.scopes {
            let variable = format!("BAILIWICK_DATABASE_{}_{}", word(&database.name), word(scope));
            command.env(variable, databases.url(&database.name, scope));
        }
    }
    if let [only] = databases.databases() {
        command.env("PGDATABASE", &only.name);
        if let [scope] = only.scopes.as_slice() {
            command.env("PGUSER", scope).env("DATABASE_URL", databases.url(&only.name, scope));
        }
    }
}

/// Gives the command time to end by itself: an interrupt on a terminal reaches it too.
async fn stop(child: &mut Child) -> std::io::Result<ExitStatus> {
    if let Ok(ended) = tokio::time::timeout(END_WITHIN, child.wait()).await {
        return ended;
    }
    child.start_kill()?;
    child.wait().await
}

fn name(run: &Run) -> String {
    plain(run.command.first().map(String::as_str).unwrap_or_default(), 60)
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).to_string_lossy().into_owned()
}
