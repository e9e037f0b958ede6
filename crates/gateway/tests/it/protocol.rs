//! The wire: who is let in, what is understood, in both generations.

use crate::support::{World, child, send, text};
use serde_json::json;

#[tokio::test]
async fn a_stateless_client_discovers_lists_and_calls() {
    let world = World::with("modern").await;
    let (status, answer) = send(world.modern("planner", 7, "server/discover", json!({}))).await;
    assert_eq!((status, &answer["id"]), (200, &json!(7)));
    let result = &answer["result"];
    assert_eq!(result["supportedVersions"][0], "2026-07-28");
    assert_eq!((&result["resultType"], &result["cacheScope"]), (&json!("complete"), &json!("private")));

    let (_, answer) = send(world.modern("planner", 8, "tools/list", json!({}))).await;
    let names: Vec<&str> =
        answer["result"]["tools"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"fix__echo") && names.contains(&"fix__twice__keys"), "{names:?}");
    assert!(names.contains(&"bailiwick__resume"));
    assert!(names.is_sorted(), "{names:?}");
    assert_eq!(answer["result"]["cacheScope"], "private");

    let result = world.call("fix__echo", json!({"a": 1})).await;
    assert_eq!(result["structuredContent"], json!({"a": 1}));
    assert_eq!(result["resultType"], "complete");
    assert_eq!(result["_meta"]["bailiwick/decision"]["effect"], "allow");
}

#[tokio::test]
async fn a_client_with_sessions_greets_lists_calls_and_leaves() {
    let world = World::with("legacy").await;
    let hello = json!({"jsonrpc": "2.0", "id": "a", "method": "initialize",
        "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}});
    let response = world.post("planner", &hello).send().await.unwrap();
    let session = response.headers()["mcp-session-id"].to_str().unwrap().to_owned();
    let answer: serde_json::Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    assert_eq!((&answer["id"], &answer["result"]["protocolVersion"]), (&json!("a"), &json!("2025-06-18")));

    let with = |body| {
        world
            .post("planner", &body)
            .header("mcp-session-id", &session)
            .header("mcp-protocol-version", "2025-06-18")
    };
    assert_eq!(send(with(json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))).await.0, 202);
    assert_eq!(send(with(json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}))).await.1["result"], json!({}));
    let (_, answer) = send(with(json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call",
        "params": {"name": "fix__echo", "arguments": {"b": 2}}})))
    .await;
    assert_eq!(answer["result"]["structuredContent"], json!({"b": 2}));
    assert_eq!(answer["result"].get("resultType"), None);

    let delete = || world.client.delete(format!("{}/mcp", world.url)).header("mcp-session-id", &session);
    assert_eq!(send(delete().header("authorization", "Test other")).await.0, 404);
    assert_eq!(send(delete().header("authorization", "Test planner")).await.0, 204);
    assert_eq!(send(with(json!({"jsonrpc": "2.0", "id": 3, "method": "ping"}))).await.0, 404);
}

// proves: A37
#[tokio::test]
async fn a_session_of_another_caller_looks_like_none() {
    let world = World::with("legacy").await;
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-11-25"}});
    let response = world.post("planner", &hello).send().await.unwrap();
    let session = response.headers()["mcp-session-id"].to_str().unwrap().to_owned();
    let ping = json!({"jsonrpc": "2.0", "id": 2, "method": "ping"});
    let as_agent = |agent: &str, session: &str| world.post(agent, &ping).header("mcp-session-id", session);
    assert_eq!(send(as_agent("planner", &session)).await.0, 200);
    let stolen = send(as_agent("thief", &session)).await;
    let invented = send(as_agent("thief", "no-such-session")).await;
    assert_eq!(stolen.0, 404);
    assert_eq!(stolen, invented);
    assert_eq!(send(world.post("planner", &ping)).await.0, 400);
}

#[tokio::test]
async fn header_and_body_that_disagree_are_refused() {
    let world = World::with("modern").await;
    let params = || json!({"name": "fix__echo", "arguments": {}});
    let good = || world.modern("planner", 1, "tools/call", params());
    assert_eq!(send(good()).await.0, 200);
    let body = {
        let mut params = params();
        params["_meta"] = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {}});
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    };
    let headers = |version: Option<&str>, method: Option<&str>, name: Option<&str>| {
        let mut request = world.post("planner", &body);
        for (header, value) in [("mcp-protocol-version", version), ("mcp-method", method), ("mcp-name", name)]
        {
            if let Some(value) = value {
                request = request.header(header, value);
            }
        }
        request
    };
    let (v, m, n) = (Some("2026-07-28"), Some("tools/call"), Some("fix__echo"));
    assert_eq!(send(headers(v, m, Some("=?base64?Zml4X19lY2hv?="))).await.0, 200);
    for (version, method, name) in [
        (None, m, n),
        (v, None, n),
        (v, m, None),
        (Some("2025-11-25"), m, n),
        (v, Some("tools/list"), n),
        (v, m, Some("fix__env")),
        (v, m, Some("=?base64?****?=")),
    ] {
        let (status, answer) = send(headers(version, method, name)).await;
        assert_eq!(
            (status, &answer["error"]["code"]),
            (400, &json!(-32020)),
            "{version:?} {method:?} {name:?}"
        );
    }
    assert_eq!(world.point.decided.lock().unwrap().len(), 2, "a refused request was decided");
}

#[tokio::test]
async fn an_unknown_revision_is_told_which_ones_are_served() {
    let world = World::of(vec![]).await;
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": {"_meta": {
        "io.modelcontextprotocol/protocolVersion": "1900-01-01", "io.modelcontextprotocol/clientCapabilities": {}}}});
    let request = world
        .post("planner", &body)
        .header("mcp-protocol-version", "1900-01-01")
        .header("mcp-method", "server/discover");
    let (status, answer) = send(request).await;
    assert_eq!((status, &answer["error"]["code"]), (400, &json!(-32022)));
    assert_eq!(answer["error"]["data"]["supported"][0], "2026-07-28");
    let old = world
        .post("planner", &json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}))
        .header("mcp-protocol-version", "1900-01-01");
    assert_eq!(send(old).await.0, 400);
    let incomplete = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28"}}});
    let request = world
        .post("planner", &incomplete)
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "tools/list");
    let (status, answer) = send(request).await;
    assert_eq!((status, &answer["error"]["code"]), (400, &json!(-32602)));
}

// proves: A48
#[tokio::test]
async fn a_foreign_host_or_origin_or_a_simple_form_post_stops_at_the_door() {
    let world = World::of(vec![]).await;
    let discover = || world.modern("planner", 1, "server/discover", json!({}));
    assert_eq!(send(discover()).await.0, 200);
    assert_eq!(send(discover().header("host", "rebound.example")).await.0, 403);
    assert_eq!(send(discover().header("origin", "https://evil.example")).await.0, 403);
    assert_eq!(send(discover().header("origin", "null")).await.0, 403);
    assert_eq!(
        send(discover().header("origin", world.url.replace("127.0.0.1", "127.0.0.1.evil.example"))).await.0,
        403
    );
    assert_eq!(send(discover().header("origin", &world.url)).await.0, 200);
    let form =
        world.client.post(format!("{}/mcp", world.url)).header("content-type", "text/plain").body("{}");
    assert_eq!(send(form).await.0, 415);
    let metadata = world.client.get(format!("{}/.well-known/oauth-protected-resource", world.url));
    assert_eq!(send(metadata.header("host", "rebound.example")).await.0, 403);
}

#[tokio::test]
async fn without_a_token_the_answer_says_where_to_get_one() {
    let world = World::with("modern").await;
    let request = world
        .client
        .post(format!("{}/mcp/fix", world.url))
        .header("content-type", "application/json")
        .body("{}");
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 401);
    let challenge = response.headers()["www-authenticate"].to_str().unwrap();
    let metadata = format!("{}/.well-known/oauth-protected-resource/mcp/fix", world.url);
    assert!(challenge.contains(&format!("resource_metadata=\"{metadata}\"")), "{challenge}");
    let (status, answer) = send(world.client.get(&metadata)).await;
    assert_eq!((status, &answer["resource"]), (200, &json!(format!("{}/mcp", world.url))));
    assert_eq!(answer["dpop_bound_access_tokens_required"], true);
    assert!(!answer["authorization_servers"].as_array().unwrap().is_empty());
}

// proves: A26, D1
#[tokio::test]
async fn a_batch_of_an_allowed_and_a_forbidden_call_is_no_call_at_all() {
    let world = World::with("modern").await;
    world.point.deny.lock().unwrap().push(crate::support::tool("fix.big"));
    let call = |id: u8, name: &str| json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": name, "arguments": {}}});
    for batch in [
        json!([call(1, "fix__echo"), call(2, "fix__big")]),
        json!([call(2, "fix__big"), call(1, "fix__echo")]),
        json!([call(1, "fix__echo")]),
        json!([]),
    ] {
        let request = world.client.post(format!("{}/mcp", world.url)).header("authorization", "Test planner");
        let (status, answer) = send(request.header("x-http-method-override", "DELETE").json(&batch)).await;
        assert_eq!((status, &answer["error"]["code"]), (400, &json!(-32600)), "{batch}");
    }
    assert!(world.point.decided.lock().unwrap().is_empty(), "not even the allowed one was decided");
    assert_eq!(world.call("fix__echo", json!({"a": 1})).await["structuredContent"]["a"], 1);
    let refused = world.call("fix__big", json!({})).await;
    assert_eq!(refused["isError"], true);
    assert_eq!(world.point.decided.lock().unwrap().len(), 2);
}

// proves: A22, A23
#[tokio::test]
async fn a_body_with_a_trap_is_refused_and_nothing_is_decided() {
    let world = World::with("modern").await;
    let raw = |body: String| {
        world
            .client
            .post(format!("{}/mcp", world.url))
            .header("authorization", "Test planner")
            .header("content-type", "application/json")
            .body(body)
    };
    let call = |args: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"fix__echo","arguments":{args}}}}}"#
        )
    };
    for (body, code) in [
        (call(r#"{"a":1,"a":2}"#), -32700),
        (call(r#"{"a":1e400}"#), -32700),
        (call(r#"{"a":-0.0}"#), -32700),
        (call(&format!("{}1{}", "[".repeat(100), "]".repeat(100))), -32700),
        (format!("[{}]", call("{}")), -32600),
        (format!("{} {{}}", call("{}")), -32700),
        ("\u{feff}{}".to_owned(), -32700),
    ] {
        let (status, answer) = send(raw(body.clone())).await;
        assert_eq!((status, &answer["error"]["code"]), (400, &json!(code)), "{body}");
    }
    assert_eq!(send(raw(format!("\"{}\"", "a".repeat(2 << 20)))).await.0, 413);
    let packed = raw(call("{}")).header("content-encoding", "gzip");
    assert_eq!(send(packed).await.0, 415);
    let stream = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 64 << 10]));
    let endless = raw(String::new()).body(reqwest::Body::wrap_stream(stream));
    let ended = crate::support::LONG;
    let answered =
        tokio::time::timeout(ended, endless.send()).await.expect("an endless body was read without end");
    assert!(answered.is_err() || answered.is_ok_and(|r| r.status() == 413));
    assert!(world.point.decided.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_is_not_known_is_refused() {
    let world = World::with("modern").await;
    for (method, params, want) in [
        ("completion/complete", json!({}), (404, -32601)),
        ("tasks/get", json!({}), (404, -32601)),
        ("admin/everything", json!({}), (404, -32601)),
        ("ping", json!({}), (404, -32601)),
        ("prompts/get", json!({"name": "x"}), (200, -32602)),
        ("tools/call", json!({"name": "nothing"}), (200, -32602)),
        ("tools/call", json!({"name": "fix__echo", "arguments": []}), (200, -32602)),
    ] {
        let (status, answer) = send(world.modern("planner", 1, method, params)).await;
        assert_eq!((status, &answer["error"]["code"]), (want.0, &json!(want.1)), "{method}");
    }
    let read = world.modern("planner", 1, "resources/read", json!({"uri": "file:///etc/passwd"}));
    let (_, answer) = send(read.header("mcp-name", "file:///etc/passwd")).await;
    assert_eq!(answer["error"]["code"], -32602);
    assert!(world.point.decided.lock().unwrap().is_empty());
    let get = world.client.get(format!("{}/mcp", world.url)).header("authorization", "Test planner");
    assert_eq!(send(get).await.0, 405);
    for (path, want) in [("/mcp/fix", 400), ("/mcp/nowhere", 404), ("/mcp/BAD", 404)] {
        let url = format!("{}{path}", world.url);
        let post = world
            .client
            .post(url)
            .header("authorization", "Test planner")
            .header("content-type", "application/json");
        assert_eq!(send(post.body("{}")).await.0, want, "{path}");
    }
}

#[tokio::test]
async fn an_endpoint_for_one_system_shows_that_system_without_its_prefix() {
    let world = World::of(vec![child("one", "modern"), child("two", "legacy")]).await;
    world.point.observed("one", |tools| !tools.is_empty()).await;
    world.point.observed("two", |tools| !tools.is_empty()).await;
    let mut one = World { url: world.url.clone(), point: world.point.clone(), client: world.client.clone() };
    let at_one = |request: reqwest::RequestBuilder| {
        let mut request = request.build().unwrap();
        request.url_mut().set_path("/mcp/one");
        reqwest::RequestBuilder::from_parts(world.client.clone(), request)
    };
    let (_, answer) = send(at_one(one.modern("planner", 1, "tools/list", json!({})))).await;
    let names: Vec<&str> =
        answer["result"]["tools"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"echo") && names.contains(&"bailiwick__task"), "{names:?}");
    assert!(!names.iter().any(|n| n.contains("two") || n.contains("one__")), "{names:?}");
    let (_, answer) =
        send(at_one(one.modern("planner", 1, "tools/call", json!({"name": "echo", "arguments": {"x": 1}}))))
            .await;
    assert_eq!(answer["result"]["structuredContent"], json!({"x": 1}));
    assert_eq!(world.point.last_call().tool.as_str(), "one.echo");
    one.url.push_str("");
    let task = world.call("bailiwick__task", json!({})).await;
    assert_eq!(task["structuredContent"]["agent"], "planner");
    assert!(text(&task).contains("two__echo"));
}

#[tokio::test]
async fn a_listener_hears_that_a_list_changed_and_nothing_after_its_task_ended() {
    let world = World::with("modern").await;
    let wanted = json!({"notifications": {"toolsListChanged": true, "promptsListChanged": true}});
    let mut response = world.modern("planner", 7, "subscriptions/listen", wanted).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let first = String::from_utf8(response.chunk().await.unwrap().unwrap().to_vec()).unwrap();
    assert!(
        first.contains("subscriptions/acknowledged") && first.contains("\"toolsListChanged\":true"),
        "{first}"
    );
    assert!(!first.contains("promptsListChanged") && first.contains("subscriptionId\":7"), "{first}");
    world.call("fix__change", json!({"to": "other words"})).await;
    let next = String::from_utf8(response.chunk().await.unwrap().unwrap().to_vec()).unwrap();
    assert!(next.contains("notifications/tools/list_changed"), "{next}");
    assert!(!next.contains("other words"), "{next}");

    world.point.dead.store(true, std::sync::atomic::Ordering::SeqCst);
    let mut rest = String::new();
    while let Some(chunk) =
        tokio::time::timeout(crate::support::LONG, response.chunk()).await.unwrap().unwrap()
    {
        rest.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    assert!(rest.contains("\"resultType\":\"complete\""), "{rest}");
    let unwanted = world
        .modern("planner", 8, "subscriptions/listen", json!({"notifications": {}}))
        .send()
        .await
        .unwrap();
    assert!(unwanted.text().await.unwrap().contains("\"notifications\":{}"));
}
