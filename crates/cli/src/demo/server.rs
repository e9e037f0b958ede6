//! `bailiwick demo-server`: a tool server as anybody would write one, on standard streams, in both generations of
//! MCP. It knows nothing of bailiwick. Whoever has its key may call everything.

use std::io::{BufRead, Write};
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value as Json, json};

use super::world::{self, State, System};
use crate::fail::{Done, Failure};

/// The variable that holds the system's key.
pub(crate) const KEY_VARIABLE: &str = "DEMO_KEY";
const MODERN: &str = "2026-07-28";
const LEGACY: &str = "2025-11-25";

/// Serves one of the demo's systems.
#[derive(Debug, Args)]
pub(crate) struct DemoServer {
    /// Which
    #[arg(value_enum)]
    system: System,
    /// The file that holds its state
    #[arg(long)]
    state: PathBuf,
}

/// Answers one message per line until the stream ends.
pub(crate) fn run(server: &DemoServer) -> Done {
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|e| Failure::failed("stream.broken", e.to_string(), ""))?;
        let Ok(message) = serde_json::from_str::<Json>(&line) else { continue };
        let Some(answer) = answer(server, &message) else { continue };
        if writeln!(out, "{answer}").and_then(|()| out.flush()).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// The answer to a request; nothing to a notification.
fn answer(server: &DemoServer, message: &Json) -> Option<Json> {
    let id = message.get("id").filter(|id| !id.is_null())?;
    let params = &message["params"];
    let modern = params["_meta"]["io.modelcontextprotocol/protocolVersion"] == MODERN;
    let result = match message["method"].as_str()? {
        "initialize" => {
            Ok(json!({"protocolVersion": LEGACY, "capabilities": {"tools": {}}, "serverInfo": info(server)}))
        }
        "server/discover" if modern => Ok(
            json!({"supportedVersions": [MODERN, LEGACY], "capabilities": {"tools": {}}, "ttlMs": 60_000, "cacheScope": "private"}),
        ),
        "ping" => Ok(json!({})),
        "tools/list" if modern => {
            Ok(json!({"tools": world::definitions(server.system), "ttlMs": 60_000, "cacheScope": "private"}))
        }
        "tools/list" => Ok(json!({"tools": world::definitions(server.system)})),
        "tools/call" => Ok(call(server, params)),
        _ => Err(json!({"code": -32601, "message": "no such method"})),
    };
    Some(match result {
        Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": finished(server, result, modern)}),
        Err(error) => json!({"jsonrpc": "2.0", "id": id, "error": error}),
    })
}

/// What every result of the stateless generation carries.
fn finished(server: &DemoServer, mut result: Json, modern: bool) -> Json {
    if modern {
        result["resultType"] = json!("complete");
        result["_meta"] = json!({"io.modelcontextprotocol/serverInfo": info(server)});
    }
    result
}

fn info(server: &DemoServer) -> Json {
    json!({"name": format!("demo-{}", server.system.name()), "version": env!("CARGO_PKG_VERSION")})
}

fn call(server: &DemoServer, params: &Json) -> Json {
    match effect(server, params) {
        Ok(result) => json!({
            "content": [{"type": "text", "text": result.to_string()}], "structuredContent": result, "isError": false,
        }),
        Err(error) => json!({"content": [{"type": "text", "text": error.to_string()}], "isError": true}),
    }
}

fn effect(server: &DemoServer, params: &Json) -> anyhow::Result<Json> {
    let mut state = State::read(&server.state)?;
    let shown = std::env::var(KEY_VARIABLE).unwrap_or_default();
    anyhow::ensure!(!shown.is_empty() && shown == state.key, "the key is wrong");
    let result = world::call(&mut state, params["name"].as_str().unwrap_or(""), &params["arguments"])?;
    state.write(&server.state)?;
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_greets_both_generations_and_calls_nothing_without_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("cloud.json");
        State::new(System::Cloud, "the key").write(&state).unwrap();
        let server = DemoServer { system: System::Cloud, state: state.clone() };
        let ask = |method: &str, params: Json| {
            answer(&server, &json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})).unwrap()
        };
        let meta = json!({"_meta": {"io.modelcontextprotocol/protocolVersion": MODERN}});
        assert_eq!(ask("initialize", json!({}))["result"]["protocolVersion"], LEGACY);
        assert_eq!(ask("server/discover", meta.clone())["result"]["supportedVersions"][0], MODERN);
        assert_eq!(ask("tools/list", meta)["result"]["resultType"], "complete");
        assert_eq!(ask("tools/list", json!({}))["result"]["tools"].as_array().unwrap().len(), 5);
        assert_eq!(ask("nonsense", json!({}))["error"]["code"], -32601);
        assert!(answer(&server, &json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).is_none());
        let deleted = ask("tools/call", json!({"name": "vm.delete", "arguments": {"name": "db-1"}}));
        assert_eq!(deleted["result"]["isError"], true);
        assert!(State::read(&state).unwrap().vms.contains_key("db-1"));
    }
}
