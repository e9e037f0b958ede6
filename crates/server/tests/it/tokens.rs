//! Tokens and proofs: minted once, used by their holder, for one request, once.

use bailiwick_core::Time;
use bailiwick_token::{KeyAlgorithm, SigningKey, dpop, random_id};

use crate::world::*;

fn refs<'a>(form: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    form.iter().map(|(k, v)| (*k, v.as_str())).collect()
}

const READ: &str = r#"{"tool":"tickets.get","args":{"id":4711}}"#;

// proves: A10, I3
#[tokio::test]
async fn a_proof_is_used_once_also_after_a_restart() {
    let world = World::new().await;
    let task = world.open().await;
    let token = world.token("support", task.grant.as_str()).await;
    let proof = world.prove("support", "POST", "/v1/decisions", Some(&token));
    let with = (token.as_str(), Some(proof.as_str()));
    let (status, first) = world.ask_with(with, "POST", "/v1/decisions", Some(READ)).await;
    assert_eq!((status, first["effect"].as_str()), (200, Some("allow")), "{first}");
    let (status, again) = world.ask_with(with, "POST", "/v1/decisions", Some(READ)).await;
    assert_eq!((status, again["code"].as_str()), (401, Some("dpop.replay")), "{again}");

    let outcome = format!("/v1/decisions/{}/outcome", first["decision"].as_str().unwrap());
    let reporting = world.prove("support", "POST", &outcome, Some(&token));
    let done = Some(r#"{"status":"done"}"#);
    let reported = (token.as_str(), Some(reporting.as_str()));
    assert_eq!(world.ask_with(reported, "POST", &outcome, done).await.0, 200);

    let world = world.restarted().await;
    let (status, after) = world.ask_with(with, "POST", "/v1/decisions", Some(READ)).await;
    assert_eq!((status, after["effect"].as_str()), (403, Some("deny")), "the log remembers: {after}");
    assert_eq!(after["code"].as_str(), Some("caller.replayed"));
    let (status, after) = world.ask_with(reported, "POST", &outcome, done).await;
    assert_eq!((status, after["code"].as_str()), (401, Some("dpop.replay")), "{after}");
    let (status, fresh) = world.ask(("support", &token), "POST", "/v1/decisions", Some(READ)).await;
    assert_eq!((status, fresh["effect"].as_str()), (200, Some("allow")), "the pair: a fresh proof passes");
}

// proves: A10, INV10
#[tokio::test]
async fn of_two_nodes_that_get_the_same_proof_one_takes_it() {
    let world = World::new().await;
    let task = world.open().await;
    let token = world.token("support", task.grant.as_str()).await;
    let second = world.second_node().await;
    for _ in 0..5 {
        let proof = world.prove("support", "POST", "/v1/decisions", Some(&token));
        let send = |base: &str| {
            let request =
                world.http.post(format!("{base}/v1/decisions")).header("content-type", "application/json");
            request.header("authorization", format!("DPoP {token}")).header("dpop", &proof).body(READ).send()
        };
        let (here, there) = tokio::join!(send(&world.base), send(&second));
        let mut both = [here.unwrap().status().as_u16(), there.unwrap().status().as_u16()];
        both.sort_unstable();
        assert_eq!(both, [200, 403], "one is decided, the other is refused as replayed");
    }
}

// proves: A09, A11, A12
#[tokio::test]
async fn a_token_is_worth_nothing_without_a_proof_for_this_very_request() {
    let world = World::new().await;
    let task = world.open().await;
    let token = world.token("support", task.grant.as_str()).await;
    let thief = SigningKey::generate(KeyAlgorithm::Ed25519).unwrap();
    let by = |key: &SigningKey, method: &str, url: &str, token: &str, at: u64| {
        dpop::prove(key, method, url, Some(token), None, at, &random_id().unwrap()).unwrap()
    };
    let (own, here, now) = (world.agent_key("support"), format!("{}/v1/decisions", world.base), now_secs());
    let bad = [
        ("a thief's key", by(&thief, "POST", &here, &token, now)),
        ("another method", by(own, "GET", &here, &token, now)),
        ("another path", by(own, "POST", &format!("{}/v1/handoffs", world.base), &token, now)),
        ("another host", by(own, "POST", "https://elsewhere.example/v1/decisions", &token, now)),
        ("another token", by(own, "POST", &here, "abc", now)),
        ("too old", by(own, "POST", &here, &token, now - 120)),
        ("from the future", by(own, "POST", &here, &token, now + 120)),
        ("no proof at all", token.clone()),
    ];
    let before = world.size().await;
    for (what, proof) in &bad {
        let (status, body) = world.ask_with((&token, Some(proof)), "POST", "/v1/decisions", Some(READ)).await;
        assert_eq!(status, 401, "{what}: {body}");
    }
    let mut forged = token.clone();
    let last = if forged.pop() == Some('A') { 'B' } else { 'A' };
    forged.push(last);
    let unsigned = {
        let mut parts = token.split('.');
        let (_, claims) = (parts.next(), parts.next().unwrap());
        format!("eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0.{claims}.")
    };
    for token in [forged.as_str(), unsigned.as_str(), "x.y.z", ""] {
        let proof = by(own, "POST", &here, token, now);
        let (status, body) = world.ask_with((token, Some(&proof)), "POST", "/v1/decisions", Some(READ)).await;
        assert_eq!(status, 401, "{token}: {body}");
    }
    assert_eq!(world.size().await, before, "nothing was recorded, so nothing can be flooded");
    let good = by(own, "POST", &here, &token, now);
    assert_eq!(world.ask_with((&token, Some(&good)), "POST", "/v1/decisions", Some(READ)).await.0, 200);
}

fn in_ten_minutes() -> Time {
    Time::from_secs(now_secs() + 600)
}

#[tokio::test]
async fn an_expired_token_is_refused() {
    let world = World::new().await;
    let task = world.open().await;
    let token = world.token("support", task.grant.as_str()).await;
    assert_eq!(world.ask(("support", &token), "GET", "/v1/self/tools", None).await.0, 200);
    let world = world.restarted_with(in_ten_minutes).await;
    let (status, body) = world.ask(("support", &token), "GET", "/v1/self/tools", None).await;
    assert_eq!((status, body["code"].as_str()), (401, Some("token.expired")));
}

// proves: I1, I3
#[tokio::test]
async fn an_assertion_and_its_proof_serve_once() {
    let world = World::new().await;
    let task = world.open().await;
    let form = world.form("support", task.grant.as_str());
    let proof = world.prove("support", "POST", "/oauth/token", None);
    let (status, minted) = world.ask_token(&refs(&form), Some(&proof)).await;
    assert_eq!((status, minted["token_type"].as_str()), (200, Some("DPoP")), "{minted}");

    let world = world.restarted().await;
    let fresh_proof = world.prove("support", "POST", "/oauth/token", None);
    let (status, body) = world.ask_token(&refs(&form), Some(&fresh_proof)).await;
    assert_eq!((status, body["error"].as_str()), (401, Some("invalid_client")), "the assertion was used");
    let fresh_form = world.form("support", task.grant.as_str());
    let (status, body) = world.ask_token(&refs(&fresh_form), Some(&proof)).await;
    assert_eq!((status, body["error"].as_str()), (400, Some("invalid_dpop_proof")), "the proof was used");
}

// proves: I1, A09
#[tokio::test]
async fn only_a_registered_key_gets_a_token_and_only_for_a_live_grant_of_its_own() {
    let world = World::new().await;
    let task = world.open().await;
    let grant = task.grant.as_str();
    let before = world.size().await;
    let thief = SigningKey::generate(KeyAlgorithm::Ed25519).unwrap();
    let proof_by = |key: &SigningKey| {
        let url = format!("{}/oauth/token", world.base);
        dpop::prove(key, "POST", &url, None, None, now_secs(), &random_id().unwrap()).unwrap()
    };
    let swap = |name: &str, with: &str| -> Vec<(&'static str, String)> {
        let form = world.form("support", grant);
        form.into_iter().map(|(k, v)| if k == name { (k, with.to_owned()) } else { (k, v) }).collect()
    };
    let mut stolen = world.form("support", grant);
    stolen[2].1 = world.assertion_by("support", &thief);
    let own = || world.prove("support", "POST", "/oauth/token", None);
    let twice = [world.form("support", grant), vec![("grant", grant.to_owned())]].concat();
    let both = [world.form("support", grant), vec![("task", task.task.to_string())]].concat();
    let elsewhere =
        [world.form("support", grant), vec![("audience", "https://other.example".to_owned())]].concat();
    let cases = [
        ("a thief's assertion", stolen, Some(proof_by(&thief)), 401, "invalid_client"),
        ("a thief's proof", world.form("support", grant), Some(proof_by(&thief)), 401, "invalid_client"),
        (
            "another agent's proof",
            world.form("support", grant),
            Some(world.prove("remediator", "POST", "/oauth/token", None)),
            401,
            "invalid_client",
        ),
        ("no proof", world.form("support", grant), None, 400, "invalid_dpop_proof"),
        (
            "another agent's grant",
            world.form("remediator", grant),
            Some(world.prove("remediator", "POST", "/oauth/token", None)),
            400,
            "invalid_grant",
        ),
        ("a grant that never was", swap("grant", "g-abcdefghijkm-9"), Some(own()), 400, "invalid_grant"),
        ("an unknown grant type", swap("grant_type", "password"), Some(own()), 400, "unsupported_grant_type"),
        ("a person's key", swap("client_assertion", &world.key("root")), Some(own()), 401, "invalid_client"),
        ("a name twice", twice, Some(own()), 400, "invalid_request"),
        ("grant and task", both, Some(own()), 400, "invalid_request"),
        ("another audience", elsewhere, Some(own()), 400, "invalid_target"),
    ];
    for (what, form, proof, status, error) in cases {
        let (got, body) = world.ask_token(&refs(&form), proof.as_deref()).await;
        assert_eq!((got, body["error"].as_str()), (status, Some(error)), "{what}: {body}");
    }
    assert_eq!(world.size().await, before, "no refusal minted anything");

    let exchange = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange".to_owned()),
        ("subject_token", world.assertion("support")),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt".to_owned()),
        ("task", task.task.to_string()),
    ];
    let (status, minted) = world.ask_token(&refs(&exchange), Some(&own())).await;
    assert_eq!((status, minted["grant"].as_str()), (200, Some(grant)), "{minted}");
}

#[tokio::test]
async fn metadata_names_what_there_is_and_introspection_tells_an_operator_what_lives() {
    let world = World::new().await;
    let task = world.open().await;
    let token = world.token("support", task.grant.as_str()).await;
    let get = async |path: &str| -> serde_json::Value {
        let response = world.http.get(format!("{}{path}", world.base)).send().await.unwrap();
        serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
    };
    let metadata = get("/.well-known/oauth-authorization-server").await;
    assert_eq!(metadata["token_endpoint"], format!("{}/oauth/token", world.base));
    assert_eq!(get("/.well-known/jwks.json").await["keys"].as_array().unwrap().len(), 1);
    assert_eq!(get("/openapi.json").await["openapi"], "3.1.0");
    assert_eq!(get("/readyz").await["status"], "ok");

    let inspect = async |key: &str, token: &str| -> serde_json::Value {
        let request = world.http.post(format!("{}/oauth/introspect", world.base)).bearer_auth(key);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let response = request.body(encoded(&[("token", token)])).send().await.unwrap();
        serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
    };
    let root = world.key("root");
    let live = inspect(&root, &token).await;
    assert_eq!((live["active"].as_bool(), live["txn"].as_str()), (Some(true), Some(task.task.as_str())));
    assert_eq!(inspect(&world.key("dana"), &token).await["code"], "person.not_operator");
    assert_eq!(inspect(&root, "nonsense").await, serde_json::json!({ "active": false }));
    let end =
        bailiwick_api::wire::TaskEnd { cause: bailiwick_api::wire::EndCause::Failed, reason: String::new() };
    world.sign_in("dana").end_task(&task.task, &end).await.unwrap();
    assert_eq!(
        inspect(&root, &token).await,
        serde_json::json!({ "active": false }),
        "INV2: it dies with its task"
    );
}
