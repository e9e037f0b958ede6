//! Workloads, agents and people: who may speak for whom.

mod support;

use bailiwick_token::subject::{OidcExpected, assert_agent, check_assertion, verify_jwt_svid, verify_oidc};
use bailiwick_token::{IssuerKeys, KeyAlgorithm, ReplayWindow, SigningKey, SpiffeId, TokenRefusal};
use serde_json::{Value, json};
use support::*;

const TOKEN_ENDPOINT: &str = "https://bailiwick.example/token";
const CLIENT: &str = "bailiwick-console";

fn code<T: std::fmt::Debug>(result: Result<T, TokenRefusal>) -> &'static str {
    result.map(|_| "ok").unwrap_or_else(|e| e.code())
}

fn key_set(key: &SigningKey, use_: &str) -> String {
    let mut jwk = key.public().to_jwk();
    jwk["kid"] = json!("k1");
    jwk["use"] = json!(use_);
    json!({ "keys": [jwk] }).to_string()
}

fn header() -> Value {
    json!({"typ": "JWT", "alg": "ES256", "kid": "k1"})
}

// proves: I1
#[test]
fn the_grammar_of_spiffe_ids() {
    let check = |text: &str, good: bool| assert_eq!(SpiffeId::parse(text).is_ok(), good, "{text}");
    for good in [
        "spiffe://example.org/agent",
        "spiffe://example.org/ns/prod/sa/planner",
        "spiffe://a_b-c.1/x.y-z_1/..hidden",
        "spiffe://example.org/Agent-7",
    ] {
        check(good, true);
    }
    let long_domain = format!("spiffe://{}/a", "d".repeat(256));
    let long = format!("spiffe://example.org/{}", "p".repeat(2048));
    for bad in [
        "",
        "spiffe://",
        "spiffe:///agent",
        "spiffe://example.org",
        "spiffe://example.org/",
        "spiffe://example.org/agent/",
        "spiffe://example.org//agent",
        "spiffe://example.org/./agent",
        "spiffe://example.org/../agent",
        "spiffe://Example.org/agent",
        "SPIFFE://example.org/agent",
        "https://example.org/agent",
        "spiffe:/example.org/agent",
        "spiffe://example.org:443/agent",
        "spiffe://user@example.org/agent",
        "spiffe://example.org/agent?x=1",
        "spiffe://example.org/agent#x",
        "spiffe://example.org/a%67ent",
        "spiffe://exämple.org/agent",
        "spiffe://example.org/agent\n",
        " spiffe://example.org/agent",
        &long_domain,
        &long,
    ] {
        check(bad, false);
    }
    assert_eq!(planner().trust_domain(), "example.org");
}

// proves: I1
#[test]
fn an_agent_identifies_itself_at_the_token_endpoint_once() {
    let key = SigningKey::generate(KeyAlgorithm::Ed25519).unwrap();
    let other = SigningKey::generate(KeyAlgorithm::Ed25519).unwrap();
    let registered = |id: &SpiffeId| (*id == planner()).then(|| key.public().clone());
    let jwt = assert_agent(&key, &planner(), TOKEN_ENDPOINT, NOW, "a1").unwrap();
    let agent = check_assertion(&jwt, TOKEN_ENDPOINT, NOW + 1, registered).unwrap();
    assert_eq!((agent.spiffe(), agent.jkt()), (&planner(), key.public().jkt()));

    let mut window = ReplayWindow::new(10, 10);
    window.admit(agent.id(), NOW).unwrap();
    let again = check_assertion(&jwt, TOKEN_ENDPOINT, NOW + 2, registered).unwrap();
    assert_eq!(code(window.admit(again.id(), NOW + 2)), "dpop.replay");

    assert_eq!(code(check_assertion(&jwt, "https://other.example/token", NOW, registered)), "token.audience");
    assert_eq!(code(check_assertion(&jwt, TOKEN_ENDPOINT, NOW + 60, registered)), "token.expired");
    assert_eq!(code(check_assertion(&jwt, TOKEN_ENDPOINT, NOW - 6, registered)), "token.not_yet_valid");
    let stranger = assert_agent(&key, &executor(), TOKEN_ENDPOINT, NOW, "a2").unwrap();
    assert_eq!(code(check_assertion(&stranger, TOKEN_ENDPOINT, NOW, registered)), "assertion.unknown_agent");
    let impostor = assert_agent(&other, &planner(), TOKEN_ENDPOINT, NOW, "a3").unwrap();
    assert_eq!(code(check_assertion(&impostor, TOKEN_ENDPOINT, NOW, registered)), "token.signature");
}

// proves: I1, A12
#[test]
fn an_assertion_changed_past_the_builder_is_refused() {
    let key = SigningKey::generate(KeyAlgorithm::P256).unwrap();
    let registered = |_: &SpiffeId| Some(key.public().clone());
    let check = |change: &dyn Fn(&mut Value, &mut Value), wanted: &str| {
        let mut header = header();
        let mut claims = json!({"iss": planner(), "sub": planner(), "aud": TOKEN_ENDPOINT, "iat": NOW,
            "exp": NOW + 300, "jti": "a1"});
        change(&mut header, &mut claims);
        let jwt = press(&key, &header, &claims.to_string());
        assert_eq!(code(check_assertion(&jwt, TOKEN_ENDPOINT, NOW, registered)), wanted, "{header} {claims}");
    };
    check(&|_, _| (), "ok");
    check(&|h, _| drop(h.as_object_mut().unwrap().remove("typ")), "ok");
    check(&|h, _| h["typ"] = json!("client-authentication+jwt"), "ok");
    check(&|_, c| c["aud"] = json!([TOKEN_ENDPOINT]), "ok");
    check(&|_, c| c["exp"] = json!(NOW + 301), "token.lifetime");
    check(&|_, c| c["exp"] = json!(NOW), "token.lifetime");
    check(&|_, c| c["nbf"] = json!(NOW + 6), "token.not_yet_valid");
    check(&|_, c| c["iss"] = json!(executor()), "assertion.subject");
    check(&|_, c| c["sub"] = json!("planner"), "subject.spiffe_id");
    check(&|_, c| c["aud"] = json!([TOKEN_ENDPOINT, "https://other.example"]), "token.audience");
    for name in ["iss", "iat", "exp", "jti"] {
        check(&|_, c| drop(c.as_object_mut().unwrap().remove(name)), "token.claim");
    }
    check(&|_, c| c["jti"] = json!("j".repeat(129)), "token.claim");
    check(&|h, _| h["alg"] = json!("none"), "token.algorithm");
    check(&|h, _| h["jwk"] = key.public().to_jwk(), "token.header");
    check(&|h, _| h["typ"] = json!("at+jwt"), "token.type");
}

// proves: I1
#[test]
fn a_workload_shows_its_svid() {
    let authority = SigningKey::generate(KeyAlgorithm::P256).unwrap();
    let bundle = IssuerKeys::from_spiffe_bundle(&key_set(&authority, "jwt-svid")).unwrap();
    let check = |change: &dyn Fn(&mut Value, &mut Value), wanted: &str| {
        let mut header = header();
        let mut claims = json!({"sub": planner(), "aud": [TOKEN_ENDPOINT], "exp": NOW + 300});
        change(&mut header, &mut claims);
        let svid = press(&authority, &header, &claims.to_string());
        let got = verify_jwt_svid(&svid, TOKEN_ENDPOINT, "example.org", &bundle, NOW);
        if let Ok(workload) = &got {
            assert_eq!(workload.spiffe(), &planner());
        }
        assert_eq!(code(got), wanted, "{header} {claims}");
    };
    check(&|_, _| (), "ok");
    check(&|h, _| h["typ"] = json!("JOSE"), "ok");
    check(&|h, _| drop(h.as_object_mut().unwrap().remove("typ")), "ok");
    check(&|_, c| c["iss"] = json!("https://spire.example"), "ok");
    check(&|_, c| c["aud"] = json!(TOKEN_ENDPOINT), "ok");
    check(&|_, c| c["aud"] = json!(["other"]), "token.audience");
    check(&|_, c| c["aud"] = json!([TOKEN_ENDPOINT, "other"]), "token.audience");
    check(&|_, c| drop(c.as_object_mut().unwrap().remove("aud")), "token.audience");
    check(&|_, c| c["exp"] = json!(NOW), "token.expired");
    check(&|_, c| drop(c.as_object_mut().unwrap().remove("exp")), "token.claim");
    check(&|_, c| c["exp"] = json!(NOW + 90_000), "token.lifetime");
    check(&|_, c| c["iat"] = json!(NOW + 6), "token.not_yet_valid");
    check(&|_, c| c["sub"] = json!("spiffe://evil.example/agent/planner"), "subject.trust_domain");
    check(&|_, c| c["sub"] = json!("spiffe://example.org"), "subject.spiffe_id");
    check(&|_, c| drop(c.as_object_mut().unwrap().remove("sub")), "token.claim");
    check(&|_, c| c["iss"] = json!(planner()), "token.issuer");
    check(&|h, _| h["kid"] = json!("k2"), "token.key_unknown");
    check(&|h, _| drop(h.as_object_mut().unwrap().remove("kid")), "token.header");
    check(&|h, _| h["alg"] = json!("RS256"), "token.algorithm");
    check(&|h, _| h["typ"] = json!("at+jwt"), "token.type");
}

#[test]
fn a_bundle_gives_only_keys_that_are_meant_for_jwt_svids() {
    let key = SigningKey::generate(KeyAlgorithm::P256).unwrap();
    assert!(IssuerKeys::from_spiffe_bundle(&key_set(&key, "jwt-svid")).is_ok());
    assert_eq!(code(IssuerKeys::from_spiffe_bundle(&key_set(&key, "x509-svid"))), "key.unsupported");
    assert_eq!(code(IssuerKeys::from_spiffe_bundle(&key_set(&key, "sig"))), "key.unsupported");
    assert_eq!(code(IssuerKeys::from_jwks(&key_set(&key, "jwt-svid"))), "key.unsupported");
    assert_eq!(code(IssuerKeys::from_jwks("{}")), "key.malformed");
    assert_eq!(code(IssuerKeys::from_jwks(r#"{"keys":[]}"#)), "key.unsupported");
}

// proves: I2, A07
#[test]
fn a_person_signs_in_and_nobody_else_can_as_that_person() {
    let idp = SigningKey::generate(KeyAlgorithm::P256).unwrap();
    let keys = IssuerKeys::from_jwks(&key_set(&idp, "sig")).unwrap();
    let expected =
        OidcExpected { issuer: "https://idp.example", audience: CLIENT, nonce: Some("n-1"), now_secs: NOW };
    let sign = |change: &dyn Fn(&mut Value, &mut Value)| {
        let mut header = header();
        let mut claims = json!({"iss": "https://idp.example", "sub": "ana-42", "aud": CLIENT, "iat": NOW,
            "exp": NOW + 600, "nonce": "n-1", "email": "ana@example.org", "email_verified": true});
        change(&mut header, &mut claims);
        press(&idp, &header, &claims.to_string())
    };
    let person = verify_oidc(&sign(&|_, _| ()), &keys, &expected).unwrap();
    assert_eq!((person.issuer(), person.subject()), ("https://idp.example", "ana-42"));
    assert_eq!(person.verified_email(), Some("ana@example.org"));
    let unverified = sign(&|_, c| c["email_verified"] = json!("true"));
    assert_eq!(verify_oidc(&unverified, &keys, &expected).unwrap().verified_email(), None);

    let check = |change: &dyn Fn(&mut Value, &mut Value), wanted: &str| {
        assert_eq!(code(verify_oidc(&sign(change), &keys, &expected)), wanted);
    };
    check(&|_, c| c["aud"] = json!([CLIENT]), "ok");
    check(&|_, c| c["azp"] = json!(CLIENT), "ok");
    check(
        &|_, c| {
            c["aud"] = json!([CLIENT, "other"]);
            c["azp"] = json!(CLIENT);
        },
        "ok",
    );
    check(&|_, c| c["aud"] = json!([CLIENT, "other"]), "token.audience");
    check(&|_, c| c["azp"] = json!("other"), "token.audience");
    check(&|_, c| c["aud"] = json!("other"), "token.audience");
    check(&|_, c| c["iss"] = json!("https://idp.example/"), "token.issuer");
    check(&|_, c| c["nonce"] = json!("n-2"), "oidc.nonce");
    check(&|_, c| drop(c.as_object_mut().unwrap().remove("nonce")), "oidc.nonce");
    check(&|_, c| c["exp"] = json!(NOW), "token.expired");
    check(&|_, c| c["exp"] = json!(NOW + 90_000), "token.lifetime");
    check(&|_, c| c["iat"] = json!(NOW + 6), "token.not_yet_valid");
    check(&|_, c| drop(c.as_object_mut().unwrap().remove("iat")), "token.claim");
    check(&|_, c| c["sub"] = json!(planner()), "oidc.not_a_person");
    check(&|_, c| c["act"] = json!({"sub": planner()}), "oidc.not_a_person");
    check(&|_, c| c["cnf"] = json!({"jkt": "x"}), "oidc.not_a_person");
    check(&|h, _| h["typ"] = json!("at+jwt"), "token.type");
    check(&|h, _| h["alg"] = json!("HS256"), "token.algorithm");
    check(&|h, _| h["kid"] = json!("../k1"), "token.key_unknown");
}
