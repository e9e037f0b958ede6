//! The door that takes task tokens bound by DPoP.
//!
//! Token, audience, tenant and times are judged on every request; only the outcome of the signature check
//! is remembered. A proof passes once here, and its id travels with the [`Caller`] so that the decision's
//! event remembers it too.

use super::{Challenge, Door, Knock, Refused};
use bailiwick_api::{Caller, ProofSeen};
use bailiwick_core::{AgentId, Digest, GrantId, PrincipalId, TaskId, TenantId, Time};
use bailiwick_token::{self as token, ReplayWindow, SignatureCache, TokenRefusal, Verifier};
use http::header::AUTHORIZATION;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Proofs remembered in all, and per key.
const PROOFS: (usize, usize) = (1 << 20, 1 << 16);
/// Tokens whose signature check is remembered.
const SIGNATURES: usize = 4096;

/// Admits holders of task tokens of one issuer for one audience.
pub struct TokenDoor {
    public_url: String,
    verifier: Mutex<Arc<Verifier>>,
    signatures: Mutex<SignatureCache>,
    proofs: Mutex<ReplayWindow>,
    now: Box<dyn Fn() -> Time + Send + Sync>,
}

impl TokenDoor {
    /// A door at `public_url` (scheme, host and port as clients write them, without a trailing slash).
    pub fn new(public_url: impl Into<String>, verifier: Verifier) -> Self {
        Self::with_clock(public_url, verifier, wall)
    }

    /// As [`TokenDoor::new`], with the clock given.
    pub fn with_clock(
        public_url: impl Into<String>,
        verifier: Verifier,
        now: impl Fn() -> Time + Send + Sync + 'static,
    ) -> Self {
        TokenDoor {
            public_url: public_url.into().trim_end_matches('/').to_owned(),
            verifier: Mutex::new(Arc::new(verifier)),
            signatures: Mutex::new(SignatureCache::new(SIGNATURES)),
            proofs: Mutex::new(ReplayWindow::new(PROOFS.0, PROOFS.1)),
            now: Box::new(now),
        }
    }

    /// Replaces the verifier, for instance after a change of keys, and forgets what was remembered.
    pub fn trust(&self, verifier: Verifier) {
        *self.verifier.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(verifier);
        self.signatures.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn check(&self, knock: Knock<'_>) -> Result<Caller, Refused> {
        let (access, proof) = credentials(&knock)?;
        let now = (self.now)();
        let verified = {
            let verifier = self.verifier.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let mut signatures = self.signatures.lock().unwrap_or_else(PoisonError::into_inner);
            verifier.verify_cached(&mut signatures, access, now.secs()).map_err(refused)?
        };
        let htu = format!("{}{}", self.public_url, knock.path);
        let request =
            token::Request { htm: knock.method.as_str(), htu: &htu, nonce: None, now_secs: now.secs() };
        let proven = verified.proven_by_dpop(proof, &request).map_err(refused)?;
        if let Some(id) = proven.proof_id() {
            let mut proofs = self.proofs.lock().unwrap_or_else(PoisonError::into_inner);
            proofs.admit(id, now.secs()).map_err(refused)?;
        }
        caller(&proven).ok_or_else(|| refused(TokenRefusal::Claim("ids")))
    }
}

impl Door for TokenDoor {
    async fn admit(&self, knock: Knock<'_>) -> Result<Caller, Refused> {
        self.check(knock)
    }
}

/// The token and the proof: exactly one of each, the token under the DPoP scheme (RFC 9449 section 7.1).
fn credentials<'a>(knock: &Knock<'a>) -> Result<(&'a str, &'a str), Refused> {
    let one = |name: &str| {
        let mut all = knock.headers.get_all(name).iter();
        let first = all.next();
        match all.next() {
            Some(_) => Err(refused(TokenRefusal::Header("given twice"))),
            None => Ok(first),
        }
    };
    let text =
        |value: &'a http::HeaderValue| value.to_str().map_err(|_| refused(TokenRefusal::Malformed("header")));
    let Some(authorization) = one(AUTHORIZATION.as_str())? else { return Err(missing()) };
    let (scheme, access) = text(authorization)?.split_once(' ').unwrap_or(("", ""));
    if !scheme.eq_ignore_ascii_case("dpop") {
        return Err(missing());
    }
    let proof = one("dpop")?.ok_or_else(|| Refused {
        code: "dpop.missing",
        challenge: Challenge::InvalidProof,
        reason: "the request carries no proof of possession: add a DPoP header".to_owned(),
        nonce: None,
    })?;
    Ok((access.trim(), text(proof)?))
}

fn missing() -> Refused {
    Refused {
        code: "token.missing",
        challenge: Challenge::Missing,
        reason: "a task token under the DPoP scheme is needed: open a task and connect with its key"
            .to_owned(),
        nonce: None,
    }
}

fn refused(why: TokenRefusal) -> Refused {
    let challenge = match why {
        TokenRefusal::ProofNonce => Challenge::UseNonce,
        _ if why.code().starts_with("dpop.") => Challenge::InvalidProof,
        _ => Challenge::InvalidToken,
    };
    Refused { code: why.code(), challenge, reason: why.to_string(), nonce: None }
}

fn caller(proven: &token::Caller) -> Option<Caller> {
    let claims = proven.claims();
    let (_, agent) = claims.act.sub.as_str().rsplit_once("/agent/")?;
    let instance = match proven.holder() {
        token::Holder::Dpop(id) => id.holder().to_string(),
        token::Holder::Certificate(thumbprint) => thumbprint.to_string(),
    };
    Some(Caller {
        tenant: TenantId::parse(&claims.tenant).ok()?,
        task: TaskId::parse(&claims.txn).ok()?,
        grant: GrantId::parse(&claims.grant).ok()?,
        agent: AgentId::parse(agent).ok()?,
        initiator: PrincipalId::parse(&claims.sub).ok()?,
        instance,
        until: Time::from_secs(claims.exp),
        proof: proven.proof_id().map(|id| ProofSeen {
            id: Digest::from_bytes(id.jti_hash()),
            until: Time::from_secs(id.expires_at_secs()),
        }),
    })
}

/// Milliseconds of the wall clock. A clock that stands before 1970 reads as the end of time, so that every
/// token has expired.
fn wall() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(Time(u64::MAX), |d| Time(u64::try_from(d.as_millis()).unwrap_or(u64::MAX)))
}
