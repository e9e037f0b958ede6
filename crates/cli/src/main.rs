//! The binary `bailiwick`: commands and configuration come together here.
//!
//! Data goes to standard output, talk to standard error; exit codes are those of [`fail::Exit`]. Each noun has a
//! file under `cmd`, which talks to the server through the client of the HTTP API and never to the engine; only
//! [`serve`] knows all parts.

mod bench;
mod cli;
mod cmd;
mod config;
mod ctx;
mod demo;
mod door;
mod fail;
mod gate;
mod holder;
mod keys;
mod lender;
mod out;
mod serve;
mod template;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;
use crate::ctx::Ctx;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    keep_to_ourselves();
    let cli = Cli::parse();
    let ctx = Ctx::new(&cli.globals);
    ctx.start_logging(cli.command.is_server());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            ctx.out.say(&format!("error: the machine gives no threads: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let code = match runtime.block_on(cmd::run(&ctx, cli.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            ctx.out.complain(&failure);
            failure.exit_code()
        }
    };
    // What still waits for standard input is not waited for.
    runtime.shutdown_background();
    code
}

/// Other processes of the same user may not read this one's memory, nor the environment it was started with: an agent
/// beside it would find keys there. What is started from here is not touched.
fn keep_to_ourselves() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
    {
        tracing::debug!(%error, "this system lets processes of one user read each other");
    }
}
