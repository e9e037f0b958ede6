//! One token per hop: minted for the holder of a grant, bound to its key, recorded in the task.

use bailiwick_core::decision::{Scene, refused_at_the_door};
use bailiwick_core::event::TaskEvent;
use bailiwick_core::grant::Grant;
use bailiwick_core::task::Task;
use bailiwick_core::value::{Digest, Value};
use bailiwick_core::{AgentId, GrantId, Time};
use bailiwick_token::{Actor, Claims, Confirmation, SpiffeId, TaskAuthorization, TaskContext, TokenRefusal};

use crate::error::{EngineError, Kind};
use crate::log::Engine;
use crate::names;

/// Who asks for a token, as proven at the door: an agent by its own key, for a grant it holds.
#[derive(Debug, Clone)]
pub struct TokenAsk {
    /// The agent, from its verified assertion.
    pub agent: AgentId,
    /// Thumbprint of the key that signed both the assertion and the proof of possession.
    pub instance: String,
    /// The grant the token shall carry.
    pub grant: GrantId,
    /// The proof of possession, which is recorded and can never come again.
    pub proof: Option<(Digest, Time)>,
}

/// A token, and until when it is good.
#[derive(Clone)]
pub struct IssuedToken {
    /// The token.
    pub token: String,
    /// Seconds it is good for.
    pub expires_in_secs: u64,
}

impl std::fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuedToken").field("expires_in_secs", &self.expires_in_secs).finish_non_exhaustive()
    }
}

impl Engine {
    /// Mints a token for the holder of a live grant. It ends with the grant at the latest.
    pub async fn issue_token(&self, ask: &TokenAsk) -> Result<IssuedToken, EngineError> {
        let (task, _) =
            names::home(ask.grant.as_str()).ok_or_else(|| EngineError::missing("grant", &ask.grant))?;
        let minted = self
            .conduct(
                &task,
                |scene| self.minted(scene, ask),
                |(token, jti, until)| {
                    vec![TaskEvent::TokenMinted {
                        grant: ask.grant.clone(),
                        jti: jti.clone(),
                        instance: ask.instance.clone(),
                        until: *until,
                        hash: Digest::of(token.as_bytes()),
                        proof: ask.proof,
                    }]
                },
            )
            .await?;
        let (token, _, until) = minted;
        Ok(IssuedToken { token, expires_in_secs: until.secs().saturating_sub(self.now().secs()) })
    }

    /// The newest grant an agent holds in a task, a live one before all others: what it means when it asks for a
    /// token "for that task". Asking with one that is over says why it is over.
    pub async fn grant_for(
        &self,
        agent: &AgentId,
        task: &bailiwick_core::TaskId,
    ) -> Result<GrantId, EngineError> {
        let now = self.now();
        let newest = self
            .with_task(task, |held, _| {
                let mine = held.grants().filter(|g| g.agent == *agent);
                let made = |g: &Grant| names::home(g.id.as_str()).map_or(0, |(_, version)| version);
                mine.max_by_key(|g| (held.is_live(&g.id, now), made(g))).map(|g| g.id.clone())
            })
            .await?;
        newest.ok_or_else(|| EngineError::missing("grant of yours in", task))
    }

    /// The SPIFFE ID of an agent of this trust domain.
    pub fn spiffe(&self, agent: &AgentId) -> Result<SpiffeId, EngineError> {
        SpiffeId::parse(&format!("spiffe://{}/agent/{agent}", self.inner.config.trust_domain))
            .map_err(refused)
    }

    /// The agent that a SPIFFE ID of this trust domain names, if it is one's.
    pub fn agent_of(&self, id: &SpiffeId) -> Option<AgentId> {
        let prefix = format!("spiffe://{}/agent/", self.inner.config.trust_domain);
        AgentId::parse(id.as_str().strip_prefix(&prefix)?).ok()
    }

    /// The public key that verifies task tokens.
    pub fn token_key(&self) -> &bailiwick_token::PublicKey {
        self.inner.config.mint.public()
    }

    /// Issuer and audience of task tokens.
    pub fn token_names(&self) -> (&str, &str) {
        (self.inner.config.mint.issuer(), &self.inner.config.audience)
    }

    fn minted(&self, scene: Scene<'_>, ask: &TokenAsk) -> Result<(String, String, Time), EngineError> {
        let far = Time(u64::MAX);
        if let Some(why) = refused_at_the_door(scene, &ask.grant, &ask.agent, &ask.instance, far, ask.proof) {
            return Err(why.into());
        }
        let grant = scene.task.grant(&ask.grant).ok_or_else(|| EngineError::missing("grant", &ask.grant))?;
        let iat = scene.now.secs();
        let exp = grant.until.secs().min(iat + self.inner.config.token_ttl_secs.clamp(1, 300));
        if exp <= iat {
            return Err(EngineError::forbidden("grant.expired", "the grant ends within this second"));
        }
        let jti = bailiwick_token::random_id().map_err(refused)?;
        let claims = self.claims(scene, grant, ask, jti.clone(), iat, exp)?;
        let token = self.inner.config.mint.mint(&claims, grant.until.secs()).map_err(refused)?;
        Ok((token, jti, Time::from_secs(exp)))
    }

    fn claims(
        &self,
        scene: Scene<'_>,
        grant: &Grant,
        ask: &TokenAsk,
        jti: String,
        iat: u64,
        exp: u64,
    ) -> Result<Claims, EngineError> {
        let opening = scene.task.opening();
        let spiffe = self.spiffe(&grant.agent)?;
        let jkt = bailiwick_token::Digest::parse(&ask.instance).map_err(refused)?;
        let parent = grant.parent.as_ref().and_then(|p| scene.task.token_hash(p));
        Ok(Claims {
            iss: self.inner.config.mint.issuer().to_owned(),
            aud: self.inner.config.audience.clone(),
            exp,
            iat,
            nbf: iat,
            jti,
            client_id: spiffe.as_str().to_owned(),
            sub: opening.initiator.to_string(),
            act: self.actors(scene.task, grant)?,
            cnf: Confirmation::Jkt(jkt),
            authorization_details: vec![TaskAuthorization::new(capabilities(grant)?)],
            txn: opening.task.to_string(),
            tctx: context(scene)?,
            del_depth: u32::from(grant.depth),
            del_max_depth: u32::from(opening.limits.depth.max(grant.depth)),
            par_hash: parent.map(|d| foreign(&d)),
            grant: grant.id.to_string(),
            tenant: self.inner.config.tenant.to_string(),
            taint: grant.label.untrusted.iter().cloned().collect(),
        })
    }

    /// The agents of the chain, nested: the holder outermost.
    fn actors(&self, task: &Task, grant: &Grant) -> Result<Actor, EngineError> {
        let mut lineage: Vec<&Grant> = task.lineage(grant).collect();
        lineage.reverse();
        let issuer = self.inner.config.mint.issuer();
        let mut nodes = lineage.into_iter();
        let first = nodes.next().ok_or_else(|| EngineError::missing("grant", &grant.id))?;
        nodes.try_fold(Actor::first(issuer, self.spiffe(&first.agent)?), |inner, node| {
            Ok(inner.handed_to(issuer, self.spiffe(&node.agent)?))
        })
    }
}

fn capabilities(grant: &Grant) -> Result<Vec<serde_json::Map<String, serde_json::Value>>, EngineError> {
    grant
        .held
        .iter()
        .map(|held| match serde_json::to_value(&held.capability) {
            Ok(serde_json::Value::Object(map)) => Ok(map),
            _ => Err(EngineError::new(Kind::Unavailable, "token.claim", "a capability cannot be written")),
        })
        .collect()
}

/// Hashes of what may not change while the task runs.
fn context(scene: Scene<'_>) -> Result<TaskContext, EngineError> {
    let opening = scene.task.opening();
    let chain = match &opening.chain {
        Some(chain) => {
            Value::from_serialize(chain).map_err(|e| EngineError::invalid(e.code(), e.to_string()))?.digest()
        }
        None => Digest::of(b"no chain"),
    };
    Ok(TaskContext {
        intent: foreign(&Digest::of(opening.intent.as_bytes())),
        chain: foreign(&chain),
        policy: foreign(&scene.policy.version()),
    })
}

fn foreign(digest: &Digest) -> bailiwick_token::Digest {
    bailiwick_token::Digest::from_bytes(*digest.as_bytes())
}

fn refused(refusal: TokenRefusal) -> EngineError {
    EngineError::new(Kind::Unavailable, refusal.code(), refusal.to_string())
}
