//! The tree of commands, as `--help` shows it.

use std::path::PathBuf;

use bailiwick_core::PrincipalId;
use clap::{Args, Parser, Subcommand};

use crate::cmd;
use crate::demo;
use crate::out::Format;

/// Runtime privilege control for AI agents: every tool call and every handoff is decided when it happens,
/// recorded before it happens, and revoked when the task is over.
#[derive(Debug, Parser)]
#[command(name = "bailiwick", version, propagate_version = true, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 done · 1 failed · 2 usage · 3 denied · 4 approval pending or expired · \
                        5 not signed in · 6 server unreachable · 7 ledger does not verify · 130 interrupted"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
pub(crate) struct Globals {
    /// The configuration file [default: bailiwick.yaml, if it is there]
    #[arg(long, global = true, value_name = "FILE", env = "BAILIWICK_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// The server [default: the one of the configuration]
    #[arg(long, global = true, value_name = "URL", env = "BAILIWICK_URL")]
    pub(crate) server: Option<String>,
    /// Sign in as this person, with the key in the data folder
    #[arg(long = "as", global = true, value_name = "WHO")]
    pub(crate) who: Option<PrincipalId>,
    /// How data is printed
    #[arg(short, long, global = true, value_enum, default_value_t, value_name = "FORM")]
    pub(crate) output: Format,
    /// The same as `-o json`
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a node: store, HTTP API and gateway in one process
    Up(cmd::up::Up),
    /// The control plane at a glance
    Status,
    /// What stands anywhere right now: tasks, grants, credentials, and those that should be gone
    Standing,
    /// Agents: register, list, look at, retire
    #[command(subcommand)]
    Agent(cmd::agent::Agent),
    /// People and workflows: register, list
    #[command(subcommand)]
    Person(cmd::person::Person),
    /// Tasks: open, list, look at, watch, end
    #[command(subcommand)]
    Task(cmd::task::Task),
    /// Tools: list, look at, propose a manifest, classify
    #[command(subcommand)]
    Tool(cmd::tool::Tool),
    /// Connect a stock MCP client: it starts this as its tool server
    Connect(cmd::agency::Connect),
    /// Call one tool as an agent, to try things out
    Call(cmd::agency::Call),
    /// Run a command as an agent: with its tools and APIs, and without a key
    Run(cmd::run::Run),
    /// Ask for a credential as an agent, and run a command with it
    Lease(cmd::lease::Lease),
    /// SSH: what a host runs to ask whom to let in, and what `ssh` runs to reach a host
    #[command(subcommand)]
    Ssh(cmd::ssh::Ssh),
    /// What became of a task's credentials: created, used, seen gone
    Receipt(cmd::lease::Receipt),
    /// Note that you know of a credential that should be gone; it stands all the same
    Acknowledge(cmd::lease::Acknowledge),
    /// Targets of credentials: prepare them
    #[command(subcommand)]
    Target(cmd::lease::TargetCmd),
    /// Hand part of an agent's authority to another agent
    Handoff(cmd::agency::Handoff),
    /// Ask for more than the task foresees, as an agent; people decide
    Amend(cmd::agency::Amend),
    /// Questions that wait for people: list, look at, watch
    Approvals(cmd::approval::Approvals),
    /// Say yes, once, to exactly this
    Approve(cmd::approval::Approve),
    /// Say yes to something smaller
    Narrow(cmd::approval::Narrow),
    /// Say no, with a reason
    Deny(cmd::approval::Deny),
    /// Policies: check, test, explain, apply
    #[command(subcommand)]
    Policy(cmd::policy::Policy),
    /// Freeze an agent, class, task, initiator, tool or everything
    Freeze(cmd::halt::Halt),
    /// Kill: what runs under it ends now, everywhere
    Kill(cmd::halt::Halt),
    /// Lift a freeze or a kill; what ended stays ended
    Resume(cmd::halt::Halt),
    /// A poisoned ticket, first unguarded, then behind bailiwick
    Demo(demo::Demo),
    /// Why a call or handoff was decided as it was
    Why(cmd::why::Which),
    /// From a decision back to the human intent; with --data, what data moved where in a task
    Trace(cmd::why::Traced),
    /// The ledger: export it, verify it
    #[command(subcommand)]
    Audit(cmd::audit::Audit),
    /// A stopped node's ledger and the head kept outside: begin to keep one, accept a loss
    #[command(subcommand)]
    Ledger(cmd::ledger::Ledger),
    /// What it costs on this machine, beside the least it could cost and beside others
    Bench(cmd::bench::Bench),
    /// One of the demo's tool servers
    #[command(hide = true)]
    DemoServer(demo::server::DemoServer),
    /// The configuration: check it, or print its JSON Schema
    #[command(subcommand)]
    Config(cmd::config::ConfigCmd),
    /// Print completions for a shell
    Completion {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the version
    Version,
}

impl Command {
    /// Whether this runs until it is stopped, and so says more.
    pub(crate) fn is_server(&self) -> bool {
        matches!(self, Command::Up(_))
    }
}
