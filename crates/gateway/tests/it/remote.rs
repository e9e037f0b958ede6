//! Tool servers over streamable HTTP, kind and unkind.

use crate::support::{World, listen, text};
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::Response;
use axum::routing::any;
use bailiwick_core::SystemId;
use bailiwick_gateway::{Secret, Transport, UpstreamSpec};
use http::{HeaderMap, StatusCode};
use serde_json::{Value as Json, json};
use std::sync::{Arc, Mutex};

/// How the fixture answers.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Modern,
    ModernEvents,
    Sessions,
    Forgetful,
}

/// A remote tool server that notes what it was sent.
struct Remote {
    manner: Manner,
    got: Mutex<Vec<(HeaderMap, Json)>>,
    sessions: Mutex<u32>,
    calls: Mutex<u32>,
}

async fn start(manner: Manner) -> (Arc<Remote>, String) {
    let remote = Arc::new(Remote {
        manner,
        got: Mutex::default(),
        sessions: Mutex::default(),
        calls: Mutex::default(),
    });
    let (listener, port) = listen().await;
    let app = axum::Router::new()
        .route("/mcp", any(answer))
        .route("/elsewhere", any(|| async { "stolen" }))
        .with_state(remote.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (remote, format!("http://127.0.0.1:{port}/mcp"))
}

fn spec(url: &str) -> UpstreamSpec {
    let headers = vec![("authorization".to_owned(), Secret::new("Bearer of-the-target"))];
    let transport = Transport::Http { url: url.to_owned(), headers };
    UpstreamSpec { call_timeout_ms: 5_000, ..UpstreamSpec::new(SystemId::parse("far").unwrap(), transport) }
}

async fn world(manner: Manner) -> (World, Arc<Remote>) {
    let (remote, url) = start(manner).await;
    let world = World::of(vec![spec(&url)]).await;
    world.point.observed("far", |tools| !tools.is_empty()).await;
    (world, remote)
}

fn reply(status: u16, kind: &str, body: impl Into<Body>) -> Response {
    Response::builder().status(status).header("content-type", kind).body(body.into()).unwrap()
}

fn result(id: &Json, result: Json) -> Response {
    reply(200, "application/json", json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string())
}

async fn answer(State(remote): State<Arc<Remote>>, headers: HeaderMap, body: Bytes) -> Response {
    let message: Json = serde_json::from_slice(&body).unwrap_or(Json::Null);
    remote.got.lock().unwrap().push((headers.clone(), message.clone()));
    let (id, method) = (&message["id"], message["method"].as_str().unwrap_or(""));
    let modern = matches!(remote.manner, Manner::Modern | Manner::ModernEvents);
    if id.is_null() {
        return reply(202, "text/plain", "");
    }
    if !modern && method != "initialize" {
        let session = headers.get("mcp-session-id").and_then(|v| v.to_str().ok()).map(str::to_owned);
        match session {
            None => {
                return reply(
                    400,
                    "application/json",
                    json!({"jsonrpc": "2.0", "id": null,
                "error": {"code": -32000, "message": "Bad Request: Server not initialized"}})
                    .to_string(),
                );
            }
            Some(session) if session != format!("s{}", remote.sessions.lock().unwrap()) => {
                return reply(404, "application/json", "{}");
            }
            Some(_) => {}
        }
    }
    match method {
        "server/discover" if modern => result(
            id,
            json!({"resultType": "complete", "supportedVersions": ["2026-07-28"],
            "capabilities": {"tools": {}}, "ttlMs": 0, "cacheScope": "public"}),
        ),
        "initialize" if !modern => {
            let mut sessions = remote.sessions.lock().unwrap();
            *sessions += 1;
            let mut response = result(
                id,
                json!({"protocolVersion": "2025-06-18", "capabilities": {"tools": {}},
                "serverInfo": {"name": "far", "version": "1"}}),
            );
            response.headers_mut().insert("mcp-session-id", format!("s{sessions}").parse().unwrap());
            response
        }
        "tools/list" => result(id, json!({"tools": tools()})),
        "tools/call" => call(&remote, id, &message["params"]).await,
        _ => reply(
            404,
            "application/json",
            json!({"jsonrpc": "2.0", "id": id,
            "error": {"code": -32601, "message": "unknown"}})
            .to_string(),
        ),
    }
}

fn tools() -> Json {
    let names = ["echo", "redirect", "big", "endless", "packed", "wrong", "html", "hang", "forget"];
    let mut tools: Vec<Json> =
        names.iter().map(|n| json!({"name": n, "inputSchema": {"type": "object"}})).collect();
    tools.push(json!({"name": "mirror", "inputSchema": {"type": "object",
        "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}}));
    json!(tools)
}

async fn call(remote: &Remote, id: &Json, params: &Json) -> Response {
    *remote.calls.lock().unwrap() += 1;
    let done = json!({"content": [{"type": "text", "text": params["arguments"].to_string()}]});
    match params["name"].as_str().unwrap_or("") {
        "redirect" => {
            let mut response = reply(307, "text/plain", "");
            response.headers_mut().insert("location", "/elsewhere".parse().unwrap());
            response
        }
        "big" => result(id, json!({"content": [{"type": "text", "text": "b".repeat(9 << 20)}]})),
        "endless" => {
            let chunk = Bytes::from(format!("data: {}\n", "e".repeat(64 << 10)));
            let stream = futures_util::stream::repeat_with(move || Ok::<_, std::io::Error>(chunk.clone()));
            reply(200, "text/event-stream", Body::from_stream(stream))
        }
        "packed" => {
            let mut response = result(id, done);
            response.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
            response
        }
        "wrong" => result(&json!(999_999), done),
        "html" => reply(200, "text/html", "<h1>Sign in</h1>"),
        "hang" => std::future::pending().await,
        "forget" if remote.manner == Manner::Forgetful && *remote.calls.lock().unwrap() == 1 => {
            *remote.sessions.lock().unwrap() += 1;
            reply(404, "application/json", "{}")
        }
        _ if remote.manner == Manner::ModernEvents => {
            let note = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {}});
            let stranger = json!({"jsonrpc": "2.0", "id": 424_242, "result": {"content": [{"type": "text", "text": "not yours"}]}});
            let own = json!({"jsonrpc": "2.0", "id": id, "result": done});
            reply(
                200,
                "text/event-stream",
                format!(": hi\n\ndata: {note}\n\ndata: {stranger}\n\nevent: message\ndata: {own}\n\n"),
            )
        }
        _ => result(id, done),
    }
}

// proves: A12, A37
#[tokio::test]
async fn every_generation_is_spoken_and_gets_the_targets_credential_and_never_the_agents() {
    for manner in [Manner::Modern, Manner::ModernEvents, Manner::Sessions] {
        let (world, remote) = world(manner).await;
        let done = world.call("far__echo", json!({"a": "b"})).await;
        assert_eq!(text(&done), r#"{"a":"b"}"#);
        let got = remote.got.lock().unwrap();
        let (headers, message) = got.iter().find(|(_, m)| m["method"] == "tools/call").unwrap();
        assert_eq!(headers["authorization"], "Bearer of-the-target");
        assert!(
            got.iter().all(|(headers, _)| !format!("{headers:?}").contains("planner")),
            "the agent's token went on"
        );
        assert_eq!(message["params"]["name"], "echo");
        let version = if manner == Manner::Sessions { "2025-06-18" } else { "2026-07-28" };
        assert_eq!(headers["mcp-protocol-version"], version);
        if manner != Manner::Sessions {
            assert_eq!(
                (&headers["mcp-method"], &headers["mcp-name"]),
                (&"tools/call".parse().unwrap(), &"echo".parse().unwrap())
            );
            assert_eq!(message["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
        }
    }
}

// proves: A42
#[tokio::test]
async fn an_unkind_answer_is_a_failure_with_a_name() {
    let (world, remote) = world(Manner::Modern).await;
    for (name, code) in [
        ("far__redirect", "upstream.refused"),
        ("far__big", "upstream.too_large"),
        ("far__endless", "upstream.too_large"),
        ("far__packed", "upstream.garbled"),
        ("far__wrong", "upstream.garbled"),
        ("far__html", "upstream.garbled"),
        ("far__hang", "upstream.timeout"),
    ] {
        let failed = world.call(name, json!({})).await;
        assert_eq!(failed["_meta"]["bailiwick/decision"]["reason_code"], code, "{name}");
        assert!(!failed.to_string().contains("of-the-target"), "{name}");
    }
    assert_eq!(*remote.calls.lock().unwrap(), 7, "a call was made twice");
    assert_eq!(text(&world.call("far__echo", json!({"still": 1})).await), r#"{"still":1}"#);
}

#[tokio::test]
async fn a_session_that_the_server_forgot_is_opened_again_for_the_next_call() {
    let (world, remote) = world(Manner::Forgetful).await;
    let failed = world.call("far__forget", json!({})).await;
    assert_eq!(failed["_meta"]["bailiwick/decision"]["reason_code"], "upstream.unavailable");
    let mut done = world.call("far__echo", json!({"n": 1})).await;
    if done["isError"] == true {
        done = world.call("far__echo", json!({"n": 1})).await;
    }
    assert_eq!(text(&done), r#"{"n":1}"#);
    assert!(remote.got.lock().unwrap().iter().filter(|(_, m)| m["method"] == "initialize").count() >= 2);
}

#[tokio::test]
async fn an_argument_that_is_mirrored_must_agree_on_both_sides() {
    let (world, remote) = world(Manner::Modern).await;
    let params = || json!({"name": "far__mirror", "arguments": {"region": "us-west1"}});
    let with =
        |region: &str| world.modern("planner", 1, "tools/call", params()).header("mcp-param-region", region);
    let (status, answer) = crate::support::send(with("us-west1")).await;
    assert_eq!((status, answer["error"].is_null()), (200, true), "{answer}");
    let sent =
        remote.got.lock().unwrap().iter().rfind(|(_, m)| m["method"] == "tools/call").unwrap().0.clone();
    assert_eq!(sent["mcp-param-region"], "us-west1");
    let (status, answer) = crate::support::send(with("eu-west1")).await;
    assert_eq!((status, &answer["error"]["code"]), (400, &json!(-32020)));
    assert_eq!(world.point.decided.lock().unwrap().len(), 1);
    assert_eq!(StatusCode::from_u16(status).unwrap(), StatusCode::BAD_REQUEST);
}
