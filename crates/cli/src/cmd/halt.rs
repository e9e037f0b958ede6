//! `freeze`, `kill` and `resume`: one agent, a class, a task, an initiator, tools, or everything.

use bailiwick_api::wire::{HaltAsk, HaltKind, LiftAsk, ScopeKind};
use clap::{Args, ValueEnum};

use super::agent::toll;
use crate::ctx::Ctx;
use crate::fail::{Done, Failure};
use crate::out::several;

/// What it is aimed at.
#[derive(Debug, Args)]
pub(crate) struct Halt {
    /// What kind of thing
    #[arg(value_enum)]
    scope: Scope,
    /// Which one; left out for `all`
    name: Option<String>,
    /// Why; it is recorded and shown
    #[arg(long)]
    reason: String,
    /// Do not ask before stopping everything
    #[arg(long)]
    yes: bool,
}

/// The kinds of things that can be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scope {
    /// One agent
    Agent,
    /// All agents of a class
    Class,
    /// One task
    Task,
    /// All tasks of a person or workflow
    Initiator,
    /// Tools, by pattern such as `mail.*`
    Tool,
    /// Everything
    All,
}

impl From<Scope> for ScopeKind {
    fn from(scope: Scope) -> ScopeKind {
        match scope {
            Scope::Agent => ScopeKind::Agent,
            Scope::Class => ScopeKind::Class,
            Scope::Task => ScopeKind::Task,
            Scope::Initiator => ScopeKind::Initiator,
            Scope::Tool => ScopeKind::Tool,
            Scope::All => ScopeKind::All,
        }
    }
}

impl Halt {
    fn name(&self) -> Result<String, Failure> {
        match (self.scope, &self.name) {
            (Scope::All, None) => Ok(String::new()),
            (Scope::All, Some(_)) => Err(Failure::usage("`all` takes no name", "Leave the name out.")),
            (_, Some(name)) => Ok(name.clone()),
            (_, None) => Err(Failure::usage("which one?", "Name it after its kind, as in `kill task t-…`.")),
        }
    }
}

pub(crate) async fn halt(ctx: &Ctx, halt: Halt, kind: HaltKind) -> Done {
    let name = halt.name()?;
    if halt.scope == Scope::All {
        super::confirm(halt.yes, "Stop everything, for everybody?")?;
    }
    let ask = HaltAsk { scope: halt.scope.into(), name, halt: kind, reason: halt.reason };
    let people = ctx.people()?;
    let began = std::time::Instant::now();
    let halted = ctx.out.wait("stopping", people.halt(&ask)).await?;
    let took = began.elapsed().as_secs_f64();
    ctx.out.show(&halted, |paint| match kind {
        HaltKind::Killed => format!("{}   {took:.1} s", toll(&halted, paint)),
        HaltKind::Frozen => {
            let tasks = several(halted.tasks.len(), "task");
            format!("{tasks} frozen; `bailiwick resume` lets what is frozen go on   {took:.1} s")
        }
    });
    Ok(())
}

pub(crate) async fn lift(ctx: &Ctx, halt: Halt) -> Done {
    let ask = LiftAsk { scope: halt.scope.into(), name: halt.name()?, reason: halt.reason };
    ctx.people()?.lift(&ask).await?;
    ctx.out.show(&serde_json::json!({"lifted": true}), |_| "lifted; what ended stays ended".to_owned());
    Ok(())
}
