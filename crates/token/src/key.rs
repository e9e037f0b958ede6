//! Keys that sign and keys that check: Ed25519 by default, P-256 on request.
//!
//! Private parts are wiped when dropped and never printed. A public key is read from a JWK strictly: private
//! members, unknown types, wrong lengths, points off the curve and points of small order are refused.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, ParsedPublicKey,
};
use serde::Serialize;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::digest::{decode, encode};
use crate::trust::VerifyingKey;
use crate::{Digest, TokenRefusal, json as strict_json};

/// The two kinds of key that agents and the control plane hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum KeyAlgorithm {
    /// EdDSA over Curve25519 (RFC 8037): the default, being faster.
    #[default]
    Ed25519,
    /// ECDSA over P-256 with SHA-256 (`ES256`): the one everybody reads.
    P256,
}

impl KeyAlgorithm {
    /// The name in a JOSE header.
    #[must_use]
    pub fn jose(self) -> &'static str {
        match self {
            Self::Ed25519 => "EdDSA",
            Self::P256 => "ES256",
        }
    }

    /// Names that a token signed by such a key may carry. `Ed25519` is RFC 9864's name for the same thing.
    pub(crate) fn jose_names(self) -> &'static [&'static str] {
        match self {
            Self::Ed25519 => &["EdDSA", "Ed25519"],
            Self::P256 => &["ES256"],
        }
    }
}

/// A private key. `Debug` shows the public thumbprint only.
pub struct SigningKey {
    pair: Pair,
    pkcs8: Zeroizing<Vec<u8>>,
    public: PublicKey,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
}

impl SigningKey {
    /// Makes a fresh key.
    ///
    /// # Errors
    /// `key.failure` if the random source fails.
    pub fn generate(algorithm: KeyAlgorithm) -> Result<Self, TokenRefusal> {
        let rng = SystemRandom::new();
        let document = match algorithm {
            KeyAlgorithm::Ed25519 => Ed25519KeyPair::generate_pkcs8(&rng),
            KeyAlgorithm::P256 => EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng),
        };
        let document = document.map_err(|_| TokenRefusal::KeyFailure)?;
        Self::from_pkcs8(document.as_ref())
    }

    /// Reads a PKCS#8 key (DER, RFC 5958) of either kind.
    ///
    /// # Errors
    /// `key.malformed` if it is neither an Ed25519 nor a P-256 private key.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, TokenRefusal> {
        let pair = Ed25519KeyPair::from_pkcs8(der)
            .map(Pair::Ed25519)
            .or_else(|_| EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).map(Pair::P256))
            .map_err(|_| TokenRefusal::KeyMalformed("neither an Ed25519 nor a P-256 PKCS#8 key"))?;
        let public = match &pair {
            Pair::Ed25519(pair) => PublicKey::ed25519(pair.public_key().as_ref())?,
            Pair::P256(pair) => PublicKey::p256(pair.public_key().as_ref())?,
        };
        Ok(Self { pair, pkcs8: Zeroizing::new(der.to_vec()), public })
    }

    /// The PKCS#8 DER, for a key store. Wiped when dropped; it is the caller's duty to encrypt it at rest.
    #[must_use]
    pub fn to_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        self.pkcs8.clone()
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Which kind of key this is.
    #[must_use]
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.public.algorithm
    }

    /// A raw signature: 64 bytes for either kind (for P-256 `r || s`, RFC 7518 section 3.4).
    ///
    /// # Errors
    /// `key.failure` if the random source fails.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, TokenRefusal> {
        let signature = match &self.pair {
            Pair::Ed25519(pair) => pair.try_sign(message),
            Pair::P256(pair) => pair.sign(&SystemRandom::new(), message),
        };
        Ok(signature.map_err(|_| TokenRefusal::KeyFailure)?.as_ref().to_vec())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({:?}, jkt {}, private part not shown)", self.algorithm(), self.public.jkt)
    }
}

/// A public key, known to be a sound point of its curve.
#[derive(Clone)]
pub struct PublicKey {
    algorithm: KeyAlgorithm,
    parsed: ParsedPublicKey,
    x: [u8; 32],
    y: Option<[u8; 32]>,
    jkt: Digest,
}

impl PublicKey {
    /// Reads a public JWK (RFC 7517; RFC 8037 for Ed25519) from its text.
    ///
    /// # Errors
    /// `key.private` for private members, `key.unsupported` for another type, curve, algorithm or use,
    /// `key.malformed` for anything that is not a sound point, `token.malformed` for bad JSON.
    pub fn from_jwk_str(text: &str) -> Result<Self, TokenRefusal> {
        Self::from_jwk(&strict_json::object(text.as_bytes())?)
    }

    /// Reads a public JWK from parsed JSON. Unknown members are ignored (RFC 7517 section 4).
    ///
    /// # Errors
    /// As [`PublicKey::from_jwk_str`].
    pub fn from_jwk(jwk: &Map<String, Value>) -> Result<Self, TokenRefusal> {
        refuse_private_members(jwk)?;
        require_signing_use(jwk, "sig")?;
        let key = match (member(jwk, "kty")?, member(jwk, "crv")?) {
            ("OKP", "Ed25519") => {
                if jwk.contains_key("y") {
                    return Err(TokenRefusal::KeyMalformed("y in an OKP key"));
                }
                Self::ed25519(&coordinate(jwk, "x")?)?
            }
            ("EC", "P-256") => {
                let point = [&[4_u8][..], &coordinate(jwk, "x")?, &coordinate(jwk, "y")?].concat();
                Self::p256(&point)?
            }
            _ => return Err(TokenRefusal::KeyUnsupported),
        };
        match jwk.get("alg") {
            None => Ok(key),
            Some(Value::String(alg)) if key.algorithm.jose_names().contains(&alg.as_str()) => Ok(key),
            Some(_) => Err(TokenRefusal::KeyUnsupported),
        }
    }

    /// The JWK with exactly the members that name the key.
    #[must_use]
    pub fn to_jwk(&self) -> Value {
        let members = self.jwk_members();
        let mut jwk = json!({"kty": members.kty, "crv": members.crv, "x": members.x});
        if let Some(y) = members.y {
            jwk["y"] = Value::from(y);
        }
        jwk
    }

    pub(crate) fn jwk_members(&self) -> JwkMembers {
        let (kty, crv) = match self.algorithm {
            KeyAlgorithm::Ed25519 => ("OKP", "Ed25519"),
            KeyAlgorithm::P256 => ("EC", "P-256"),
        };
        JwkMembers { kty, crv, x: encode(&self.x), y: self.y.map(|y| encode(&y)) }
    }

    /// The RFC 7638 thumbprint: the key's name in `cnf.jkt` and in `kid`.
    #[must_use]
    pub fn jkt(&self) -> Digest {
        self.jkt
    }

    /// Which kind of key this is.
    #[must_use]
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// Whether `signature` is this key's over `message`.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        self.parsed.verify_sig(message, signature).is_ok()
    }

    pub(crate) fn verifying(&self) -> VerifyingKey {
        VerifyingKey::new(self.algorithm.jose_names(), self.parsed.clone())
    }

    fn ed25519(x: &[u8]) -> Result<Self, TokenRefusal> {
        let x: [u8; 32] = x.try_into().map_err(|_| TokenRefusal::KeyMalformed("x is not 32 bytes"))?;
        if is_small_order(&x) {
            return Err(TokenRefusal::KeyMalformed("a point of small order"));
        }
        let parsed = ParsedPublicKey::new(&ED25519, x).map_err(|_| NOT_A_POINT)?;
        let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, encode(&x));
        let jkt = Digest::of(canonical.as_bytes());
        Ok(Self { algorithm: KeyAlgorithm::Ed25519, parsed, x, y: None, jkt })
    }

    /// From an uncompressed point, `04 || x || y`.
    fn p256(point: &[u8]) -> Result<Self, TokenRefusal> {
        let parsed = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).map_err(|_| NOT_A_POINT)?;
        let (x, y) = match point.split_first() {
            Some((4, rest)) if rest.len() == 64 => rest.split_at(32),
            _ => return Err(TokenRefusal::KeyMalformed("not an uncompressed P-256 point")),
        };
        let x: [u8; 32] = x.try_into().map_err(|_| NOT_A_POINT)?;
        let y: [u8; 32] = y.try_into().map_err(|_| NOT_A_POINT)?;
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, encode(&x), encode(&y));
        let jkt = Digest::of(canonical.as_bytes());
        Ok(Self { algorithm: KeyAlgorithm::P256, parsed, x, y: Some(y), jkt })
    }
}

/// A JWK in a fixed member order.
#[derive(Serialize)]
pub(crate) struct JwkMembers {
    kty: &'static str,
    crv: &'static str,
    x: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    y: Option<String>,
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.jkt == other.jkt
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({:?}, jkt {})", self.algorithm, self.jkt)
    }
}

/// The keys that the control plane signs with now or did until lately, as published at `jwks_uri`.
#[derive(Clone, Debug, Default)]
pub struct Jwks {
    keys: Vec<PublicKey>,
}

impl Jwks {
    /// A set of keys.
    #[must_use]
    pub fn new(keys: impl IntoIterator<Item = PublicKey>) -> Self {
        Self { keys: keys.into_iter().collect() }
    }

    /// The keys.
    #[must_use]
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// Reads a JWK set of our own making. One bad key refuses the set.
    ///
    /// # Errors
    /// As [`PublicKey::from_jwk_str`].
    pub fn parse(text: &str) -> Result<Self, TokenRefusal> {
        let set = strict_json::object(text.as_bytes())?;
        let keys = set.get("keys").and_then(Value::as_array).ok_or(TokenRefusal::KeyMalformed("no keys"))?;
        let read = |key: &Value| match key {
            Value::Object(jwk) => PublicKey::from_jwk(jwk),
            _ => Err(TokenRefusal::KeyMalformed("a key is not an object")),
        };
        Ok(Self { keys: keys.iter().map(read).collect::<Result<_, _>>()? })
    }

    /// The JWK set (RFC 7517 section 5); `kid` is the thumbprint.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let publish = |key: &PublicKey| {
            let mut jwk = key.to_jwk();
            jwk["kid"] = Value::from(key.jkt().to_string());
            jwk["use"] = Value::from("sig");
            jwk["alg"] = Value::from(key.algorithm().jose());
            jwk
        };
        json!({"keys": self.keys.iter().map(publish).collect::<Vec<_>>()})
    }
}

/// A fresh identifier of 128 random bits in base64url, good for `jti`.
///
/// # Errors
/// `key.failure` if the random source fails.
pub fn random_id() -> Result<String, TokenRefusal> {
    let mut bytes = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| TokenRefusal::KeyFailure)?;
    Ok(encode(&bytes))
}

const NOT_A_POINT: TokenRefusal = TokenRefusal::KeyMalformed("not a point of the curve");

/// Members of a JWK that hold or wrap a private or shared key (RFC 7518 sections 6.2.2, 6.3.2, 6.4).
pub(crate) fn refuse_private_members(jwk: &Map<String, Value>) -> Result<(), TokenRefusal> {
    const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
    if PRIVATE.iter().any(|name| jwk.contains_key(*name)) {
        return Err(TokenRefusal::KeyPrivate);
    }
    Ok(())
}

/// A key meant for something else than checking signatures is refused (RFC 7517 sections 4.2, 4.3).
pub(crate) fn require_signing_use(jwk: &Map<String, Value>, wanted: &str) -> Result<(), TokenRefusal> {
    let use_fits = jwk.get("use").is_none_or(|u| u == wanted);
    let ops_fit = match jwk.get("key_ops") {
        None => true,
        Some(Value::Array(ops)) => ops.iter().any(|op| op == "verify"),
        Some(_) => false,
    };
    if use_fits && ops_fit { Ok(()) } else { Err(TokenRefusal::KeyUnsupported) }
}

pub(crate) fn member<'a>(jwk: &'a Map<String, Value>, name: &'static str) -> Result<&'a str, TokenRefusal> {
    jwk.get(name).and_then(Value::as_str).ok_or(TokenRefusal::KeyMalformed(name))
}

/// A coordinate of exactly 32 bytes (RFC 7518 section 6.2.1.2: full length, leading zeros kept).
fn coordinate(jwk: &Map<String, Value>, name: &'static str) -> Result<[u8; 32], TokenRefusal> {
    let bytes = decode(member(jwk, name)?).ok_or(TokenRefusal::KeyMalformed(name))?;
    bytes.try_into().map_err(|_| TokenRefusal::KeyMalformed(name))
}

/// Points of small order on Curve25519, sign bit aside: with such a key one signature fits many messages, so
/// it would prove possession of nothing.
fn is_small_order(x: &[u8; 32]) -> bool {
    const Y_OF_ORDER_8: [[u8; 32]; 2] = [
        [
            0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0,
            0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
        ],
        [
            0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f,
            0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
        ],
    ];
    let mut y = *x;
    y[31] &= 0x7f;
    let middle_is = |byte: u8| y[1..31].iter().all(|b| *b == byte);
    let is_0_or_1 = y[0] <= 1 && middle_is(0) && y[31] == 0;
    // p - 1, p and p + 1, where p = 2^255 - 19.
    let is_near_p = (0xec..=0xee).contains(&y[0]) && middle_is(0xff) && y[31] == 0x7f;
    is_0_or_1 || is_near_p || Y_OF_ORDER_8.contains(&y)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwk(text: &str) -> Result<PublicKey, TokenRefusal> {
        PublicKey::from_jwk_str(text)
    }

    #[test]
    fn an_agent_makes_a_key_stores_it_and_finds_the_same_key_again() {
        for algorithm in [KeyAlgorithm::Ed25519, KeyAlgorithm::P256] {
            let key = SigningKey::generate(algorithm).unwrap();
            let again = SigningKey::from_pkcs8(&key.to_pkcs8()).unwrap();
            assert_eq!(key.public(), again.public());
            let signature = key.sign(b"hello").unwrap();
            assert_eq!(signature.len(), 64);
            assert!(again.public().verify(b"hello", &signature));
            assert!(!again.public().verify(b"hullo", &signature));
            let published = PublicKey::from_jwk_str(&key.public().to_jwk().to_string()).unwrap();
            assert_eq!(&published, key.public());
        }
    }

    // proves: INV14
    #[test]
    fn debug_shows_no_private_part() {
        for algorithm in [KeyAlgorithm::Ed25519, KeyAlgorithm::P256] {
            let key = SigningKey::generate(algorithm).unwrap();
            let shown = format!("{key:?}");
            assert!(shown.contains("private part not shown"));
            assert!(shown.len() < 120, "{shown}");
        }
    }

    #[test]
    fn thumbprint_of_rfc_8037_appendix_a_3() {
        let key = jwk(r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwaaPJHURo"}"#);
        assert_eq!(key.unwrap_err().code(), "key.malformed", "one character short");
        let key = jwk(r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#);
        assert_eq!(key.unwrap().jkt().to_string(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn thumbprint_of_rfc_9449_section_6_1() {
        let key = jwk(r#"{"kty":"EC","x":"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs",
                "y":"9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA","crv":"P-256"}"#);
        assert_eq!(key.unwrap().jkt().to_string(), "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
    }

    #[test]
    fn a_jwk_is_read_strictly() {
        const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        let check = |extra: &str, code: Option<&str>| {
            let text = format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{X}"{extra}}}"#);
            assert_eq!(jwk(&text).err().map(|e| e.code()), code, "{extra}");
        };
        check("", None);
        check(r#","kid":"any","ext":true"#, None);
        check(r#","use":"sig","key_ops":["verify"],"alg":"EdDSA""#, None);
        check(r#","alg":"Ed25519""#, None);
        check(r#","d":"AAAA""#, Some("key.private"));
        check(r#","k":"AAAA""#, Some("key.private"));
        check(r#","use":"enc""#, Some("key.unsupported"));
        check(r#","key_ops":["sign"]"#, Some("key.unsupported"));
        check(r#","alg":"HS256""#, Some("key.unsupported"));
        check(r#","alg":"ES256""#, Some("key.unsupported"));
        check(r#","y":"AAAA""#, Some("key.malformed"));
        check(r#","x":"AAAA""#, Some("token.malformed"));
        let whole = |text: &str, code: &str| assert_eq!(jwk(text).unwrap_err().code(), code, "{text}");
        whole(r#"{"kty":"oct","k":"AAAA"}"#, "key.private");
        whole(r#"{"kty":"RSA","n":"AAAA","e":"AQAB"}"#, "key.malformed");
        whole(&format!(r#"{{"kty":"OKP","crv":"X25519","x":"{X}"}}"#), "key.unsupported");
        whole(&format!(r#"{{"kty":"EC","crv":"P-256","x":"{X}","y":"{X}"}}"#), "key.malformed");
        whole(&format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{X}="}}"#), "key.malformed");
    }

    // proves: I3
    #[test]
    fn a_key_that_anybody_can_sign_for_is_refused() {
        // The neutral point: R = neutral, S = 0 is a valid signature over every message.
        let mut neutral = [0_u8; 32];
        neutral[0] = 1;
        let mut forged = [0_u8; 64];
        forged[0] = 1;
        if let Ok(parsed) = ParsedPublicKey::new(&ED25519, neutral) {
            assert!(parsed.verify_sig(b"anything", &forged).is_ok(), "the danger is real");
        }
        assert!(PublicKey::ed25519(&neutral).is_err());
        neutral[31] = 0x80;
        assert!(PublicKey::ed25519(&neutral).is_err());
        assert!(PublicKey::ed25519(&[0_u8; 32]).is_err());
    }

    #[test]
    fn the_published_set_reads_back_and_names_keys_by_thumbprint() {
        let a = SigningKey::generate(KeyAlgorithm::Ed25519).unwrap();
        let b = SigningKey::generate(KeyAlgorithm::P256).unwrap();
        let set = Jwks::new([a.public().clone(), b.public().clone()]);
        let json = set.to_json();
        assert_eq!(json["keys"][0]["kid"], a.public().jkt().to_string());
        assert_eq!(Jwks::parse(&json.to_string()).unwrap().keys(), set.keys());
        assert!(!json.to_string().contains("\"d\""));
    }
}
