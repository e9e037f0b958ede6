//! `config check|schema`: whether the file is right, and what editors need to know of it.

use clap::Subcommand;
use serde_json::json;

use crate::config::{FILE_NAME, SCHEMA, Secrets};
use crate::ctx::Ctx;
use crate::fail::Done;
use crate::out::several;

/// What can be done with the configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCmd {
    /// Read the configuration and say what is wrong with it
    Check {
        /// Also fetch every secret it refers to
        #[arg(long)]
        secrets: bool,
    },
    /// Print its JSON Schema
    Schema,
}

pub(crate) fn run(ctx: &Ctx, command: ConfigCmd) -> Done {
    match command {
        ConfigCmd::Schema => {
            ctx.out.print(SCHEMA.trim_end());
            Ok(())
        }
        ConfigCmd::Check { secrets } => check(ctx, if secrets { Secrets::Fetch } else { Secrets::Leave }),
    }
}

fn check(ctx: &Ctx, secrets: Secrets) -> Done {
    let config = ctx.config(secrets)?;
    let file = ctx.config_path().map_or_else(|| FILE_NAME.to_owned(), |p| p.display().to_string());
    let found = json!({
        "file": file, "ok": true, "people": config.people.len(), "agents": config.agents.len(),
        "systems": config.systems.len(), "tools": config.tools.len(),
        "policies": config.policies.as_ref().map(Vec::len),
    });
    ctx.out.show(&found, |paint| {
        format!(
            "{} {file}   {} people, {}, {}, {}, policies: {}",
            paint.green("ok"),
            config.people.len(),
            several(config.agents.len(), "agent"),
            several(config.systems.len(), "system"),
            several(config.tools.len(), "tool"),
            config.policies.as_ref().map_or("the defaults".to_owned(), |p| several(p.len(), "file"))
        )
    });
    Ok(())
}
