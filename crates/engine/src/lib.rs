//! The conductor: the verbs of the control plane.
//!
//! Every verb has the same shape: load the folds, let the core judge, append under the condition that
//! nothing moved, and only then act. The engine holds no truth of its own: caches are folds of the log and
//! are thrown away when an append says that the log has moved on.
//!
//! * [`Engine::open_task`], [`Engine::decide`], [`Engine::hand_off`], [`Engine::report`], [`Engine::propose`]: the life of
//!   a task
//! * [`Engine::vote`], [`Engine::suspend`], [`Engine::end_task`]: what people do
//! * [`Engine::lease`], [`Engine::give_back`]: credentials in target systems, and their end
//! * [`Engine::in_force`], [`Engine::admit`]: whether a credential is good at this moment, for relays and hosts
//! * [`Engine::issue_token`]: one token per hop
//! * [`Engine::why`], [`Engine::trace`], [`Engine::inventory`]: what people ask

mod admin;
mod admit;
mod amend;
mod approve;
mod cached;
mod census;
mod claim;
mod clock;
mod decide;
mod end;
mod error;
mod front;
mod hand_off;
mod kept;
mod lease;
mod ledger;
mod log;
mod memory;
mod names;
mod open;
mod point;
mod replay;
mod report;
mod saga;
mod target;
mod tell;
mod templates;
mod token;
mod worker;

pub use admin::ToolState;
pub use amend::AmendCall;
pub use approve::{VoteAsk, Waiting};
pub use bailiwick_broker::Login;
pub use clock::{Clock, ShiftedClock, SystemClock, TestClock};
pub use end::{Halted, Standing};
pub use error::{EngineError, Kind};
pub use front::observed_rules;
pub use hand_off::HandoffCall;
pub use kept::{HeadState, HeadTrouble, accept_loss, keep_first_head};
pub use lease::{Given, Leased};
pub use ledger::Ledger;
pub use log::{Config, Engine};
pub use open::{ASKS_MAX, NewTask, OpenedTask};
pub use replay::{Replay, Replayed};
pub use target::{Connectors, Patience, Seen, TargetView};
pub use tell::{Explained, Inventory, TaskSummary, Trace, TraceStep};
pub use token::{IssuedToken, TokenAsk};
