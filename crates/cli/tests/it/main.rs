//! The built binary, driven as people and scripts drive it.

mod demo;
mod life;
mod manners;
mod support;
mod tools;
