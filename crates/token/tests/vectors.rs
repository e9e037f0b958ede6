//! The language-neutral cases in `vectors/token`, which other implementations run too.
//!
//! `UPDATE_VECTORS=1 cargo test -p bailiwick-token --test vectors` writes them anew; the README beside them
//! says what their members mean.

mod support;

use std::path::PathBuf;

use bailiwick_token::dpop::{self, Expected};
use bailiwick_token::subject::{assert_agent, check_assertion};
use bailiwick_token::{
    Confirmation, Digest, Jwks, Mint, PublicKey, SigningKey, SpiffeId, TokenRefusal, Verifier,
};
use serde_json::{Value, json};
use support::*;

const TOKEN_ENDPOINT: &str = "https://bailiwick.example/token";

/// A test key from 32 bytes; the first is the key of RFC 8037 appendix A.
fn fixed_key(seed: &[u8; 32]) -> SigningKey {
    const PKCS8_ED25519: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    SigningKey::from_pkcs8(&[&PKCS8_ED25519[..], seed].concat()).unwrap()
}

fn issuer_key() -> SigningKey {
    fixed_key(&unb64("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").try_into().unwrap())
}

fn agent_key() -> SigningKey {
    fixed_key(&[7; 32])
}

fn private_jwk(key: &SigningKey, seed: &[u8]) -> Value {
    let mut jwk = key.public().to_jwk();
    jwk["d"] = json!(b64(seed));
    jwk
}

fn code<T>(result: Result<T, TokenRefusal>) -> String {
    result.map(|_| "ok").unwrap_or_else(|e| e.code()).to_owned()
}

/// The file's cases; written anew first if asked for.
fn vectors(name: &str, make: impl FnOnce() -> Value) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../vectors/token").join(name);
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        std::fs::write(&path, serde_json::to_string_pretty(&make()).unwrap() + "\n").unwrap();
    }
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn cases(file: &Value) -> &Vec<Value> {
    let cases = file["cases"].as_array().unwrap();
    assert!(cases.iter().any(|c| c["code"] == "ok") && cases.iter().any(|c| c["code"] != "ok"));
    cases
}

fn make_task_tokens() -> Value {
    let world = World {
        mint: Mint::new(ISSUER, issuer_key()),
        verifier: Verifier::new(ISSUER, AUDIENCE, &Jwks::new([issuer_key().public().clone()])),
        issuer_key: issuer_key(),
        agent: agent_key(),
    };
    let payload = serde_json::to_string(&world.claims()).unwrap();
    let header = |change: &dyn Fn(&mut Value)| {
        let mut header = world.header();
        change(&mut header);
        press(&world.issuer_key, &header, &payload)
    };
    let stranger = press(&agent_key(), &world.header(), &payload);
    let repeated = payload.replacen('{', r#"{"sub":"user:eve","#, 1);
    let made = [
        ("minted", world.token(), NOW),
        ("last second", world.token(), NOW + 119),
        ("expired", world.token(), NOW + 120),
        ("within the skew", world.token(), NOW - 5),
        ("not yet valid", world.token(), NOW - 6),
        ("audience as an array of one", world.forged(|p| p["aud"] = json!([AUDIENCE])), NOW),
        ("two audiences", world.forged(|p| p["aud"] = json!([AUDIENCE, "https://b.example"])), NOW),
        ("another audience", world.forged(|p| p["aud"] = json!("https://b.example")), NOW),
        ("another issuer", world.forged(|p| p["iss"] = json!("https://b.example")), NOW),
        ("lives too long", world.forged(|p| p["exp"] = json!(NOW + 301)), NOW),
        ("carries an approval", world.forged(|p| p["apr"] = json!({"id": "a-1"})), NOW),
        ("deeper than it says", world.forged(|p| p["act"]["act"] = p["act"].clone()), NOW),
        ("no holder", world.forged(|p| p["cnf"] = json!({})), NOW),
        ("a member repeated", press(&world.issuer_key, &world.header(), &repeated), NOW),
        ("signed by a stranger", stranger, NOW),
        ("typ in capitals", header(&|h| h["typ"] = json!("application/AT+JWT")), NOW),
        ("typ JWT", header(&|h| h["typ"] = json!("JWT")), NOW),
        ("alg none", header(&|h| h["alg"] = json!("none")), NOW),
        ("alg HS256", header(&|h| h["alg"] = json!("HS256")), NOW),
        ("kid is a path", header(&|h| h["kid"] = json!("../../keys/1")), NOW),
        ("jku", header(&|h| h["jku"] = json!("https://evil.example/jwks")), NOW),
        ("crit", header(&|h| h["crit"] = json!(["exp"])), NOW),
    ];
    let cases = made.map(|(name, token, now)| {
        json!({"name": name, "now": now, "code": code(world.verifier.verify(&token, now)), "token": token})
    });
    json!({
        "what": "Task tokens at a verifier. code = ok, or the refusal.",
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "jwks": Jwks::new([issuer_key().public().clone()]).to_json(),
        "cases": cases,
    })
}

#[test]
fn task_tokens() {
    let file = vectors("task-token.json", make_task_tokens);
    let jwks = Jwks::parse(&file["jwks"].to_string()).unwrap();
    let verifier = Verifier::new(file["issuer"].as_str().unwrap(), file["audience"].as_str().unwrap(), &jwks);
    for case in cases(&file) {
        let got = verifier.verify(case["token"].as_str().unwrap(), case["now"].as_u64().unwrap());
        assert_eq!(code(got), case["code"], "{}", case["name"]);
    }
}

fn make_proofs() -> Value {
    let key = agent_key();
    let header = json!({"typ": "dpop+jwt", "alg": "EdDSA", "jwk": key.public().to_jwk()});
    let forged = |change: &dyn Fn(&mut Value, &mut Value)| {
        let (mut h, mut p) =
            (header.clone(), json!({"jti": "p1", "htm": "POST", "htu": AUDIENCE, "iat": NOW}));
        change(&mut h, &mut p);
        press(&key, &h, &p.to_string())
    };
    let plain = forged(&|_, _| ());
    let bound = dpop::prove(&key, "POST", AUDIENCE, Some("a-token"), Some("n-1"), NOW, "p1").unwrap();
    let ask = |token: Option<&str>, nonce: Option<&str>, now: u64| {
        json!({"htm": "POST", "htu": AUDIENCE, "access_token": token, "nonce": nonce, "now": now,
            "window_secs": 60, "jkt": key.public().jkt().to_string()})
    };
    let other_method = {
        let mut asked = ask(None, None, NOW);
        asked["htm"] = json!("GET");
        asked
    };
    let other_key = {
        let mut asked = ask(None, None, NOW);
        asked["jkt"] = json!(issuer_key().public().jkt().to_string());
        asked
    };
    let made = [
        ("without a token", plain.clone(), ask(None, None, NOW)),
        ("with token and nonce", bound.clone(), ask(Some("a-token"), Some("n-1"), NOW)),
        ("last second", plain.clone(), ask(None, None, NOW + 60)),
        ("too old", plain.clone(), ask(None, None, NOW + 61)),
        ("from the future", plain.clone(), ask(None, None, NOW - 6)),
        ("another method", plain.clone(), other_method),
        ("another key", plain.clone(), other_key),
        ("another URL", forged(&|_, p| p["htu"] = json!("https://b.example/mcp")), ask(None, None, NOW)),
        ("no ath for a token", plain.clone(), ask(Some("a-token"), None, NOW)),
        ("another token", bound.clone(), ask(Some("b-token"), Some("n-1"), NOW)),
        ("ath where no token is", bound.clone(), ask(None, None, NOW)),
        ("no nonce", plain, ask(None, Some("n-1"), NOW)),
        ("another nonce", bound, ask(Some("a-token"), Some("n-2"), NOW)),
        ("typ JWT", forged(&|h, _| h["typ"] = json!("JWT")), ask(None, None, NOW)),
        ("alg ES256 with an Ed25519 key", forged(&|h, _| h["alg"] = json!("ES256")), ask(None, None, NOW)),
        ("private key in the header", forged(&|h, _| h["jwk"]["d"] = json!("AAAA")), ask(None, None, NOW)),
        ("no jti", forged(&|_, p| drop(p.as_object_mut().unwrap().remove("jti"))), ask(None, None, NOW)),
        ("long jti", forged(&|_, p| p["jti"] = json!("j".repeat(129))), ask(None, None, NOW)),
    ];
    let cases = made.map(|(name, proof, asked)| {
        json!({"name": name, "expected": asked, "code": code(check_proof(&proof, &asked)), "proof": proof})
    });
    json!({
        "what": "DPoP proofs at a server, and one to make. code = ok, or the refusal.",
        "make": {
            "key": private_jwk(&key, &[7; 32]),
            "input": {"htm": "POST", "htu": "https://TOOLS.example:443/mcp?x=1#y", "access_token": "a-token",
                "nonce": "n-1", "iat": NOW, "jti": "p1"},
            "header": header,
            "payload": {"jti": "p1", "htm": "POST", "htu": AUDIENCE, "iat": NOW,
                "ath": Digest::of(b"a-token").to_string(), "nonce": "n-1"},
        },
        "cases": cases,
    })
}

fn check_proof(proof: &str, asked: &Value) -> Result<dpop::ProofId, TokenRefusal> {
    let text = |name: &str| asked[name].as_str();
    let expected = Expected {
        htm: text("htm").unwrap(),
        htu: text("htu").unwrap(),
        access_token: text("access_token"),
        nonce: text("nonce"),
        now: asked["now"].as_u64().unwrap(),
        window_secs: asked["window_secs"].as_u64().unwrap(),
        expected_jkt: text("jkt").map(|jkt| Digest::parse(jkt).unwrap()),
    };
    dpop::check(proof, &expected)
}

#[test]
fn proofs_of_possession() {
    let file = vectors("dpop.json", make_proofs);
    for case in cases(&file) {
        let got = check_proof(case["proof"].as_str().unwrap(), &case["expected"]);
        assert_eq!(code(got), case["code"], "{}", case["name"]);
    }
    let (input, make) = (&file["make"]["input"], &file["make"]);
    let seed: [u8; 32] = unb64(make["key"]["d"].as_str().unwrap()).try_into().unwrap();
    let text = |name: &str| input[name].as_str();
    let proof = dpop::prove(
        &fixed_key(&seed),
        text("htm").unwrap(),
        text("htu").unwrap(),
        text("access_token"),
        text("nonce"),
        input["iat"].as_u64().unwrap(),
        text("jti").unwrap(),
    );
    let proof = proof.unwrap();
    let part =
        |at: usize| -> Value { serde_json::from_slice(&unb64(proof.split('.').nth(at).unwrap())).unwrap() };
    assert_eq!((&part(0), &part(1)), (&make["header"], &make["payload"]));
}

fn make_assertions() -> Value {
    let key = agent_key();
    let made = assert_agent(&key, &planner(), TOKEN_ENDPOINT, NOW, "a1").unwrap();
    let forged = |change: &dyn Fn(&mut Value)| {
        let header = json!({"typ": "JWT", "alg": "EdDSA"});
        let mut p = json!({"iss": planner(), "sub": planner(), "aud": TOKEN_ENDPOINT, "iat": NOW,
            "exp": NOW + 60, "jti": "a1"});
        change(&mut p);
        press(&key, &header, &p.to_string())
    };
    let made = [
        ("as we make it", made.clone(), NOW),
        ("typ JWT, as others make it", forged(&|_| ()), NOW),
        ("expired", made, NOW + 60),
        ("too long a life", forged(&|p| p["exp"] = json!(NOW + 301)), NOW),
        ("another audience", forged(&|p| p["aud"] = json!("https://b.example")), NOW),
        ("two audiences", forged(&|p| p["aud"] = json!([TOKEN_ENDPOINT, "https://b.example"])), NOW),
        ("issuer is not the subject", forged(&|p| p["iss"] = json!(executor())), NOW),
        ("an unknown agent", forged(&|p| p["sub"] = json!(executor())), NOW),
        ("not a SPIFFE ID", forged(&|p| p["sub"] = json!("planner")), NOW),
        ("no jti", forged(&|p| drop(p.as_object_mut().unwrap().remove("jti"))), NOW),
    ];
    let registered = json!({ planner().as_str(): key.public().to_jwk() });
    let cases = made.map(|(name, assertion, now)| {
        let got = code(check_registered(&assertion, now, &registered));
        json!({"name": name, "now": now, "code": got, "assertion": assertion})
    });
    json!({
        "what": "Agents' assertions at the token endpoint. code = ok, or the refusal.",
        "audience": TOKEN_ENDPOINT,
        "registered": registered,
        "cases": cases,
    })
}

fn check_registered(jwt: &str, now: u64, registered: &Value) -> Result<(), TokenRefusal> {
    let lookup = |id: &SpiffeId| PublicKey::from_jwk(registered.get(id.as_str())?.as_object()?).ok();
    check_assertion(jwt, TOKEN_ENDPOINT, now, lookup).map(drop)
}

#[test]
fn agent_assertions() {
    let file = vectors("agent-assertion.json", make_assertions);
    for case in cases(&file) {
        let got = check_registered(
            case["assertion"].as_str().unwrap(),
            case["now"].as_u64().unwrap(),
            &file["registered"],
        );
        assert_eq!(code(got), case["code"], "{}", case["name"]);
    }
}

/// Equal claims give equal bytes: the first case of the file is what the mint makes today.
#[test]
fn minting_is_deterministic() {
    let mint = Mint::new(ISSUER, issuer_key());
    let mut claims = root_claims(agent_key().public().jkt());
    let token = mint.mint(&claims, NOW + 120).unwrap();
    assert_eq!(token, mint.mint(&claims.clone(), NOW + 120).unwrap());
    let file = vectors("task-token.json", make_task_tokens);
    assert_eq!(token, file["cases"][0]["token"].as_str().unwrap());
    claims.cnf = Confirmation::Jkt(Digest::of(b"another key"));
    assert_ne!(token, mint.mint(&claims, NOW + 120).unwrap());
}
