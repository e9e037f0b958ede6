//! `lease`, `receipt`, `standing` and `target`: credentials in target systems, and what became of them.

use std::collections::BTreeMap;

use bailiwick_api::wire::{LeaseAnswer, LeaseAsk, LeaseBody, LeaseView, Reason, ReceiptView, StandingView};
use bailiwick_core::value::Value;
use bailiwick_core::{ApprovalId, LeaseId, SystemId, TaskId, ToolId};
use clap::{Args, Subcommand};

use crate::cmd::agency::Identity;
use crate::config::{Secrets, Target};
use crate::ctx::Ctx;
use crate::fail::{Done, Exit, Failure};
use crate::out::{Paint, moment, plain, table};

/// Asks for a credential as an agent.
#[derive(Debug, Args)]
pub(crate) struct Lease {
    #[command(flatten)]
    identity: Identity,
    /// The scope, system.scope
    scope: ToolId,
    /// What it is narrowed with, as a JSON object; `ttl_s` is its life in seconds
    #[arg(value_name = "JSON", default_value = "{}")]
    args: String,
    /// An approval to present
    #[arg(long)]
    approval: Option<ApprovalId>,
    /// A command that gets the credential in its environment; when it ends, the credential is given back
    #[arg(last = true)]
    command: Vec<String>,
}

/// Runs the command with the credential, or prints it. Ends with 3 when it was refused, 4 when a person was asked.
pub(crate) async fn lease(ctx: &Ctx, lease: Lease) -> Done {
    let args = Value::parse(lease.args.as_bytes())
        .map_err(|e| Failure::usage(e.to_string(), "Write a JSON object."))?;
    let holder = lease.identity.holder(ctx)?;
    let ask = LeaseAsk { tool: lease.scope, args, approval: lease.approval, says: None };
    let answer: LeaseAnswer = ctx.out.wait("asking", holder.post("/v1/leases", &ask)).await?;
    let body = match answer {
        LeaseAnswer::Allow(body) => body,
        LeaseAnswer::Ask(ask) => {
            let next = format!("bailiwick approve {}", ask.approval);
            return Err(Failure::new(Exit::Pending, "approval.pending", ask.text, next));
        }
        LeaseAnswer::Deny(denial) => {
            let next = format!("{}  bailiwick why {}", denial.remedy, denial.decision);
            return Err(Failure::new(Exit::Denied, &denial.code, denial.reason, next));
        }
    };
    if lease.command.is_empty() {
        ctx.out.show(&body, |paint| told(&body, paint));
        return Ok(());
    }
    let mut command = child(&lease.command, &body);
    // Kept until the command has ended.
    let _folder = crate::cmd::ssh::equip(&mut command, &body)?;
    let ran = command.status().await;
    let back: Result<LeaseView, _> = holder.delete(&format!("/v1/leases/{}", body.lease.lease)).await;
    if let Err(error) = back {
        ctx.out.say(&format!(
            " {} was not given back ({}); it ends with its task or its time",
            body.lease.lease, error.code
        ));
    }
    let name = plain(lease.command.first().map_or("", String::as_str), 60);
    let failed = |what: String| Failure::failed("run.failed", what, "");
    let status = ran.map_err(|e| failed(format!("{name} could not be started: {e}")))?;
    if status.success() { Ok(()) } else { Err(failed(format!("{name} ended with {status}"))) }
}

/// What a person may read over a shoulder: everything but the secrets.
fn told(body: &LeaseBody, paint: Paint) -> String {
    let mut lines = vec![
        format!("{}  until {}", paint.bold(&body.lease.lease), moment(body.lease.until)),
        format!("can   {}", plain(&body.can, 300)),
    ];
    lines.extend(body.plain.iter().map(|(name, value)| format!("{name:<9} {}", plain(value, 200))));
    let secrets: Vec<&str> = body.secret.keys().map(String::as_str).collect();
    lines.push(format!(
        "{:<9} {}",
        secrets.join(", "),
        paint.dim("not shown; run a command with `-- COMMAND`, or ask for --json")
    ));
    lines.join("\n")
}

fn child(command: &[String], body: &LeaseBody) -> tokio::process::Command {
    let mut child = tokio::process::Command::new(command.first().map_or("", String::as_str));
    child.args(command.iter().skip(1)).env_remove("BAILIWICK_KEY");
    let all: BTreeMap<&str, &str> =
        body.plain.iter().chain(&body.secret).map(|(name, value)| (name.as_str(), value.as_str())).collect();
    for (variable, name) in &body.env {
        if let Some(value) = all.get(name.as_str()) {
            child.env(variable, value);
        }
    }
    child
}

/// Which task.
#[derive(Debug, Args)]
pub(crate) struct Receipt {
    /// The task
    task: TaskId,
}

/// What became of a task's credentials.
pub(crate) async fn receipt(ctx: &Ctx, receipt: Receipt) -> Done {
    let view = ctx.people()?.receipt(&receipt.task).await?;
    ctx.out.show(&view, |paint| shown(&view, paint));
    if view.agrees {
        return Ok(());
    }
    let what = format!("the receipt of {} does not agree with the evidence of its credentials", view.task);
    Err(Failure::new(
        Exit::NotVerified,
        "receipt.differs",
        what,
        "Verify the ledger with `bailiwick audit verify`.",
    ))
}

fn shown(view: &ReceiptView, paint: Paint) -> String {
    let standing = view.credentials.iter().filter(|c| c.standing).count();
    let head = match (&view.receipt, view.ended) {
        (Some(receipt), _) => {
            let given = view.given.map(moment).unwrap_or_default();
            let of: u64 = receipt.systems.iter().map(|s| s.credentials).sum();
            paint.green(&format!("nothing stands: {of} credentials were seen gone, recorded {given}"))
        }
        (None, true) if view.credentials.is_empty() => {
            paint.green("nothing stands: no credential was ever given out")
        }
        (None, true) => paint.red(&format!("no receipt yet: {standing} credentials stand")),
        (None, false) => format!("the task is open; {standing} credentials stand"),
    };
    let mut out = format!("{head}   looked {}", moment(view.at));
    if !view.credentials.is_empty() {
        let when = |at: Option<bailiwick_core::Time>| at.map_or_else(|| "-".to_owned(), moment);
        let row = |c: &LeaseView| {
            let used =
                if c.used.is_some() { format!("{} sessions", c.sessions) } else { "not seen".to_owned() };
            vec![
                c.system.clone(),
                c.name.clone(),
                state(c, paint),
                when(c.created),
                used,
                when(c.ended),
                proof(c),
            ]
        };
        let headings = ["system", "credential", "state", "created", "used", "seen gone", "by asking"];
        out = format!("{out}\n{}", table(paint, &headings, view.credentials.iter().map(row).collect()));
    }
    out
}

/// The last look, as it could be asked again.
fn proof(lease: &LeaseView) -> String {
    let look = lease.evidence.as_ref().and_then(|e| e.looks.last());
    look.map_or_else(|| "-".to_owned(), |l| plain(&format!("{} -> {}", l.query, l.answer), 400))
}

fn state(lease: &LeaseView, paint: Paint) -> String {
    match (lease.debt, lease.standing) {
        (true, _) => paint.red("DEBT"),
        (_, true) => paint.yellow(&lease.state),
        _ => paint.green(&lease.state),
    }
}

/// What stands anywhere.
pub(crate) async fn standing(ctx: &Ctx) -> Done {
    let standing = ctx.people()?.standing().await?;
    ctx.out.show(&standing, |paint| all(&standing, paint));
    Ok(())
}

fn all(s: &StandingView, paint: Paint) -> String {
    let head = match (s.tasks + s.grants + s.leases, s.debts) {
        (0, _) => paint.green("nothing stands"),
        (n, 0) => format!("{n} things stand"),
        (n, debts) => paint.red(&format!("{n} things stand, {debts} of them should be gone")),
    };
    let mut parts = vec![format!(
        "{head}  open tasks {}  live grants {}  credentials in targets {}  at {}",
        s.tasks,
        s.grants,
        s.leases,
        moment(s.at)
    )];
    if !s.credentials.is_empty() {
        let row = |c: &LeaseView| {
            let why = match (&c.trouble, &c.why) {
                (Some(trouble), _) => format!("{trouble}, {} attempts", c.attempts),
                (None, Some(why)) => why.clone(),
                (None, None) => format!("task {}", c.task),
            };
            vec![
                c.system.clone(),
                c.lease.clone(),
                c.name.clone(),
                state(c, paint),
                c.agent.to_string(),
                c.class.clone(),
                moment(c.until),
                plain(&why, 160),
            ]
        };
        let headings = ["system", "lease", "credential", "state", "agent", "class", "until", "why"];
        parts.push(table(paint, &headings, s.credentials.iter().map(row).collect()));
    }
    if !s.targets.is_empty() {
        let when = |at: Option<bailiwick_core::Time>| at.map_or_else(|| "not yet".to_owned(), moment);
        let row = |t: &bailiwick_api::wire::TargetView| {
            let of = s.credentials.iter().filter(|c| c.system == t.system.as_str()).count();
            let odd = match (t.strays.len(), t.lookalikes.len()) {
                (0, 0) => "none".to_owned(),
                (strays, alike) => format!("{strays} strays, {alike} lookalikes"),
            };
            let trouble = t.trouble.as_deref().map_or_else(|| "-".to_owned(), |x| plain(x, 120));
            vec![
                t.system.to_string(),
                t.kind.clone(),
                t.class.clone(),
                of.to_string(),
                odd,
                when(t.looked),
                when(t.swept),
                trouble,
            ]
        };
        let headings =
            ["target", "kind", "class", "stand", "not ours to stand", "looked", "swept", "trouble"];
        parts.push(table(paint, &headings, s.targets.iter().map(row).collect()));
    }
    parts.join("\n")
}

/// A debt to be acknowledged.
#[derive(Debug, Args)]
pub(crate) struct Acknowledge {
    /// The lease
    lease: LeaseId,
    /// Why it stands
    #[arg(long)]
    reason: String,
}

/// Notes that a person knows. The debt stands all the same.
pub(crate) async fn acknowledge(ctx: &Ctx, ack: Acknowledge) -> Done {
    let view = ctx.people()?.acknowledge(&ack.lease, &Reason { reason: ack.reason }).await?;
    ctx.out.show(&view, |paint| {
        format!("{} stands in {}, and is tried again; acknowledged", paint.bold(&view.lease), view.system)
    });
    Ok(())
}

/// Targets: what prepares them.
#[derive(Debug, Subcommand)]
pub(crate) enum TargetCmd {
    /// Print the statements that prepare a target for its scopes
    Setup {
        /// The target
        system: SystemId,
        /// Run them with our own connection
        #[arg(long)]
        apply: bool,
    },
}

pub(crate) async fn target(ctx: &Ctx, command: TargetCmd) -> Done {
    let TargetCmd::Setup { system, apply } = command;
    let config = ctx.config(if apply { Secrets::Fetch } else { Secrets::Leave })?;
    let target = config.targets.iter().find(|t| *t.system() == system).ok_or_else(|| {
        Failure::usage(format!("no target is called {system}"), "See `targets` in the configuration.")
    })?;
    let refused = |e: bailiwick_broker::BrokerError| Failure::failed(e.code(), e.to_string(), "");
    match target {
        Target::Postgres { config: stated, .. } => {
            let maker = bailiwick_broker::mark::Maker::new(&ctx.keys()?.maker_seed()?);
            let connector =
                bailiwick_broker::postgres::Postgres::new(stated.clone(), maker).map_err(refused)?;
            if apply {
                connector.set_up().await.map_err(refused)?;
                ctx.out.say(&format!(" {system} is prepared for {} scopes", stated.scopes.len()));
            } else {
                ctx.out.print(connector.setup().map_err(refused)?.trim_end());
            }
        }
        Target::Redis(_) => ctx.out.say(&format!(" {system} needs no preparation")),
        Target::Ssh(stated) => {
            if apply {
                let next =
                    format!("Run `bailiwick target setup {system}` and put what it prints on the host.");
                return Err(Failure::usage("an SSH host is prepared by its own administrator", next));
            }
            let config = ctx.config(Secrets::Fetch)?;
            let server = config.external_url.unwrap_or_else(|| format!("http://{}", config.listen));
            let fetched = config.targets.iter().find_map(|t| match t {
                Target::Ssh(t) if t.config.system == stated.config.system => Some(t),
                _ => None,
            });
            let stated = fetched.unwrap_or(stated);
            let maker = bailiwick_broker::mark::Maker::new(&[0; 32]);
            let ssh = bailiwick_broker::ssh::Ssh::new(stated.config.clone(), maker).map_err(refused)?;
            ctx.out.print(crate::cmd::ssh::setup(&system, &server, &ssh.authority()).trim_end());
        }
    }
    Ok(())
}
