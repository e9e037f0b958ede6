//! Task tokens: what is minted is accepted, and nothing else is.

mod support;

use bailiwick_token::{
    Confirmation, Digest, Jwks, KeyAlgorithm, Mint, Request, SignatureCache, SigningKey, Verifier, dpop,
};
use serde_json::{Value, json};
use support::*;

fn code<T: std::fmt::Debug>(result: Result<T, bailiwick_token::TokenRefusal>) -> &'static str {
    result.unwrap_err().code()
}

// proves: I2, I3, H3
#[test]
fn a_planner_gets_a_token_hands_work_on_and_the_executor_calls_with_its_own() {
    for algorithm in [KeyAlgorithm::Ed25519, KeyAlgorithm::P256] {
        let world = World::with(algorithm);
        let parent = world.verifier.verify(&world.token(), NOW + 1).unwrap();
        assert_eq!(parent.claims(), &world.claims());

        let executor_key = SigningKey::generate(algorithm).unwrap();
        let claims = child_claims(parent.claims(), parent.hash(), executor_key.public().jkt());
        let token = world.mint.mint_child(&claims, NOW + 120, &parent).unwrap();

        let child = world.verifier.verify(&token, NOW + 2).unwrap();
        assert_eq!(child.claims().sub, "user:ana", "the initiator stays the same");
        assert_eq!(child.claims().act.sub, executor());
        assert_eq!(child.claims().act.act.as_ref().unwrap().sub, planner(), "the chain stays visible");

        let htu = "https://tools.example/mcp";
        let proof = dpop::prove(&executor_key, "POST", htu, Some(&token), None, NOW + 2, "p1").unwrap();
        let request = Request { htm: "POST", htu, nonce: None, now_secs: NOW + 2 };
        let caller = child.clone().proven_by_dpop(&proof, &request).unwrap();
        assert_eq!(caller.claims().grant, "grant-2");
        assert_eq!(caller.proof_id().unwrap().holder(), executor_key.public().jkt());

        let by_planner = dpop::prove(&world.agent, "POST", htu, Some(&token), None, NOW + 2, "p2").unwrap();
        assert_eq!(code(child.proven_by_dpop(&by_planner, &request)), "token.holder");
    }
}

// proves: I3
#[test]
fn a_stolen_token_is_useless_without_its_key() {
    let world = World::new();
    let token = world.token();
    let verified = || world.verifier.verify(&token, NOW).unwrap();
    let thief = SigningKey::generate(KeyAlgorithm::Ed25519).unwrap();
    let htu = "https://tools.example/mcp";
    let request = Request { htm: "POST", htu, nonce: None, now_secs: NOW };
    let proof =
        |key: &SigningKey, token: Option<&str>| dpop::prove(key, "POST", htu, token, None, NOW, "p").unwrap();

    assert!(verified().proven_by_dpop(&proof(&world.agent, Some(&token)), &request).is_ok());
    assert_eq!(code(verified().proven_by_dpop(&proof(&thief, Some(&token)), &request)), "token.holder");
    assert_eq!(code(verified().proven_by_dpop("", &request)), "token.malformed");
    assert_eq!(code(verified().proven_by_dpop(&token, &request)), "token.header");
    assert_eq!(code(verified().proven_by_dpop(&proof(&world.agent, None), &request)), "dpop.access_token");
    assert_eq!(
        code(verified().proven_by_dpop(&proof(&world.agent, Some("other")), &request)),
        "dpop.access_token"
    );
    assert_eq!(code(verified().proven_by_mtls(b"a certificate")), "token.holder");
}

// proves: I3
#[test]
fn a_token_bound_to_a_certificate_wants_that_certificate() {
    let world = World::new();
    let mut claims = world.claims();
    claims.cnf = Confirmation::X5tS256(Digest::of(b"the agent's certificate"));
    let token = world.mint.mint(&claims, NOW + 120).unwrap();
    let verified = world.verifier.verify(&token, NOW).unwrap();
    assert!(verified.clone().proven_by_mtls(b"the agent's certificate").is_ok());
    assert_eq!(code(verified.clone().proven_by_mtls(b"another certificate")), "token.holder");

    let proof = dpop::prove(&world.agent, "GET", AUDIENCE, Some(&token), None, NOW, "p").unwrap();
    let request = Request { htm: "GET", htu: AUDIENCE, nonce: None, now_secs: NOW };
    assert_eq!(code(verified.proven_by_dpop(&proof, &request)), "token.holder");
}

#[test]
fn a_token_lives_exactly_as_long_as_it_says() {
    let world = World::new();
    let token = world.token();
    let at = |now| world.verifier.verify(&token, now).map(|_| "ok").unwrap_or_else(|e| e.code());
    assert_eq!(at(NOW), "ok");
    assert_eq!(at(NOW + 119), "ok");
    assert_eq!(at(NOW + 120), "token.expired", "skew never lengthens a life");
    assert_eq!(at(u64::MAX), "token.expired");
    assert_eq!(at(NOW - 5), "ok");
    assert_eq!(at(NOW - 6), "token.not_yet_valid");
    assert_eq!(at(0), "token.not_yet_valid");
}

#[test]
fn the_mint_refuses_long_lives_and_lives_beyond_the_grant() {
    let world = World::new();
    let mint = |exp: u64, ends_at: u64| {
        let mut claims = world.claims();
        claims.exp = exp;
        world.mint.mint(&claims, ends_at).map(|_| "ok").unwrap_or_else(|e| e.code())
    };
    assert_eq!(mint(NOW + 300, NOW + 300), "ok");
    assert_eq!(mint(NOW + 301, NOW + 9999), "token.lifetime");
    assert_eq!(mint(NOW, NOW + 300), "token.lifetime");
    assert_eq!(mint(NOW - 1, NOW + 300), "token.lifetime");
    assert_eq!(mint(NOW + 60, NOW + 59), "token.widened");
    assert_eq!(mint(u64::MAX, u64::MAX), "token.lifetime");

    let long = world.forged(|p| p["exp"] = json!(NOW + 301));
    assert_eq!(code(world.verifier.verify(&long, NOW)), "token.lifetime", "even if the key was misused");
}

// proves: H3
#[test]
fn a_child_is_strictly_below_its_parent_or_it_is_not_minted() {
    let world = World::new();
    let parent = world.verifier.verify(&world.token(), NOW).unwrap();
    let key = SigningKey::generate(KeyAlgorithm::Ed25519).unwrap();
    let good = child_claims(parent.claims(), parent.hash(), key.public().jkt());
    let check = |what: &str, change: &dyn Fn(&mut bailiwick_token::Claims)| {
        let mut claims = good.clone();
        change(&mut claims);
        match world.mint.mint_child(&claims, NOW + 3600, &parent) {
            Ok(_) => assert_eq!(what, "ok"),
            Err(e) => assert_eq!((e.code(), e.detail()), ("token.widened", Some(what))),
        }
    };
    check("ok", &|_| ());
    check("ok", &|c| c.exp -= 10);
    check("ok", &|c| c.taint.push("untrusted:web".into()));
    check("ok", &|c| c.del_max_depth = 1);
    check("exp", &|c| c.exp += 1);
    check("sub", &|c| c.sub = "user:eve".into());
    check("txn", &|c| c.txn = "task-2".into());
    check("tenant", &|c| c.tenant = "globex".into());
    check("tctx", &|c| c.tctx.intent = Digest::of(b"another intent"));
    check("del_max_depth", &|c| c.del_max_depth = 3);
    check("del_depth", &|c| c.del_depth = 0);
    check("del_depth", &|c| c.del_depth = 2);
    check("act", &|c| c.act.act = None);
    check("par_hash", &|c| c.par_hash = None);
    check("par_hash", &|c| c.par_hash = Some(Digest::of(b"another parent")));
    check("cnf", &|c| c.cnf = parent.claims().cnf);
    check("taint", &|c| c.taint.clear());

    // The last permitted hop may not hand on.
    let mut leaf = good.clone();
    leaf.del_max_depth = 1;
    let leaf = world.mint.mint_child(&leaf, NOW + 120, &parent).unwrap();
    let leaf = world.verifier.verify(&leaf, NOW).unwrap();
    let key = SigningKey::generate(KeyAlgorithm::Ed25519).unwrap();
    let below = child_claims(leaf.claims(), leaf.hash(), key.public().jkt());
    assert_eq!(code(world.mint.mint_child(&below, NOW + 120, &leaf)), "token.claim");
}

// proves: H7
#[test]
fn no_approval_no_session_and_nothing_unknown_rides_along() {
    let world = World::new();
    assert!(world.verifier.verify(&world.forged(|_| ()), NOW).is_ok());
    for name in ["apr", "approval", "sid", "session", "refresh_token", "scope", "admin"] {
        let token = world.forged(|p| p[name] = json!({"id": "a-1"}));
        assert_eq!(code(world.verifier.verify(&token, NOW)), "token.claim", "{name}");
    }
    let nested = world.forged(|p| p["act"]["apr"] = json!("a-1"));
    assert_eq!(code(world.verifier.verify(&nested, NOW)), "token.claim");
    let nested = world.forged(|p| p["authorization_details"][0]["apr"] = json!("a-1"));
    assert_eq!(code(world.verifier.verify(&nested, NOW)), "token.claim");
    let nested = world.forged(|p| p["cnf"]["jwk"] = json!({}));
    assert_eq!(code(world.verifier.verify(&nested, NOW)), "token.claim");
}

// proves: A12, INV6
#[test]
fn every_claim_is_needed_and_has_its_type() {
    let world = World::new();
    let whole = serde_json::to_value(world.claims()).unwrap();
    for name in whole.as_object().unwrap().keys() {
        let token = world.forged(|p| drop(p.as_object_mut().unwrap().remove(name)));
        assert!(world.verifier.verify(&token, NOW).is_err(), "without {name}");
        for odd in
            [json!(null), json!(-1), json!(1.5), json!({}), json!([]), json!(""), json!("a\nb"), json!([1])]
        {
            if name == "taint" && odd == json!([]) {
                continue;
            }
            let token = world.forged(|p| p[name] = odd.clone());
            assert!(world.verifier.verify(&token, NOW).is_err(), "{name} = {odd}");
        }
    }
}

// proves: A12, I3
#[test]
fn exactly_one_audience_and_it_is_us() {
    let world = World::new();
    let with = |aud: Value| {
        let token = world.forged(|p| p["aud"] = aud);
        world.verifier.verify(&token, NOW).map(|_| "ok").unwrap_or_else(|e| e.code())
    };
    assert_eq!(with(json!(AUDIENCE)), "ok");
    assert_eq!(with(json!([AUDIENCE])), "ok");
    assert_eq!(with(json!([AUDIENCE, "https://other.example"])), "token.audience");
    assert_eq!(with(json!([AUDIENCE, AUDIENCE])), "token.audience");
    assert_eq!(with(json!([])), "token.audience");
    assert_eq!(with(json!("https://other.example")), "token.audience");
    assert_eq!(with(json!(format!("{AUDIENCE}/"))), "token.audience");
    assert_eq!(with(json!("https://TOOLS.example/mcp")), "token.audience");
}

#[test]
fn another_issuer_or_tenant_is_another_world() {
    let ours = World::new();
    let theirs = World::new();
    assert_eq!(code(ours.verifier.verify(&theirs.token(), NOW)), "token.key_unknown");
    // Same key, other issuer: a staging system that was given production's key by mistake.
    let copy = SigningKey::from_pkcs8(&ours.issuer_key.to_pkcs8()).unwrap();
    let staging = Mint::new("https://staging.example", copy);
    let mut claims = ours.claims();
    assert_eq!(code(staging.mint(&claims, NOW + 120)), "token.issuer");
    claims.iss = "https://staging.example".into();
    let token = staging.mint(&claims, NOW + 120).unwrap();
    assert_eq!(code(ours.verifier.verify(&token, NOW)), "token.issuer");

    let acme = ours.verifier.clone().for_tenant("acme");
    let globex = ours.verifier.clone().for_tenant("globex");
    let token = ours.token();
    assert!(acme.verify(&token, NOW).is_ok());
    assert_eq!(code(globex.verify(&token, NOW)), "token.tenant");
    // One cache for both tenants changes no answer, in either order.
    let mut cache = SignatureCache::new(8);
    for _ in 0..2 {
        assert!(acme.verify_cached(&mut cache, &token, NOW).is_ok());
        assert_eq!(code(globex.verify_cached(&mut cache, &token, NOW)), "token.tenant");
    }
}

#[test]
fn the_cache_remembers_signatures_and_nothing_else() {
    let world = World::new();
    let token = world.token();
    let mut cache = SignatureCache::new(1);
    assert!(world.verifier.verify_cached(&mut cache, &token, NOW).is_ok());
    assert!(world.verifier.verify_cached(&mut cache, &token, NOW + 119).is_ok());
    assert_eq!(code(world.verifier.verify_cached(&mut cache, &token, NOW + 120)), "token.expired");
    let rotated = Verifier::new(ISSUER, AUDIENCE, &Jwks::default());
    assert_eq!(code(rotated.verify_cached(&mut cache, &token, NOW)), "token.key_unknown");
    let elsewhere =
        Verifier::new(ISSUER, "https://b.example", &Jwks::new([world.issuer_key.public().clone()]));
    assert_eq!(code(elsewhere.verify_cached(&mut cache, &token, NOW)), "token.audience");
    let forger = SigningKey::generate(KeyAlgorithm::Ed25519).unwrap();
    let bad = press(&forger, &world.header(), &serde_json::to_string(&world.claims()).unwrap());
    for _ in 0..2 {
        assert!(world.verifier.verify_cached(&mut cache, &bad, NOW).is_err(), "a bad signature is not kept");
    }
    cache.clear();
    assert!(world.verifier.verify_cached(&mut cache, &token, NOW).is_ok());
}

// proves: A12
#[test]
fn the_header_chooses_nothing() {
    let world = World::new();
    let check = |change: &dyn Fn(&mut Value), wanted: &str| {
        let mut header = world.header();
        change(&mut header);
        let token = press(&world.issuer_key, &header, &serde_json::to_string(&world.claims()).unwrap());
        let got = world.verifier.verify(&token, NOW).map(|_| "ok").unwrap_or_else(|e| e.code());
        assert_eq!(got, wanted, "{header}");
    };
    check(&|_| (), "ok");
    check(&|h| h["typ"] = json!("AT+JWT"), "ok");
    check(&|h| h["typ"] = json!("application/at+jwt"), "ok");
    check(&|h| h["alg"] = json!("Ed25519"), "ok");
    for typ in
        ["JWT", "dpop+jwt", "at+jwt ", "at+jwt;v=1", "x/at+jwt", "application/application/at+jwt", "at jwt"]
    {
        check(&|h| h["typ"] = json!(typ), "token.type");
    }
    check(&|h| drop(h.as_object_mut().unwrap().remove("typ")), "token.type");
    for alg in ["none", "None", "HS256", "ES256", "RS256", "PS256", "eddsa", "EdDSA "] {
        check(&|h| h["alg"] = json!(alg), "token.algorithm");
    }
    check(&|h| drop(h.as_object_mut().unwrap().remove("alg")), "token.header");
    check(&|h| h["alg"] = json!(["EdDSA"]), "token.header");
    check(&|h| h["alg"] = json!(""), "token.header");
    for kid in ["../../etc/passwd", "https://evil.example/jwks", "' OR 1=1", "0", "\u{0}"] {
        check(&|h| h["kid"] = json!(kid), "token.key_unknown");
    }
    check(&|h| h["kid"] = json!("k".repeat(600)), "token.header");
    check(&|h| h["kid"] = json!({"$ne": ""}), "token.header");
    check(&|h| drop(h.as_object_mut().unwrap().remove("kid")), "token.header");
    let jwk = world.issuer_key.public().to_jwk();
    for (name, value) in [
        ("jku", json!("https://evil.example/jwks")),
        ("jwk", jwk),
        ("x5u", json!("https://evil.example/cert")),
        ("x5c", json!(["AAAA"])),
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
        ("cty", json!("JWT")),
        ("anything", json!(1)),
    ] {
        check(&|h| h[name] = value.clone(), "token.header");
    }
}

/// HS256 keyed with the public key, the classic: the signature is well made and still worth nothing.
// proves: A12
#[test]
fn a_public_key_is_never_a_shared_secret() {
    for algorithm in [KeyAlgorithm::Ed25519, KeyAlgorithm::P256] {
        let world = World::with(algorithm);
        let mut header = world.header();
        header["alg"] = json!("HS256");
        let payload = serde_json::to_string(&world.claims()).unwrap();
        let input = format!("{}.{}", b64(header.to_string().as_bytes()), b64(payload.as_bytes()));
        let jwk = world.issuer_key.public().to_jwk();
        for secret in [jwk.to_string().into_bytes(), unb64(jwk["x"].as_str().unwrap())] {
            let key = jsonwebtoken::EncodingKey::from_secret(&secret);
            let tag = jsonwebtoken::crypto::sign(input.as_bytes(), &key, jsonwebtoken::Algorithm::HS256);
            let token = format!("{input}.{}", tag.unwrap());
            assert_eq!(code(world.verifier.verify(&token, NOW)), "token.algorithm");
        }
        let unsigned = format!("{input}.");
        assert_eq!(code(world.verifier.verify(&unsigned, NOW)), "token.algorithm");
    }
}

// proves: A12
#[test]
fn what_can_be_read_in_two_ways_is_not_read() {
    let world = World::new();
    let payload = serde_json::to_string(&world.claims()).unwrap();
    let header = world.header().to_string();
    let check = |header: &str, payload: &str, wanted: &str| {
        let token = press_bytes(&world.issuer_key, header.as_bytes(), payload.as_bytes());
        let got = world.verifier.verify(&token, NOW).map(|_| "ok").unwrap_or_else(|e| e.code());
        assert_eq!(got, wanted, "{header} {payload}");
    };
    check(&header, &payload, "ok");
    let twice = |text: &str, member: &str| format!("{{{member},{}", &text[1..]);
    check(&twice(&header, r#""alg":"none""#), &payload, "token.malformed");
    check(&twice(&header, r#""\u0061lg":"none""#), &payload, "token.malformed");
    check(&header, &twice(&payload, r#""sub":"user:eve""#), "token.malformed");
    check(&header, &payload.replace(r#""action""#, r#""action":"x","action""#), "token.malformed");
    check(&header, &format!("{payload} {{}}"), "token.malformed");
    check(&header, "", "token.malformed");
    check(&header, "null", "token.malformed");
    check("[]", &payload, "token.malformed");

    let token = world.token();
    let refused = |token: &str| assert!(world.verifier.verify(token, NOW).is_err(), "{token}");
    for odd in [
        format!(" {token}"),
        format!("{token} "),
        format!("{token}\n"),
        format!("{token}="),
        format!("{token}."),
        format!(".{token}"),
        format!("{token}.{token}"),
        token.replace('.', ".."),
        token.replace('.', ""),
        format!("Bearer {token}"),
        String::new(),
        ".".into(),
        "..".into(),
        "...".into(),
    ] {
        refused(&odd);
    }
    refused(&"a".repeat(17 * 1024));
    assert_eq!(code(world.verifier.verify(&"a".repeat(17 * 1024), NOW)), "token.too_large");
}

#[test]
fn the_chain_of_agents_is_as_deep_as_it_says_and_never_deeper_than_eight() {
    let world = World::new();
    let chain = |depth: u64, actors: u64| {
        world.forged(|p| {
            let mut act = p["act"].clone();
            for _ in 0..actors {
                let mut outer = p["act"].clone();
                outer["act"] = act;
                act = outer;
            }
            p["act"] = act;
            p["del_depth"] = json!(depth);
            p["del_max_depth"] = json!(depth.max(2));
            p["par_hash"] = json!(Digest::of(b"parent").to_string());
        })
    };
    for depth in 1..=8 {
        assert!(world.verifier.verify(&chain(depth, depth), NOW).is_ok(), "{depth}");
    }
    assert_eq!(code(world.verifier.verify(&chain(9, 9), NOW)), "token.claim");
    assert_eq!(code(world.verifier.verify(&chain(2, 1), NOW)), "token.claim");
    assert_eq!(code(world.verifier.verify(&chain(1, 2), NOW)), "token.claim");
    assert!(world.verifier.verify(&chain(40, 40), NOW).is_err());
    assert!(world.verifier.verify(&chain(4000, 4000), NOW).is_err());
}

/// What we mint is a plain access token to a reader that is not ours.
// proves: I3
#[test]
fn a_stock_jose_library_reads_our_tokens() {
    for (algorithm, alg) in [
        (KeyAlgorithm::Ed25519, jsonwebtoken::Algorithm::EdDSA),
        (KeyAlgorithm::P256, jsonwebtoken::Algorithm::ES256),
    ] {
        let world = World::with(algorithm);
        let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(
            Jwks::new([world.issuer_key.public().clone()]).to_json()["keys"][0].clone(),
        )
        .unwrap();
        let mut rules = jsonwebtoken::Validation::new(alg);
        rules.set_audience(&[AUDIENCE]);
        rules.set_issuer(&[ISSUER]);
        let key = jsonwebtoken::DecodingKey::from_jwk(&jwk).unwrap();
        let read = jsonwebtoken::decode::<Value>(world.token(), &key, &rules).unwrap();
        assert_eq!(read.header.typ.as_deref(), Some("at+jwt"));
        assert_eq!(read.claims["act"]["sub_profile"], "ai_agent");
        assert_eq!(read.claims["cnf"]["jkt"], world.agent.public().jkt().to_string());
        assert_eq!(read.claims["authorization_details"][0]["type"], "bailiwick_task");
    }
}

// proves: INV14
#[test]
fn refusals_say_what_why_and_next_and_no_byte_of_the_token() {
    let world = World::new();
    let token = world.forged(|p| p["sub"] = json!(["secret-looking-subject"]));
    let refusal = world.verifier.verify(&token, NOW).unwrap_err();
    let text = refusal.to_string();
    assert!(text.starts_with("token.claim: "), "{text}");
    assert!(text.contains(refusal.next_step()));
    assert!(!text.contains("secret-looking"));
    assert!(!format!("{refusal:?}").contains("secret-looking"));
}
