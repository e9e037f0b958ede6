//! Enforcement points: MCP in front of any number of tool servers, HTTP APIs whose keys agents never see, and sessions
//! with databases.
//!
//! The gateway builds without store, broker and engine: it proves callers ([`door`]), asks a
//! [`DecisionPoint`](bailiwick_api::DecisionPoint), and forwards with the witness of an answer that allows
//! ([`forward`]). One tool call takes this route:
//!
//! [`http`] → [`door`] → `mcp` → `DecisionPoint::decide` → [`forward`] → [`upstream`] →
//! `DecisionPoint::report` → the agent.
//!
//! HTTP requests take a route of their own, through [`egress`], and statements of databases through [`postgres`], by
//! the same decision point.
//!
//! It speaks MCP 2026-07-28 (stateless) and 2025-11-25 (sessions) to both sides, and translates between
//! them; clients that cannot prove possession of a key talk to it through [`connect`](mod@connect). The JSON-RPC code is our own ([`envelope`]): one strict parse, one way to print.
#![warn(missing_docs)]

mod accept;
pub mod answer;
mod builtin;
pub mod connect;
pub mod door;
pub mod egress;
pub mod envelope;
pub mod forward;
pub mod gateway;
pub mod headers;
pub mod http;
mod in_flight;
mod listen;
mod mcp;
pub mod names;
mod pending;
pub mod postgres;
pub mod secret;
mod session;
pub mod upstream;
pub mod version;

#[cfg(test)]
mod testing;

pub use connect::{ConnectConfig, ConnectError, Proof, Prover, connect};
pub use door::{Challenge, Door, Knock, Refused, TokenDoor};
pub use egress::Egress;
pub use egress::proxy::{Proxy, ProxyError};
pub use gateway::{Gateway, GatewayConfig};
pub use http::router;
pub use postgres::Postgres;
pub use secret::Secret;
pub use upstream::{BadUpstream, Transport, UpstreamSpec, Upstreams};
