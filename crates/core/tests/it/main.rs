//! The judgement, told as stories: what a person may rely on, and what whoever has taken an agent tries.

mod amendment;
mod approval;
mod chain;
mod consent;
mod control;
mod cut;
mod data;
mod flow;
mod fold;
mod forms;
mod handoff;
mod invariants;
mod lease;
mod opening;
mod registry;
mod seeking;
mod steps;
mod task;
mod world;
mod written;
