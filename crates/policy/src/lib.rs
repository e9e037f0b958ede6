//! Cedar policies: schema, entities, evaluation, validation and their tests.
//!
//! [`compile`] turns texts and a generated schema into a [`CompiledSet`], which judges facts through the core's
//! `Policy` trait. Cedar decides whether a rule applies; this crate decides what that means: errors deny, `@ask`
//! asks, nothing permits by default. It reads no clock and no file.

mod defaults;
pub mod diff;
mod entities;
mod errors;
mod explain;
mod index;
mod needs;
pub mod proof;
mod request;
mod rule;
mod schema;
mod set;
mod source;
pub mod test;

pub use defaults::defaults;
pub use errors::{PolicyError, PolicyErrors};
pub use explain::{Considered, Explanation, Outcome, in_words};
pub use rule::{
    ASK_TTL_MS_DEFAULT, ASK_TTL_MS_MAX, ASK_TTL_MS_MIN, Ask, QUORUM_MAX, REASON_BYTES_MAX, Rule, RuleEffect,
};
pub use schema::{DESTRUCTIVE, HANDOFF, SchemaInputs, WRITE, check_manifest};
pub use set::{CompiledSet, NO_PERMIT, Unusable, compile, observed_rules};
pub use source::{
    NESTING_MAX, OPERATORS_MAX, POLICIES_MAX, POLICY_BYTES_MAX, Source, TEXT_BYTES_MAX, pack, unpack, version,
};

#[cfg(test)]
mod judging;
