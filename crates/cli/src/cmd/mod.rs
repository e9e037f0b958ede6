//! One file per noun. A command asks the server, and prints.

pub(crate) mod agency;
pub(crate) mod agent;
pub(crate) mod approval;
pub(crate) mod audit;
pub(crate) mod bench;
pub(crate) mod config;
pub(crate) mod halt;
pub(crate) mod lease;
pub(crate) mod ledger;
pub(crate) mod person;
pub(crate) mod policy;
pub(crate) mod run;
pub(crate) mod ssh;
pub(crate) mod status;
pub(crate) mod task;
pub(crate) mod template;
pub(crate) mod tool;
pub(crate) mod up;
pub(crate) mod why;

use bailiwick_api::wire::{HaltKind, TaskSummary};

use clap::CommandFactory;

use crate::cli::{Cli, Command};
use crate::ctx::Ctx;
use crate::demo;
use crate::fail::{Done, Failure};

/// Runs a command until it is done or Ctrl-C is pressed.
pub(crate) async fn run(ctx: &Ctx, command: Command) -> Done {
    match command {
        // These stop by themselves when they are told to.
        Command::Up(up) => up::run(ctx, up).await,
        other => tokio::select! {
            biased; // the interrupt is listened for before the first word is said
            _ = tokio::signal::ctrl_c() => Err(Failure::interrupted()),
            done = dispatch(ctx, other) => done,
        },
    }
}

async fn dispatch(ctx: &Ctx, command: Command) -> Done {
    match command {
        Command::Up(up) => up::run(ctx, up).await,
        Command::Status => status::status(ctx).await,
        Command::Standing => lease::standing(ctx).await,
        Command::Lease(ask) => lease::lease(ctx, ask).await,
        Command::Ssh(command) => ssh::run(ctx, command).await,
        Command::Receipt(which) => lease::receipt(ctx, which).await,
        Command::Acknowledge(ack) => lease::acknowledge(ctx, ack).await,
        Command::Target(target) => lease::target(ctx, target).await,
        Command::Agent(agent) => agent::run(ctx, agent).await,
        Command::Person(person) => person::run(ctx, person).await,
        Command::Task(task) => task::run(ctx, task).await,
        Command::Freeze(halt) => halt::halt(ctx, halt, HaltKind::Frozen).await,
        Command::Kill(halt) => halt::halt(ctx, halt, HaltKind::Killed).await,
        Command::Resume(halt) => halt::lift(ctx, halt).await,
        Command::Demo(demo) => demo::run(ctx, demo).await,
        Command::Why(which) => why::why(ctx, which).await,
        Command::Trace(which) => why::trace(ctx, which).await,
        Command::Audit(audit) => audit::run(ctx, audit).await,
        Command::Ledger(ledger) => ledger::run(ctx, ledger).await,
        Command::DemoServer(server) => demo::server::run(&server),
        Command::Tool(tool) => tool::run(ctx, tool).await,
        Command::Connect(connect) => agency::connect(ctx, connect).await,
        Command::Call(call) => agency::call(ctx, call).await,
        Command::Run(run) => run::run(ctx, run).await,
        Command::Handoff(handoff) => agency::handoff(ctx, handoff).await,
        Command::Amend(amend) => agency::amend(ctx, amend).await,
        Command::Approvals(approvals) => approval::approvals(ctx, approvals).await,
        Command::Approve(approve) => approval::approve(ctx, approve).await,
        Command::Narrow(narrow) => approval::narrow(ctx, narrow).await,
        Command::Deny(deny) => approval::deny(ctx, deny).await,
        Command::Policy(policy) => policy::run(ctx, policy).await,
        Command::Bench(bench) => bench::run(ctx, bench).await,
        Command::Config(config) => config::run(ctx, config),
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "bailiwick", &mut std::io::stdout());
            Ok(())
        }
        Command::Version => {
            let version = serde_json::json!({"version": env!("CARGO_PKG_VERSION")});
            ctx.out.show(&version, |_| format!("bailiwick {}", env!("CARGO_PKG_VERSION")));
            Ok(())
        }
    }
}

/// A task's state in one word or two.
pub(crate) fn state_of(task: &TaskSummary) -> String {
    task.cause.as_ref().map_or_else(|| task.state.clone(), |cause| format!("{} ({cause})", task.state))
}

/// Asks before something that cannot be taken back. Without a terminal, only `--yes` will do.
pub(crate) fn confirm(yes: bool, question: &str) -> Done {
    use std::io::{BufRead, IsTerminal, Write};
    if yes {
        return Ok(());
    }
    let (stdin, mut stderr) = (std::io::stdin(), std::io::stderr());
    if !stdin.is_terminal() || !stderr.is_terminal() {
        return Err(Failure::usage("this needs a yes", "Add --yes."));
    }
    let _ = write!(stderr, "{question} [y/N] ");
    let _ = stderr.flush();
    let mut answer = String::new();
    let _ = stdin.lock().read_line(&mut answer);
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(Failure::interrupted()) }
}
