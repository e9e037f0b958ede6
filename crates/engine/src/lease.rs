//! Leasing: a decision, an intent, a credential; and only then the secret.
//!
//! Each arrow is a durable event: decided → requested → created and active → reported, so that the branch is labelled
//! before anybody can read with the credential. That it becomes active is appended under the condition that nothing
//! above the lease has ended; if something has, the credential is revoked and nobody is told its secret.

use std::collections::BTreeSet;

use bailiwick_api::{Answer, Call, Caller, Denial, Outcome as Report, OutcomeStatus, Pending};
use bailiwick_broker::{BrokerError, Created, Credential, Doing, Effective, OnBehalf, Plan, Spec};
use bailiwick_core::decision::{Outcome, Permit, Scene};
use bailiwick_core::event::TaskEvent;
use bailiwick_core::lease::{
    DEBT_AFTER_MS, Lease, LeaseFact, LeaseState, Mandate, Revocability, Terms, Wanted, must_end,
};
use bailiwick_core::value::Value;
use bailiwick_core::{LeaseId, SystemId};
use bailiwick_store::AppendError;

use crate::decide::answer;
use crate::error::{EngineError, Kind};
use crate::log::Engine;
use crate::names;
use crate::target::{DEBTS_MAX, Patience, Target, Targets, handle};

/// What came of asking for a credential.
#[derive(Debug)]
pub enum Leased {
    /// Here it is. Its secrets are told this once.
    Given(Box<Given>),
    /// A person must say yes first.
    Ask(Pending),
    /// No.
    Deny(Denial),
}

/// A credential that was created.
#[derive(Debug)]
pub struct Given {
    /// The lease.
    pub lease: Lease,
    /// What it can do, in a line.
    pub effect: String,
    /// What its holder needs.
    pub credential: Credential,
}

/// Who is going to hold a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Agent,
    Gateway,
}

/// The shortest life of a credential, in milliseconds.
const TTL_MS_MIN: u64 = 1_000;
/// The life of one that asks for none, in milliseconds.
const TTL_MS_DEFAULT: u64 = 15 * 60_000;

impl Engine {
    /// Asks for a credential: a call of the tool `system.scope`, decided like any other, and then created in the
    /// target. When this gives one, everything about it is durable except the secret, which is nowhere.
    ///
    /// # Errors
    /// `lease.*` if it cannot be asked for so; `target.*` and `scope.*` if the target cannot give it. Whatever was
    /// created is revoked.
    pub async fn lease(&self, caller: &Caller, call: Call) -> Result<Leased, EngineError> {
        self.lease_for(caller, call, Holder::Agent).await
    }

    /// The same for an enforcement point of ours, which keeps the credential and carries the agent's sessions. The
    /// only way to one of a target whose class is P.
    ///
    /// # Errors
    /// As [`Engine::lease`].
    pub async fn lend(&self, caller: &Caller, call: Call) -> Result<Leased, EngineError> {
        self.lease_for(caller, call, Holder::Gateway).await
    }

    async fn lease_for(&self, caller: &Caller, call: Call, holder: Holder) -> Result<Leased, EngineError> {
        let engine = self.clone();
        let caller = caller.clone();
        // Whoever asked may hang up at any moment; what was begun is brought to an end all the same.
        let leasing = tokio::spawn(async move { engine.leased(&caller, call, holder).await });
        leasing.await.map_err(|_| {
            EngineError::new(Kind::Unavailable, "lease.interrupted", "the lease was interrupted")
        })?
    }

    async fn leased(&self, caller: &Caller, call: Call, holder: Holder) -> Result<Leased, EngineError> {
        let system =
            SystemId::parse(call.tool.system()).map_err(|e| EngineError::invalid(e.code(), e.to_string()))?;
        let none = || {
            let what = format!("{system} gives out no credentials: no target of that name is configured");
            EngineError::new(Kind::NotFound, "lease.no_target", what)
        };
        let targets = self.inner.targets.get().ok_or_else(none)?;
        let target = targets.of(&system).ok_or_else(none)?;
        if holder == Holder::Agent && target.broker.capabilities().class == Revocability::P {
            let what = format!("{system} gives no credentials to agents; connect through the gateway");
            return Err(EngineError::invalid("lease.gateway_only", what));
        }
        self.is_fit(target)?;
        let ruled = self
            .rule(caller, call, |outcome, task, decided| match outcome {
                Outcome::Allow(permit) => {
                    let vouched = decided.approval.is_some();
                    let unexplained = if vouched { BTreeSet::new() } else { decided.unexplained.clone() };
                    Ok((permit, unexplained))
                }
                other => Err(Box::new(answer(other, task))),
            })
            .await?;
        let (permit, unexplained) = match ruled {
            Ok(permitted) => permitted,
            Err(other) => return not_allowed(*other),
        };
        let lease = names::lease(permit.decision())?;
        targets.take_place(&lease, &caller.agent, &system)?;
        let _creating = targets.creating(&lease);
        let given = match unexplained.first() {
            // The core asks a person about these; without their yes there is no credential, whatever became of the asking.
            Some(arg) => Err(unexplained_value(arg)),
            None => self.mint(caller, targets, target, &permit, &lease).await,
        };
        if let Err(error) = &given {
            self.not_given(caller, &permit, &lease, error).await;
        }
        given.map(|given| Leased::Given(Box::new(given)))
    }

    /// A target that owes too much gives out nothing new.
    fn is_fit(&self, target: &Target) -> Result<(), EngineError> {
        let debts = target.debts(self.now());
        if debts < DEBTS_MAX {
            return Ok(());
        }
        let system = target.broker.system();
        let what =
            format!("{debts} credentials of {system} should be gone and are not; see `bailiwick standing`");
        Err(EngineError::new(Kind::Unavailable, "lease.target_in_debt", what))
    }

    async fn mint(
        &self,
        caller: &Caller,
        targets: &Targets,
        target: &Target,
        permit: &Permit,
        lease: &LeaseId,
    ) -> Result<Given, EngineError> {
        let patience = &targets.patience;
        let spec = self.spec(caller, target, permit, lease)?;
        let plan = within(patience, target.broker.prepare(spec)).await?;
        let mandate = self.intend(caller, targets, target, permit, &plan).await?;
        let created = within(patience, target.broker.create(&mandate, &plan)).await?;
        let known = bailiwick_broker::Handle {
            lease: lease.clone(),
            name: plan.name.clone(),
            external: Some(created.external.clone()),
            tool: permit.tool().clone(),
            until: mandate.intent().until,
        };
        let effective = within(patience, target.broker.describe(&known)).await;
        let lease = self.release(caller, lease, &created, effective).await?;
        // The branch is labelled before anybody can read with it.
        let done = Report { status: OutcomeStatus::Done, result: None, words: vec![], bytes: 0, note: None };
        self.report(caller, permit.decision(), done).await?;
        Ok(Given { lease, effect: plan.effect, credential: created.credential })
    }

    fn spec(
        &self,
        caller: &Caller,
        target: &Target,
        permit: &Permit,
        lease: &LeaseId,
    ) -> Result<Spec, EngineError> {
        let mut args = permit.args().as_map().cloned().unwrap_or_default();
        let longest = target.broker.longest_secs(permit.tool()).saturating_mul(1000);
        let ttl = match args.remove("ttl_s") {
            None => TTL_MS_DEFAULT,
            Some(Value::Int(secs)) if secs > 0 => u64::try_from(secs).unwrap_or(0).saturating_mul(1000),
            Some(_) => {
                return Err(EngineError::invalid(
                    "lease.ttl",
                    "`ttl_s` must be a positive number of seconds",
                ));
            }
        };
        Ok(Spec {
            lease: lease.clone(),
            tool: permit.tool().clone(),
            args,
            until: self.now().plus_ms(ttl.min(longest).max(TTL_MS_MIN)),
            on_behalf: OnBehalf {
                task: caller.task.clone(),
                grant: caller.grant.clone(),
                agent: caller.agent.clone(),
                initiator: caller.initiator.clone(),
            },
        })
    }

    /// The intent, durable. From here on the lease stands until it has been seen gone.
    async fn intend(
        &self,
        caller: &Caller,
        targets: &Targets,
        target: &Target,
        permit: &Permit,
        plan: &Plan,
    ) -> Result<Mandate, EngineError> {
        let terms = Terms {
            lease: plan.spec.lease.clone(),
            name: plan.name.clone(),
            args: plan.spec.args.clone(),
            until: plan.spec.until,
            class: target.broker.capabilities().class,
            plan: plan.digest,
        };
        let cell = self.cell(&caller.task);
        let mut held = cell.lock().await;
        self.refresh(&caller.task, &mut held).await?;
        for _ in 0..64 {
            let authority = self.authority();
            let Some(task) = held.as_ref() else { return Err(EngineError::missing("task", &caller.task)) };
            let now = self.now();
            let scene =
                Scene { registry: &authority.registry, task, policy: &*authority.policy, now, fresh: true };
            let wanted = Wanted::judge(scene, permit, terms.clone(), targets.quota)?;
            let event = wanted.event();
            let committed = wanted
                .commit(async |at, event| self.append(&caller.task, task, at, &[event], now).await)
                .await;
            match committed {
                Ok(mandate) => {
                    if let Some(task) = held.as_mut() {
                        task.apply(&event, now);
                    }
                    return Ok(mandate);
                }
                Err(AppendError::Conflict { .. }) => self.moved(&caller.task, &mut held).await?,
                Err(error) => {
                    held.forget();
                    return Err(error.into());
                }
            }
        }
        Err(EngineError::new(
            Kind::Unavailable,
            "store.contended",
            "too many writers at once; try again in a moment",
        ))
    }

    /// Records the target's own id and what it can really do. Only if all that it hangs on still lives, the secret
    /// may go out; otherwise its revocation begins with the same append.
    async fn release(
        &self,
        caller: &Caller,
        id: &LeaseId,
        created: &Created,
        effective: Result<Effective, EngineError>,
    ) -> Result<Lease, EngineError> {
        let digest = match &effective {
            Ok(effective) => effective.digest(),
            Err(_) => bailiwick_core::Digest::of(b"not read back"),
        };
        let fact = |fact: LeaseFact| TaskEvent::Lease { lease: id.clone(), fact };
        let created = LeaseFact::Created { external: created.external.clone(), effective: digest };
        let judged = self
            .conduct(
                &caller.task,
                |scene| {
                    let lease = scene.task.lease(id).ok_or_else(|| EngineError::missing("lease", id))?;
                    let over = match (&effective, &lease.state) {
                        (Err(error), _) => Some(error.reason.clone()),
                        (_, LeaseState::Requested) => must_end(scene.registry, scene.task, lease, scene.now),
                        _ => Some("its revocation had begun before it was created".to_owned()),
                    };
                    let mut after = lease.clone();
                    after.apply(&created, scene.now);
                    Ok((over, after))
                },
                |(over, after)| match over {
                    None => vec![fact(created.clone()), fact(LeaseFact::Active)],
                    // It came after it had been looked for, so it stands again.
                    Some(why) if !after.is_standing() => vec![fact(LeaseFact::Found { what: why.clone() })],
                    Some(why) => vec![fact(created.clone()), fact(LeaseFact::Revoking { why: why.clone() })],
                },
            )
            .await?;
        let (over, mut lease) = judged;
        match (over, effective) {
            (None, _) => {
                lease.state = LeaseState::Active;
                Ok(lease)
            }
            (Some(why), Err(error)) => {
                tracing::error!(lease = %id, code = %error.code, why, "a credential can do more than it should, or cannot be read back; it is revoked");
                Err(error)
            }
            (Some(why), Ok(_)) => {
                let what = format!("the credential was created and is being revoked, because {why}");
                Err(EngineError::forbidden("lease.not_live", what))
            }
        }
    }

    /// Nothing was given: the call failed, and what may have been created goes.
    async fn not_given(&self, caller: &Caller, permit: &Permit, lease: &LeaseId, error: &EngineError) {
        let why = format!("it could not be given: {}", error.reason);
        let outcome = Report {
            status: OutcomeStatus::Failed,
            result: None,
            words: vec![],
            bytes: 0,
            note: Some(error.code.clone()),
        };
        if let Err(error) = self.report(caller, permit.decision(), outcome).await {
            tracing::debug!(code = %error.code, "the failed lease's call was reported already");
        }
        match self.begin_revoking(&caller.task, lease, &why).await {
            Ok(true) => {}
            Ok(false) => {
                if let Some(targets) = self.inner.targets.get() {
                    targets.give_place_back(lease);
                }
            }
            // The intent is durable, so the next scan finds it.
            Err(error) => {
                tracing::error!(%lease, code = %error.code, %error, "cannot record that a lease must go")
            }
        }
    }

    /// Gives a credential back before its time.
    ///
    /// # Errors
    /// `not_found` if it is not one of the caller's grant.
    pub async fn give_back(&self, caller: &Caller, lease: &LeaseId) -> Result<Lease, EngineError> {
        let mine = self
            .with_task(&caller.task, |task, _| {
                task.lease(lease).is_some_and(|l| l.intent.grant == caller.grant)
            })
            .await?;
        if !mine {
            return Err(EngineError::missing("lease of yours", lease));
        }
        self.begin_revoking(&caller.task, lease, "its holder gave it back").await?;
        self.keep_ending().await;
        self.look_up(lease).await.map(|(_, lease)| lease)
    }

    /// A lease, and the task it belongs to.
    ///
    /// # Errors
    /// `not_found` if there is none.
    pub async fn look_up(&self, lease: &LeaseId) -> Result<(bailiwick_core::TaskId, Lease), EngineError> {
        let missing = || EngineError::missing("lease", lease);
        let (task, _) = names::home(lease.as_str()).ok_or_else(missing)?;
        let found =
            self.with_task(&task, |held, _| held.lease(lease).cloned()).await.map_err(|_| missing())?;
        found.map(|found| (task, found)).ok_or_else(missing)
    }

    /// Notes that a person knows of a debt. It stands all the same, and is tried again all the same.
    ///
    /// # Errors
    /// `lease.no_debt` if there is none.
    pub async fn acknowledge(
        &self,
        by: &bailiwick_core::PrincipalId,
        lease: &LeaseId,
        reason: &str,
    ) -> Result<Lease, EngineError> {
        let (task, _) = self.look_up(lease).await?;
        let fact =
            LeaseFact::Acknowledged { by: by.to_string(), reason: reason.chars().take(1000).collect() };
        let event = TaskEvent::Lease { lease: lease.clone(), fact };
        self.conduct(
            &task,
            |scene| {
                let owed = scene.task.lease(lease).is_some_and(|l| l.is_debt(scene.now));
                let none =
                    || EngineError::new(Kind::Conflict, "lease.no_debt", format!("{lease} is no debt"));
                if owed { Ok(()) } else { Err(none()) }
            },
            |()| vec![event.clone()],
        )
        .await?;
        self.look_up(lease).await.map(|(_, lease)| lease)
    }

    /// Records that a lease must go and puts it to work. False if there is no such lease, or none that stands.
    async fn begin_revoking(
        &self,
        task: &bailiwick_core::TaskId,
        lease: &LeaseId,
        why: &str,
    ) -> Result<bool, EngineError> {
        let fact = LeaseFact::Revoking { why: why.chars().take(400).collect() };
        let event = TaskEvent::Lease { lease: lease.clone(), fact };
        let found = self
            .conduct(
                task,
                |scene| {
                    let lease = scene.task.lease(lease).filter(|l| l.is_standing());
                    let begun = lease.is_some_and(|l| matches!(l.state, LeaseState::Revoking { .. }));
                    Ok(lease.map(|l| (l.clone(), begun)))
                },
                |found| match found {
                    Some((_, false)) => vec![event.clone()],
                    _ => vec![],
                },
            )
            .await?;
        if let Some((lease, _)) = &found {
            self.put_to_work(task, lease, true);
        }
        Ok(found.is_some())
    }

    pub(crate) fn put_to_work(&self, task: &bailiwick_core::TaskId, lease: &Lease, urgent: bool) {
        let Some(target) = self.inner.targets.get().and_then(|t| t.of(&lease.intent.system)) else { return };
        target.add(crate::target::Due {
            task: task.clone(),
            handle: handle(lease),
            urgent,
            debt_from: lease.debt_from().unwrap_or_else(|| self.now().plus_ms(DEBT_AFTER_MS + 1)),
            recorded: lease.trouble.as_ref().map_or((0, None), |t| (t.attempts, Some(t.code.clone()))),
        });
        target.wake.notify_one();
    }
}

fn unexplained_value(arg: &str) -> EngineError {
    let what = format!(
        "nobody vouches for the value of `{arg}`, which would decide what the credential can reach; it must come from \
         the task's inputs or from a trusted source"
    );
    EngineError::forbidden("lease.unexplained", what)
}

fn not_allowed(answer: Answer) -> Result<Leased, EngineError> {
    match answer {
        Answer::Ask(pending) => Ok(Leased::Ask(pending)),
        Answer::Deny(denial) => Ok(Leased::Deny(denial)),
        Answer::Allow(_) => {
            Err(EngineError::new(Kind::Unavailable, "lease.undecided", "the decision was lost; ask again"))
        }
    }
}

/// Asks a target something, with an end to the waiting.
pub(crate) async fn within<T>(patience: &Patience, doing: Doing<'_, T>) -> Result<T, EngineError> {
    asked(patience, doing).await.map_err(EngineError::from)
}

pub(crate) async fn asked<T>(patience: &Patience, doing: Doing<'_, T>) -> Result<T, BrokerError> {
    match tokio::time::timeout(patience.answer, doing).await {
        Ok(done) => done,
        Err(_) => {
            let what = format!("the target did not answer within {} s", patience.answer.as_secs_f32());
            Err(BrokerError::new("target.unreachable", what))
        }
    }
}

impl From<BrokerError> for EngineError {
    fn from(error: BrokerError) -> Self {
        let kind = match error.code() {
            code if code.starts_with("scope.argument") || code == "scope.value" => Kind::Invalid,
            "scope.unknown" => Kind::NotFound,
            _ => Kind::Unavailable,
        };
        EngineError::new(kind, error.code(), error.to_string())
    }
}
