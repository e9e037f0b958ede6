//! `bailiwick up`: one node, until it is told to stop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use crate::config::{Secrets, Store};
use crate::ctx::{Ctx, URL_FILE};
use crate::fail::{Done, Failure};
use crate::keys::Keys;
use crate::serve::Node;

/// How long tool servers are waited for before the node says which are missing.
const TOOLS_WITHIN: Duration = Duration::from_secs(10);

/// Starts a node.
#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Address and port to listen on, instead of the configuration's
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Folder of keys and of the embedded store, instead of the configuration's
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// File outside the data folder that keeps the ledger's newest head, instead of the configuration's
    #[arg(long, value_name = "FILE")]
    ledger_head: Option<PathBuf>,
    /// For tests: an operator may move the clock, over POST /v1/test-clock
    #[arg(long, hide = true)]
    test_clock: bool,
}

pub(crate) async fn run(ctx: &Ctx, up: Up) -> Done {
    let mut config = ctx.config(Secrets::Fetch)?;
    config.listen = up.listen.unwrap_or(config.listen);
    config.data = up.data.unwrap_or(config.data);
    config.head = up.ledger_head.or(config.head);
    let clock = up.test_clock.then(Arc::default);
    let (data, tools) = (config.data.clone(), config.tools.len());
    let store = match config.store {
        Store::Embedded => format!("embedded ({})", data.display()),
        Store::Postgres(_) => "postgres".to_owned(),
    };
    let node = ctx.out.wait("opening the log", Node::start(config, clock)).await?;
    let url_file = data.join(URL_FILE);
    std::fs::write(&url_file, format!("{}\n", node.url)).map_err(|e| Failure::file(&url_file, &e))?;
    if up.test_clock {
        let loud = "TEST CLOCK: an operator can move this node's time. Nothing real may depend on it.";
        ctx.out.say(&format!(" {}", ctx.out.talk.red(loud)));
        tracing::warn!("{loud}");
    }
    greet(ctx, &node, &store, &data);
    if tools > 0 {
        for tool in ctx.out.wait("waiting for the tool servers", node.ready(TOOLS_WITHIN)).await {
            ctx.out.say(&format!(
                " {} {tool} is not offered by its server yet; calls to it are refused",
                ctx.out.talk.yellow("waits")
            ));
        }
    }
    asked_to_stop().await;
    ctx.out.say("stopping: no new requests, those under way may finish");
    node.stop().await;
    let _ = std::fs::remove_file(&url_file);
    Ok(())
}

fn greet(ctx: &Ctx, node: &Node, store: &str, data: &std::path::Path) {
    let (say, paint) = (|text: String| ctx.out.say(&text), ctx.out.talk);
    say(format!(" {}   {store}      {}    enforce", paint.bold("store"), paint.bold("mode")));
    say(format!(" {} {}/mcp  {} {}", paint.bold("gateway"), node.url, paint.bold("api"), node.url));
    let path = Keys::of(data).person_path(&node.operator.id);
    let made = if node.operator.is_new { "key made at" } else { "key at" };
    say(format!(" {}    {}, {made} {}", paint.bold("you"), node.operator.id, path.display()));
    say(format!(" {}    bailiwick status", paint.bold("next")));
}

#[cfg(unix)]
pub(super) async fn asked_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

#[cfg(not(unix))]
pub(super) async fn asked_to_stop() {
    let _ = tokio::signal::ctrl_c().await;
}
