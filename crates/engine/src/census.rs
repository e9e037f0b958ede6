//! What stands, counted for the quotas of agents and targets.
//!
//! The counts are kept beside the list, so that giving out one more costs the same however many stand.

use std::collections::HashMap;

use bailiwick_core::{AgentId, LeaseId, SystemId};

/// Leases that stand, with their agents and targets.
#[derive(Debug, Default)]
pub(crate) struct Census {
    leases: HashMap<LeaseId, (AgentId, SystemId)>,
    agents: HashMap<AgentId, usize>,
    systems: HashMap<SystemId, usize>,
}

impl Census {
    pub(crate) fn of_agent(&self, agent: &AgentId) -> usize {
        self.agents.get(agent).copied().unwrap_or(0)
    }

    pub(crate) fn of_system(&self, system: &SystemId) -> usize {
        self.systems.get(system).copied().unwrap_or(0)
    }

    pub(crate) fn contains(&self, lease: &LeaseId) -> bool {
        self.leases.contains_key(lease)
    }

    pub(crate) fn get(&self, lease: &LeaseId) -> Option<&(AgentId, SystemId)> {
        self.leases.get(lease)
    }

    /// Counts a lease, once however often it is told.
    pub(crate) fn insert(&mut self, lease: LeaseId, agent: AgentId, system: SystemId) {
        self.remove(&lease);
        *self.agents.entry(agent.clone()).or_default() += 1;
        *self.systems.entry(system.clone()).or_default() += 1;
        self.leases.insert(lease, (agent, system));
    }

    pub(crate) fn remove(&mut self, lease: &LeaseId) {
        let Some((agent, system)) = self.leases.remove(lease) else { return };
        less(&mut self.agents, &agent);
        less(&mut self.systems, &system);
    }
}

/// One less of a name; what has come to nothing is not kept.
fn less<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, name: &K) {
    if let Some(count) = counts.get_mut(name) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_twice_counts_once_and_what_is_gone_not_at_all() {
        let (lease, other) = (LeaseId::parse("l-1").unwrap(), LeaseId::parse("l-2").unwrap());
        let (a, b) = (AgentId::parse("a").unwrap(), AgentId::parse("b").unwrap());
        let system = SystemId::parse("shop").unwrap();
        let counts = |census: &Census| [census.of_agent(&a), census.of_agent(&b), census.of_system(&system)];
        let mut census = Census::default();
        census.insert(lease.clone(), a.clone(), system.clone());
        census.insert(other.clone(), b.clone(), system.clone());
        assert_eq!(counts(&census), [1, 1, 2]);
        census.insert(lease.clone(), a.clone(), system.clone());
        assert_eq!(counts(&census), [1, 1, 2]);
        census.insert(lease.clone(), b.clone(), system.clone());
        assert_eq!(counts(&census), [0, 2, 2]);
        census.remove(&lease);
        census.remove(&lease);
        assert_eq!(counts(&census), [0, 1, 1]);
        assert!(census.contains(&other) && !census.contains(&lease) && census.agents.len() == 1);
    }
}
