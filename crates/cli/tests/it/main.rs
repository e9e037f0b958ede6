//! The built binary, driven as people and scripts drive it.

mod answers;
mod credentials;
#[cfg(feature = "postgres-gateway")]
mod databases;
mod demo;
mod egress;
mod incidents;
mod life;
#[cfg(feature = "postgres-gateway")]
mod listener;
mod manners;
mod proofs;
mod quickstart;
mod shop;
mod ssh;
mod support;
mod templates;
mod tools;
