//! The built binary, driven as people and scripts drive it.

mod credentials;
mod demo;
mod egress;
mod incidents;
mod life;
mod manners;
mod quickstart;
mod support;
mod tools;
