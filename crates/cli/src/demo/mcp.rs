//! The MCP client of an unguarded agent: it starts the tool server itself and talks to its standard streams.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value as Json, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::server::KEY_VARIABLE;
use crate::gate::{Called, names, result};

const LEGACY: &str = "2025-11-25";
/// How long one answer may take.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// A tool server started by the agent itself, with a standing key: how it is done where nobody guards.
pub(crate) struct Direct {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    next: u64,
}

impl Direct {
    /// Starts the server and greets it.
    pub(crate) async fn start(
        program: &std::path::Path,
        args: &[String],
        key: &str,
    ) -> anyhow::Result<Direct> {
        let mut child = Command::new(program)
            .args(args)
            .env(KEY_VARIABLE, key)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("starting a tool server")?;
        let input = child.stdin.take().context("no input")?;
        let output = BufReader::new(child.stdout.take().context("no output")?).lines();
        let mut direct = Direct { child, input, output, next: 0 };
        let hello = json!({"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "demo", "version": "1"}});
        direct.ask("initialize", hello).await?;
        direct.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await?;
        Ok(direct)
    }

    /// The names of its tools.
    pub(crate) async fn tools(&mut self) -> anyhow::Result<Vec<String>> {
        Ok(names(&self.ask("tools/list", json!({})).await?))
    }

    /// Calls a tool.
    pub(crate) async fn call(&mut self, tool: &str, args: Json) -> anyhow::Result<Called> {
        Ok(Called { result: self.ask("tools/call", json!({"name": tool, "arguments": args})).await? })
    }

    /// Lets the server go.
    pub(crate) async fn stop(mut self) {
        drop(self.input);
        let _ = tokio::time::timeout(Duration::from_secs(2), self.child.wait()).await;
    }

    async fn send(&mut self, message: &Json) -> anyhow::Result<()> {
        self.input.write_all(format!("{message}\n").as_bytes()).await?;
        Ok(self.input.flush().await?)
    }

    async fn ask(&mut self, method: &str, params: Json) -> anyhow::Result<Json> {
        self.next += 1;
        let id = self.next;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})).await?;
        loop {
            let line = tokio::time::timeout(ANSWER_WITHIN, self.output.next_line()).await??;
            let answer: Json = serde_json::from_str(&line.context("the tool server is gone")?)?;
            if answer["id"] == id {
                return result(answer);
            }
        }
    }
}
