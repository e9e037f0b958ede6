//! Why a token, a proof or a key was refused.
//!
//! One enum with stable codes. A message says what was refused, why, and what to do next; it never holds
//! bytes of the token, of a proof or of a key.

use std::fmt;

/// A refusal. `code()` is stable and machine readable; `Display` is for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenRefusal {
    /// Not three base64url parts with JSON inside, or JSON that could be read in two ways.
    Malformed(&'static str),
    /// Longer than any token of this kind may be.
    TooLarge,
    /// A header member that may not be there, or one that is missing.
    Header(&'static str),
    /// A token of another kind.
    WrongType,
    /// The header names an algorithm that is not the key's.
    WrongAlgorithm,
    /// No trusted key has this key id.
    UnknownKey,
    /// The signature does not belong to this content and key.
    BadSignature,
    /// A claim is missing, unknown or out of its bounds.
    Claim(&'static str),
    /// Issued by somebody else.
    WrongIssuer,
    /// Meant for somebody else, or for more than one.
    WrongAudience,
    /// Belongs to another tenant.
    WrongTenant,
    /// Its time is over.
    Expired,
    /// Its time has not come, or it was issued in the future.
    NotYetValid,
    /// It would live, or lives, longer than allowed.
    Lifetime,
    /// A child would hold more, or last longer, than its parent.
    Widened(&'static str),
    /// The token is bound by the other method of proof, or to another key.
    WrongHolder,
    /// A key that cannot be read.
    KeyMalformed(&'static str),
    /// A public key was expected and private parts came with it.
    KeyPrivate,
    /// A key type, curve or use that is not accepted here.
    KeyUnsupported,
    /// The random source or the signer failed.
    KeyFailure,
    /// The proof names another method.
    ProofMethod,
    /// The proof names another URL, or one that has no single reading.
    ProofUrl,
    /// The proof is too old or from the future.
    ProofStale,
    /// The proof is not for this access token.
    ProofAccessToken,
    /// The proof lacks the nonce that was asked for.
    ProofNonce,
    /// The proof was used before.
    ProofReplayed,
    /// The replay memory is full, so nothing can be known to be fresh.
    ReplayMemoryFull,
    /// Not a SPIFFE ID.
    SpiffeId(&'static str),
    /// A SPIFFE ID of another trust domain.
    TrustDomain,
    /// Issuer and subject of an assertion differ.
    AssertionSubject,
    /// No registered agent has this identity.
    UnknownAgent,
    /// The ID token answers another sign-in.
    SignInNonce,
    /// The token speaks for a workload or a delegation where a person was expected.
    NotAPerson,
}

impl TokenRefusal {
    /// The stable code, for machines.
    #[must_use]
    pub fn code(&self) -> &'static str {
        use TokenRefusal as R;
        match self {
            R::Malformed(_) => "token.malformed",
            R::TooLarge => "token.too_large",
            R::Header(_) => "token.header",
            R::WrongType => "token.type",
            R::WrongAlgorithm => "token.algorithm",
            R::UnknownKey => "token.key_unknown",
            R::BadSignature => "token.signature",
            R::Claim(_) => "token.claim",
            R::WrongIssuer => "token.issuer",
            R::WrongAudience => "token.audience",
            R::WrongTenant => "token.tenant",
            R::Expired => "token.expired",
            R::NotYetValid => "token.not_yet_valid",
            R::Lifetime => "token.lifetime",
            R::Widened(_) => "token.widened",
            R::WrongHolder => "token.holder",
            R::KeyMalformed(_) => "key.malformed",
            R::KeyPrivate => "key.private",
            R::KeyUnsupported => "key.unsupported",
            R::KeyFailure => "key.failure",
            R::ProofMethod => "dpop.method",
            R::ProofUrl => "dpop.url",
            R::ProofStale => "dpop.stale",
            R::ProofAccessToken => "dpop.access_token",
            R::ProofNonce => "dpop.nonce",
            R::ProofReplayed => "dpop.replay",
            R::ReplayMemoryFull => "dpop.replay_full",
            R::SpiffeId(_) => "subject.spiffe_id",
            R::TrustDomain => "subject.trust_domain",
            R::AssertionSubject => "assertion.subject",
            R::UnknownAgent => "assertion.unknown_agent",
            R::SignInNonce => "oidc.nonce",
            R::NotAPerson => "oidc.not_a_person",
        }
    }

    /// What was refused, and why.
    #[must_use]
    pub fn why(&self) -> &'static str {
        use TokenRefusal as R;
        match self {
            R::Malformed(_) => "the token is not one well-formed compact JWS",
            R::TooLarge => "the token is longer than any token of its kind may be",
            R::Header(_) => "the token's header has a member that is refused or lacks one that is needed",
            R::WrongType => "the token is of another kind than this place accepts",
            R::WrongAlgorithm => "the header names an algorithm that is not the one of the key",
            R::UnknownKey => "no trusted key has the key id of this token",
            R::BadSignature => "the signature does not match content and key",
            R::Claim(_) => "a claim is missing, unknown or out of bounds",
            R::WrongIssuer => "the token was issued by somebody else",
            R::WrongAudience => "the token is meant for another audience, or for more than one",
            R::WrongTenant => "the token belongs to another tenant",
            R::Expired => "the token's time is over",
            R::NotYetValid => "the token is not valid yet, or was issued in the future",
            R::Lifetime => "the token lives longer than is allowed",
            R::Widened(_) => "the token would exceed its parent",
            R::WrongHolder => "the token is bound to another key than the one that was proven",
            R::KeyMalformed(_) => "the key cannot be read",
            R::KeyPrivate => "private key material came where only a public key belongs",
            R::KeyUnsupported => "the key's type, curve, algorithm or use is not accepted here",
            R::KeyFailure => "the cryptographic module could not make a key or a signature",
            R::ProofMethod => "the proof of possession names another HTTP method",
            R::ProofUrl => "the proof of possession names another URL, or one without a single reading",
            R::ProofStale => "the proof of possession is too old or from the future",
            R::ProofAccessToken => "the proof of possession was not made for this access token",
            R::ProofNonce => "the proof of possession lacks the nonce that was asked for",
            R::ProofReplayed => "the proof of possession was used before",
            R::ReplayMemoryFull => "too many proofs are being remembered to know that this one is fresh",
            R::SpiffeId(_) => "the identity is not a SPIFFE ID",
            R::TrustDomain => "the identity belongs to another trust domain",
            R::AssertionSubject => "issuer and subject of the agent's assertion differ",
            R::UnknownAgent => "no registered agent has this identity",
            R::SignInNonce => "the ID token answers another sign-in than the one under way",
            R::NotAPerson => "the ID token speaks for a workload or through a delegation, not for a person",
        }
    }

    /// What would help.
    #[must_use]
    pub fn next_step(&self) -> &'static str {
        use TokenRefusal as R;
        match self {
            R::Malformed(_) | R::TooLarge | R::Header(_) | R::WrongType | R::Claim(_) => {
                "send the token exactly as it was issued, to the place it was issued for"
            }
            R::WrongAlgorithm | R::UnknownKey | R::BadSignature | R::WrongIssuer | R::WrongTenant => {
                "get a token from the control plane that guards this place"
            }
            R::WrongAudience => "exchange the token for one whose audience is this place",
            R::Expired => "ask for a new token, if the task is still open",
            R::NotYetValid | R::ProofStale => "set the clock of the sender and try again",
            R::Lifetime => "ask for a shorter lifetime",
            R::Widened(_) => "ask for no more than the parent holds",
            R::WrongHolder => "use the key the token was issued to, or exchange the token for your own",
            R::KeyMalformed(_) | R::KeyUnsupported => {
                "use an Ed25519 or P-256 signing key, written as RFC 7517 and RFC 8037 say"
            }
            R::KeyPrivate => "replace this key: it has left its owner. Then send the public part only",
            R::KeyFailure => "check the host's random source and try again",
            R::ProofMethod | R::ProofUrl | R::ProofAccessToken => {
                "make a fresh proof for exactly this request"
            }
            R::ProofNonce => "repeat the request with the nonce of the DPoP-Nonce header",
            R::ProofReplayed => "make a fresh proof for each request",
            R::ReplayMemoryFull => "wait a minute and try again, or raise the size of the replay memory",
            R::SpiffeId(_) => "use the form spiffe://trust-domain/path",
            R::TrustDomain => "present an identity of the trust domain that this place serves",
            R::AssertionSubject => "put the agent's SPIFFE ID in both `iss` and `sub`",
            R::UnknownAgent => "register the agent first",
            R::SignInNonce => "start the sign-in again",
            R::NotAPerson => "sign in as a person; agents present their own identity",
        }
    }

    /// The part that was at fault (a member or claim name, a short reason), where there is one.
    #[must_use]
    pub fn detail(&self) -> Option<&'static str> {
        use TokenRefusal as R;
        match self {
            R::Malformed(d)
            | R::Header(d)
            | R::Claim(d)
            | R::Widened(d)
            | R::KeyMalformed(d)
            | R::SpiffeId(d) => Some(d),
            _ => None,
        }
    }
}

impl fmt::Display for TokenRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code(), self.why())?;
        if let Some(detail) = self.detail() {
            write!(f, " ({detail})")?;
        }
        write!(f, "; {}", self.next_step())
    }
}

impl std::error::Error for TokenRefusal {}
