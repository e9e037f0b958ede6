//! `bench`: what it costs on this machine, as ratios to the least it could cost and to others.

use clap::Args;

use crate::bench::{self, Effort};
use crate::ctx::Ctx;
use crate::fail::{Done, Failure};

/// How to measure.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// Fewer rounds: a look, not figures to write down
    #[arg(long)]
    quick: bool,
    /// Measure only this part
    #[arg(long, value_name = "PART", value_parser = bench::PARTS)]
    only: Option<String>,
}

/// Measures in a temporary folder and prints floor, peer and product side by side. A missed goal is a figure, not
/// a failure.
pub(crate) async fn run(ctx: &Ctx, asked: Bench) -> Done {
    let trouble =
        |what: String| Failure::failed("bench.failed", what, "Look at what it says; nothing was kept.");
    let folder = tempfile::tempdir().map_err(|e| trouble(format!("no temporary folder: {e}")))?;
    let (path, out) = (folder.path().to_owned(), ctx.out);
    let effort = if asked.quick { Effort::QUICK } else { Effort::FULL };
    let (done, measured) = tokio::sync::oneshot::channel();
    // A thread of its own, because the measures bring runtimes of their own; it ends with the process.
    let measuring = move || {
        let mut told = |lines: &[bench::Line]| {
            if out.is_table() {
                lines.iter().for_each(|line| out.print(&line.to_string()));
            }
        };
        let _nobody_waits = done.send(bench::run(effort, asked.only.as_deref(), &path, &mut told));
    };
    let spawned = std::thread::Builder::new().name("bench".to_owned()).spawn(measuring);
    spawned.map_err(|e| trouble(format!("no thread: {e}")))?;
    if ctx.out.is_table() {
        ctx.out.say("measuring; let the machine rest meanwhile\n");
    }
    let report = measured.await.map_err(|_| trouble("the measuring thread is gone".to_owned()))?;
    let report = report.map_err(|e| trouble(format!("{e:#}")))?;
    ctx.out.show(&report, |_| report.closing());
    Ok(())
}
