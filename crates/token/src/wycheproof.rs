//! Wycheproof's JSON Web Signature and Key vectors, through the path that tokens take.

use serde_json::Value;

use crate::jws::{self, HeaderRule};
use crate::trust::VerifyingKey;
use crate::{IssuerKeys, TokenRefusal};

const SIGNATURES: &str = include_str!("../../../vectors/third-party/wycheproof/json_web_signature_test.json");
const KEYS: &str = include_str!("../../../vectors/third-party/wycheproof/json_web_key_test.json");

fn groups(text: &str) -> Vec<Value> {
    let file: Value = serde_json::from_str(text).unwrap();
    file["testGroups"].as_array().unwrap().clone()
}

fn open(jws: &str, key: &Result<VerifyingKey, TokenRefusal>) -> Result<Vec<u8>, TokenRefusal> {
    let key = key.as_ref().map_err(|refusal| *refusal)?;
    jws::split(jws, HeaderRule::Foreign)?.verify(key)
}

/// Valid to Wycheproof, refused here: shared secrets, a curve we do not speak, and Figure 20 of RFC 7520 in
/// the form of 346 and 350, where the key is for PS256 and the header says PS384.
fn refused_on_purpose(id: u64, public: Option<&Value>) -> bool {
    public.is_none_or(|key| key["crv"] == "P-521") || [346, 350].contains(&id)
}

// proves: A12
#[test]
fn every_signature_vector_gets_the_right_answer() {
    let (mut accepted, mut refused, mut stricter) = (0, 0, 0);
    for group in groups(SIGNATURES) {
        let public = group.get("public");
        // A group without a public key is keyed by a shared secret; reading that as a public key must fail.
        let jwk = public.unwrap_or(&group["private"]).as_object().unwrap();
        let key = VerifyingKey::from_jwk(jwk, "sig");
        assert!(public.is_some() || key.is_err(), "a shared secret was read as a public key");
        for test in group["tests"].as_array().unwrap() {
            let id = test["tcId"].as_u64().unwrap();
            let opened = open(test["jws"].as_str().unwrap(), &key);
            match (test["result"].as_str().unwrap(), opened) {
                ("valid", Ok(_)) => accepted += 1,
                ("valid", Err(_)) if refused_on_purpose(id, public) => stricter += 1,
                ("invalid", Err(_)) => refused += 1,
                (wanted, got) => panic!("vector {id} ({}): wanted {wanted}, got {got:?}", test["comment"]),
            }
        }
    }
    assert_eq!((accepted, refused, stricter), (32, 355, 14));
}

/// Sets in which a private or shared key stands among public ones, or a key id stands twice, are refused whole.
// proves: A12
#[test]
fn every_key_set_vector_that_is_invalid_is_refused() {
    let mut seen = 0;
    for group in groups(KEYS) {
        let set = group.get("public").unwrap_or(&group["private"]);
        let keys = IssuerKeys::from_jwks(&set.to_string());
        for test in group["tests"].as_array().unwrap() {
            let opened = keys.as_ref().map_err(|refusal| *refusal).and_then(|keys| {
                let unverified = jws::split(test["jws"].as_str().unwrap(), HeaderRule::Foreign)?;
                unverified.verify(keys.find(unverified.kid.as_deref())?)
            });
            let has_secret = set["keys"].as_array().unwrap().iter().any(|key| key["kty"] == "oct");
            match test["result"].as_str().unwrap() {
                "invalid" => assert!(opened.is_err(), "vector {} {}", test["tcId"], test["comment"]),
                _ => assert_eq!(opened.is_ok(), !has_secret, "vector {} {}", test["tcId"], test["comment"]),
            }
            seen += 1;
        }
    }
    assert_eq!(seen, 26);
}
