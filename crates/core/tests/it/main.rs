//! The judgement, told as stories: what a person may rely on, and what whoever has taken an agent tries.

mod amendment;
mod approval;
mod chain;
mod consent;
mod control;
mod data;
mod flow;
mod fold;
mod handoff;
mod invariants;
mod lease;
mod opening;
mod seeking;
mod steps;
mod world;
