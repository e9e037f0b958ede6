//! Who stands behind a request before there is a task token: an agent by its SPIFFE identity or its registered
//! key, a person by an identity provider.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::claims::plain_text;
use crate::dpop::{ProofId, required};
use crate::jws::{self, HeaderRule, KeyHint, Unverified};
use crate::verify::{SKEW_SECS, check_times};
use crate::{Digest, IssuerKeys, PublicKey, SigningKey, TokenRefusal, json};

/// The longest life of an agent assertion, in seconds.
pub const ASSERTION_SECS_MAX: u64 = 300;
/// How much longer a JWT-SVID or an ID token may live at most, in seconds. Longer ones are standing keys.
pub const FOREIGN_SECS_MAX: u64 = 24 * 3600;

const ASSERTION_TYP: &str = "client-authentication+jwt";
const ASSERTION_SECS: u64 = 60;

/// The identity of a workload: `spiffe://trust-domain/path` (SPIFFE-ID, section 2), always with a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId(String);

impl SpiffeId {
    /// Reads a SPIFFE ID strictly: lower-case trust domain, no port, no user info, no query, no escapes, no
    /// empty or dot segments, no trailing slash, at most 2048 bytes.
    ///
    /// # Errors
    /// `subject.spiffe_id` with what is wrong.
    pub fn parse(text: &str) -> Result<Self, TokenRefusal> {
        let refuse = |why| Err(TokenRefusal::SpiffeId(why));
        if text.len() > 2048 {
            return refuse("longer than 2048 bytes");
        }
        let Some(rest) = text.strip_prefix("spiffe://") else { return refuse("scheme is not spiffe://") };
        let Some((domain, path)) = rest.split_once('/') else { return refuse("no path") };
        let in_domain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b);
        if domain.is_empty() || domain.len() > 255 || !domain.bytes().all(in_domain) {
            return refuse("trust domain");
        }
        let in_segment = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        let segment_fits = |s: &str| !s.is_empty() && s != "." && s != ".." && s.bytes().all(in_segment);
        if !path.split('/').all(segment_fits) {
            return refuse("path");
        }
        Ok(Self(text.to_owned()))
    }

    /// The whole id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        self.0.trim_start_matches("spiffe://").split('/').next().unwrap_or_default()
    }

    fn digest(&self) -> Digest {
        Digest::of(self.0.as_bytes())
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SpiffeId {
    type Err = TokenRefusal;

    fn from_str(text: &str) -> Result<Self, TokenRefusal> {
        Self::parse(text)
    }
}

impl Serialize for SpiffeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SpiffeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// A workload whose JWT-SVID was verified.
#[derive(Clone, Debug)]
pub struct Workload {
    spiffe: SpiffeId,
    id: ProofId,
}

impl Workload {
    /// Its identity.
    #[must_use]
    pub fn spiffe(&self) -> &SpiffeId {
        &self.spiffe
    }

    /// The name of this very SVID, for places where one serves once.
    #[must_use]
    pub fn id(&self) -> &ProofId {
        &self.id
    }
}

/// Verifies a JWT-SVID against the bundle of its trust domain (SPIFFE JWT-SVID, sections 3 to 5). Stricter than
/// the specification in three points: exactly one audience, at most a day left to live, not self-issued.
///
/// # Errors
/// `token.*`, `subject.*`.
pub fn verify_jwt_svid(
    token: &str,
    audience: &str,
    trust_domain: &str,
    bundle: &IssuerKeys,
    now_secs: u64,
) -> Result<Workload, TokenRefusal> {
    let unverified = jws::split(token, HeaderRule::Foreign)?;
    unverified.allow_type(&["JWT", "JOSE"])?;
    let key = bundle.find(unverified.kid.as_deref())?;
    let claims = json::object(&unverified.verify(key)?)?;
    let spiffe = SpiffeId::parse(required(&claims, "sub", 2048)?)?;
    if spiffe.trust_domain() != trust_domain {
        return Err(TokenRefusal::TrustDomain);
    }
    if claims.get("iss").is_some_and(|iss| iss == spiffe.as_str()) {
        return Err(TokenRefusal::WrongIssuer);
    }
    require_only_audience(&claims, audience)?;
    let exp = foreign_times(&claims, now_secs)?;
    let id = ProofId::new("jwt-svid", spiffe.digest(), &content_name(&unverified), exp);
    Ok(Workload { spiffe, id })
}

/// An agent that proved its registered key.
#[derive(Clone, Debug)]
pub struct AssertedAgent {
    spiffe: SpiffeId,
    key: PublicKey,
    id: ProofId,
}

impl AssertedAgent {
    /// Its identity.
    #[must_use]
    pub fn spiffe(&self) -> &SpiffeId {
        &self.spiffe
    }

    /// The thumbprint of the key it proved.
    #[must_use]
    pub fn jkt(&self) -> Digest {
        self.key.jkt()
    }

    /// The name of this assertion; to be used once.
    #[must_use]
    pub fn id(&self) -> &ProofId {
        &self.id
    }
}

/// Makes an agent's assertion for a token endpoint (RFC 7523 section 3, `private_key_jwt`). Good for 60 s.
///
/// # Errors
/// `key.failure`.
pub fn assert_agent(
    key: &SigningKey,
    spiffe: &SpiffeId,
    audience: &str,
    iat: u64,
    jti: &str,
) -> Result<String, TokenRefusal> {
    let exp = iat.saturating_add(ASSERTION_SECS);
    let claims = AssertionClaims { iss: spiffe, sub: spiffe, aud: audience, iat, exp, jti };
    jws::sign(key, ASSERTION_TYP, KeyHint::Kid, &claims)
}

#[derive(Serialize)]
struct AssertionClaims<'a> {
    iss: &'a SpiffeId,
    sub: &'a SpiffeId,
    aud: &'a str,
    iat: u64,
    exp: u64,
    jti: &'a str,
}

/// Checks an agent's assertion. `lookup` gives the key registered for an identity; what it is asked with is not
/// yet proven, so it must only look.
///
/// # Errors
/// `assertion.*`, `token.*`, `subject.spiffe_id`.
pub fn check_assertion(
    jwt: &str,
    expected_audience: &str,
    now_secs: u64,
    lookup: impl Fn(&SpiffeId) -> Option<PublicKey>,
) -> Result<AssertedAgent, TokenRefusal> {
    let unverified = jws::split(jwt, HeaderRule::Foreign)?;
    unverified.allow_type(&[ASSERTION_TYP, "JWT"])?;
    let claimed = json::object(&unverified.payload_before_verification()?)?;
    let spiffe = SpiffeId::parse(required(&claimed, "sub", 2048)?)?;
    let key = lookup(&spiffe).ok_or(TokenRefusal::UnknownAgent)?;
    let claims = json::object(&unverified.verify(&key.verifying())?)?;
    if required(&claims, "iss", 2048)? != spiffe.as_str() {
        return Err(TokenRefusal::AssertionSubject);
    }
    require_only_audience(&claims, expected_audience)?;
    let (exp, iat) = (seconds(&claims, "exp")?, seconds(&claims, "iat")?);
    if !matches!(exp.checked_sub(iat), Some(1..=ASSERTION_SECS_MAX)) {
        return Err(TokenRefusal::Lifetime);
    }
    check_times(exp, iat.max(optional_seconds(&claims, "nbf")?.unwrap_or(0)), now_secs, SKEW_SECS)?;
    let jti = required(&claims, "jti", crate::dpop::JTI_BYTES_MAX)?;
    let id = ProofId::new("assertion", key.jkt(), jti, exp);
    Ok(AssertedAgent { spiffe, key, id })
}

/// What an ID token must be about.
#[derive(Clone, Copy, Debug)]
pub struct OidcExpected<'a> {
    /// The issuer, exactly as configured.
    pub issuer: &'a str,
    /// Our client id at that issuer.
    pub audience: &'a str,
    /// The nonce of the sign-in under way; `None` only where no browser is involved.
    pub nonce: Option<&'a str>,
    /// Now, in seconds since 1970-01-01 UTC.
    pub now_secs: u64,
}

/// A person whose ID token was verified.
#[derive(Clone, Debug)]
pub struct Person {
    issuer: String,
    subject: String,
    claims: Map<String, Value>,
    id: ProofId,
}

impl Person {
    /// Who vouches for the person.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The person's lasting id at that issuer. Unique together with the issuer only.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The mail address, if the issuer says it verified it.
    #[must_use]
    pub fn verified_email(&self) -> Option<&str> {
        let verified = self.claims.get("email_verified").is_some_and(|v| v == true);
        self.claim("email").and_then(Value::as_str).filter(|_| verified)
    }

    /// Any other claim, such as `groups`, `acr` or `auth_time`.
    #[must_use]
    pub fn claim(&self, name: &str) -> Option<&Value> {
        self.claims.get(name)
    }

    /// The name of this very ID token, for places where one serves once.
    #[must_use]
    pub fn id(&self) -> &ProofId {
        &self.id
    }
}

/// Verifies an OpenID Connect ID token (OpenID Connect Core, section 3.1.3.7). A token that speaks for a
/// workload or through a delegation is refused: agents come with their own identity.
///
/// # Errors
/// `token.*`, `oidc.*`.
pub fn verify_oidc(
    token: &str,
    keys: &IssuerKeys,
    expected: &OidcExpected<'_>,
) -> Result<Person, TokenRefusal> {
    let unverified = jws::split(token, HeaderRule::Foreign)?;
    unverified.allow_type(&["JWT"])?;
    let key = keys.find(unverified.kid.as_deref())?;
    let claims = json::object(&unverified.verify(key)?)?;
    let issuer = required(&claims, "iss", 2048)?.to_owned();
    if issuer != expected.issuer {
        return Err(TokenRefusal::WrongIssuer);
    }
    require_our_audience(&claims, expected.audience)?;
    seconds(&claims, "iat")?;
    let exp = foreign_times(&claims, expected.now_secs)?;
    require_nonce(&claims, expected.nonce)?;
    let subject = required(&claims, "sub", 255)?.to_owned();
    let delegated = ["act", "cnf", "authorization_details"].iter().any(|name| claims.contains_key(*name));
    if delegated || subject.starts_with("spiffe:") {
        return Err(TokenRefusal::NotAPerson);
    }
    let holder = Digest::of(format!("{issuer}\n{subject}").as_bytes());
    let id = ProofId::new("oidc", holder, &content_name(&unverified), exp);
    Ok(Person { issuer, subject, claims, id })
}

/// The signed content names a token better than its bytes do: an ECDSA signature has a second form.
fn content_name(unverified: &Unverified<'_>) -> String {
    Digest::of(unverified.signing_input.as_bytes()).to_string()
}

fn seconds(claims: &Map<String, Value>, name: &'static str) -> Result<u64, TokenRefusal> {
    optional_seconds(claims, name)?.ok_or(TokenRefusal::Claim(name))
}

fn optional_seconds(claims: &Map<String, Value>, name: &'static str) -> Result<Option<u64>, TokenRefusal> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or(TokenRefusal::Claim(name)),
    }
}

/// `exp` must be there, not reached, and not too far; `iat` and `nbf`, where there, not in the future.
fn foreign_times(claims: &Map<String, Value>, now_secs: u64) -> Result<u64, TokenRefusal> {
    let exp = seconds(claims, "exp")?;
    let iat = optional_seconds(claims, "iat")?.unwrap_or(0);
    let nbf = optional_seconds(claims, "nbf")?.unwrap_or(0);
    check_times(exp, iat.max(nbf), now_secs, SKEW_SECS)?;
    if exp > now_secs.saturating_add(FOREIGN_SECS_MAX) { Err(TokenRefusal::Lifetime) } else { Ok(exp) }
}

/// Exactly one audience, and it is `audience`.
fn require_only_audience(claims: &Map<String, Value>, audience: &str) -> Result<(), TokenRefusal> {
    let fits = match claims.get("aud") {
        Some(Value::String(one)) => one == audience,
        Some(Value::Array(many)) => matches!(many.as_slice(), [Value::String(one)] if one == audience),
        _ => false,
    };
    if fits { Ok(()) } else { Err(TokenRefusal::WrongAudience) }
}

/// `audience` is among the audiences; where there are others, or an `azp`, the authorised party is us.
fn require_our_audience(claims: &Map<String, Value>, audience: &str) -> Result<(), TokenRefusal> {
    let azp_is_us = claims.get("azp").map(|azp| azp == audience);
    let fits = match claims.get("aud") {
        Some(Value::Array(many)) if many.len() > 1 => {
            many.len() <= 16 && many.iter().any(|a| a == audience) && azp_is_us == Some(true)
        }
        _ => require_only_audience(claims, audience).is_ok() && azp_is_us != Some(false),
    };
    if fits { Ok(()) } else { Err(TokenRefusal::WrongAudience) }
}

fn require_nonce(claims: &Map<String, Value>, wanted: Option<&str>) -> Result<(), TokenRefusal> {
    let Some(wanted) = wanted else { return Ok(()) };
    let shown = claims.get("nonce").and_then(Value::as_str).filter(|n| plain_text(n, 512));
    let shown = shown.ok_or(TokenRefusal::SignInNonce)?;
    aws_lc_rs::constant_time::verify_slices_are_equal(shown.as_bytes(), wanted.as_bytes())
        .map_err(|_| TokenRefusal::SignInNonce)
}
