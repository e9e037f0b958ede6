//! The built binary, driven as people and scripts drive it.

mod answers;
mod credentials;
#[cfg(feature = "postgres-gateway")]
mod databases;
mod demo;
mod egress;
mod incidents;
mod life;
mod manners;
mod quickstart;
mod ssh;
mod support;
mod tools;
