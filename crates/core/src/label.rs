//! Labels: how confidential something is, and whether its origin can be trusted. They only rise.
//!
//! INV13: what an agent says of its data can only make things stricter; [`Label::join`] is the only way two
//! labels become one, and it never lowers either.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use serde::{Deserialize, Serialize};

use crate::ids::DataClass;

/// How far data may travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// For everyone.
    #[default]
    Public,
    /// For the organisation.
    Internal,
    /// For those who need it.
    Confidential,
    /// For nobody but its owner.
    Secret,
}

impl Level {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Public => "public",
            Level::Internal => "internal",
            Level::Confidential => "confidential",
            Level::Secret => "secret",
        }
    }
}

/// Confidentiality with data classes, and integrity with origins.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// How far the data may travel.
    #[serde(default)]
    pub level: Level,
    /// What kinds of data are in it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub classes: BTreeSet<DataClass>,
    /// Where untrusted parts came from. Empty means trusted.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub untrusted: BTreeSet<String>,
}

/// More origins than this are kept as [`MANY`]: the label stays untrusted and memory stays bounded.
pub const ORIGINS_MAX: usize = 16;
/// The origin that stands for more origins than are kept.
pub const MANY: &str = "many";

impl Label {
    /// Public and trusted: the least label.
    pub fn bottom() -> Self {
        Label::default()
    }
    /// Public, from an origin that nobody vouches for.
    pub fn untrusted(origin: &str) -> Self {
        Label { untrusted: [origin.to_string()].into(), ..Label::default() }
    }
    /// Whether every part of it is trusted.
    pub fn is_trusted(&self) -> bool {
        self.untrusted.is_empty()
    }
    /// The least label that is at least both.
    #[must_use]
    pub fn join(&self, other: &Label) -> Label {
        let mut joined = self.clone();
        joined.level = joined.level.max(other.level);
        joined.classes.extend(other.classes.difference(&self.classes).cloned());
        joined.untrusted.extend(other.untrusted.difference(&self.untrusted).cloned());
        if joined.untrusted.len() > ORIGINS_MAX {
            joined.untrusted = joined.untrusted.into_iter().take(ORIGINS_MAX - 1).collect();
            joined.untrusted.insert(MANY.to_string());
        }
        joined
    }
    /// Whether this label is at most `other`: data so labelled may be treated as data of `other`.
    pub fn flows_to(&self, other: &Label) -> bool {
        self.level <= other.level
            && self.classes.is_subset(&other.classes)
            && (self.is_trusted() || !other.is_trusted())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_label() -> impl Strategy<Value = Label> {
        let level = prop::sample::select(alloc::vec![
            Level::Public,
            Level::Internal,
            Level::Confidential,
            Level::Secret
        ]);
        let class = prop::sample::select(alloc::vec!["pii", "card", "health"])
            .prop_map(|c| DataClass::parse(c).unwrap());
        (level, prop::collection::btree_set(class, 0..3), prop::collection::btree_set("[a-z]{1,3}", 0..20))
            .prop_map(|(level, classes, untrusted)| Label { level, classes, untrusted })
    }

    proptest! {
        // proves: INV13, N1, A31
        #[test]
        fn a_join_never_lowers_either_side(a in any_label(), b in any_label(), c in any_label()) {
            let joined = a.join(&b);
            prop_assert!(a.flows_to(&joined) && b.flows_to(&joined));
            prop_assert_eq!(joined.is_trusted(), a.is_trusted() && b.is_trusted());
            prop_assert_eq!(joined.level, b.join(&a).level);
            prop_assert_eq!(a.join(&b).join(&c).is_trusted(), a.join(&b.join(&c)).is_trusted());
            prop_assert!(joined.untrusted.len() <= ORIGINS_MAX);
        }
    }
}
