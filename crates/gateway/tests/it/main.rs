//! The gateway over real sockets, in front of real child processes.
//!
//! The decision point here is scripted: these tests are about the protocol and about what the gateway does
//! with an answer, not about how decisions are made.

mod calls;
mod connector;
mod egress;
mod egress_hostile;
mod hostile;
mod protocol;
mod proxy;
mod remote;
mod support;
mod token;
