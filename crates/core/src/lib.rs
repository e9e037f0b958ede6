//! The judgement of bailiwick: values in, decisions and events out. No I/O, no clock, no chance.
//!
//! The log is the state: a [`task::Task`] is a fold over [`event::TaskEvent`]s, a [`registry::Registry`] a
//! fold over [`registry::RegistryEvent`]s. [`decision::decide`] and [`handoff::hand_off`] are pure functions
//! of those folds, a request, a policy and the time; what they return becomes real only when its events are
//! durable. Read in this order: `value`, `constraint`, `capability`, `chain`, `task`, `decision`, `handoff`.
#![no_std]
#![warn(missing_docs)]

extern crate alloc;

pub mod agent;
pub mod amendment;
pub mod approval;
pub mod capability;
pub mod chain;
pub mod constraint;
pub mod decision;
pub mod declassify;
pub mod event;
pub mod grant;
pub mod handoff;
pub mod ids;
pub mod input;
pub mod label;
pub mod lease;
pub mod opening;
pub mod origin;
pub mod payload;
pub mod registry;
pub mod seeking;
pub mod sought;
pub mod task;
pub mod template;
pub mod time;
pub mod tool;
pub mod typed;
pub mod value;
pub mod verdict;

pub use ids::*;
pub use time::{Time, Timekeeper};
pub use value::{Digest, Value};
