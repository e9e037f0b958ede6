//! The judgement of bailiwick: values in, decisions and events out. No I/O, no clock, no chance.
#![no_std]
#![warn(missing_docs)]

extern crate alloc;

pub mod ids;
pub mod time;
pub mod value;

pub use ids::*;
pub use time::{Time, Timekeeper};
pub use value::{Digest, Value};
