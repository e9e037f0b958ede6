//! A small world for tests: one control plane, one agent, and a forger's press.

#![allow(dead_code, reason = "each test file uses its own part of this world")]

use bailiwick_token::{
    Actor, Claims, Confirmation, Digest, Jwks, KeyAlgorithm, Mint, SigningKey, SpiffeId, TaskAuthorization,
    TaskContext, Verifier,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

pub(crate) const ISSUER: &str = "https://bailiwick.example";
pub(crate) const AUDIENCE: &str = "https://tools.example/mcp";
pub(crate) const NOW: u64 = 1_800_000_000;

pub(crate) struct World {
    pub(crate) issuer_key: SigningKey,
    pub(crate) mint: Mint,
    pub(crate) verifier: Verifier,
    pub(crate) agent: SigningKey,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(KeyAlgorithm::Ed25519)
    }

    pub(crate) fn with(algorithm: KeyAlgorithm) -> Self {
        let issuer_key = SigningKey::generate(algorithm).unwrap();
        let copy = SigningKey::from_pkcs8(&issuer_key.to_pkcs8()).unwrap();
        let mint = Mint::new(ISSUER, copy);
        let verifier = Verifier::new(ISSUER, AUDIENCE, &Jwks::new([issuer_key.public().clone()]));
        Self { issuer_key, mint, verifier, agent: SigningKey::generate(algorithm).unwrap() }
    }

    /// Claims of the task's first agent, for 120 s from `NOW`.
    pub(crate) fn claims(&self) -> Claims {
        root_claims(self.agent.public().jkt())
    }

    pub(crate) fn token(&self) -> String {
        self.mint.mint(&self.claims(), NOW + 3600).unwrap()
    }

    /// A token with the right signature whose payload was changed past the builders.
    pub(crate) fn forged(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut payload = serde_json::to_value(self.claims()).unwrap();
        change(&mut payload);
        press(&self.issuer_key, &self.header(), &payload.to_string())
    }

    pub(crate) fn header(&self) -> Value {
        let kid = self.issuer_key.public().jkt().to_string();
        json!({"typ": "at+jwt", "alg": self.issuer_key.algorithm().jose(), "kid": kid})
    }
}

pub(crate) fn planner() -> SpiffeId {
    SpiffeId::parse("spiffe://example.org/agent/planner").unwrap()
}

pub(crate) fn executor() -> SpiffeId {
    SpiffeId::parse("spiffe://example.org/agent/executor").unwrap()
}

pub(crate) fn root_claims(jkt: Digest) -> Claims {
    let capability = json!({"action": "mail.send", "to": "ana@example.org"});
    Claims {
        iss: ISSUER.into(),
        aud: AUDIENCE.into(),
        exp: NOW + 120,
        iat: NOW,
        nbf: NOW,
        jti: "jti-1".into(),
        client_id: planner().to_string(),
        sub: "user:ana".into(),
        act: Actor::first(ISSUER, planner()),
        cnf: Confirmation::Jkt(jkt),
        authorization_details: vec![TaskAuthorization::new(vec![capability.as_object().unwrap().clone()])],
        txn: "task-1".into(),
        tctx: TaskContext {
            intent: Digest::of(b"intent"),
            chain: Digest::of(b"chain"),
            policy: Digest::of(b"policy"),
        },
        del_depth: 0,
        del_max_depth: 2,
        par_hash: None,
        grant: "grant-1".into(),
        tenant: "acme".into(),
        taint: vec!["untrusted:mail".into()],
    }
}

/// Claims directly below `parent`, for the executor's key.
pub(crate) fn child_claims(parent: &Claims, parent_hash: Digest, jkt: Digest) -> Claims {
    Claims {
        jti: "jti-2".into(),
        client_id: executor().to_string(),
        act: parent.act.clone().handed_to(ISSUER, executor()),
        cnf: Confirmation::Jkt(jkt),
        del_depth: parent.del_depth + 1,
        par_hash: Some(parent_hash),
        grant: "grant-2".into(),
        ..parent.clone()
    }
}

/// Signs anything at all.
pub(crate) fn press(key: &SigningKey, header: &Value, payload: &str) -> String {
    press_bytes(key, header.to_string().as_bytes(), payload.as_bytes())
}

pub(crate) fn press_bytes(key: &SigningKey, header: &[u8], payload: &[u8]) -> String {
    let input = format!("{}.{}", b64(header), b64(payload));
    let signature = key.sign(input.as_bytes()).unwrap();
    format!("{input}.{}", b64(&signature))
}

pub(crate) fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn unb64(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}
