//! The control plane as it is met over HTTP: a real listener, a real store, the same door as the gateway.

mod bodies;
mod credentials;
mod events;
mod once;
mod places;
mod stories;
mod tokens;
mod votes;
mod world;
