//! What holds for all tokens, not only for those somebody thought of.

mod support;

use std::sync::LazyLock;

use bailiwick_token::dpop::{self, Expected};
use bailiwick_token::{Confirmation, Digest, KeyAlgorithm, SigningKey, canonical_url};
use proptest::prelude::*;
use support::*;

static WORLDS: LazyLock<[World; 2]> =
    LazyLock::new(|| [World::with(KeyAlgorithm::Ed25519), World::with(KeyAlgorithm::P256)]);

fn mutate(token: &str, at: usize, with: u8) -> Option<String> {
    let mut bytes = token.as_bytes().to_vec();
    let at = at % bytes.len();
    if bytes[at] == with {
        return None;
    }
    bytes[at] = with;
    String::from_utf8(bytes).ok()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    // proves: A12, I3
    #[test]
    fn no_byte_of_a_token_or_a_proof_can_change(which in 0..2_usize, at in any::<usize>(), with in 1_u8..128) {
        let world = &WORLDS[which];
        let token = world.token();
        if let Some(changed) = mutate(&token, at, with) {
            prop_assert!(world.verifier.verify(&changed, NOW).is_err());
        }
        let proof = dpop::prove(&world.agent, "POST", AUDIENCE, Some(&token), None, NOW, "p1").unwrap();
        if let Some(changed) = mutate(&proof, at, with) {
            let expected = Expected { htm: "POST", htu: AUDIENCE, access_token: Some(&token), nonce: None, now: NOW,
                window_secs: 60, expected_jkt: Some(world.agent.public().jkt()) };
            prop_assert!(dpop::check(&changed, &expected).is_err());
        }
    }

    #[test]
    fn a_child_never_outlives_its_parent(parent_ttl in 1..=300_u64, child_ttl in 0..=400_u64, ends in 0..=400_u64) {
        let world = &WORLDS[0];
        let mut claims = world.claims();
        claims.exp = NOW + parent_ttl;
        let parent = world.verifier.verify(&world.mint.mint(&claims, NOW + 300).unwrap(), NOW).unwrap();
        let mut child = child_claims(parent.claims(), parent.hash(), Digest::of(b"executor's key"));
        child.exp = NOW + child_ttl;
        match world.mint.mint_child(&child, NOW + ends, &parent) {
            Ok(token) => {
                let minted = world.verifier.verify(&token, NOW).unwrap();
                prop_assert!(minted.claims().exp <= parent.claims().exp);
                prop_assert!(minted.claims().exp <= NOW + ends);
                prop_assert!(minted.claims().exp - minted.claims().iat <= 300);
            }
            Err(_) => prop_assert!(child_ttl == 0 || child_ttl > 300 || child_ttl > parent_ttl || child_ttl > ends),
        }
    }

    #[test]
    fn a_token_is_good_from_its_first_to_its_last_second(ttl in 1..=300_u64, offset in 0..1000_u64) {
        let world = &WORLDS[0];
        let mut claims = world.claims();
        claims.exp = NOW + ttl;
        let token = world.mint.mint(&claims, NOW + 300).unwrap();
        let now = NOW - 500 + offset;
        let good = now + 5 >= NOW && now < NOW + ttl;
        prop_assert_eq!(world.verifier.verify(&token, now).is_ok(), good);
    }

    // proves: INV6
    #[test]
    fn no_input_makes_a_door_panic(text in "\\PC{0,200}", parts in prop::collection::vec(any::<Vec<u8>>(), 3)) {
        let world = &WORLDS[0];
        let joined = parts.iter().map(|p| b64(p)).collect::<Vec<_>>().join(".");
        let expected = Expected { htm: "POST", htu: &text, access_token: None, nonce: None, now: NOW,
            window_secs: 60, expected_jkt: None };
        for token in [&text, &joined] {
            prop_assert!(world.verifier.verify(token, NOW).is_err());
            prop_assert!(dpop::check(token, &expected).is_err());
        }
        let signed = press_bytes(&world.issuer_key, world.header().to_string().as_bytes(), &parts[0]);
        prop_assert!(world.verifier.verify(&signed, NOW).is_err());
        let _ = SigningKey::from_pkcs8(&parts[1]).is_ok();
    }

    #[test]
    fn a_canonical_url_is_its_own_canonical_form(url in "https?://[A-Za-z0-9.:@\\[\\]-]{0,30}/[A-Za-z0-9%./?#~_-]{0,40}") {
        if let Ok(canonical) = canonical_url(&url) {
            prop_assert_eq!(canonical_url(&canonical).unwrap(), canonical.clone());
            prop_assert!(!canonical.contains(['?', '#', '@']));
        }
    }

    #[test]
    fn claims_come_out_as_they_went_in(sub in "[a-z:@.]{1,40}", depth in 0..4_u32, cert in any::<bool>(),
        taint in prop::collection::vec("[a-z:]{1,20}", 0..5)) {
        let world = &WORLDS[0];
        let mut claims = world.claims();
        claims.sub = sub;
        claims.taint = taint;
        if cert {
            claims.cnf = Confirmation::X5tS256(Digest::of(b"cert"));
        }
        claims.del_max_depth = 4;
        for _ in 0..depth {
            claims = child_claims(&claims.clone(), Digest::of(b"parent"), Digest::of(b"key"));
        }
        let token = world.mint.mint(&claims, NOW + 300).unwrap();
        let verified = world.verifier.verify(&token, NOW).unwrap();
        prop_assert_eq!(verified.claims(), &claims);
    }
}
