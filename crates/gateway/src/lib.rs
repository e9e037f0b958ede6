//! Enforcement points: MCP in front of any number of tool servers.
