//! `ledger keep-head|accept-loss`: the ledger of a stopped node, and the head that is kept outside its folder.
//!
//! These work beside the data folder and not through the server: the server is what does not start.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::config::Secrets;
use crate::ctx::Ctx;
use crate::fail::Done;
use crate::out::several;

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Ledger {
    /// Keep a first head of a ledger that is in use already. Once, when `ledger.head` is set
    KeepHead,
    /// The newest copy is gone for good: kill all that this older one holds open, record it, and keep its head from now on
    AcceptLoss(AcceptLoss),
}

/// Accepts a loss.
#[derive(Debug, Args)]
pub(crate) struct AcceptLoss {
    /// Why; it is recorded
    #[arg(long)]
    reason: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub(crate) async fn run(ctx: &Ctx, ledger: Ledger) -> Done {
    let config = ctx.config(Secrets::Fetch)?;
    match ledger {
        Ledger::KeepHead => {
            let size = crate::serve::keep_first_head(&config).await?;
            let kept = json!({ "size": size, "head": config.head });
            ctx.out.show(&kept, |paint| format!("{} the head of {size} events", paint.green("kept")));
        }
        Ledger::AcceptLoss(accept) => {
            let question =
                "Everything since this copy was made is lost, and all that it holds open is killed. Go on?";
            super::confirm(accept.yes, question)?;
            let halted = crate::serve::accept_loss(&config, &accept.reason).await?;
            let done = json!({ "killed": halted.tasks, "standing": halted.standing });
            ctx.out.show(&done, |paint| {
                format!(
                    "{} {}, {} to be revoked at the start\nnothing is allowed until: bailiwick resume all --reason \"...\"",
                    paint.bold("killed"),
                    several(halted.tasks.len(), "task"),
                    several(usize::try_from(halted.standing).unwrap_or(usize::MAX), "credential"),
                )
            });
        }
    }
    Ok(())
}
