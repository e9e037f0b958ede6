//! The real door: task tokens that the product's mint made, and proofs of possession.

use crate::support::{Scripted, child, listen, send, serve_at};
use bailiwick_gateway::TokenDoor;
use bailiwick_token::claims::SubjectProfile;
use bailiwick_token::{
    Actor, Claims, Confirmation, Digest, Jwks, KeyAlgorithm, Mint, SigningKey, SpiffeId, TaskAuthorization,
    TaskContext, Verifier, dpop, random_id,
};
use serde_json::json;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

struct Guarded {
    url: String,
    mint: Mint,
    point: Arc<Scripted>,
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn key() -> SigningKey {
    SigningKey::generate(KeyAlgorithm::Ed25519).unwrap()
}

impl Guarded {
    async fn start() -> Guarded {
        let mint = Mint::new("https://bailiwick.example", key());
        let (listener, port) = listen().await;
        let url = format!("http://127.0.0.1:{port}");
        let jwks = Jwks::new([mint.public().clone()]);
        let verifier = Verifier::new("https://bailiwick.example", format!("{url}/mcp"), &jwks);
        let point = Arc::new(Scripted::default());
        serve_at(listener, &url, point.clone(), TokenDoor::new(&url, verifier), vec![child("fix", "modern")])
            .await;
        point.observed("fix", |tools| !tools.is_empty()).await;
        Guarded { url, mint, point }
    }

    fn token(&self, key: &SigningKey, audience: &str) -> String {
        let agent = SpiffeId::parse("spiffe://example.org/agent/planner").unwrap();
        let hash = Digest::of(b"");
        let claims = Claims {
            iss: "https://bailiwick.example".into(),
            aud: audience.into(),
            exp: now() + 60,
            iat: now(),
            nbf: now(),
            jti: random_id().unwrap(),
            client_id: agent.as_str().into(),
            sub: "dana@example.com".into(),
            act: Actor {
                iss: "https://bailiwick.example".into(),
                sub: agent,
                sub_profile: SubjectProfile::AiAgent,
                act: None,
            },
            cnf: Confirmation::Jkt(key.public().jkt()),
            authorization_details: vec![TaskAuthorization::new(vec![])],
            txn: "task-1".into(),
            tctx: TaskContext { intent: hash, chain: hash, policy: hash },
            del_depth: 0,
            del_max_depth: 0,
            par_hash: None,
            grant: "grant-1".into(),
            tenant: "main".into(),
            taint: vec![],
        };
        self.mint.mint(&claims, now() + 60).unwrap()
    }

    fn request(&self, token: &str, proof: &str) -> reqwest::RequestBuilder {
        let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}});
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": {"name": "fix__echo", "arguments": {"a": 1}, "_meta": meta}});
        reqwest::Client::builder()
            .no_proxy()
            .build()
            .unwrap()
            .post(format!("{}/mcp", self.url))
            .header("content-type", "application/json")
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", "tools/call")
            .header("mcp-name", "fix__echo")
            .header("authorization", format!("DPoP {token}"))
            .header("dpop", proof)
            .body(body.to_string())
    }

    fn proof(&self, key: &SigningKey, method: &str, path: &str, token: &str) -> String {
        let url = format!("{}{path}", self.url);
        dpop::prove(key, method, &url, Some(token), None, now(), &random_id().unwrap()).unwrap()
    }
}

// proves: I3, A12
#[tokio::test]
async fn only_the_holder_of_the_key_with_a_fresh_proof_for_this_request_is_let_in() {
    let world = Guarded::start().await;
    let key = key();
    let token = world.token(&key, &format!("{}/mcp", world.url));
    let good = world.proof(&key, "POST", "/mcp", &token);
    let (status, answer) = send(world.request(&token, &good)).await;
    assert_eq!((status, &answer["result"]["structuredContent"]["a"]), (200, &json!(1)), "{answer}");
    assert_eq!(world.point.decided.lock().unwrap()[0].0, "planner");

    let thief = crate::token::key();
    let elsewhere = world.token(&key, "https://another.example/mcp");
    for (what, token, proof) in [
        ("the same proof again", &token, good.clone()),
        ("a thief's key", &token, world.proof(&thief, "POST", "/mcp", &token)),
        ("another path", &token, world.proof(&key, "POST", "/mcp/fix", &token)),
        ("another method", &token, world.proof(&key, "DELETE", "/mcp", &token)),
        ("another token's proof", &token, world.proof(&key, "POST", "/mcp", &elsewhere)),
        ("another audience", &elsewhere, world.proof(&key, "POST", "/mcp", &elsewhere)),
        ("no proof at all", &token, String::new()),
    ] {
        let (status, answer) = send(world.request(token, &proof)).await;
        assert_eq!(status, 401, "{what}: {answer}");
    }
    let bearer = world.request(&token, &good).build().unwrap();
    let mut bearer = bearer;
    bearer.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    assert_eq!(client.execute(bearer).await.unwrap().status(), 401);
    assert_eq!(world.point.decided.lock().unwrap().len(), 1);
}
