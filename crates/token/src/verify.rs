//! Verifying task tokens, and turning a token and a proven key into a caller.
//!
//! [`Verified`] comes from [`Verifier::verify`] only, [`Caller`] from a `Verified` and a proof only:
//!
//! ```compile_fail
//! let forged = bailiwick_token::Verified { claims: todo!(), hash: todo!() };
//! ```
//!
//! ```compile_fail
//! fn skip_the_proof(v: bailiwick_token::Verified) -> bailiwick_token::Caller {
//!     bailiwick_token::Caller { verified: v, holder: todo!() }
//! }
//! ```

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use crate::digest::sha256;
use crate::dpop::{self, Expected, ProofId};
use crate::jws::{self, HeaderRule};
use crate::mint::check_lifetime;
use crate::trust::VerifyingKey;
use crate::{Claims, Confirmation, Digest, Jwks, TokenRefusal};

/// The `typ` of a task token (RFC 9068 section 2.1).
pub(crate) const TYP: &str = "at+jwt";
/// How far clocks may differ, in seconds, unless told otherwise.
pub(crate) const SKEW_SECS: u64 = 5;

/// Verifies the task tokens of one issuer for one audience.
#[derive(Clone)]
pub struct Verifier {
    issuer: String,
    audience: String,
    tenant: Option<String>,
    keys: BTreeMap<String, VerifyingKey>,
    skew_secs: u64,
}

impl Verifier {
    /// A verifier that accepts tokens of `issuer` for `audience` signed by one of `keys`. Clock skew 5 s.
    #[must_use]
    pub fn new(issuer: impl Into<String>, audience: impl Into<String>, keys: &Jwks) -> Self {
        let keys = keys.keys().iter().map(|k| (k.jkt().to_string(), k.verifying())).collect();
        Self { issuer: issuer.into(), audience: audience.into(), tenant: None, keys, skew_secs: SKEW_SECS }
    }

    /// Accept tokens of this tenant only.
    #[must_use]
    pub fn for_tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// How far `iat` and `nbf` may lie in the future, in seconds (at most 60). Skew never lengthens a life:
    /// `exp` is exact.
    #[must_use]
    pub fn with_skew_secs(mut self, skew_secs: u64) -> Self {
        self.skew_secs = skew_secs.min(60);
        self
    }

    /// Verifies a token at `now_secs` (seconds since 1970-01-01 UTC).
    ///
    /// The result says that we minted it for this audience and that its time is now. It does not say that the
    /// sender holds its key: see [`Verified::proven_by_dpop`].
    ///
    /// # Errors
    /// A `token.*` refusal; the first that applies.
    pub fn verify(&self, token: &str, now_secs: u64) -> Result<Verified, TokenRefusal> {
        let (_, claims) = self.authenticate(token)?;
        self.admit(Arc::new(claims), Digest::of(token.as_bytes()), now_secs)
    }

    /// As [`Verifier::verify`], with the result of the signature check kept in `cache`. Issuer, audience,
    /// tenant, key set and times are judged anew on every call, so one cache may serve several verifiers.
    ///
    /// # Errors
    /// As [`Verifier::verify`].
    pub fn verify_cached(
        &self,
        cache: &mut SignatureCache,
        token: &str,
        now_secs: u64,
    ) -> Result<Verified, TokenRefusal> {
        if token.len() > jws::TOKEN_BYTES_MAX {
            return Err(TokenRefusal::TooLarge);
        }
        let hash = Digest::of(token.as_bytes());
        if let Some((kid, claims)) = cache.find(&hash) {
            return match self.keys.contains_key(&kid) {
                true => self.admit(claims, hash, now_secs),
                false => Err(TokenRefusal::UnknownKey),
            };
        }
        let (kid, claims) = self.authenticate(token)?;
        let claims = Arc::new(claims);
        let verified = self.admit(Arc::clone(&claims), hash, now_secs)?;
        cache.keep(hash, kid, claims);
        Ok(verified)
    }

    /// Form and signature: everything that depends on the bytes and the keys alone.
    fn authenticate(&self, token: &str) -> Result<(String, Claims), TokenRefusal> {
        let mut unverified = jws::split(token, HeaderRule::Ours)?;
        unverified.require_type(&[TYP])?;
        let kid = unverified.kid.take().ok_or(TokenRefusal::Header("kid"))?;
        let key = self.keys.get(&kid).ok_or(TokenRefusal::UnknownKey)?;
        let claims = Claims::parse(&unverified.verify(key)?)?;
        check_lifetime(&claims)?;
        Ok((kid, claims))
    }

    /// Whether authentic claims are for us and for now.
    fn admit(&self, claims: Arc<Claims>, hash: Digest, now_secs: u64) -> Result<Verified, TokenRefusal> {
        if claims.iss != self.issuer {
            return Err(TokenRefusal::WrongIssuer);
        }
        if claims.aud != self.audience {
            return Err(TokenRefusal::WrongAudience);
        }
        if self.tenant.as_ref().is_some_and(|tenant| *tenant != claims.tenant) {
            return Err(TokenRefusal::WrongTenant);
        }
        check_times(claims.exp, claims.nbf.max(claims.iat), now_secs, self.skew_secs)?;
        Ok(Verified { claims, hash })
    }
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Verifier({} for {}, {} keys)", self.issuer, self.audience, self.keys.len())
    }
}

/// A task token that we minted, for this audience, in force at the time of asking. Not yet a caller.
#[derive(Clone, Debug)]
pub struct Verified {
    claims: Arc<Claims>,
    hash: Digest,
}

impl Verified {
    /// What the token says.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// SHA-256 of the token: `ath` of a proof, `par_hash` of a child.
    #[must_use]
    pub fn hash(&self) -> Digest {
        self.hash
    }

    /// Turns token and DPoP proof into a caller. The proof's id still has to be found fresh: by a
    /// [`crate::ReplayWindow`] at the door, and by the event that records the decision.
    ///
    /// # Errors
    /// `token.holder` if the token is bound to a certificate or another key; otherwise as [`dpop::check`].
    pub fn proven_by_dpop(self, proof: &str, request: &Request<'_>) -> Result<Caller, TokenRefusal> {
        let Confirmation::Jkt(jkt) = self.claims.cnf else { return Err(TokenRefusal::WrongHolder) };
        let expected = Expected {
            htm: request.htm,
            htu: request.htu,
            access_token: None,
            nonce: request.nonce,
            now: request.now_secs,
            window_secs: dpop::WINDOW_SECS,
            expected_jkt: Some(jkt),
        };
        let id = dpop::check_for_token(proof, &expected, Some(self.hash))?;
        Ok(Caller { verified: self, holder: Holder::Dpop(id) })
    }

    /// Turns token and client certificate (DER, from the finished TLS handshake) into a caller.
    ///
    /// # Errors
    /// `token.holder` if the token is bound to a DPoP key or another certificate.
    pub fn proven_by_mtls(self, certificate_der: &[u8]) -> Result<Caller, TokenRefusal> {
        let presented = Digest::of(certificate_der);
        match self.claims.cnf {
            Confirmation::X5tS256(bound) if bound == presented => {
                Ok(Caller { verified: self, holder: Holder::Certificate(presented) })
            }
            _ => Err(TokenRefusal::WrongHolder),
        }
    }
}

/// The request that a DPoP proof must be about.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The HTTP method as received.
    pub htm: &'a str,
    /// The URL as the caller knows it.
    pub htu: &'a str,
    /// The nonce the caller was told to use, if any.
    pub nonce: Option<&'a str>,
    /// Now, in seconds since 1970-01-01 UTC.
    pub now_secs: u64,
}

/// A token together with the proof that its sender holds its key.
#[derive(Clone, Debug)]
pub struct Caller {
    verified: Verified,
    holder: Holder,
}

/// How a caller proved possession.
#[derive(Clone, Debug)]
pub enum Holder {
    /// By a DPoP proof; the id is to be used once.
    Dpop(ProofId),
    /// By the client certificate of the connection.
    Certificate(Digest),
}

impl Caller {
    /// What the token says.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        self.verified.claims()
    }

    /// The verified token.
    #[must_use]
    pub fn verified(&self) -> &Verified {
        &self.verified
    }

    /// How possession was proven.
    #[must_use]
    pub fn holder(&self) -> &Holder {
        &self.holder
    }

    /// The id of the DPoP proof, to be recorded with the decision.
    #[must_use]
    pub fn proof_id(&self) -> Option<&ProofId> {
        match &self.holder {
            Holder::Dpop(id) => Some(id),
            Holder::Certificate(_) => None,
        }
    }
}

/// Remembers whose signatures were found good, by SHA-256 of the whole token. Holds no decision. Bounded: the
/// oldest entry makes room. Clear it when the revocation epoch changes.
#[derive(Debug)]
pub struct SignatureCache {
    entries: HashMap<Digest, (String, Arc<Claims>)>,
    order: VecDeque<Digest>,
    capacity: usize,
}

impl SignatureCache {
    /// A cache for at most `capacity` tokens.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new(), capacity }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.order.clear();
    }

    fn find(&self, hash: &Digest) -> Option<(String, Arc<Claims>)> {
        self.entries.get(hash).cloned()
    }

    fn keep(&mut self, hash: Digest, kid: String, claims: Arc<Claims>) {
        if self.capacity == 0 {
            return;
        }
        while self.entries.len() >= self.capacity {
            let Some(oldest) = self.order.pop_front() else { break };
            self.entries.remove(&oldest);
        }
        if self.entries.insert(hash, (kid, claims)).is_none() {
            self.order.push_back(hash);
        }
    }
}

/// `exp` is exact; `begins` may lie up to the skew in the future.
pub(crate) fn check_times(exp: u64, begins: u64, now_secs: u64, skew_secs: u64) -> Result<(), TokenRefusal> {
    if now_secs >= exp {
        return Err(TokenRefusal::Expired);
    }
    if begins > now_secs.saturating_add(skew_secs) {
        return Err(TokenRefusal::NotYetValid);
    }
    Ok(())
}

/// SHA-256 with a label in front, so that ids of different kinds never meet.
pub(crate) fn labelled(label: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut all: Vec<Vec<u8>> = vec![[label.as_bytes(), &[0]].concat()];
    for part in parts {
        let length = u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes();
        all.push([&length[..], part].concat());
    }
    sha256(&all.iter().map(Vec::as_slice).collect::<Vec<_>>())
}
