//! Task tokens and proofs of possession, as strangers send them and as they would be if our key leaked.
//!
//! The first byte chooses: raw text at both readers, or claims of any kind under a good signature. Nothing
//! panics, and what verifies is for us and for now.
#![no_main]

use std::sync::LazyLock;

use bailiwick_token::dpop::{Expected, check};
use bailiwick_token::{Jwks, PublicKey, SigningKey, SpiffeId, Verifier, canonical_url};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;

const ISSUER: &str = "https://bailiwick.example";
const AUDIENCE: &str = "https://tools.example/mcp";
const NOW: u64 = 1_800_000_000;

/// The key of RFC 8037 appendix A, in PKCS #8.
static KEY: LazyLock<SigningKey> = LazyLock::new(|| {
    let pkcs8: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    let seed = URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").expect("a seed");
    SigningKey::from_pkcs8(&[&pkcs8[..], &seed].concat()).expect("a key")
});
static VERIFIER: LazyLock<Verifier> =
    LazyLock::new(|| Verifier::new(ISSUER, AUDIENCE, &Jwks::new([KEY.public().clone()])));

fuzz_target!(|bytes: &[u8]| {
    let Some((mode, rest)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    match mode % 4 {
        0 => at_the_readers(text),
        1 => token(&signed(
            &format!(r#"{{"typ":"at+jwt","alg":"EdDSA","kid":"{}"}}"#, KEY.public().jkt()),
            text,
        )),
        2 => proof(&signed(
            &format!(r#"{{"typ":"dpop+jwt","alg":"EdDSA","jwk":{}}}"#, KEY.public().to_jwk()),
            text,
        )),
        _ => {
            let (header, claims) = text.split_once('\n').unwrap_or((text, ""));
            token(&signed(header, claims));
            proof(&signed(header, claims));
        }
    }
});

fn at_the_readers(text: &str) {
    token(text);
    proof(text);
    let _ = (Jwks::parse(text), PublicKey::from_jwk_str(text));
    if let Ok(id) = SpiffeId::parse(text) {
        assert_eq!(id.as_str(), text);
    }
    if let Ok(url) = canonical_url(text) {
        assert_eq!(canonical_url(&url).ok().as_ref(), Some(&url), "canonical once and for all");
    }
}

fn token(token: &str) {
    if let Ok(verified) = VERIFIER.verify(token, NOW) {
        let claims = verified.claims();
        assert_eq!((claims.iss.as_str(), claims.aud.as_str()), (ISSUER, AUDIENCE));
        assert!(claims.exp + 120 > NOW && claims.nbf < NOW + 120, "not for now: {claims:?}");
    }
}

fn proof(proof: &str) {
    let expected = Expected {
        htm: "POST",
        htu: AUDIENCE,
        access_token: None,
        nonce: None,
        now: NOW,
        window_secs: 60,
        expected_jkt: None,
    };
    if let Ok(id) = check(proof, &expected) {
        assert!((NOW..NOW + 200).contains(&id.expires_at_secs()));
    }
}

fn signed(header: &str, claims: &str) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = KEY.sign(signed.as_bytes()).expect("a signature");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}
