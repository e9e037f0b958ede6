//! The handlers, one file per noun. Each takes a proven caller and a request, asks the engine one thing, and
//! writes the answer down in wire types.

pub(crate) mod admin;
pub(crate) mod approvals;
pub(crate) mod audit;
pub(crate) mod decisions;
pub(crate) mod events;
pub(crate) mod halts;
pub(crate) mod leases;
pub(crate) mod oauth;
pub(crate) mod status;
pub(crate) mod tasks;
pub(crate) mod templates;
