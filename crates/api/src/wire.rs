//! The v1 wire types, one file per noun.
//!
//! Times are whole milliseconds since 1970-01-01 00:00 UTC. Ids are texts with the grammar of their core type
//! and are checked while they are read. Requests refuse members they do not know. Wherever a [`Value`] stands,
//! JSON is read strictly: no duplicate keys, no number that would lose precision, bounded depth.
//!
//! [`Value`]: bailiwick_core::Value

mod agents;
mod approvals;
mod audit;
mod decisions;
mod halts;
mod leases;
mod oauth;
mod people;
mod policies;
mod problem;
mod status;
mod tasks;
mod templates;
mod tools;

pub use agents::*;
pub use approvals::*;
pub use audit::*;
pub use decisions::*;
pub use halts::*;
pub use leases::*;
pub use oauth::*;
pub use people::*;
pub use policies::*;
pub use problem::*;
pub use status::*;
pub use tasks::*;
pub use templates::*;
pub use tools::*;
