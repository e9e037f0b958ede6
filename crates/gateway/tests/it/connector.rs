//! A stock client behind the connector, in front of a real gateway.

use crate::support::{LONG, NameDoor, Scripted, World, child, listen, serve_at, tool};
use bailiwick_gateway::{ConnectConfig, Proof, Prover, Secret, connect};
use serde_json::{Value as Json, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, Lines, ReadHalf, WriteHalf};
use tokio::time::timeout;

/// Shows a token that is not taken until it has been renewed so many times.
struct Renewing {
    until: u32,
    renewed: Arc<AtomicU32>,
}

impl Prover for Renewing {
    async fn prove(&self, _: &str, _: &str, _: Option<&str>) -> Result<Proof, String> {
        let good = self.renewed.load(Ordering::SeqCst) >= self.until;
        let token = if good { "Test planner" } else { "Test EXPIRED" };
        Ok(Proof { authorization: Secret::new(token), dpop: Secret::new("proof") })
    }
    async fn renew(&self) -> bool {
        self.renewed.fetch_add(1, Ordering::SeqCst);
        true
    }
}

struct Client {
    to: WriteHalf<DuplexStream>,
    from: Lines<BufReader<ReadHalf<DuplexStream>>>,
    renewed: Arc<AtomicU32>,
    running: tokio::task::JoinHandle<Result<(), bailiwick_gateway::ConnectError>>,
}

impl Client {
    fn of(url: &str, renewals: u32) -> Client {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let (input, output) = tokio::io::split(theirs);
        let (from, to) = tokio::io::split(ours);
        let renewed = Arc::new(AtomicU32::new(0));
        let prover = Renewing { until: renewals, renewed: renewed.clone() };
        let config = ConnectConfig { url: format!("{url}/mcp"), request_timeout: Duration::from_secs(30) };
        let running = tokio::spawn(connect(config, prover, BufReader::new(input), output));
        Client { to, from: BufReader::new(from).lines(), renewed, running }
    }

    async fn line(&mut self, line: &str) {
        self.to.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    async fn next(&mut self) -> Json {
        let line = timeout(LONG, self.from.next_line()).await.expect("no line").unwrap().expect("ended");
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"))
    }

    async fn ask(&mut self, message: Json) -> Json {
        self.line(&message.to_string()).await;
        self.next().await
    }

    async fn greet(&mut self) {
        let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2025-11-25"}});
        assert_eq!(self.ask(hello).await["result"]["protocolVersion"], "2025-11-25");
        self.line(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
    }
}

fn echo(id: i64) -> Json {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": "fix__echo", "arguments": {"n": id}}})
}

#[tokio::test]
async fn a_client_with_sessions_works_through_the_connector_and_bad_lines_do_not_end_it() {
    let world = World::with("modern").await;
    let mut client = Client::of(&world.url, 0);
    client.greet().await;
    assert_eq!(client.ask(echo(1)).await["result"]["structuredContent"]["n"], 1);
    for bad in
        ["hello", "[]", "{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":2,\"method\":\"x\"}", &"x".repeat(3 << 20)]
    {
        client.line(bad).await;
        assert!(client.next().await["error"]["code"].is_i64());
    }
    client.line("").await;
    assert_eq!(client.ask(echo(2)).await["result"]["structuredContent"]["n"], 2);
    client.to.shutdown().await.unwrap();
    assert!(timeout(LONG, client.running).await.unwrap().unwrap().is_ok());
}

#[tokio::test]
async fn a_stateless_client_gets_the_headers_that_its_transport_has_not() {
    let world = World::with("legacy").await;
    let mut client = Client::of(&world.url, 0);
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}});
    let ask = |id: &str, method: &str, mut params: Json| {
        params["_meta"] = meta.clone();
        json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
    };
    assert_eq!(
        client.ask(ask("d", "server/discover", json!({}))).await["result"]["supportedVersions"][0],
        "2026-07-28"
    );
    assert!(client.ask(ask("l", "tools/list", json!({}))).await["result"]["tools"].is_array());
    let done = client.ask(ask("c", "tools/call", json!({"name": "fix__echo", "arguments": {"a": 1}}))).await;
    assert_eq!((&done["id"], &done["result"]["structuredContent"]["a"]), (&json!("c"), &json!(1)));
}

#[tokio::test]
async fn an_expired_token_is_renewed_once_and_a_dead_task_is_said_in_words() {
    let world = World::with("modern").await;
    let mut client = Client::of(&world.url, 1);
    client.greet().await;
    assert_eq!(client.renewed.load(Ordering::SeqCst), 1);
    let mut hopeless = Client::of(&world.url, 1000);
    let answer = hopeless.ask(echo(1)).await;
    assert_eq!((&answer["id"], &answer["result"]["isError"]), (&json!(1), &json!(true)), "{answer}");
    assert_eq!(answer["result"]["_meta"]["bailiwick/decision"]["reason_code"], "caller.unproven", "{answer}");
    let list = hopeless.ask(json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"})).await;
    assert_eq!((&list["id"], &list["error"]["code"]), (&json!(2), &json!(-32001)), "{list}");
    assert_eq!(hopeless.renewed.load(Ordering::SeqCst), 2, "once for each request, no more");
}

#[tokio::test]
async fn what_a_hasty_client_sends_right_behind_its_greeting_is_answered_in_the_session_it_opens() {
    let world = World::with("modern").await;
    let mut client = Client::of(&world.url, 0);
    let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2025-11-25"}});
    let ready = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    client.line(&format!("{hello}\n{ready}\n{}", echo(1))).await;
    assert_eq!(client.next().await["result"]["protocolVersion"], "2025-11-25");
    assert_eq!(client.next().await["result"]["structuredContent"]["n"], 1);
}

#[tokio::test]
async fn a_gateway_that_was_restarted_is_greeted_again_without_the_client_knowing() {
    let (listener, port) = listen().await;
    let url = format!("http://127.0.0.1:{port}");
    let first = Arc::new(Scripted::default());
    let server = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (point, address) = (first.clone(), url.clone());
    let listener = listener.into_std().unwrap();
    server.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        serve_at(listener, &address, point, NameDoor, vec![child("fix", "legacy")]).await
    });
    first.observed("fix", |tools| !tools.is_empty()).await;
    let mut client = Client::of(&url, 0);
    client.greet().await;
    assert_eq!(client.ask(echo(1)).await["result"]["structuredContent"]["n"], 1);
    server.shutdown_background();

    let listener = loop {
        match tokio::net::TcpListener::bind(("127.0.0.1", port)).await {
            Ok(listener) => break listener,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let second = Arc::new(Scripted::default());
    serve_at(listener, &url, second.clone(), NameDoor, vec![child("fix", "legacy")]).await;
    second.observed("fix", |tools| !tools.is_empty()).await;
    let mut answer = client.ask(echo(2)).await;
    if answer["error"].is_object() {
        answer = client.ask(echo(2)).await;
    }
    assert_eq!(answer["result"]["structuredContent"]["n"], 2, "{answer}");
}

#[tokio::test]
async fn a_cancelled_request_is_taken_back_at_the_gateway_and_stays_unanswered() {
    let world = World::with("modern").await;
    let mut client = Client::of(&world.url, 0);
    client.greet().await;
    client
        .line(
            &json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "fix__hang"}})
                .to_string(),
        )
        .await;
    while !world.point.decided.lock().unwrap().iter().any(|(_, call)| call.tool == tool("fix.hang")) {
        tokio::task::yield_now().await;
    }
    client.line(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#).await;
    assert_eq!(world.point.reported(1).await[0].1.note.as_deref(), Some("call.withdrawn"));
    assert_eq!(client.ask(echo(8)).await["id"], 8);
}

#[tokio::test]
async fn without_a_gateway_the_client_is_told_what_to_do() {
    let (listener, port) = listen().await;
    drop(listener);
    let mut client = Client::of(&format!("http://127.0.0.1:{port}"), 0);
    let answer = client.ask(echo(1)).await;
    assert!(answer["error"]["message"].as_str().unwrap().contains("bailiwick up"), "{answer}");
}
