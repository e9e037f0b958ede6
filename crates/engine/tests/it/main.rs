//! Stories about the engine, on a real store.

#![allow(unreachable_pub, reason = "one binary of stories shares its world")]

mod answered_first;
mod fake;
mod kept;
mod kills;
mod leases;
mod many;
mod memory;
mod nodes;
mod stories;
mod templates;
mod trust;
mod world;
