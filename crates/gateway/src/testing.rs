//! Small things that unit tests share.

use bailiwick_api::Caller;
use bailiwick_core::{AgentId, GrantId, PrincipalId, TaskId, TenantId, Time};

/// A caller as a door would give it.
pub(crate) fn caller(agent: &str) -> Caller {
    Caller {
        tenant: TenantId::parse("main").unwrap(),
        task: TaskId::parse("task-1").unwrap(),
        grant: GrantId::parse("grant-1").unwrap(),
        agent: AgentId::parse(agent).unwrap(),
        initiator: PrincipalId::parse("dana@example.com").unwrap(),
        instance: format!("key-of-{agent}"),
        until: Time(u64::MAX),
        proof: None,
    }
}
