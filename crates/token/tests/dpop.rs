//! Proof of possession: one key, one request, once.

mod support;

use std::collections::BTreeSet;

use bailiwick_token::dpop::{self, Expected, ProofId};
use bailiwick_token::{Digest, KeyAlgorithm, ReplayWindow, SigningKey, TokenRefusal, canonical_url};
use serde_json::{Value, json};
use support::*;

const HTU: &str = "https://tools.example/mcp";

fn expected() -> Expected<'static> {
    Expected {
        htm: "POST",
        htu: HTU,
        access_token: None,
        nonce: None,
        now: NOW,
        window_secs: 60,
        expected_jkt: None,
    }
}

fn outcome(result: Result<ProofId, TokenRefusal>) -> &'static str {
    result.map(|_| "ok").unwrap_or_else(|e| e.code())
}

/// A proof changed past the builder, well signed.
fn forged(key: &SigningKey, change: impl FnOnce(&mut Value, &mut Value)) -> String {
    let mut header = json!({"typ": "dpop+jwt", "alg": key.algorithm().jose(), "jwk": key.public().to_jwk()});
    let mut payload = json!({"jti": "p1", "htm": "POST", "htu": HTU, "iat": NOW});
    change(&mut header, &mut payload);
    press(key, &header, &payload.to_string())
}

// proves: I3
#[test]
fn an_agent_proves_its_key_once_per_request() {
    for algorithm in [KeyAlgorithm::Ed25519, KeyAlgorithm::P256] {
        let key = SigningKey::generate(algorithm).unwrap();
        let mut window = ReplayWindow::new(100, 10);
        let proof = dpop::prove(&key, "POST", HTU, Some("token"), Some("n-1"), NOW, "p1").unwrap();
        let wanted = Expected {
            access_token: Some("token"),
            nonce: Some("n-1"),
            expected_jkt: Some(key.public().jkt()),
            ..expected()
        };
        let id = dpop::check(&proof, &wanted).unwrap();
        assert_eq!(id.holder(), key.public().jkt());
        window.admit(&id, NOW).unwrap();
        let again = dpop::check(&proof, &wanted).unwrap();
        assert_eq!(window.admit(&again, NOW + 1).unwrap_err().code(), "dpop.replay");
    }
}

const RFC_TOKEN_PROOF: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg";
const RFC_RESOURCE_PROOF: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA";
const RFC_ACCESS_TOKEN: &str = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";
const RFC_JKT: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";

#[test]
fn the_examples_of_rfc_9449_pass_and_their_neighbours_do_not() {
    let token_request = Expected {
        htm: "POST",
        htu: "https://server.example.com/token",
        now: 1_562_262_616,
        expected_jkt: Some(Digest::parse(RFC_JKT).unwrap()),
        ..expected()
    };
    assert_eq!(outcome(dpop::check(RFC_TOKEN_PROOF, &token_request)), "ok");
    let later = Expected { now: 1_562_262_677, ..token_request };
    assert_eq!(outcome(dpop::check(RFC_TOKEN_PROOF, &later)), "dpop.stale");

    let resource_request = Expected {
        htm: "GET",
        htu: "https://resource.example.org/protectedresource",
        access_token: Some(RFC_ACCESS_TOKEN),
        now: 1_562_262_618,
        ..token_request
    };
    assert_eq!(outcome(dpop::check(RFC_RESOURCE_PROOF, &resource_request)), "ok");
    let other_token = Expected { access_token: Some("other"), ..resource_request };
    assert_eq!(outcome(dpop::check(RFC_RESOURCE_PROOF, &other_token)), "dpop.access_token");
    let other_key = Expected { expected_jkt: Some(Digest::of(b"x")), ..resource_request };
    assert_eq!(outcome(dpop::check(RFC_RESOURCE_PROOF, &other_key)), "token.holder");
}

/// The table of URL spellings: which ones say the same as the URL that we know.
// proves: A11
#[test]
fn forty_spellings_of_a_url() {
    let table: Value = serde_json::from_str(include_str!("../../../vectors/token/dpop-htu.json")).unwrap();
    let key = SigningKey::generate(KeyAlgorithm::Ed25519).unwrap();
    let cases = table["cases"].as_array().unwrap();
    assert!(cases.len() >= 40);
    let mut spellings = BTreeSet::new();
    for case in cases {
        let (htu, known) = (case["htu"].as_str().unwrap(), case["known"].as_str().unwrap());
        spellings.insert((htu, known));
        let proof = forged(&key, |_, payload| payload["htu"] = json!(htu));
        let got = outcome(dpop::check(&proof, &Expected { htu: known, ..expected() }));
        let wanted = if case["same"] == true { "ok" } else { "dpop.url" };
        assert_eq!(got, wanted, "{htu} against {known}");
        if case["same"] == true {
            let both = (canonical_url(htu).unwrap(), canonical_url(known).unwrap());
            assert_eq!(both.0, both.1);
            assert_eq!(canonical_url(&both.0).unwrap(), both.0, "canonical form is its own canonical form");
        }
    }
    assert_eq!(spellings.len(), cases.len(), "no case twice");
}

// proves: A11, I3
#[test]
fn a_proof_is_for_one_method() {
    let key = SigningKey::generate(KeyAlgorithm::Ed25519).unwrap();
    let proof = dpop::prove(&key, "POST", HTU, None, None, NOW, "p1").unwrap();
    for (htm, wanted) in [
        ("POST", "ok"),
        ("GET", "dpop.method"),
        ("post", "dpop.method"),
        ("POST ", "dpop.method"),
        ("", "dpop.method"),
    ] {
        assert_eq!(outcome(dpop::check(&proof, &Expected { htm, ..expected() })), wanted, "{htm:?}");
    }
}

#[test]
fn a_proof_is_for_one_minute_at_most() {
    let key = SigningKey::generate(KeyAlgorithm::Ed25519).unwrap();
    let proof = dpop::prove(&key, "POST", HTU, None, None, NOW, "p1").unwrap();
    let at = |now, window_secs| outcome(dpop::check(&proof, &Expected { now, window_secs, ..expected() }));
    assert_eq!(at(NOW, 60), "ok");
    assert_eq!(at(NOW + 60, 60), "ok");
    assert_eq!(at(NOW + 61, 60), "dpop.stale");
    assert_eq!(at(NOW + 61, 9999), "dpop.stale", "the window has a ceiling");
    assert_eq!(at(NOW + 11, 10), "dpop.stale");
    assert_eq!(at(NOW - 5, 60), "ok");
    assert_eq!(at(NOW - 6, 60), "dpop.stale");
    for iat in [json!(null), json!("now"), json!(-1), json!(NOW as f64 + 0.5), json!(u64::MAX)] {
        let proof = forged(&key, |_, payload| payload["iat"] = iat.clone());
        assert!(dpop::check(&proof, &expected()).is_err(), "{iat}");
    }
}

#[test]
fn a_nonce_that_was_asked_for_must_come_back() {
    let key = SigningKey::generate(KeyAlgorithm::Ed25519).unwrap();
    let with = |nonce: Option<&str>, wanted: Option<&'static str>| {
        let proof = dpop::prove(&key, "POST", HTU, None, nonce, NOW, "p1").unwrap();
        outcome(dpop::check(&proof, &Expected { nonce: wanted, ..expected() }))
    };
    assert_eq!(with(None, None), "ok");
    assert_eq!(with(Some("old"), None), "ok");
    assert_eq!(with(Some("n"), Some("n")), "ok");
    assert_eq!(with(None, Some("n")), "dpop.nonce");
    assert_eq!(with(Some("m"), Some("n")), "dpop.nonce");
    assert_eq!(with(Some("nn"), Some("n")), "dpop.nonce");
}

// proves: A12, I3
#[test]
fn the_proofs_form_is_checked_strictly() {
    let key = SigningKey::generate(KeyAlgorithm::P256).unwrap();
    let other = SigningKey::generate(KeyAlgorithm::P256).unwrap();
    let check = |change: &dyn Fn(&mut Value, &mut Value), wanted: &str| {
        let proof = forged(&key, |header, payload| change(header, payload));
        assert_eq!(outcome(dpop::check(&proof, &expected())), wanted);
    };
    check(&|_, _| (), "ok");
    check(&|_, p| p["extra"] = json!(1), "ok");
    check(&|h, _| h["typ"] = json!("JWT"), "token.type");
    check(&|h, _| h["typ"] = json!("at+jwt"), "token.type");
    check(&|h, _| h["alg"] = json!("none"), "token.algorithm");
    check(&|h, _| h["alg"] = json!("HS256"), "token.algorithm");
    check(&|h, _| h["alg"] = json!("EdDSA"), "token.algorithm");
    check(&|h, _| h["jwk"] = other.public().to_jwk(), "token.signature");
    check(&|h, _| h["jwk"]["d"] = json!("AAAA"), "key.private");
    check(&|h, _| h["jwk"] = json!({"kty": "oct", "k": "AAAA"}), "key.private");
    check(&|h, _| h["jwk"] = json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"}), "key.malformed");
    check(&|h, _| h["jwk"] = json!("key"), "token.header");
    check(&|h, _| drop(h.as_object_mut().unwrap().remove("jwk")), "token.header");
    check(&|h, _| h["jku"] = json!("https://evil.example"), "token.header");
    check(&|h, _| h["x5c"] = json!([]), "token.header");
    check(&|h, _| h["crit"] = json!(["b64"]), "token.header");
    for name in ["jti", "htm", "htu", "iat"] {
        check(&|_, p| drop(p.as_object_mut().unwrap().remove(name)), "token.claim");
    }
    check(&|_, p| p["jti"] = json!(""), "token.claim");
    check(&|_, p| p["jti"] = json!("j".repeat(128)), "ok");
    check(&|_, p| p["jti"] = json!("j".repeat(129)), "token.claim");
    check(&|_, p| p["jti"] = json!("a\u{0}b"), "token.claim");
    check(&|_, p| p["ath"] = json!(Digest::of(b"token").to_string()), "dpop.access_token");
    check(&|_, p| p["ath"] = json!(null), "dpop.access_token");
}

// proves: INV6
#[test]
fn the_replay_memory_refuses_rather_than_forget() {
    let ana = SigningKey::generate(KeyAlgorithm::Ed25519).unwrap();
    let eve = SigningKey::generate(KeyAlgorithm::Ed25519).unwrap();
    let id = |key: &SigningKey, jti: &str, now: u64| {
        let proof = dpop::prove(key, "POST", HTU, None, None, now, jti).unwrap();
        dpop::check(&proof, &Expected { now, ..expected() }).unwrap()
    };
    let mut window = ReplayWindow::new(4, 3);
    let mut admit = |id: &ProofId, now| window.admit(id, now).map(|()| "ok").unwrap_or_else(|e| e.code());

    assert_eq!(admit(&id(&eve, "1", NOW), NOW), "ok");
    assert_eq!(admit(&id(&ana, "1", NOW), NOW), "ok", "nobody can use up another's ids");
    assert_eq!(admit(&id(&eve, "2", NOW), NOW), "ok");
    assert_eq!(admit(&id(&eve, "3", NOW), NOW), "ok");
    assert_eq!(admit(&id(&ana, "2", NOW), NOW), "dpop.replay_full");
    assert_eq!(admit(&id(&eve, "1", NOW), NOW), "dpop.replay", "what is known stays known when full");
    assert_eq!(admit(&id(&eve, "1", NOW), NOW + 60), "dpop.replay", "to the last second");

    let old = id(&eve, "1", NOW);
    assert_eq!(admit(&id(&eve, "9", NOW + 61), NOW + 61), "ok", "room again once the old have died");
    assert_eq!(admit(&old, NOW + 61), "dpop.stale");
    assert_eq!(admit(&old, NOW), "dpop.stale", "a clock that is set back revives nothing");
    assert_eq!(window.len(), 1);

    let mut quota = ReplayWindow::new(100, 2);
    for (jti, wanted) in [("1", true), ("2", true), ("3", false)] {
        assert_eq!(quota.admit(&id(&eve, jti, NOW), NOW).is_ok(), wanted);
    }
    assert!(quota.admit(&id(&ana, "1", NOW), NOW).is_ok(), "one holder cannot fill it for the others");
}
