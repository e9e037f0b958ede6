//! Why a verdict is what it is, rule by rule, in words.

use std::fmt;

use bailiwick_core::verdict::{Deed, Facts, Verdict};

use crate::rule::{Rule, RuleEffect};
use crate::set::{CompiledSet, is_lifted};

/// What one rule had to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It applies, and the verdict rests on it.
    Decided,
    /// It applies, but another rule decided.
    Applied,
    /// It applies, and is only observed.
    Observed,
    /// It applies, and the people who said yes lifted it.
    Lifted,
    /// Its conditions do not hold.
    Passed,
    /// It could not be evaluated, which denies.
    Failed(String),
}

/// One rule that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Considered<'a> {
    /// The rule.
    pub rule: &'a Rule,
    /// What it had to say.
    pub outcome: Outcome,
}

/// A verdict with everything that led to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation<'a> {
    /// The act, in words.
    pub act: String,
    /// The verdict.
    pub verdict: Verdict,
    /// The rules that were looked at, the decisive ones first.
    pub considered: Vec<Considered<'a>>,
    /// How many rules speak about other acts.
    pub others: usize,
}

impl CompiledSet {
    /// Judges and says why. The verdict is the one [`evaluate`](bailiwick_core::verdict::Policy::evaluate) gives.
    pub fn explain(&self, facts: &Facts<'_>) -> Explanation<'_> {
        let act = act(facts);
        let findings = match self.find(facts) {
            Ok(findings) => findings,
            Err(reason) => {
                let (verdict, others) = (Verdict::Error { reason }, self.rules().len());
                return Explanation { act, verdict, considered: Vec::new(), others };
            }
        };
        let verdict = self.conclude(facts, &self.enforced(&findings));
        let rules = findings.considered.iter().filter_map(|n| self.rules().get(*n));
        let mut considered: Vec<Considered<'_>> = rules
            .map(|rule| {
                let applies = findings.permits.contains(&rule.id) || findings.forbids.contains(&rule.id);
                let outcome = match findings.errors.get(&rule.id) {
                    Some(error) if !rule.observe => Outcome::Failed(error.clone()),
                    Some(_) => Outcome::Observed,
                    None if !applies => Outcome::Passed,
                    None if rule.observe => Outcome::Observed,
                    None if is_lifted(rule, facts) => Outcome::Lifted,
                    None if decides(rule, &verdict) => Outcome::Decided,
                    None => Outcome::Applied,
                };
                Considered { rule, outcome }
            })
            .collect();
        considered.sort_by_key(|c| (rank(&c.outcome), &c.rule.id));
        let others = self.rules().len().saturating_sub(considered.len());
        Explanation { act, verdict, considered, others }
    }
}

fn decides(rule: &Rule, verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Permit { .. } => rule.effect == RuleEffect::Permit,
        Verdict::Ask { .. } => rule.ask.is_some(),
        Verdict::Forbid { rule: decisive, .. } => rule.id == *decisive,
        Verdict::Error { .. } => false,
    }
}

fn rank(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Failed(_) => 0,
        Outcome::Decided => 1,
        Outcome::Lifted => 2,
        Outcome::Applied => 3,
        Outcome::Observed => 4,
        Outcome::Passed => 5,
    }
}

fn act(facts: &Facts<'_>) -> String {
    let agent = &facts.agent.id;
    match facts.deed {
        Deed::HandOff(child) => format!("{agent} hands to {}", child.id),
        Deed::Call(manifest) => {
            let on = facts.resource.as_ref().map(|r| format!(" on {} {}", r.kind, r.name.escape_debug()));
            format!(
                "{agent} calls {} ({}){}",
                manifest.tool,
                manifest.effect.as_str(),
                on.unwrap_or_default()
            )
        }
    }
}

impl fmt::Display for Explanation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.act, in_words(&self.verdict))?;
        for Considered { rule, outcome } in &self.considered {
            let what = match outcome {
                Outcome::Decided => "decides".to_owned(),
                Outcome::Applied => "applies".to_owned(),
                Outcome::Observed => "applies, but is only observed: it enforces nothing".to_owned(),
                Outcome::Lifted => "applies, lifted by approval".to_owned(),
                Outcome::Passed => "does not apply".to_owned(),
                Outcome::Failed(error) => format!("could not be evaluated: {error}"),
            };
            writeln!(f, "  {} {} ({}:{}): {what}", rule.effect.as_str(), rule.id, rule.file, rule.line)?;
        }
        write!(f, "  {} more speak about other acts", self.others)
    }
}

/// A verdict as a person would say it.
pub fn in_words(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Permit { rules } => format!("permitted by {}", rules.join(", ")),
        Verdict::Forbid { rule, reason } => format!("refused by {rule}: {reason}"),
        Verdict::Error { reason } => format!("refused, because it could not be judged: {reason}"),
        Verdict::Ask { rule, reason, terms } => {
            let people =
                if terms.quorum == 1 { "one person".to_owned() } else { format!("{} people", terms.quorum) };
            let initiator = if terms.initiator_may { "" } else { ", not the initiator" };
            format!("{rule} asks {people} of {}{initiator}: {reason}", terms.group)
        }
    }
}
