//! Grants: what one agent holds in one task; nodes of the task's tree.

use alloc::collections::BTreeMap;
use alloc::vec;
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
    /// The epoch it was made in: its agent was registered then. Zero where that is not on record, as for the root.
    pub since: u64,
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
    /// Whether it is known to lie, hop by hop up to the root, inside what could be handed on. False proves nothing:
    /// then every call is held against every hop.
    pub upheld: bool,
    /// Whether an amendment brought it: then a person approved its values, and nobody named them beforehand.
    pub amended: bool,
}

/// The grants of a task. They hang on one another from the root down, and none is ever taken out.
///
/// INVARIANT: a parent stands before its children, so each walk to the root ends there.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
    places: BTreeMap<GrantId, usize>,
}

#[derive(Debug, Clone)]
struct Node {
    grant: Grant,
    above: Option<usize>,
}

impl Tree {
    /// The tree of a task that has just been opened.
    pub(crate) fn of(root: Grant) -> Tree {
        let places = BTreeMap::from([(root.id.clone(), 0)]);
        Tree { nodes: vec![Node { grant: root, above: None }], places }
    }

    /// Hangs a grant below its parent; what is cut from a capability that could be handed on is upheld by it.
    pub(crate) fn hang(&mut self, mut child: Grant) {
        let above = child.parent.as_ref().and_then(|id| self.places.get(id)).copied();
        if let Some(parent) = above.and_then(|place| self.nodes.get(place)) {
            let agent = &child.agent;
            for held in &mut child.held {
                let from = held.from.and_then(|from| parent.grant.held.get(usize::from(from)));
                held.upheld =
                    from.is_some_and(|from| from.upheld && from.capability.upholds(agent, &held.capability));
            }
        }
        self.places.insert(child.id.clone(), self.nodes.len());
        self.nodes.push(Node { grant: child, above });
    }

    pub(crate) fn get(&self, id: &GrantId) -> Option<&Grant> {
        self.nodes.get(*self.places.get(id)?).map(|node| &node.grant)
    }

    pub(crate) fn get_mut(&mut self, id: &GrantId) -> Option<&mut Grant> {
        self.nodes.get_mut(*self.places.get(id)?).map(|node| &mut node.grant)
    }

    /// All, in the order of their names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Grant> {
        self.places.values().filter_map(|place| self.nodes.get(*place)).map(|node| &node.grant)
    }

    /// A grant and those above it, up to the root.
    pub(crate) fn up(&self, from: &GrantId) -> impl Iterator<Item = &Grant> {
        let node = |place: usize| self.nodes.get(place);
        let first = self.places.get(from).copied().and_then(node);
        core::iter::successors(first, move |below| below.above.and_then(node)).map(|node| &node.grant)
    }
}
