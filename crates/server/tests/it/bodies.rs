//! Bodies that have more than one reading, or none, change nothing.

use crate::world::*;

/// Posts raw bytes as dana; gives status, media type and problem.
async fn post(world: &World, path: &str, body: Vec<u8>) -> (u16, String, serde_json::Value) {
    let request = world.http.post(format!("{}{path}", world.base)).bearer_auth(world.key("dana"));
    let response = request.header("content-type", "application/json").body(body).send().await.unwrap();
    let status = response.status().as_u16();
    let media = response.headers()["content-type"].to_str().unwrap().to_owned();
    let bytes = response.bytes().await.unwrap();
    (status, media, serde_json::from_slice(&bytes).unwrap_or_default())
}

fn malformed() -> Vec<(&'static str, Vec<u8>)> {
    let deep = format!(
        r#"{{"intent":"x","agent":"support","inputs":{{"a":{}1{}}}}}"#,
        "[".repeat(70),
        "]".repeat(70)
    );
    let bottomless = "[".repeat(100_000);
    vec![
        ("a member twice", br#"{"intent":"a","agent":"support","intent":"b"}"#.to_vec()),
        ("a key twice inside", br#"{"intent":"a","agent":"support","inputs":{"a":1,"a":2}}"#.to_vec()),
        ("a key twice, escaped", br#"{"intent":"a","agent":"support","inputs":{"a":1,"\u0061":2}}"#.to_vec()),
        ("too deep", deep.into_bytes()),
        ("without bottom", bottomless.into_bytes()),
        ("invalid UTF-8", b"{\"intent\":\"\xff\xfe\",\"agent\":\"support\"}".to_vec()),
        ("a lone surrogate", br#"{"intent":"\ud800","agent":"support"}"#.to_vec()),
        ("a lossy number", br#"{"intent":"a","agent":"support","inputs":{"n":9007199254740993.5}}"#.to_vec()),
        (
            "too large a number",
            br#"{"intent":"a","agent":"support","inputs":{"n":18446744073709551615}}"#.to_vec(),
        ),
        ("minus zero", br#"{"intent":"a","agent":"support","inputs":{"n":-0.0}}"#.to_vec()),
        ("an unknown member", br#"{"intent":"a","agent":"support","initiator":"root@example.org"}"#.to_vec()),
        ("a bad name", br#"{"intent":"a","agent":"Support"}"#.to_vec()),
        ("a missing member", br#"{"intent":"a"}"#.to_vec()),
        ("two values", br#"{"intent":"a","agent":"support"}{}"#.to_vec()),
        ("another type", b"[]".to_vec()),
        ("nothing", Vec::new()),
    ]
}

// proves: A02, INV6
#[tokio::test]
async fn what_cannot_be_read_in_one_way_is_refused_with_a_problem() {
    let world = World::new().await;
    let before = world.size().await;
    for (what, body) in malformed() {
        let (status, media, problem) = post(&world, "/v1/tasks", body).await;
        assert_eq!((status, media.as_str()), (400, "application/problem+json"), "{what}: {problem}");
        assert!(!problem["code"].as_str().unwrap().is_empty() && problem["status"] == 400, "{what}");
    }
    let huge = format!(r#"{{"intent":"{}","agent":"support"}}"#, "x".repeat(1 << 20));
    let (status, _, problem) = post(&world, "/v1/tasks", huge.into_bytes()).await;
    assert_eq!((status, problem["code"].as_str()), (413, Some("body.too_large")));
    assert_eq!(world.size().await, before);
    let (status, ..) = post(&world, "/v1/tasks", br#"{"intent":"a","agent":"support"}"#.to_vec()).await;
    assert_eq!(status, 200, "the pair: what has one reading is taken");
}

// proves: A02, INV9
#[tokio::test]
async fn an_agents_arguments_are_read_strictly_too() {
    let world = World::new().await;
    let task = world.open().await;
    let token = world.token("support", task.grant.as_str()).await;
    let before = world.size().await;
    for body in [
        r#"{"tool":"tickets.get","args":{"id":4711,"id":1}}"#,
        r#"{"tool":"tickets.get","args":{"id":4711},"args":{"id":1}}"#,
        r#"{"tool":"tickets.get","args":[4711]}"#,
        r#"{"tool":"tickets.get","args":{"id":1e400}}"#,
        r#"{"tool":"tickets","args":{}}"#,
        r#"{"tool":"tickets.get","args":{},"force":true}"#,
    ] {
        let (status, problem) = world.ask(("support", &token), "POST", "/v1/decisions", Some(body)).await;
        assert!(matches!(status, 400 | 422), "{body}: {status} {problem}");
    }
    assert_eq!(world.size().await, before);
    let spelled = r#"{"args":{"id":4711.0},"tool":"tickets.get"}"#;
    let (status, answer) = world.ask(("support", &token), "POST", "/v1/decisions", Some(spelled)).await;
    assert_eq!(
        (status, &answer["args"]),
        (200, &serde_json::json!({ "id": 4711 })),
        "one value, one spelling"
    );
}
