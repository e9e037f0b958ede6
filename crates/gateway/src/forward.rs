//! The one way to a tool server: with a witness in hand.
//!
//! [`forward`] takes [`Allowed`] by value, so a decision serves one call; what it sends is the witness's
//! tool and arguments, printed from the value policy saw (INV9), never the agent's request.

use crate::envelope::Body;
use crate::upstream::{CallError, Upstreams};
use bailiwick_api::Allowed;
use bailiwick_core::{Digest, Time};
use std::time::{SystemTime, UNIX_EPOCH};

/// Makes an allowed call. `seen` is the tool's definition as it was when the decision was asked for; if the
/// server defines it differently by now, nothing is sent. Dropping the future cancels the call.
///
/// # Errors
/// [`CallError`]; [`CallError::may_have_happened`] tells whether it can have had an effect.
pub async fn forward(
    allowed: Allowed,
    seen: Option<Digest>,
    upstreams: &Upstreams,
) -> Result<Body, CallError> {
    if now() > allowed.until() {
        return Err(CallError::Unavailable("the decision was too old to act on; call again".to_owned()));
    }
    let Some(seen) = seen else { return Err(upstreams.unseen(allowed.tool())) };
    upstreams.call(allowed.tool(), allowed.args(), seen).await
}

/// The wall clock; one that stands before 1970 reads as the end of time, so that nothing may start.
pub(crate) fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(Time(u64::MAX), |d| Time(u64::try_from(d.as_millis()).unwrap_or(u64::MAX)))
}
