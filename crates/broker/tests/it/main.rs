//! One conformance suite, run on every connector against the real server, and what is special about each.
//!
//! Needs the servers' programs (Debian: `postgresql`, `redis-server`, `openssh-server`); without them the run fails and says so.

mod costs;
mod kit;
mod mandates;
mod postgres;
mod private;
mod redis;
mod ssh;
