//! The control plane over HTTP: v1 API, token endpoint, event stream.
//!
//! The routes are those of [`bailiwick_api::routes`], and each is guarded as its line there says before its
//! handler sees the request ([`guard`]): host and origin, credentials, form and size of the body, and for what
//! people post the `Idempotency-Key`. A handler is bound to a route by its name ([`bind`]); its type says whether it wants a person, an
//! agent or nobody, and a handler can only be bound to a route whose line says the same.
//!
//! Two kinds of callers exist, and neither's credentials open the other's doors (threat A07): people sign in
//! with a key whose hash is in the registry, agents with a task token and a proof of possession.
//!
//! [`guard`]: crate::guard
//! [`bind`]: crate::bind

mod bind;
mod body;
mod door;
mod guard;
mod handle;
mod once;
mod refusal;
mod serve;
mod sign_in;
mod state;
mod wire;

pub use bind::router;
pub use door::{AgentDoor, Knock, Shut};
pub use serve::serve;
pub use state::{ServerState, TestClock};
