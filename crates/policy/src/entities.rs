//! The entities of an act, kept from one act to the next.
//!
//! Agents call the same tools on the same things again and again, and Cedar closes the graph of every set of
//! entities anew. A set is found again only by everything it was made of, so what is kept never says anything
//! else than what would be made.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use bailiwick_core::agent::Agent;
use bailiwick_core::verdict::{Deed, Facts};
use cedar_policy::Entities;

/// How many sets are kept, of 2 to 4 KiB each; past this all are made anew.
const KEPT_MAX: usize = 1024;

/// Sets of entities by what they were made of.
#[derive(Debug, Default)]
pub(crate) struct Kept(Mutex<HashMap<String, Arc<Entities>>>);

impl Kept {
    /// The entities of an act; `make` makes them where they are not kept.
    pub(crate) fn of(
        &self,
        facts: &Facts<'_>,
        make: impl FnOnce() -> Result<Entities, String>,
    ) -> Result<Arc<Entities>, String> {
        let made_of = made_of(facts);
        if let Some(kept) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&made_of) {
            return Ok(Arc::clone(kept));
        }
        let made = Arc::new(make()?);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(made_of, Arc::clone(&made));
        Ok(made)
    }
}

/// Everything that the principal, the action and the resource of an act are made of. Each part with its length in
/// front, so that no two acts read the same.
fn made_of(facts: &Facts<'_>) -> String {
    let mut all = String::with_capacity(160);
    put_agent(&mut all, facts.agent);
    match facts.deed {
        Deed::Call(manifest) => {
            put(&mut all, "call");
            put(&mut all, manifest.tool.as_str());
        }
        Deed::HandOff(child) => put_agent(&mut all, child),
    }
    if let Some(resource) = &facts.resource {
        put(&mut all, &resource.kind);
        put(&mut all, &resource.name);
        for (name, value) in &resource.attrs {
            put(&mut all, name);
            put(&mut all, value);
        }
    }
    all
}

fn put_agent(all: &mut String, agent: &Agent) {
    put(all, agent.id.as_str());
    put(all, agent.owner.as_str());
    put(all, agent.class.as_str());
}

fn put(all: &mut String, part: &str) {
    // Writing to a string cannot fail.
    let _written = write!(all, "{}:{part}", part.len());
}
