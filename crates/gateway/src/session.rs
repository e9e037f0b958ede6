//! Sessions of the older generation (MCP 2025-11-25, transports, "Session Management").
//!
//! A session is a convenience of the protocol, never an authority: every request still proves its caller,
//! and a session answers only to the very caller that opened it — tenant, task, grant, agent and key
//! (threat A37). It remembers the calls in flight, so that they can be taken back, and nothing else.

use crate::envelope::RpcId;
use bailiwick_api::Caller;
use bailiwick_core::Digest;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Most sessions in all; the one idle for longest makes room.
const SESSIONS_MAX: usize = 10_000;
/// Most sessions of one caller.
const PER_CALLER_MAX: usize = 32;
/// A session idle for longer is over.
const IDLE: Duration = Duration::from_secs(3600);
/// Most calls in flight that one session remembers.
const IN_FLIGHT_MAX: usize = 1024;

/// Who may use a session, as one digest.
pub(crate) fn binding(caller: &Caller) -> Digest {
    Digest::of_parts(&[
        caller.tenant.as_str().as_bytes(),
        caller.task.as_str().as_bytes(),
        caller.grant.as_str().as_bytes(),
        caller.agent.as_str().as_bytes(),
        caller.instance.as_bytes(),
    ])
}

/// One session.
pub(crate) struct Session {
    owner: Digest,
    /// The revision that was agreed on.
    pub(crate) version: &'static str,
    calls: Mutex<HashMap<RpcId, watch::Sender<bool>>>,
    used: Mutex<Instant>,
}

impl Session {
    /// Remembers a call in flight; setting the sender takes it back. A second call with the same id is not
    /// remembered.
    pub(crate) fn begin(&self, id: &RpcId, withdraw: watch::Sender<bool>) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if calls.len() < IN_FLIGHT_MAX {
            calls.entry(id.clone()).or_insert(withdraw);
        }
    }

    /// Forgets a call.
    pub(crate) fn end(&self, id: &RpcId) {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// Takes a call back.
    pub(crate) fn withdraw(&self, id: &RpcId) {
        if let Some(call) = self.calls.lock().unwrap_or_else(PoisonError::into_inner).get(id) {
            call.send_replace(true);
        }
    }
}

/// All sessions of a gateway.
#[derive(Default)]
pub(crate) struct Sessions {
    open: Mutex<BTreeMap<String, Arc<Session>>>,
}

impl Sessions {
    /// Opens a session under a fresh, unguessable id.
    pub(crate) fn open(&self, id: String, caller: &Caller, version: &'static str) {
        let owner = binding(caller);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, session| session.idle() < IDLE);
        while open.values().filter(|s| s.owner == owner).count() >= PER_CALLER_MAX {
            remove_idlest(&mut open, Some(owner));
        }
        if open.len() >= SESSIONS_MAX {
            remove_idlest(&mut open, None);
        }
        let used = Mutex::new(Instant::now());
        open.insert(id, Arc::new(Session { owner, version, calls: Mutex::default(), used }));
    }

    /// The session of this id, if it is the caller's. An unknown one and somebody else's look the same.
    pub(crate) fn find(&self, id: &str, caller: &Caller) -> Option<Arc<Session>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let session = open.get(id).filter(|s| s.owner == binding(caller) && s.idle() < IDLE)?.clone();
        *session.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        Some(session)
    }

    /// Ends the caller's session; true if there was one. Calls in flight are taken back.
    pub(crate) fn close(&self, id: &str, caller: &Caller) -> bool {
        let Some(session) = self.find(id, caller) else { return false };
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        for call in session.calls.lock().unwrap_or_else(PoisonError::into_inner).values() {
            call.send_replace(true);
        }
        true
    }
}

impl Session {
    fn idle(&self) -> Duration {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

fn remove_idlest(open: &mut BTreeMap<String, Arc<Session>>, owner: Option<Digest>) {
    let theirs = open.iter().filter(|(_, s)| owner.is_none_or(|owner| s.owner == owner));
    if let Some(id) = theirs.max_by_key(|(_, s)| s.idle()).map(|(id, _)| id.clone()) {
        open.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::caller;

    // proves: A37, H8
    #[test]
    fn a_session_answers_to_the_caller_that_opened_it_and_to_no_other() {
        let sessions = Sessions::default();
        let opener = caller("planner");
        sessions.open("s-1".into(), &opener, "2025-11-25");
        assert!(sessions.find("s-1", &opener).is_some());
        let change: [fn(&mut Caller); 5] = [
            |c| c.agent = bailiwick_core::AgentId::parse("executor").unwrap(),
            |c| c.task = bailiwick_core::TaskId::parse("task-2").unwrap(),
            |c| c.grant = bailiwick_core::GrantId::parse("grant-2").unwrap(),
            |c| c.tenant = bailiwick_core::TenantId::parse("other").unwrap(),
            |c| c.instance = "another-key".into(),
        ];
        for change in change {
            let mut other = opener.clone();
            change(&mut other);
            assert!(sessions.find("s-1", &other).is_none(), "{other:?}");
            assert!(!sessions.close("s-1", &other));
        }
        assert!(sessions.close("s-1", &opener));
        assert!(sessions.find("s-1", &opener).is_none());
    }

    #[test]
    fn one_caller_cannot_crowd_out_the_others() {
        let sessions = Sessions::default();
        let quiet = caller("quiet");
        sessions.open("quiet".into(), &quiet, "2025-11-25");
        for n in 0..PER_CALLER_MAX * 3 {
            sessions.open(format!("loud-{n}"), &caller("loud"), "2025-11-25");
        }
        assert!(sessions.find("quiet", &quiet).is_some());
        assert_eq!(sessions.open.lock().unwrap().len(), PER_CALLER_MAX + 1);
    }
}
