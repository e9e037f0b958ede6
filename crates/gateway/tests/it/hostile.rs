//! Tool servers that hang, lie, flood, die, and send what they should not.

use crate::support::{World, child, text, tool};
use bailiwick_api::OutcomeStatus;
use bailiwick_gateway::UpstreamSpec;
use serde_json::json;
use std::time::{Duration, Instant};

// proves: A42
#[tokio::test]
async fn a_server_that_lies_about_ids_or_mixes_in_garbage_is_read_right() {
    let world = World::with("legacy").await;
    for (name, want) in [
        ("fix__lie", "the truth"),
        ("fix__garbage", "after the garbage"),
        ("fix__dup", "first"),
        ("fix__outside", "asked for more"),
    ] {
        assert_eq!(text(&world.call(name, json!({})).await), want);
    }
    assert_eq!(world.call("fix__echo", json!({"still": "here"})).await["structuredContent"]["still"], "here");
}

// proves: A42
#[tokio::test]
async fn a_server_that_never_answers_meets_its_deadline() {
    let spec = UpstreamSpec { call_timeout_ms: 300, ..child("fix", "legacy") };
    let world = World::of(vec![spec]).await;
    world.point.observed("fix", |tools| !tools.is_empty()).await;
    let begun = Instant::now();
    let failed = world.call("fix__hang", json!({})).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(failed["_meta"]["bailiwick/decision"]["reason_code"], "upstream.timeout");
    assert_eq!(world.point.reported(1).await[0].1.status, OutcomeStatus::Unknown);
    assert_ne!(text(&world.call("fix__cancelled", json!({})).await), "[]", "the server was not told");
}

// proves: A42
#[tokio::test]
async fn an_answer_over_the_cap_is_refused_and_costs_no_memory_and_no_neighbour() {
    let world = World::with("legacy").await;
    let before = resident_kib();
    let failed = world.call("fix__big", json!({})).await;
    assert_eq!(failed["_meta"]["bailiwick/decision"]["reason_code"], "upstream.too_large");
    assert_eq!(world.call("fix__echo", json!({"a": 1})).await["structuredContent"], json!({"a": 1}));
    let failed = world.call("fix__huge", json!({})).await;
    assert_eq!(failed["isError"], true);
    assert!(failed["_meta"]["bailiwick/decision"]["reason_code"].as_str().unwrap().starts_with("upstream."));
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 64 << 10, "100 MB from a server cost {grown} KiB here");
    assert_eq!(world.point.reported(3).await[2].1.status, OutcomeStatus::Unknown);
}

#[cfg(target_os = "linux")]
fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[cfg(not(target_os = "linux"))]
fn resident_kib() -> usize {
    0
}

// proves: A42
#[tokio::test]
async fn a_server_that_dies_or_floods_is_started_anew() {
    for (name, era) in [("fix__die", "legacy"), ("fix__die", "modern"), ("fix__flood", "legacy")] {
        let world = World::with(era).await;
        let failed = world.call(name, json!({})).await;
        let code = failed["_meta"]["bailiwick/decision"]["reason_code"].as_str().unwrap();
        assert!(matches!(code, "upstream.gone" | "upstream.too_large"), "{name} {code}");
        assert!(text(&failed).contains("may have taken effect"));
        assert_eq!(world.point.reported(1).await[0].1.status, OutcomeStatus::Unknown);
        let again = world.call("fix__echo", json!({"back": true})).await;
        assert_eq!(again["structuredContent"]["back"], true, "{name} {again}");
    }
}

#[tokio::test]
async fn a_server_that_cannot_bear_the_newer_greeting_gets_the_older_one() {
    for era in ["rude", "silent"] {
        let world = World::with(era).await;
        assert_eq!(world.call("fix__echo", json!({"a": era})).await["structuredContent"]["a"], era);
    }
}

#[tokio::test]
async fn what_a_server_asks_of_the_client_is_not_passed_on() {
    let world = World::with("modern").await;
    let failed = world.call("fix__wants", json!({})).await;
    assert_eq!(failed["isError"], true);
    assert_eq!(failed["_meta"]["bailiwick/decision"]["reason_code"], "upstream.wants_input");
    assert!(!failed.to_string().contains("elicitation/create"));
}

#[tokio::test]
async fn a_tool_nobody_offers_is_decided_but_never_sent() {
    let world = World::with("modern").await;
    let failed = world.call("fix__nothing", json!({})).await;
    assert_eq!(failed["_meta"]["bailiwick/decision"]["reason_code"], "upstream.not_offered");
    let call = world.point.last_call();
    assert_eq!((call.tool, call.definition), (tool("fix.nothing"), None));
    assert_eq!(world.point.reported(1).await[0].1.status, OutcomeStatus::Failed);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn stopping_the_gateway_ends_its_children_and_what_they_started() {
    let marker = format!("marker-{}", std::process::id());
    let mut spec = child("fix", "legacy");
    if let bailiwick_gateway::Transport::Stdio { args, .. } = &mut spec.transport {
        args.push(marker.clone());
    }
    let observer: bailiwick_gateway::upstream::Observer =
        std::sync::Arc::new(|_, _| Box::pin(async { Ok(()) }));
    let upstreams = bailiwick_gateway::Upstreams::start(vec![spec], observer).unwrap();
    assert!(upstreams.live(&tool("fix.echo")).await.is_some());
    assert_eq!(running(&marker), 2, "the server and what it started");
    upstreams.stop().await;
    // A killed process takes a moment to vanish.
    let deadline = Instant::now() + crate::support::LONG;
    while running(&marker) > 0 {
        assert!(Instant::now() < deadline, "it still runs");
        tokio::task::yield_now().await;
    }
}

/// How many processes have this word in their command line. One that has ended but was not collected has none.
#[cfg(target_os = "linux")]
fn running(word: &str) -> usize {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok())
        .filter(|line| line.contains(word))
        .count()
}

// proves: A46
#[tokio::test]
async fn a_program_that_is_not_there_is_a_refusal_and_not_a_crash() {
    let mut spec = child("fix", "legacy");
    if let bailiwick_gateway::Transport::Stdio { command, .. } = &mut spec.transport {
        *command = "no-such-program-anywhere".into();
    }
    let world = World::of(vec![spec]).await;
    let failed = world.call("fix__echo", json!({})).await;
    assert_eq!(failed["isError"], true);
    assert_eq!(failed["_meta"]["bailiwick/decision"]["reason_code"], "upstream.unavailable");
}
