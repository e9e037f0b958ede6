//! Seeking authority: how an agent that tries for more than it has shows, and when it is stopped (N3).
//!
//! One wrong call is a mistake. Trying one tool after another, asking other agents for theirs, asking for more at
//! handoffs and presenting what belongs to others is something else. It is counted for each agent and for the task,
//! from the decisions in the log and nothing else, so that spreading it over agents does not help.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::event::Why;

/// What one agent has tried for in one task, since it was opened or last resumed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seeking {
    /// All refusals, mistakes among them.
    pub refusals: u32,
    /// Tools tried that were neither granted nor declared. At most [`TOOLS_MAX`] are named.
    pub tools: BTreeSet<String>,
    /// Tries of tools beyond those that are named.
    pub more: u32,
    /// Handoffs asked for that it could not give, or for more than it could.
    pub handoffs: u32,
    /// Grants, tokens and approvals of others that were presented, and its own a second time or for something else.
    pub borrowed: u32,
}

/// How many tools are named.
pub const TOOLS_MAX: usize = 32;
/// The score at which a task freezes unless it was opened with another: no honest plan misses this often.
pub const SCORE_MAX: u32 = 25;

/// What a refusal says about the agent that got it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// A mistake, or a rule that is nobody's fault.
    Mistake,
    /// It wanted a tool that is not its own.
    Tool,
    /// It wanted to give what it may not give.
    Handoff,
    /// It presented what is not its own.
    Borrowed,
}

fn sign(code: &str) -> Sign {
    match code {
        "tool.unclassified" | "tool.quarantined" | "capability.none" | "chain.not_declared" => Sign::Tool,
        "handoff.widens"
        | "handoff.nothing"
        | "handoff.ceiling"
        | "handoff.chain"
        | "handoff.depth"
        | "handoff.unknown_agent" => Sign::Handoff,
        "approval.not_yours"
        | "approval.other_act"
        | "approval.used"
        | "approval.unknown"
        | "caller.unknown_grant"
        | "caller.not_holder"
        | "caller.key" => Sign::Borrowed,
        _ => Sign::Mistake,
    }
}

impl Seeking {
    /// Counts one refusal: of a tool, or with `handoff` of a handoff to another agent.
    pub fn note(&mut self, why: &Why, what: &str, handoff: bool) {
        self.refusals = self.refusals.saturating_add(1);
        let sign = match sign(&why.code) {
            Sign::Tool if handoff => Sign::Handoff,
            sign => sign,
        };
        match sign {
            Sign::Mistake => {}
            Sign::Tool if self.tools.contains(what) => {}
            Sign::Tool if self.tools.len() < TOOLS_MAX => {
                self.tools.insert(what.to_string());
            }
            Sign::Tool => self.more = self.more.saturating_add(1),
            Sign::Handoff => self.handoffs = self.handoffs.saturating_add(1),
            Sign::Borrowed => self.borrowed = self.borrowed.saturating_add(1),
        }
    }

    /// How much it has tried for: each tool once, each handoff and each borrowing every time.
    pub fn score(&self) -> u32 {
        let tools = u32::try_from(self.tools.len()).unwrap_or(u32::MAX);
        tools.saturating_add(self.more).saturating_add(self.handoffs).saturating_add(self.borrowed)
    }

    /// In words, for people; empty if there is nothing to say.
    pub fn in_words(&self) -> String {
        let mut parts: Vec<String> = Vec::new();
        if !self.tools.is_empty() {
            let named: Vec<&str> = self.tools.iter().take(6).map(String::as_str).collect();
            let rest = self.tools.len() - named.len() + usize::try_from(self.more).unwrap_or(usize::MAX);
            let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
            parts.push(format!("tried {}{more}", named.join(", ")));
        }
        if self.handoffs > 0 {
            parts.push(format!("asked {} times to hand on what it may not", self.handoffs));
        }
        if self.borrowed > 0 {
            parts.push(format!("presented {} times what is not its own", self.borrowed));
        }
        parts.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::why;

    // proves: N3
    #[test]
    fn probing_counts_and_mistakes_do_not() {
        let mut agent = Seeking::default();
        let refused = |code: &str| why(5, code, "r", String::new(), "");
        for _ in 0..10 {
            agent.note(&refused("capability.argument"), "mail.send", false);
            agent.note(&refused("capability.none"), "mail.send", false);
        }
        assert_eq!((agent.score(), agent.refusals), (1, 20), "the same tool again is no new probe");
        agent.note(&refused("chain.not_declared"), "files.delete", false);
        agent.note(&refused("handoff.widens"), "helper", true);
        agent.note(&refused("chain.not_declared"), "helper", true);
        agent.note(&refused("approval.not_yours"), "bank.pay", false);
        assert_eq!(agent.score(), 5);
        assert_eq!(
            agent.in_words(),
            "tried files.delete, mail.send; asked 2 times to hand on what it may not; presented 1 times what is not its own"
        );
        for n in 0..TOOLS_MAX + 5 {
            agent.note(&refused("tool.unclassified"), &format!("x.t{n}"), false);
        }
        assert_eq!(agent.tools.len(), TOOLS_MAX, "bounded");
        assert_eq!(agent.score(), 3 + u32::try_from(TOOLS_MAX + 5 + 2).unwrap(), "and yet all are counted");
    }
}
