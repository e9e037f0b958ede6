//! Asked at each login and during each session: whether a credential is in force at this moment.
//!
//! In force is what the log says now: the secret was given out, its revocation has not begun, and nothing above it has
//! ended, is frozen or killed. Nothing here changes anything.

use bailiwick_broker::{Login, OnBehalf};
use bailiwick_core::lease::{Lease, LeaseState, must_end};
use bailiwick_core::{LeaseId, SystemId};

use crate::error::{EngineError, Kind};
use crate::log::Engine;
use crate::names;
use crate::target::handle;

impl Engine {
    /// A lease that is in force, and on whose account; `None` for any other, known or not.
    ///
    /// # Errors
    /// If the log cannot be read: then nobody knows, and that is a no.
    pub async fn in_force(&self, lease: &LeaseId) -> Result<Option<(Lease, OnBehalf)>, EngineError> {
        let Some((task, _)) = names::home(lease.as_str()) else { return Ok(None) };
        let now = self.now();
        let found = self
            .with_task(&task, |held, authority| {
                let lease = held.lease(lease).filter(|l| l.state == LeaseState::Active)?;
                if must_end(&authority.registry, held, lease, now).is_some() {
                    return None;
                }
                let by = OnBehalf {
                    task: task.clone(),
                    grant: lease.intent.grant.clone(),
                    agent: lease.intent.agent.clone(),
                    initiator: held.opening().initiator.clone(),
                };
                Some((lease.clone(), by))
            })
            .await;
        match found {
            Err(error) if error.kind == Kind::NotFound => Ok(None),
            other => other,
        }
    }

    /// What a target's host may let in for a login, as its connector says; `None`: nothing.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub async fn admit(&self, system: &SystemId, login: &Login) -> Result<Option<String>, EngineError> {
        let Some(target) = self.inner.targets.get().and_then(|t| t.of(system)) else { return Ok(None) };
        let Some(claimed) = target.broker.claimed(login) else { return Ok(None) };
        let Some((lease, by)) = self.in_force(&claimed).await? else { return Ok(None) };
        if lease.intent.system != *system {
            return Ok(None);
        }
        Ok(target.broker.admit(login, &handle(&lease), &by))
    }
}
