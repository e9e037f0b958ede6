//! Every kind of token at every door: each opens its own and no other (A07, A12).
//!
//! The hardest setting is taken on purpose: one key pair signs everything, every door trusts it under the same
//! key id, and every token is made for the audience of the door it is tried at. Only the kind tells them apart.

mod support;

use bailiwick_token::dpop::{self, Expected};
use bailiwick_token::subject::{OidcExpected, assert_agent, check_assertion, verify_jwt_svid, verify_oidc};
use bailiwick_token::{IssuerKeys, KeyAlgorithm, SigningKey, TokenRefusal};
use serde_json::{Value, json};
use support::*;

/// Tries a token.
type Door<'a> = Box<dyn Fn(&str) -> Result<(), TokenRefusal> + 'a>;

struct Doors {
    world: World,
    key: SigningKey,
    idp: IssuerKeys,
    bundle: IssuerKeys,
}

impl Doors {
    fn new() -> Self {
        let world = World::with(KeyAlgorithm::P256);
        let key = SigningKey::from_pkcs8(&world.issuer_key.to_pkcs8()).unwrap();
        let set = |use_: &str| {
            let mut jwk = key.public().to_jwk();
            jwk["kid"] = json!(key.public().jkt().to_string());
            jwk["use"] = json!(use_);
            json!({ "keys": [jwk] }).to_string()
        };
        let idp = IssuerKeys::from_jwks(&set("sig")).unwrap();
        let bundle = IssuerKeys::from_spiffe_bundle(&set("jwt-svid")).unwrap();
        Self { world, key, idp, bundle }
    }

    fn header(&self, typ: &str) -> Value {
        json!({"typ": typ, "alg": "ES256", "kid": self.key.public().jkt().to_string()})
    }

    /// Name, and the token itself for the given audience.
    fn tokens(&self) -> Vec<(&'static str, String)> {
        let planner = planner();
        let mut task = self.world.claims();
        task.cnf = bailiwick_token::Confirmation::Jkt(self.key.public().jkt());
        let svid = json!({"sub": planner, "aud": [AUDIENCE], "exp": NOW + 60, "iat": NOW});
        let id =
            json!({"iss": ISSUER, "sub": "ana", "aud": AUDIENCE, "exp": NOW + 60, "iat": NOW, "nonce": "n"});
        let assertion = json!({"iss": planner, "sub": planner, "aud": AUDIENCE, "iat": NOW, "exp": NOW + 60,
            "jti": "a1"});
        vec![
            ("task token", self.world.mint.mint(&task, NOW + 120).unwrap()),
            ("proof", dpop::prove(&self.key, "POST", AUDIENCE, None, None, NOW, "p1").unwrap()),
            ("assertion", assert_agent(&self.key, &planner, AUDIENCE, NOW, "a1").unwrap()),
            ("plain assertion", press(&self.key, &self.header("JWT"), &assertion.to_string())),
            ("jwt-svid", press(&self.key, &self.header("JWT"), &svid.to_string())),
            ("id token", press(&self.key, &self.header("JWT"), &id.to_string())),
        ]
    }

    fn doors(&self) -> Vec<(&'static str, Door<'_>)> {
        let expected = Expected {
            htm: "POST",
            htu: AUDIENCE,
            access_token: None,
            nonce: None,
            now: NOW,
            window_secs: 60,
            expected_jkt: None,
        };
        let oidc = OidcExpected { issuer: ISSUER, audience: AUDIENCE, nonce: None, now_secs: NOW };
        let registered = |_: &_| Some(self.key.public().clone());
        vec![
            ("task token", Box::new(move |t| self.world.verifier.verify(t, NOW).map(drop))),
            ("proof", Box::new(move |t| dpop::check(t, &expected).map(drop))),
            ("assertion", Box::new(move |t| check_assertion(t, AUDIENCE, NOW, registered).map(drop))),
            (
                "jwt-svid",
                Box::new(move |t| verify_jwt_svid(t, AUDIENCE, "example.org", &self.bundle, NOW).map(drop)),
            ),
            ("id token", Box::new(move |t| verify_oidc(t, &self.idp, &oidc).map(drop))),
        ]
    }
}

// proves: A07, A12, I2
#[test]
fn each_kind_of_token_opens_its_own_door_only() {
    let doors = Doors::new();
    let mut opened = 0;
    for (kind, token) in doors.tokens() {
        for (door, open) in doors.doors() {
            let belongs = kind.trim_start_matches("plain ") == door;
            let result = open(&token);
            assert_eq!(result.is_ok(), belongs, "{kind} at the door for {door}: {result:?}");
            opened += usize::from(belongs);
        }
    }
    assert_eq!(opened, 6);
}

/// Renaming the kind in the header, well signed, opens nothing either.
// proves: A07, A12
#[test]
fn a_changed_label_opens_no_other_door() {
    let doors = Doors::new();
    for (kind, token) in doors.tokens() {
        let payload = String::from_utf8(unb64(token.split('.').nth(1).unwrap())).unwrap();
        for typ in ["at+jwt", "dpop+jwt", "JWT", "JOSE", "client-authentication+jwt"] {
            let mut header = doors.header(typ);
            if typ == "dpop+jwt" {
                header = json!({"typ": typ, "alg": "ES256", "jwk": doors.key.public().to_jwk()});
            }
            let relabelled = press(&doors.key, &header, &payload);
            for (door, open) in doors.doors() {
                let belongs = kind.trim_start_matches("plain ") == door;
                assert!(belongs || open(&relabelled).is_err(), "{kind} as {typ} at the door for {door}");
            }
        }
    }
}

/// Wrapping, prefixing and passing along: a token is not a proof of itself, nor a key to its own door.
// proves: A12, H3
#[test]
fn strings_that_are_no_token_open_no_door() {
    let doors = Doors::new();
    let token = &doors.tokens()[0].1;
    let odd = ["", ".", "..", "a.b.c", "null", "{}", "session=abcdef", "bw_cookie", "🦀.🦀.🦀"];
    let wrapped = [format!("Bearer {token}"), format!("DPoP {token}"), format!("{token},{token}")];
    for text in odd.iter().map(ToString::to_string).chain(wrapped) {
        for (door, open) in doors.doors() {
            assert!(open(&text).is_err(), "{text} at the door for {door}");
        }
    }
}
