//! The set that holds when nobody wrote another: reads and declared work flow, destruction meets a person.
//!
//! Each rule carries its reason; `policies/defaults/` says why beside the text, and its tests stand there too.

use crate::source::Source;

/// The default policies.
pub fn defaults() -> Vec<Source> {
    let source = |name: &str, text: &str| Source::new(format!("defaults/{name}"), text);
    vec![
        source("changes.cedar", include_str!("../../../policies/defaults/changes.cedar")),
        source("destruction.cedar", include_str!("../../../policies/defaults/destruction.cedar")),
        source("handoff.cedar", include_str!("../../../policies/defaults/handoff.cedar")),
        source("reads.cedar", include_str!("../../../policies/defaults/reads.cedar")),
    ]
}
