//! Proof of possession (DPoP, RFC 9449): one signed note per request that says "I hold this key, and this is
//! the request I mean".

use serde::Serialize;
use serde_json::{Map, Value};

use crate::claims::plain_text;
use crate::htu::canonical_url;
use crate::jws::{self, HeaderRule, KeyHint};
use crate::verify::{SKEW_SECS, labelled};
use crate::{Digest, PublicKey, SigningKey, TokenRefusal, json};

/// How old a proof may be, in seconds, unless told otherwise.
pub const WINDOW_SECS: u64 = 60;
/// The longest `jti`, in bytes.
pub const JTI_BYTES_MAX: usize = 128;

const TYP: &str = "dpop+jwt";
const NONCE_BYTES_MAX: usize = 256;
const HTM_BYTES_MAX: usize = 32;

/// Makes a proof for one request. `iat` in seconds since 1970-01-01 UTC; `jti` must never be used again with
/// this key ([`crate::random_id`] makes one).
///
/// # Errors
/// `dpop.url` if `htu` has no canonical form, `key.failure`.
pub fn prove(
    key: &SigningKey,
    htm: &str,
    htu: &str,
    access_token: Option<&str>,
    nonce: Option<&str>,
    iat: u64,
    jti: &str,
) -> Result<String, TokenRefusal> {
    let claims = ProofClaims {
        jti,
        htm,
        htu: canonical_url(htu)?,
        iat,
        ath: access_token.map(|token| Digest::of(token.as_bytes())),
        nonce,
    };
    jws::sign(key, TYP, KeyHint::Jwk(key.public()), &claims)
}

/// What a proof must be about.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The HTTP method as received; compared exactly.
    pub htm: &'a str,
    /// The URL as the caller knows it; compared in canonical form, without query and fragment.
    pub htu: &'a str,
    /// The access token it accompanies; `None` at a token endpoint, and then the proof may name none.
    pub access_token: Option<&'a str>,
    /// The nonce the caller was told to use.
    pub nonce: Option<&'a str>,
    /// Now, in seconds since 1970-01-01 UTC.
    pub now: u64,
    /// How old the proof may be, in seconds; capped at 60.
    pub window_secs: u64,
    /// The thumbprint that the key must have, where it is known.
    pub expected_jkt: Option<Digest>,
}

/// Checks a proof (RFC 9449 section 4.3, all but the replay check: see [`ProofId`]).
///
/// # Errors
/// `token.*` for a proof that is no such token or badly signed, `key.*` for its key, `token.holder` for another
/// key than expected, `dpop.*` for another request.
pub fn check(proof: &str, expected: &Expected<'_>) -> Result<ProofId, TokenRefusal> {
    let token_hash = expected.access_token.map(|token| Digest::of(token.as_bytes()));
    check_for_token(proof, expected, token_hash)
}

/// As `check`, with the hash of the access token at hand.
pub(crate) fn check_for_token(
    proof: &str,
    expected: &Expected<'_>,
    token_hash: Option<Digest>,
) -> Result<ProofId, TokenRefusal> {
    let unverified = jws::split(proof, HeaderRule::Proof)?;
    unverified.require_type(&[TYP])?;
    let jwk = unverified.jwk.as_ref().ok_or(TokenRefusal::Header("jwk"))?;
    let key = PublicKey::from_jwk(jwk)?;
    if expected.expected_jkt.is_some_and(|jkt| jkt != key.jkt()) {
        return Err(TokenRefusal::WrongHolder);
    }
    let claims = json::object(&unverified.verify(&key.verifying())?)?;
    check_request(&claims, expected)?;
    check_access_token(&claims, token_hash)?;
    check_nonce(&claims, expected.nonce)?;
    let window_secs = expected.window_secs.min(WINDOW_SECS);
    let iat = check_age(&claims, expected.now, window_secs)?;
    let jti = required(&claims, "jti", JTI_BYTES_MAX)?;
    let expires_at_secs = iat.saturating_add(window_secs).saturating_add(1);
    Ok(ProofId::new("dpop", key.jkt(), jti, expires_at_secs))
}

/// The name of one single-use statement. Whoever acts on it must first have stored `jti_hash` and found that it
/// was not there, and may forget it at `expires_at_secs`: from then on the statement is too old by itself.
///
/// The hash covers kind, holder and id, so that nobody can use up another's ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProofId {
    jti_hash: [u8; 32],
    holder: Digest,
    expires_at_secs: u64,
}

impl ProofId {
    pub(crate) fn new(kind: &str, holder: Digest, id: &str, expires_at_secs: u64) -> Self {
        let jti_hash = labelled(kind, &[holder.as_bytes(), id.as_bytes()]);
        Self { jti_hash, holder, expires_at_secs }
    }

    /// What to remember.
    #[must_use]
    pub fn jti_hash(&self) -> [u8; 32] {
        self.jti_hash
    }

    /// Whose statement it is: the thumbprint of the key that was proven, or a hash of the identity.
    #[must_use]
    pub fn holder(&self) -> Digest {
        self.holder
    }

    /// When it may be forgotten, in seconds since 1970-01-01 UTC.
    #[must_use]
    pub fn expires_at_secs(&self) -> u64 {
        self.expires_at_secs
    }
}

/// Member order is the order here, so that equal proofs have equal bytes.
#[derive(Serialize)]
struct ProofClaims<'a> {
    jti: &'a str,
    htm: &'a str,
    htu: String,
    iat: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ath: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<&'a str>,
}

fn check_request(claims: &Map<String, Value>, expected: &Expected<'_>) -> Result<(), TokenRefusal> {
    if required(claims, "htm", HTM_BYTES_MAX)? != expected.htm {
        return Err(TokenRefusal::ProofMethod);
    }
    let named = canonical_url(required(claims, "htu", 2048)?)?;
    if named == canonical_url(expected.htu)? { Ok(()) } else { Err(TokenRefusal::ProofUrl) }
}

fn check_access_token(claims: &Map<String, Value>, token_hash: Option<Digest>) -> Result<(), TokenRefusal> {
    let fits = match (claims.get("ath"), token_hash) {
        (None, None) => true,
        (Some(Value::String(ath)), Some(hash)) => Digest::parse(ath).is_ok_and(|ath| ath == hash),
        _ => false,
    };
    if fits { Ok(()) } else { Err(TokenRefusal::ProofAccessToken) }
}

fn check_nonce(claims: &Map<String, Value>, wanted: Option<&str>) -> Result<(), TokenRefusal> {
    let Some(wanted) = wanted else { return Ok(()) };
    let shown = match claims.get("nonce") {
        Some(Value::String(nonce)) if nonce.len() <= NONCE_BYTES_MAX => nonce.as_bytes(),
        _ => return Err(TokenRefusal::ProofNonce),
    };
    aws_lc_rs::constant_time::verify_slices_are_equal(shown, wanted.as_bytes())
        .map_err(|_| TokenRefusal::ProofNonce)
}

/// The issue time, if it is no older than the window and no further ahead than the skew.
fn check_age(claims: &Map<String, Value>, now: u64, window_secs: u64) -> Result<u64, TokenRefusal> {
    let iat = claims.get("iat").and_then(Value::as_u64).ok_or(TokenRefusal::Claim("iat"))?;
    let too_old = iat.saturating_add(window_secs) < now;
    let too_new = iat > now.saturating_add(SKEW_SECS);
    if too_old || too_new { Err(TokenRefusal::ProofStale) } else { Ok(iat) }
}

pub(crate) fn required<'a>(
    claims: &'a Map<String, Value>,
    name: &'static str,
    bytes_max: usize,
) -> Result<&'a str, TokenRefusal> {
    match claims.get(name).and_then(Value::as_str) {
        Some(text) if plain_text(text, bytes_max) => Ok(text),
        _ => Err(TokenRefusal::Claim(name)),
    }
}
