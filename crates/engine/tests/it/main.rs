//! Stories about the engine, on a real store.

mod stories;
mod world;
