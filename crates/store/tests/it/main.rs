//! One conformance suite, run on both backends, and the faults of each.
//!
//! Needs PostgreSQL's server programs (Debian: `postgresql-15`); without them the run fails and says so.

mod conformance;
mod crash;
mod postgres_faults;
mod sqlite_faults;
mod support;
