//! `bailiwick demo`: the same agents and the same poisoned ticket, first unguarded, then behind the real gateway,
//! with real tokens, real policies and a real ledger. No network, no model, no key.
//!
//! The agents are scripted and believe everything they read. The two systems are separate processes of this
//! program ([`server`]); what was done is read from their state files and from the record, never assumed.

mod guarded;
mod mcp;
pub(crate) mod server;
mod story;
mod unguarded;
mod verdict;
mod world;

use std::path::{Path, PathBuf};

use clap::Args;

use self::story::Story;
use self::verdict::{Report, shortfalls};
use self::world::{State, System, TICKET};
use crate::ctx::Ctx;
use crate::fail::{Done, Exit, Failure};

/// Plays the demo.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Keep the folder with the state files, the ledger and the evidence
    #[arg(long)]
    keep: bool,
}

/// Where the demo is played.
struct Stage {
    root: tempfile::TempDir,
    program: PathBuf,
    tickets_key: String,
    cloud_key: String,
}

impl Stage {
    fn build() -> anyhow::Result<Stage> {
        Ok(Stage {
            root: tempfile::Builder::new().prefix("bailiwick-demo-").tempdir()?,
            program: std::env::current_exe()?,
            tickets_key: format!("tickets-key-{}", bailiwick_token::random_id()?),
            cloud_key: format!("cloud-key-{}", bailiwick_token::random_id()?),
        })
    }

    fn folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.root.path().join(name);
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Founds a system's state in a folder.
    fn found(&self, folder: &Path, system: System) -> anyhow::Result<PathBuf> {
        let path = folder.join(format!("{}.json", system.name()));
        State::new(system, self.key(system)).write(&path)?;
        Ok(path)
    }

    fn key(&self, system: System) -> &str {
        match system {
            System::Tickets => &self.tickets_key,
            System::Cloud => &self.cloud_key,
        }
    }

    fn server_args(&self, system: System, state: &Path) -> Vec<String> {
        let state = state.to_string_lossy().into_owned();
        ["demo-server", system.name(), "--state", &state].map(str::to_owned).to_vec()
    }
}

/// Whether a machine was restarted, once, and runs.
fn restarted(cloud: &State, name: &str) -> bool {
    cloud.vms.get(name).is_some_and(|vm| vm.restarts == 1 && vm.state == "running")
}

/// Whether the customer was told.
fn commented(tickets: &State) -> bool {
    tickets.tickets.get(&TICKET.to_string()).is_some_and(|t| t.comments.len() == 1)
}

pub(crate) async fn run(ctx: &Ctx, demo: Demo) -> Done {
    let stage = Stage::build().map_err(broken)?;
    let story = Story::new(ctx.out);
    let played = play(&stage, &story).await;
    if demo.keep {
        let kept = stage.root.keep();
        ctx.out.say(&format!("kept: {}", kept.display()));
    }
    let report = played.map_err(broken)?;
    let missing = shortfalls(&report);
    ctx.out.show(&report, |paint| {
        let [before, after] = report.rounds.as_slice() else { return String::new() };
        let verdict = if missing.is_empty() {
            paint.green("as it should be")
        } else {
            paint.red("not as it should be")
        };
        format!(
            "\n        {} before {}, now {}.  {verdict}\n        Try it on your own agents: {}",
            paint.bold("Standing privileges:"),
            paint.red(&before.standing_after.to_string()),
            paint.green(&after.standing_after.to_string()),
            paint.bold("bailiwick up")
        )
    });
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Failed,
        "demo.failed",
        missing.join("; "),
        "Run it again with --keep and look at the folder.",
    ))
}

async fn play(stage: &Stage, story: &Story) -> anyhow::Result<Report> {
    let before = unguarded::play(stage, story).await?;
    let (after, audit) = guarded::play(stage, story).await?;
    Ok(Report { rounds: vec![before, after], audit })
}

fn broken(error: anyhow::Error) -> Failure {
    Failure::failed("demo.broken", format!("the demo could not be played: {error:#}"), "")
}
