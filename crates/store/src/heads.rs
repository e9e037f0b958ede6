//! The judgement on a batch: which appends are accepted, at which version and index.
//!
//! Pure: the writer of either backend loads the versions it needs, and this decides. Appends of one batch
//! see the accepted ones before them, so of any number racing for a version exactly one wins.

use std::collections::HashMap;

use crate::error::AppendError;
use crate::record::Append;

/// Versions of streams, as far as they are known.
#[derive(Debug, Default)]
pub(crate) struct Heads {
    versions: HashMap<String, u64>,
}

impl Heads {
    pub(crate) fn knows(&self, stream: &str) -> bool {
        self.versions.contains_key(stream)
    }

    pub(crate) fn learn(&mut self, stream: String, version: u64) {
        self.versions.insert(stream, version);
    }

    /// Forgets everything; what is needed next is read from the store again.
    pub(crate) fn forget(&mut self) {
        self.versions.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.versions.len()
    }

    /// Accepts the append and moves its stream on, giving the version before it; or says which stream
    /// stands elsewhere. Every stream it names must be known; one that is not counts as empty.
    pub(crate) fn accept(&mut self, append: &Append) -> Result<u64, AppendError> {
        let own = (&append.stream, append.expect);
        let guards = append.guards.iter().map(|(stream, version)| (stream, *version));
        for (stream, expected) in std::iter::once(own).chain(guards) {
            let actual = self.versions.get(stream).copied().unwrap_or(0);
            if actual != expected {
                return Err(AppendError::Conflict { stream: stream.clone(), actual });
            }
        }
        self.versions.insert(append.stream.clone(), append.expect + append.events.len() as u64);
        Ok(append.expect)
    }
}

/// The streams an append names: its own and its guards'.
pub(crate) fn named(append: &Append) -> impl Iterator<Item = &str> {
    std::iter::once(append.stream.as_str()).chain(append.guards.iter().map(|(stream, _)| stream.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::NewEvent;

    fn append(stream: &str, expect: u64, guards: &[(&str, u64)]) -> Append {
        let event = NewEvent { time_ms: 0, kind: "k".into(), bytes: vec![1] };
        let guards = guards.iter().map(|(s, v)| (s.to_string(), *v)).collect();
        Append { stream: stream.into(), expect, guards, events: vec![event.clone(), event], views: vec![] }
    }

    // proves: INV10
    #[test]
    fn of_two_appends_in_one_batch_for_the_same_version_the_first_wins() {
        let mut heads = Heads::default();
        assert_eq!(heads.accept(&append("a", 0, &[])), Ok(0));
        let second = heads.accept(&append("a", 0, &[]));
        assert_eq!(second, Err(AppendError::Conflict { stream: "a".into(), actual: 2 }));
        assert_eq!(heads.accept(&append("a", 2, &[])), Ok(2));
    }

    #[test]
    fn a_guard_that_moved_earlier_in_the_batch_refuses() {
        let mut heads = Heads::default();
        assert_eq!(heads.accept(&append("b", 0, &[("a", 0)])), Ok(0));
        assert_eq!(heads.accept(&append("a", 0, &[])), Ok(0));
        let late = heads.accept(&append("b", 2, &[("a", 0)]));
        assert_eq!(late, Err(AppendError::Conflict { stream: "a".into(), actual: 2 }));
        assert_eq!(heads.accept(&append("b", 2, &[("a", 2)])), Ok(2));
    }
}
