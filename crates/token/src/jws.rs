//! Compact JWS (RFC 7515), read strictly and before any key is touched.
//!
//! `split` reads the header under a rule, `Unverified::verify` gives the payload out only after the signature
//! was found good for a key that the caller chose. The header's `alg` is compared with the key's own; it
//! chooses nothing (RFC 8725 section 3.1).

use serde::Serialize;
use serde_json::{Map, Value};

use crate::digest::{decode, encode};
use crate::key::JwkMembers;
use crate::trust::VerifyingKey;
use crate::{SigningKey, TokenRefusal, json};

/// The longest token or proof that is read at all, in bytes.
pub(crate) const TOKEN_BYTES_MAX: usize = 16 * 1024;
const HEADER_BYTES_MAX: usize = 2 * 1024;
const KID_BYTES_MAX: usize = 512;

/// Members that point at keys or change how the rest is read. Refused wherever a token comes from.
const REFUSED: [&str; 7] = ["jku", "jwk", "x5u", "x5c", "crit", "b64", "zip"];

/// Which header members a kind of token may have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderRule {
    /// Minted by us: `typ`, `alg`, `kid`, nothing else.
    Ours,
    /// A proof of possession: carries its public key in `jwk`.
    Proof,
    /// Made by others: further members are ignored, dangerous ones refused.
    Foreign,
}

/// A token whose header was read and whose signature was not.
pub(crate) struct Unverified<'a> {
    pub(crate) alg: String,
    pub(crate) typ: Option<String>,
    pub(crate) kid: Option<String>,
    pub(crate) jwk: Option<Map<String, Value>>,
    /// Header and payload as they were signed.
    pub(crate) signing_input: &'a str,
    payload: &'a str,
    signature: Vec<u8>,
}

/// Cuts a compact JWS into its three parts and reads the header.
pub(crate) fn split(token: &str, rule: HeaderRule) -> Result<Unverified<'_>, TokenRefusal> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(TokenRefusal::TooLarge);
    }
    let (signing_input, signature) = token.rsplit_once('.').ok_or(NOT_THREE)?;
    let (header, payload) = signing_input.split_once('.').ok_or(NOT_THREE)?;
    if payload.contains('.') {
        return Err(NOT_THREE);
    }
    let signature = decode(signature).ok_or(TokenRefusal::Malformed("signature is not base64url"))?;
    let mut header = read_header(header, rule)?;
    Ok(Unverified {
        alg: text(&mut header, "alg", 32)?.ok_or(TokenRefusal::Header("alg"))?,
        typ: text(&mut header, "typ", 128)?,
        kid: text(&mut header, "kid", KID_BYTES_MAX)?,
        jwk: embedded_key(&mut header, rule)?,
        signing_input,
        payload,
        signature,
    })
}

impl Unverified<'_> {
    /// The payload, if `key` signed it with the key's own algorithm.
    pub(crate) fn verify(&self, key: &VerifyingKey) -> Result<Vec<u8>, TokenRefusal> {
        if !key.speaks(&self.alg) {
            return Err(TokenRefusal::WrongAlgorithm);
        }
        if !key.verify(self.signing_input.as_bytes(), &self.signature) {
            return Err(TokenRefusal::BadSignature);
        }
        self.payload_before_verification()
    }

    /// The payload while nothing vouches for it: good for finding a key, never for believing.
    pub(crate) fn payload_before_verification(&self) -> Result<Vec<u8>, TokenRefusal> {
        decode(self.payload).ok_or(TokenRefusal::Malformed("payload is not base64url"))
    }

    /// Whether `typ` is one of `accepted`; case does not matter and `application/` may be left off
    /// (RFC 7515 section 4.1.9).
    pub(crate) fn require_type(&self, accepted: &[&str]) -> Result<(), TokenRefusal> {
        let typ = self.typ.as_deref().ok_or(TokenRefusal::WrongType)?;
        let bare = match typ.split_at_checked("application/".len()) {
            Some((prefix, rest)) if prefix.eq_ignore_ascii_case("application/") => rest,
            _ => typ,
        };
        let found = accepted.iter().any(|a| a.eq_ignore_ascii_case(bare));
        if found { Ok(()) } else { Err(TokenRefusal::WrongType) }
    }

    /// As `require_type`, and a token without `typ` passes too.
    pub(crate) fn allow_type(&self, accepted: &[&str]) -> Result<(), TokenRefusal> {
        if self.typ.is_none() { Ok(()) } else { self.require_type(accepted) }
    }
}

/// How a header says which key signed.
pub(crate) enum KeyHint<'a> {
    /// By name: the thumbprint.
    Kid,
    /// By showing the public key.
    Jwk(&'a crate::PublicKey),
}

/// Signs `payload`; the header holds `typ`, the key's algorithm and the hint. Same input, same bytes (for
/// Ed25519; a P-256 signature is randomised).
pub(crate) fn sign(
    key: &SigningKey,
    typ: &str,
    hint: KeyHint<'_>,
    payload: &impl Serialize,
) -> Result<String, TokenRefusal> {
    let (kid, jwk) = match hint {
        KeyHint::Kid => (Some(key.public().jkt().to_string()), None),
        KeyHint::Jwk(public) => (None, Some(public.jwk_members())),
    };
    let header = Header { typ, alg: key.algorithm().jose(), kid, jwk };
    let mut out = encode(&to_json(&header)?);
    out.push('.');
    out.push_str(&encode(&to_json(payload)?));
    let signature = key.sign(out.as_bytes())?;
    out.push('.');
    out.push_str(&encode(&signature));
    if out.len() > TOKEN_BYTES_MAX { Err(TokenRefusal::TooLarge) } else { Ok(out) }
}

/// Member order is the order here, so that equal headers have equal bytes.
#[derive(Serialize)]
struct Header<'a> {
    typ: &'a str,
    alg: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwk: Option<JwkMembers>,
}

fn to_json(value: &impl Serialize) -> Result<Vec<u8>, TokenRefusal> {
    serde_json::to_vec(value).map_err(|_| TokenRefusal::Malformed("content cannot be written as JSON"))
}

const NOT_THREE: TokenRefusal = TokenRefusal::Malformed("not three parts");

fn read_header(text: &str, rule: HeaderRule) -> Result<Map<String, Value>, TokenRefusal> {
    if text.len() > HEADER_BYTES_MAX {
        return Err(TokenRefusal::TooLarge);
    }
    let bytes = decode(text).ok_or(TokenRefusal::Malformed("header is not base64url"))?;
    let header = json::object(&bytes)?;
    for name in REFUSED {
        let is_proof_key = name == "jwk" && rule == HeaderRule::Proof;
        if header.contains_key(name) && !is_proof_key {
            return Err(TokenRefusal::Header(name));
        }
    }
    if rule == HeaderRule::Ours && header.keys().any(|k| !["typ", "alg", "kid"].contains(&k.as_str())) {
        return Err(TokenRefusal::Header("an unknown member"));
    }
    Ok(header)
}

fn text(
    header: &mut Map<String, Value>,
    name: &'static str,
    bytes_max: usize,
) -> Result<Option<String>, TokenRefusal> {
    match header.remove(name) {
        None => Ok(None),
        Some(Value::String(s)) if !s.is_empty() && s.len() <= bytes_max => Ok(Some(s)),
        Some(_) => Err(TokenRefusal::Header(name)),
    }
}

fn embedded_key(
    header: &mut Map<String, Value>,
    rule: HeaderRule,
) -> Result<Option<Map<String, Value>>, TokenRefusal> {
    match (rule, header.remove("jwk")) {
        (HeaderRule::Proof, Some(Value::Object(jwk))) => Ok(Some(jwk)),
        (HeaderRule::Proof, _) => Err(TokenRefusal::Header("jwk")),
        (_, None) => Ok(None),
        (_, Some(_)) => Err(TokenRefusal::Header("jwk")),
    }
}
