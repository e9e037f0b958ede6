//! The token endpoint (RFC 6749, 7523, 8693, 9449), its metadata (RFC 8414) and introspection (RFC 7662).
//!
//! An agent proves itself by an assertion and a proof of possession, both by the same registered key, and names
//! the grant or the task it wants a token for. Both statements serve once, on any node and after any restart.

use axum::http::StatusCode;
use bailiwick_api::Caller;
use bailiwick_api::wire::{Introspection, OAuthError, ServerMetadata, TokenAnswer, TokenForm};
use bailiwick_core::agent::Person;
use bailiwick_core::{AgentId, Digest, GrantId, PrincipalId, TaskId, Time};
use bailiwick_engine::{EngineError, Kind, TokenAsk};
use bailiwick_token::subject::{AssertedAgent, check_assertion};
use bailiwick_token::{Confirmation, Jwks, ProofId, PublicKey, SpiffeId, Verifier, dpop};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::body::{self, Reply};
use crate::guard::Ask;
use crate::refusal::Refusal;
use crate::state::ServerState;

const CLIENT_CREDENTIALS: &str = "client_credentials";
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const JWT_TYPE: &str = "urn:ietf:params:oauth:token-type:jwt";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const TOKEN_PATH: &str = "/oauth/token";
/// Codes of what has stopped or ended a grant; its own holder may know.
const OVER: [&str; 3] = ["control.", "task.", "grant."];
const ALGORITHMS: [&str; 2] = ["EdDSA", "ES256"];

/// A refusal in the words of RFC 6749 section 5.2.
struct No(u16, &'static str, String);

impl No {
    fn request(why: &str) -> No {
        No(400, "invalid_request", why.to_owned())
    }
    /// One text for every reason, so that it does not tell which agents and keys there are.
    fn client() -> No {
        No(
            401,
            "invalid_client",
            "the assertion does not prove a registered agent, or was used before".to_owned(),
        )
    }
    /// Absent, ended, somebody else's: all the same to the one who asks (threat A76).
    fn grant() -> No {
        No(400, "invalid_grant", "there is no live grant of yours under this name".to_owned())
    }
    fn proof(why: &bailiwick_token::TokenRefusal) -> No {
        No(400, "invalid_dpop_proof", why.to_string())
    }
}

impl From<EngineError> for No {
    fn from(error: EngineError) -> No {
        match error.kind {
            Kind::Unavailable => No(503, "temporarily_unavailable", error.reason),
            // Said only after the grant was found to be the asker's own.
            Kind::Forbidden if OVER.iter().any(|code| error.code.starts_with(code)) => {
                No(400, "invalid_grant", error.reason)
            }
            _ => No::grant(),
        }
    }
}

pub(crate) async fn token(state: ServerState, ask: Ask) -> Result<Reply, Refusal> {
    match mint(&state, &ask).await {
        Ok(answer) => Reply::json(&answer),
        Err(No(status, error, why)) => {
            tracing::info!(error, "no token was minted");
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
            Reply::json_with(status, &OAuthError { error: error.to_owned(), error_description: why })
        }
    }
}

async fn mint(state: &ServerState, ask: &Ask) -> Result<TokenAnswer, No> {
    let form =
        form(&ask.body).ok_or_else(|| No::request("the form cannot be read, or names something twice"))?;
    let assertion = assertion(&form)?;
    let (proof, key) = proof(state, ask)?;
    let (agent, asserted) = agent(state, assertion, &key)?;
    check_names(state, &form, &asserted)?;
    use_both(state, &asserted, &proof).await?;
    let grant = grant(state, &form, &agent).await?;
    let issued = state
        .engine
        .issue_token(&TokenAsk {
            agent,
            instance: key.jkt().to_string(),
            grant: grant.clone(),
            proof: Some((Digest::from_bytes(proof.jti_hash()), Time::from_secs(proof.expires_at_secs()))),
        })
        .await?;
    Ok(TokenAnswer {
        access_token: issued.token,
        issued_token_type: ACCESS_TOKEN.to_owned(),
        token_type: "DPoP".to_owned(),
        expires_in: issued.expires_in_secs,
        grant: grant.to_string(),
    })
}

/// The members of the form that are known; others are ignored (RFC 6749 section 3.2).
fn form(bytes: &[u8]) -> Option<TokenForm> {
    let mut all = body::form(bytes)?;
    let mut take = |name: &str| all.remove(name).filter(|v| !v.is_empty());
    Some(TokenForm {
        grant_type: take("grant_type"),
        client_assertion_type: take("client_assertion_type"),
        client_assertion: take("client_assertion"),
        subject_token: take("subject_token"),
        subject_token_type: take("subject_token_type"),
        requested_token_type: take("requested_token_type"),
        grant: take("grant"),
        task: take("task"),
        audience: take("audience"),
        resource: take("resource"),
        client_id: take("client_id"),
        token: take("token"),
        token_type_hint: take("token_type_hint"),
    })
}

/// The one assertion of a request, whichever grant type it uses.
fn assertion(form: &TokenForm) -> Result<&str, No> {
    if form.client_assertion.is_none() && form.subject_token.is_none() {
        return Err(No::client());
    }
    let client = match (&form.client_assertion, form.client_assertion_type.as_deref()) {
        (Some(assertion), Some(JWT_BEARER)) => Some(assertion.as_str()),
        (None, None) => None,
        _ => {
            return Err(No::request(
                "client_assertion needs client_assertion_type …:jwt-bearer, and the reverse",
            ));
        }
    };
    match form.grant_type.as_deref() {
        Some(CLIENT_CREDENTIALS) => client.ok_or_else(No::client),
        Some(TOKEN_EXCHANGE) => exchanged(form, client),
        Some(_) => {
            Err(No(400, "unsupported_grant_type", "use client_credentials or token-exchange".to_owned()))
        }
        None => Err(No::request("grant_type is missing")),
    }
}

fn exchanged<'a>(form: &'a TokenForm, client: Option<&'a str>) -> Result<&'a str, No> {
    if form.requested_token_type.as_deref().is_some_and(|t| t != ACCESS_TOKEN) {
        return Err(No::request("requested_token_type can only be …:access_token"));
    }
    match (form.subject_token.as_deref(), form.subject_token_type.as_deref(), client) {
        (Some(subject), Some(JWT_TYPE), None) => Ok(subject),
        (Some(subject), Some(JWT_TYPE), Some(client)) if subject == client => Ok(subject),
        (Some(_), Some(JWT_TYPE), Some(_)) => Err(No::request(
            "subject_token and client_assertion must be the same assertion, or one be left out",
        )),
        _ => Err(No::request("token exchange needs subject_token, with subject_token_type …:jwt")),
    }
}

/// The proof of possession and its key.
fn proof(state: &ServerState, ask: &Ask) -> Result<(ProofId, PublicKey), No> {
    let mut all = ask.headers.get_all("dpop").iter();
    let (Some(proof), None) = (all.next().and_then(|p| p.to_str().ok()), all.next()) else {
        let why = "exactly one DPoP header is needed: a task token is always bound to a key";
        return Err(No(400, "invalid_dpop_proof", why.to_owned()));
    };
    let url = state.url(TOKEN_PATH);
    let expected = dpop::Expected {
        htm: "POST",
        htu: &url,
        access_token: None,
        nonce: None,
        now: state.engine.now().secs(),
        window_secs: dpop::WINDOW_SECS,
        expected_jkt: None,
    };
    let id = dpop::check(proof, &expected).map_err(|e| No::proof(&e))?;
    let key = key_of(proof).filter(|key| key.jkt() == id.holder());
    Ok((id, key.ok_or_else(|| No::request("the proof's key cannot be read"))?))
}

/// The key in the header of a proof that has been checked.
fn key_of(proof: &str) -> Option<PublicKey> {
    let header = URL_SAFE_NO_PAD.decode(proof.split('.').next()?).ok()?;
    let header: serde_json::Value = serde_json::from_slice(&header).ok()?;
    PublicKey::from_jwk(header.get("jwk")?.as_object()?).ok()
}

/// The agent that the assertion proves, by the same key as the proof, which must be one of its registered keys.
fn agent(state: &ServerState, assertion: &str, key: &PublicKey) -> Result<(AgentId, AssertedAgent), No> {
    let engine = &state.engine;
    let jkt = key.jkt().to_string();
    let registered = |spiffe: &SpiffeId| {
        let id = engine.agent_of(spiffe)?;
        let holds = engine.look(|r| r.agent(&id).is_some_and(|agent| agent.keys.contains(&jkt)));
        holds.then(|| key.clone())
    };
    let now = engine.now().secs();
    let endpoint = state.url(TOKEN_PATH);
    let (issuer, _) = engine.token_names();
    let asserted = check_assertion(assertion, &endpoint, now, registered)
        .or_else(|_| check_assertion(assertion, issuer, now, registered))
        .map_err(|e| {
            tracing::info!(code = e.code(), "an assertion was refused");
            No::client()
        })?;
    let agent = engine.agent_of(asserted.spiffe()).ok_or_else(No::client)?;
    Ok((agent, asserted))
}

/// What else the form names must be what it can only be.
fn check_names(state: &ServerState, form: &TokenForm, asserted: &AssertedAgent) -> Result<(), No> {
    if form.client_id.as_deref().is_some_and(|id| id != asserted.spiffe().as_str()) {
        return Err(No::client());
    }
    let (_, audience) = state.engine.token_names();
    let other = [&form.audience, &form.resource].into_iter().flatten().any(|a| a != audience);
    if other {
        return Err(No(400, "invalid_target", format!("task tokens are for {audience} and nothing else")));
    }
    Ok(())
}

/// Assertion and proof serve once.
async fn use_both(state: &ServerState, asserted: &AssertedAgent, proof: &ProofId) -> Result<(), No> {
    let until = |id: &ProofId| Time::from_secs(id.expires_at_secs().saturating_add(1));
    let assertion = asserted.id();
    if !state.engine.use_once("assertion", &assertion.jti_hash(), until(assertion)).await? {
        return Err(No::client());
    }
    if !state.engine.use_once("proof", &proof.jti_hash(), until(proof)).await? {
        return Err(No::proof(&bailiwick_token::TokenRefusal::ProofReplayed));
    }
    Ok(())
}

async fn grant(state: &ServerState, form: &TokenForm, agent: &AgentId) -> Result<GrantId, No> {
    match (&form.grant, &form.task) {
        (Some(grant), None) => GrantId::parse(grant).map_err(|_| No::grant()),
        (None, Some(task)) => {
            let task = TaskId::parse(task).map_err(|_| No::grant())?;
            Ok(state.engine.grant_for(agent, &task).await?)
        }
        _ => Err(No::request("name the `grant` or the `task` the token is for, one of them")),
    }
}

pub(crate) async fn introspect(state: ServerState, _: Person, ask: Ask) -> Result<Reply, Refusal> {
    let shown = form(&ask.body).and_then(|form| form.token).ok_or_else(|| {
        Refusal::new(400, "form.malformed", "`token` is missing, or the form cannot be read", "send token=…")
    })?;
    Reply::json(&inspected(&state, &shown).await.unwrap_or_default())
}

/// What a token is, if it is good now and what it stands for is alive.
async fn inspected(state: &ServerState, shown: &str) -> Option<Introspection> {
    let engine = &state.engine;
    let (issuer, audience) = engine.token_names();
    let verifier = Verifier::new(issuer, audience, &Jwks::new([engine.token_key().clone()]))
        .for_tenant(engine.tenant().as_str());
    let verified = verifier.verify(shown, engine.now().secs()).ok()?;
    let claims = verified.claims();
    let Confirmation::Jkt(jkt) = claims.cnf else { return None };
    let caller = Caller {
        tenant: engine.tenant().clone(),
        task: TaskId::parse(&claims.txn).ok()?,
        grant: GrantId::parse(&claims.grant).ok()?,
        agent: engine.agent_of(&claims.act.sub)?,
        initiator: PrincipalId::parse(&claims.sub).ok()?,
        instance: jkt.to_string(),
        until: Time::from_secs(claims.exp),
        proof: None,
    };
    engine.live(&caller).await.then(|| Introspection {
        active: true,
        sub: Some(claims.sub.clone()),
        client_id: Some(claims.client_id.clone()),
        txn: Some(claims.txn.clone()),
        grant: Some(claims.grant.clone()),
        exp: Some(claims.exp),
    })
}

pub(crate) async fn metadata(state: ServerState, _: Ask) -> Result<Reply, Refusal> {
    let texts = |all: &[&str]| all.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
    Reply::json(&ServerMetadata {
        issuer: state.engine.token_names().0.to_owned(),
        token_endpoint: state.url(TOKEN_PATH),
        introspection_endpoint: state.url("/oauth/introspect"),
        jwks_uri: state.url("/.well-known/jwks.json"),
        response_types_supported: vec![],
        grant_types_supported: texts(&[CLIENT_CREDENTIALS, TOKEN_EXCHANGE]),
        token_endpoint_auth_methods_supported: texts(&["private_key_jwt"]),
        token_endpoint_auth_signing_alg_values_supported: texts(&ALGORITHMS),
        dpop_signing_alg_values_supported: texts(&ALGORITHMS),
        authorization_details_types_supported: texts(&["bailiwick_task"]),
    })
}

pub(crate) async fn jwks(state: ServerState, _: Ask) -> Result<Reply, Refusal> {
    Reply::json(&Jwks::new([state.engine.token_key().clone()]).to_json())
}
