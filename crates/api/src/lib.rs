//! The promise to outsiders: the decision point that enforcement points talk to, the v1 wire types, and
//! the names of everything an outside program may rely on.
//!
//! * [`point`]: what an enforcement point asks (`decide`, `list`, `report`, `hand_off`).
//! * [`wire`]: the bodies of the HTTP API.
//! * [`routes`]: every route of the HTTP API, who may ask it, and the OpenAPI document made from that.
//! * [`client`] (feature `client`): a person's client of it.

#[cfg(feature = "client")]
pub mod client;
pub mod point;
pub mod routes;
pub mod wire;

pub use point::*;
