//! Leases: one credential in one target system for one grant, from intent to seen gone.
//!
//! The order is fixed: intent in the log, create, record the target's own id, release; revoke, look, look
//! again. A lease that was ever requested stays standing until it has been seen gone (design section 7).

use alloc::string::String;
use serde::{Deserialize, Serialize};

use crate::ids::{GrantId, LeaseId, SystemId};
use crate::time::Time;

/// A lease as the log knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Its id; the external name derives from it and is never reused.
    pub id: LeaseId,
    /// For which grant.
    pub grant: GrantId,
    /// In which system.
    pub system: SystemId,
    /// When the intent was recorded.
    pub requested: Time,
    /// Where it stands.
    pub state: LeaseState,
}

/// Where a lease stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum LeaseState {
    /// The intent is durable; the credential may or may not exist.
    Requested,
    /// It exists under the target's own id.
    Issued {
        /// The target's id.
        external: String,
    },
    /// It is being revoked; `attempts` have not seen it gone yet.
    Revoking {
        /// Failed attempts.
        attempts: u32,
    },
    /// It was looked for and not found.
    Gone {
        /// What was asked and answered.
        evidence: String,
    },
}

/// What happens to a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "now", deny_unknown_fields)]
pub enum LeaseFact {
    /// Issued under this id.
    Issued {
        /// The target's id.
        external: String,
    },
    /// A revocation began or failed once more.
    Revoking,
    /// Seen gone.
    Gone {
        /// What was asked and answered.
        evidence: String,
    },
}

impl Lease {
    /// Whether it may exist in the target: everything but seen gone.
    pub fn is_standing(&self) -> bool {
        !matches!(self.state, LeaseState::Gone { .. })
    }

    /// The state after a fact. Gone stays gone; a late "issued" during revocation changes nothing.
    pub fn apply(&mut self, fact: &LeaseFact) {
        self.state = match (&self.state, fact) {
            (LeaseState::Gone { .. }, _) => return,
            (_, LeaseFact::Gone { evidence }) => LeaseState::Gone { evidence: evidence.clone() },
            (LeaseState::Revoking { attempts }, LeaseFact::Revoking) => {
                LeaseState::Revoking { attempts: attempts + 1 }
            }
            (_, LeaseFact::Revoking) => LeaseState::Revoking { attempts: 0 },
            (LeaseState::Requested, LeaseFact::Issued { external }) => {
                LeaseState::Issued { external: external.clone() }
            }
            (_, LeaseFact::Issued { .. }) => return,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn nothing_but_looking_makes_a_lease_gone() {
        let mut lease = Lease {
            id: LeaseId::parse("l-1").unwrap(),
            grant: GrantId::parse("g-1").unwrap(),
            system: SystemId::parse("db").unwrap(),
            requested: Time(0),
            state: LeaseState::Requested,
        };
        lease.apply(&LeaseFact::Revoking);
        lease.apply(&LeaseFact::Issued { external: "role".to_string() });
        lease.apply(&LeaseFact::Revoking);
        assert!(lease.is_standing());
        assert_eq!(lease.state, LeaseState::Revoking { attempts: 1 });
        lease.apply(&LeaseFact::Gone { evidence: "no such role".to_string() });
        lease.apply(&LeaseFact::Issued { external: "role".to_string() });
        assert!(!lease.is_standing());
    }
}
