//! Which node works on a target, where several nodes share a store.
//!
//! One node at a time ends credentials in a target: it has claimed the target, as an event in the target's own stream,
//! and each record of its work is appended under the condition that this stream has not moved since. A node that was
//! taken for dead and wakes up late can ask the target for something that is done already, and can record nothing.
//!
//! A claim says how long it lasts and not until when: the node that made it counts from before it was appended, any other
//! from when it first saw it, each by its own monotonic clock. No clock has to agree with another. Before each thing that
//! is asked of the target the claim must last at least as long as the answer is waited for, or is renewed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bailiwick_core::TaskId;
use bailiwick_core::lease::{Lease, TargetEvent};
use bailiwick_store::{Append, AppendError};

use crate::error::{EngineError, Kind};
use crate::log::{Engine, decode, encode};
use crate::target::{Due, Target, Targets};

/// What this node knows of who works on a target.
#[derive(Debug, Default)]
pub(crate) struct Claim {
    /// How many events of the stream are known.
    version: u64,
    /// Until when the claim is ours for certain.
    ours: Option<Instant>,
    /// Another node's: how long it lasts from when it was first seen.
    theirs: Option<(Duration, Instant)>,
}

impl Claim {
    fn learn(&mut self, event: TargetEvent, us: &str, now: Instant) {
        self.version += 1;
        self.ours = None;
        self.theirs = match event {
            TargetEvent::Claimed { node, ttl_ms } if node != us => Some((Duration::from_millis(ttl_ms), now)),
            TargetEvent::Claimed { .. } | TargetEvent::Released { .. } => None,
        };
    }

    fn is_ours_for(&self, a_while: Duration, now: Instant) -> bool {
        self.ours.is_some_and(|until| now + a_while < until)
    }

    fn is_theirs(&self, now: Instant) -> bool {
        self.theirs.is_some_and(|(ttl, seen)| now < seen + ttl)
    }
}

impl Engine {
    /// Whether no other process can have this store open. Then nothing needs to be claimed.
    pub(crate) fn is_alone(&self) -> bool {
        self.store().health().backend == "sqlite"
    }

    fn target_stream(&self, target: &Target) -> String {
        format!("{}/target/{}", self.tenant(), target.broker.system())
    }

    /// Whether this node may ask the target one more thing; claims the target for that if it has to. While another node
    /// works on it, this one leaves it alone for a moment.
    pub(crate) async fn may_work(&self, targets: &Targets, target: &Target) -> bool {
        let claimed = self.claim(targets, target).await.unwrap_or_else(|error| {
            let system = target.broker.system();
            tracing::error!(%system, code = %error.code, %error, "cannot claim a target; trying again");
            false
        });
        if !claimed {
            target.leave_alone(Instant::now() + (targets.patience.claim / 20).min(Duration::from_secs(1)));
        }
        claimed
    }

    async fn claim(&self, targets: &Targets, target: &Target) -> Result<bool, EngineError> {
        if self.is_alone() {
            return Ok(true);
        }
        let (stream, us, ttl) = (self.target_stream(target), &self.inner.node, targets.patience.claim);
        let mut claim = target.claim.lock().await;
        if claim.is_ours_for(targets.patience.answer, Instant::now()) {
            return Ok(true);
        }
        for recorded in self.store().read(&stream, claim.version).await? {
            let event = decode::<TargetEvent>(&recorded.bytes)?.event;
            claim.learn(event, us, Instant::now());
        }
        if claim.is_theirs(Instant::now()) {
            return Ok(false);
        }
        let event = TargetEvent::Claimed { node: us.clone(), ttl_ms: ttl.as_millis() as u64 };
        let begun = Instant::now();
        claim.ours = None;
        if self.append_claim(stream, claim.version, &event).await? {
            (claim.version, claim.ours, claim.theirs) = (claim.version + 1, Some(begun + ttl), None);
        }
        Ok(claim.ours.is_some())
    }

    /// Lets the target go, so that no other node has to wait.
    pub(crate) async fn release_claim(&self, target: &Target) {
        let mut claim = target.claim.lock().await;
        if claim.ours.take().is_none() {
            return;
        }
        let event = TargetEvent::Released { node: self.inner.node.clone() };
        match self.append_claim(self.target_stream(target), claim.version, &event).await {
            Ok(true) => claim.version += 1,
            Ok(false) => {}
            Err(error) => {
                let system = target.broker.system();
                tracing::warn!(%system, code = %error.code, %error, "a target stays claimed for a while");
            }
        }
    }

    /// False if the stream has moved.
    async fn append_claim(
        &self,
        stream: String,
        expect: u64,
        event: &TargetEvent,
    ) -> Result<bool, EngineError> {
        let recorded = encode(&stream, expect, self.now(), event, event.name())?;
        let append = Append { stream, expect, guards: vec![], events: vec![recorded], views: vec![] };
        match self.store().append_ending(append).await {
            Ok(_) => Ok(true),
            Err(AppendError::Conflict { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The condition under which work on this target may be recorded.
    ///
    /// # Errors
    /// `lease.claim_lost` if the claim is not ours.
    pub(crate) async fn fence(&self, target: &Target) -> Result<Vec<(String, u64)>, EngineError> {
        if self.is_alone() {
            return Ok(vec![]);
        }
        let claim = target.claim.lock().await;
        match claim.ours {
            Some(_) => Ok(vec![(self.target_stream(target), claim.version)]),
            None => Err(lost(target)),
        }
    }

    /// After a record was refused: an error if that was the fence and not a renewal of our own.
    pub(crate) async fn refused_by(
        &self,
        target: &Target,
        conflict: &str,
        fence: &[(String, u64)],
    ) -> Result<(), EngineError> {
        let Some((_, at)) = fence.iter().find(|(stream, _)| stream == conflict) else { return Ok(()) };
        let mut claim = target.claim.lock().await;
        if claim.version == *at {
            claim.ours = None;
        }
        claim.ours.map(|_| ()).ok_or_else(|| lost(target))
    }

    /// Of what is due, that which still stands and which nobody is creating at this moment: another node may have ended
    /// it, or may be about to hear from the target that it exists.
    pub(crate) async fn still_due(&self, targets: &Targets, target: &Target, round: Vec<Due>) -> Vec<Due> {
        if self.is_alone() {
            return round;
        }
        let mut by_task: BTreeMap<TaskId, Vec<Due>> = BTreeMap::new();
        for due in round {
            by_task.entry(due.task.clone()).or_default().push(due);
        }
        let mut still = Vec::new();
        for (task, all) in by_task {
            let leases = self.with_task(&task, |held, _| {
                all.iter().map(|due| held.lease(&due.handle.lease).cloned()).collect::<Vec<_>>()
            });
            match leases.await {
                Ok(leases) => {
                    for (due, lease) in all.into_iter().zip(leases) {
                        match lease {
                            Some(lease) if !lease.is_standing() => {
                                target.finished(&due.handle.lease);
                                targets.give_place_back(&due.handle.lease);
                            }
                            Some(lease) if self.is_under_way(targets, &lease) => {
                                target.later_after(due, &targets.patience);
                            }
                            Some(lease) => {
                                let handle = crate::target::handle(&lease);
                                still.push(Due { handle, ..due });
                            }
                            None => still.push(due),
                        }
                    }
                }
                Err(error) => {
                    tracing::error!(%task, code = %error.code, %error, "cannot read what is due; trying again");
                    all.into_iter().for_each(|due| target.later_after(due, &targets.patience));
                }
            }
        }
        still
    }

    /// Requested, and its maker has not said what came of it: this process is at it, or another one that has had less
    /// time than a creation may take.
    fn is_under_way(&self, targets: &Targets, lease: &Lease) -> bool {
        let young = self.now().since(lease.requested) <= targets.patience.abandoned_ms;
        lease.external.is_none()
            && (targets.is_creating(lease.id()) || (young && !targets.was_made_here(lease.id())))
    }
}

fn lost(target: &Target) -> EngineError {
    let what = format!("another node works on {} now", target.broker.system());
    EngineError::new(Kind::Conflict, "lease.claim_lost", what)
}
