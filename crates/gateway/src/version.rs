//! The revisions of MCP that are served and spoken, and the words that go with them.

use bailiwick_core::Value;

/// The stateless generation.
pub const MODERN: &str = "2026-07-28";
/// The newest revision with sessions.
pub const LEGACY: &str = "2025-11-25";
/// An older revision with sessions that stock clients still ask for.
pub const LEGACY_OLDER: &str = "2025-06-18";

/// `_meta` key of the revision a request speaks.
pub const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// `_meta` key of the client's name.
pub const META_CLIENT: &str = "io.modelcontextprotocol/clientInfo";
/// `_meta` key of the client's capabilities.
pub const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
/// `_meta` key of the server's name.
pub const META_SERVER: &str = "io.modelcontextprotocol/serverInfo";

/// A revision with sessions that is served.
pub fn legacy(version: &str) -> Option<&'static str> {
    [LEGACY, LEGACY_OLDER].into_iter().find(|known| *known == version)
}

/// A revision with sessions that is spoken to tool servers; older than what is served, because a server's
/// answer to an unknown revision may be any it knows.
pub fn legacy_upstream(version: &str) -> Option<&'static str> {
    [LEGACY, LEGACY_OLDER, "2025-03-26", "2024-11-05"].into_iter().find(|known| *known == version)
}

/// All revisions served, newest first.
pub fn served() -> Value {
    Value::List([MODERN, LEGACY, LEGACY_OLDER].into_iter().map(Value::from).collect())
}

/// Our name and version, for display.
pub fn implementation() -> Value {
    Value::from([("name", Value::from("bailiwick")), ("version", Value::from(env!("CARGO_PKG_VERSION")))])
}
