//! A target in memory that can be down, hang, lie and forget; and that remembers what it was asked, in order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bailiwick_broker::{
    Broker, BrokerError, Capabilities, Created, Credential, Did, Doing, Effective, Found, FoundKind, Handle,
    Plan, Secret, Sight, Spec,
};
use bailiwick_core::lease::{Mandate, Revocability, Step};
use bailiwick_core::tool::{Effect, Manifest, Role};
use bailiwick_core::{LeaseId, SystemId, ToolId};

/// What is wrong with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mood {
    Sound,
    Down,
    Hangs,
    /// Creates, and then the answer is lost.
    LosesAnswers,
    /// Says that it dropped, and did not.
    Lies,
    /// Gives more than was asked for.
    Generous,
}

pub struct Fake {
    system: SystemId,
    pub state: Arc<Mutex<State>>,
    pause: Mutex<Option<Arc<Pause>>>,
}

/// Where a node stands still until it is told to go on: `create` on the way to the target, `created` on the way back,
/// `look` on the way back.
pub struct Pause {
    at: &'static str,
    /// How often it passes before it stands still.
    passes: std::sync::atomic::AtomicUsize,
    pub reached: tokio::sync::Notify,
    pub go_on: tokio::sync::Notify,
}

pub struct State {
    pub mood: Mood,
    /// Principals: name to lease and secret.
    pub there: BTreeMap<String, (LeaseId, String)>,
    /// What was done, in order: step and lease.
    pub done: Vec<(&'static str, LeaseId)>,
    /// What is created while something else happens: run once, before a creation answers.
    pub meanwhile: Option<Box<dyn FnOnce() + Send>>,
    pub sessions: BTreeSet<String>,
    pub gate: Option<Arc<tokio::sync::Notify>>,
    /// How long each answer takes.
    pub pace: Duration,
}

impl Fake {
    pub fn new(system: &str) -> (Arc<Fake>, Arc<Mutex<State>>) {
        let state = State {
            mood: Mood::Sound,
            there: BTreeMap::new(),
            done: Vec::new(),
            meanwhile: None,
            sessions: BTreeSet::new(),
            gate: None,
            pace: Duration::ZERO,
        };
        let state = Arc::new(Mutex::new(state));
        let pause = Mutex::default();
        (Arc::new(Fake { system: system.parse().unwrap(), state: state.clone(), pause }), state)
    }

    /// The same target as another node reaches it.
    pub fn of_another_node(&self) -> Arc<Fake> {
        Arc::new(Fake { system: self.system.clone(), state: self.state.clone(), pause: Mutex::default() })
    }

    /// The node stands still there, once, after it has passed so often.
    pub fn pause_at(&self, at: &'static str, passes: usize) -> Arc<Pause> {
        let pause = Arc::new(Pause {
            at,
            passes: passes.into(),
            reached: Default::default(),
            go_on: Default::default(),
        });
        *self.pause.lock().unwrap() = Some(pause.clone());
        pause
    }

    async fn paused(&self, at: &'static str) {
        use std::sync::atomic::Ordering::SeqCst;
        let pause = {
            let mut held = self.pause.lock().unwrap();
            let less = |n: usize| n.checked_sub(1);
            match held.as_ref().filter(|p| p.at == at) {
                Some(pause) if pause.passes.fetch_update(SeqCst, SeqCst, less).is_err() => held.take(),
                _ => None,
            }
        };
        if let Some(pause) = pause {
            pause.reached.notify_one();
            pause.go_on.notified().await;
        }
    }

    async fn mood(&self) -> Result<Mood, BrokerError> {
        let (mood, pace) = {
            let state = self.state.lock().unwrap();
            (state.mood, state.pace)
        };
        match pace {
            // A target is never asked without letting others run meanwhile.
            Duration::ZERO => tokio::task::yield_now().await,
            pace => tokio::time::sleep(pace).await,
        }
        match mood {
            Mood::Down => Err(BrokerError::new("target.unreachable", "no route to it")),
            Mood::Hangs => std::future::pending().await,
            other => Ok(other),
        }
    }
}

impl Broker for Fake {
    fn system(&self) -> &SystemId {
        &self.system
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            kind: "fake",
            class: Revocability::B,
            native_expiry: false,
            expiry_ends_sessions: false,
            ttl_secs_min: 1,
            ttl_secs_max: 3600,
            attribution: "none",
            remains: "nothing",
        }
    }
    fn scopes(&self) -> Vec<Manifest> {
        let tool = format!("{}.read", self.system).parse().unwrap();
        vec![Manifest::new(tool, Effect::Read).narrowed_by("customer").arg("ttl_s", Role::Free)]
    }
    fn longest_secs(&self, _: &ToolId) -> u64 {
        600
    }
    fn prepare(&self, spec: Spec) -> Doing<'_, Plan> {
        Box::pin(async move {
            self.mood().await?;
            Ok(Plan::new(
                format!("bw_fake_{}", spec.lease.as_str().replace('-', "_")),
                spec,
                "read it".to_owned(),
            ))
        })
    }
    fn create<'a>(&'a self, mandate: &'a Mandate, plan: &'a Plan) -> Doing<'a, Created> {
        Box::pin(async move {
            let mood = self.mood().await?;
            let secret = format!("secret-of-{}", plan.name);
            self.paused("create").await;
            let gate = self.state.lock().unwrap().gate.clone();
            if let Some(gate) = gate {
                gate.notified().await;
            }
            let meanwhile = {
                let mut state = self.state.lock().unwrap();
                state.there.insert(plan.name.clone(), (mandate.intent().lease.clone(), secret.clone()));
                state.done.push(("create", mandate.intent().lease.clone()));
                state.meanwhile.take()
            };
            if let Some(meanwhile) = meanwhile {
                meanwhile();
            }
            self.paused("created").await;
            if mood == Mood::LosesAnswers {
                return Err(BrokerError::new("target.unreachable", "the connection broke"));
            }
            let secret = [("password".to_owned(), Secret::new(secret))].into();
            let plain = [("user".to_owned(), plan.name.clone())].into();
            Ok(Created {
                external: format!("id-{}", plan.name),
                credential: Credential { plain, secret, env: BTreeMap::new() },
            })
        })
    }
    fn describe<'a>(&'a self, _: &'a Handle) -> Doing<'a, Effective> {
        Box::pin(async move {
            match self.mood().await? {
                Mood::Generous => Err(BrokerError::new("scope.wider", "it can do everything")),
                _ => Ok(Effective { privileges: vec!["read".to_owned()] }),
            }
        })
    }
    fn revoke<'a>(&'a self, handle: &'a Handle, step: Step) -> Doing<'a, Did> {
        Box::pin(async move {
            let mood = self.mood().await?;
            let mut state = self.state.lock().unwrap();
            state.done.push((step.as_str(), handle.lease.clone()));
            let mut did = Did::default();
            if step == Step::EndSessions && state.sessions.remove(&handle.name) {
                did.sessions_ended = 1;
            }
            if step == Step::Drop && mood != Mood::Lies {
                state.there.remove(&handle.name);
            }
            Ok(did)
        })
    }
    fn look<'a>(&'a self, handle: &'a Handle) -> Doing<'a, Sight> {
        Box::pin(async move {
            self.mood().await?;
            let gone = !self.state.lock().unwrap().there.contains_key(&handle.name);
            let answer = if gone { "nobody" } else { "it is there" }.to_owned();
            self.paused("look").await;
            Ok(Sight { gone, sessions: 0, query: format!("who is {}", handle.name), answer })
        })
    }
    fn sweep(&self) -> Doing<'_, Vec<Found>> {
        Box::pin(async move {
            self.mood().await?;
            let state = self.state.lock().unwrap();
            let found = |(name, (lease, _)): (&String, &(LeaseId, String))| Found {
                name: name.clone(),
                external: None,
                kind: match lease.as_str() {
                    "l-lookalike" => FoundKind::Lookalike,
                    _ => FoundKind::Ours { lease: lease.clone() },
                },
            };
            Ok(state.there.iter().map(found).collect())
        })
    }
}

/// Impatient, so that tests are quick.
pub fn impatient() -> bailiwick_engine::Patience {
    bailiwick_engine::Patience {
        look_gap: Duration::from_millis(5),
        answer: Duration::from_millis(300),
        retry_first: Duration::from_millis(5),
        retry_most: Duration::from_millis(20),
        ..Default::default()
    }
}
