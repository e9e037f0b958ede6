//! An agent's side of the wire: it holds a key, gets a token for one grant, and proves possession per request.
//!
//! The key never leaves this process, and the token is worth nothing without it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bailiwick_api::client::ClientError;
use bailiwick_api::wire::{OAuthError, Problem, TokenAnswer};
use bailiwick_core::{AgentId, GrantId, TaskId};
use bailiwick_gateway::{Proof, Prover, Secret};
use bailiwick_token::subject::assert_agent;
use bailiwick_token::{SigningKey, SpiffeId, dpop, random_id};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::fail::{Exit, Failure};

/// A token is renewed when it has less than this left.
const RENEW_BEFORE: Duration = Duration::from_secs(10);
/// How long the token endpoint may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// What the token shall be for.
#[derive(Debug, Clone)]
pub(crate) enum Wants {
    /// One grant.
    Grant(GrantId),
    /// The agent's newest live grant in a task.
    Task(TaskId),
}

/// An agent with its key at one server.
pub(crate) struct Holder {
    server: String,
    spiffe: SpiffeId,
    key: SigningKey,
    wants: Wants,
    http: reqwest::Client,
    held: Mutex<Option<Held>>,
}

struct Held {
    token: String,
    until: Instant,
}

impl Holder {
    /// An agent that proves itself with this key.
    pub(crate) fn new(
        server: &str,
        trust_domain: &str,
        agent: &AgentId,
        key: SigningKey,
        wants: Wants,
    ) -> Result<Self, Failure> {
        let spiffe = SpiffeId::parse(&format!("spiffe://{trust_domain}/agent/{agent}"))?;
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(ANSWER_WITHIN)
            .build()
            .map_err(|e| {
                Failure::failed("client.unusable", e.to_string(), "Check the system's certificates.")
            })?;
        let server = server.trim_end_matches('/').to_owned();
        Ok(Holder { server, spiffe, key, wants, http, held: Mutex::new(None) })
    }

    /// A fresh token, fetched from the server.
    pub(crate) async fn fetch(&self) -> Result<TokenAnswer, Failure> {
        let url = format!("{}/oauth/token", self.server);
        let now = now_secs();
        let assertion = assert_agent(&self.key, &self.spiffe, &url, now, &random_id()?)?;
        let proof = dpop::prove(&self.key, "POST", &url, None, None, now, &random_id()?)?;
        let (name, value) = match &self.wants {
            Wants::Grant(grant) => ("grant", grant.as_str()),
            Wants::Task(task) => ("task", task.as_str()),
        };
        let form = [
            ("grant_type", "client_credentials"),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", &assertion),
            (name, value),
        ];
        let body = form.map(|(name, value)| format!("{name}={}", encoded(value))).join("&");
        let asked = self
            .http
            .post(&url)
            .header("DPoP", proof)
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(body)
            .send()
            .await
            .map_err(|_| self.unreachable())?;
        let good = asked.status().is_success();
        let bytes = asked.bytes().await.map_err(|_| self.unreachable())?;
        if good {
            return serde_json::from_slice(&bytes).map_err(|_| self.unreachable());
        }
        let words = serde_json::from_slice::<OAuthError>(&bytes);
        Err(words.map_or_else(
            |_| self.unreachable(),
            |e| {
                Failure::new(
                    Exit::Denied,
                    &e.error,
                    e.error_description,
                    "Is the task still open, and the agent registered?",
                )
            },
        ))
    }

    /// The token at hand, or a fresh one.
    pub(crate) async fn token(&self) -> Result<String, Failure> {
        let mut held = self.held.lock().await;
        if let Some(held) = held.as_ref().filter(|h| h.until > Instant::now() + RENEW_BEFORE) {
            return Ok(held.token.clone());
        }
        let answer = self.fetch().await?;
        let until = Instant::now() + Duration::from_secs(answer.expires_in);
        let token = answer.access_token.clone();
        *held = Some(Held { token: answer.access_token, until });
        Ok(token)
    }

    /// Asks the HTTP API as this agent.
    pub(crate) async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, Failure> {
        self.ask("POST", path, |request| request.json(body)).await
    }

    /// The same with DELETE.
    pub(crate) async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.ask("DELETE", path, |request| request).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        with: impl FnOnce(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
    ) -> Result<T, Failure> {
        let url = format!("{}{path}", self.server);
        let token = self.token().await?;
        let proof = self.prove_with(&token, method, &url, None)?;
        let verb = if method == "POST" { reqwest::Method::POST } else { reqwest::Method::DELETE };
        let request = self
            .http
            .request(verb, &url)
            .header("Authorization", proof.authorization.expose())
            .header("DPoP", proof.dpop.expose());
        let asked = with(request).send().await.map_err(|_| self.unreachable())?;
        let good = asked.status().is_success();
        let bytes = asked.bytes().await.map_err(|_| self.unreachable())?;
        if good {
            return serde_json::from_slice(&bytes).map_err(|_| self.unreachable());
        }
        match serde_json::from_slice::<Problem>(&bytes) {
            Ok(problem) => Err(ClientError::Refused(Box::new(problem)).into()),
            Err(_) => Err(self.unreachable()),
        }
    }

    /// The last token that was fetched, good or not: for those who want to try it again.
    pub(crate) async fn last_token(&self) -> Option<String> {
        self.held.lock().await.as_ref().map(|held| held.token.clone())
    }

    /// A proof for one request with a given token.
    pub(crate) fn prove_with(
        &self,
        token: &str,
        method: &str,
        url: &str,
        nonce: Option<&str>,
    ) -> Result<Proof, Failure> {
        let dpop = dpop::prove(&self.key, method, url, Some(token), nonce, now_secs(), &random_id()?)?;
        Ok(Proof { authorization: Secret::new(format!("DPoP {token}")), dpop: Secret::new(dpop) })
    }

    fn unreachable(&self) -> Failure {
        let what = format!("no token could be fetched from {}", self.server);
        Failure::new(
            Exit::Unreachable,
            "server.unreachable",
            what,
            "Is it running? Start it with `bailiwick up`.",
        )
    }
}

impl Prover for Holder {
    async fn prove(&self, method: &str, url: &str, nonce: Option<&str>) -> Result<Proof, String> {
        let token = self.token().await.map_err(|e| e.to_string())?;
        self.prove_with(&token, method, url, nonce).map_err(|e| e.to_string())
    }

    async fn renew(&self) -> bool {
        *self.held.lock().await = None;
        self.token().await.is_ok()
    }
}

fn now_secs() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Percent-encoding of a form's value (RFC 3986 section 2.3 keeps the rest).
fn encoded(value: &str) -> String {
    value
        .bytes()
        .map(|b| match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(b).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_value_is_encoded() {
        assert_eq!(encoded("urn:ietf:a b&c=d"), "urn%3Aietf%3Aa%20b%26c%3Dd");
    }
}
