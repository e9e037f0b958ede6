//! The promise to outsiders: the decision point that enforcement points talk to, the v1 wire types, and
//! the names of everything an outside program may rely on.
//!
//! * [`point`]: what an enforcement point asks (`decide`, `list`, `report`, `hand_off`).

pub mod point;

pub use point::*;
