//! Grants: what one agent holds in one task; nodes of the task's tree.

use alloc::vec::Vec;

use crate::capability::{Capability, Spent};
use crate::ids::{AgentId, GrantId};
use crate::label::Label;
use crate::time::Time;

/// One agent's authority inside one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Its id.
    pub id: GrantId,
    /// Who holds it.
    pub agent: AgentId,
    /// The grant it was cut from; the root has none.
    pub parent: Option<GrantId>,
    /// Handoffs between the root and this one.
    pub depth: u8,
    /// What it may do.
    pub held: Vec<Held>,
    /// When it ends.
    pub until: Time,
    /// The label of everything this branch has seen.
    pub label: Label,
    /// Whether it was revoked by itself; liveness is a walk to the root.
    pub revoked: bool,
    /// Refusals so far.
    pub refusals: u32,
}

/// A capability in a grant, with what has been spent of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The capability.
    pub capability: Capability,
    /// The parent's capability it was cut from, by place.
    pub from: Option<u16>,
    /// Spent by this grant and everything below it.
    pub spent: Spent,
}
