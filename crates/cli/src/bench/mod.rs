//! `bailiwick bench`: floor, peer and product side by side, in one run, as ratios.
//!
//! Absolute figures belong to the machine they were taken on; a goal is met or missed on a ratio between
//! things that were measured in rotation. Every timed loop checks that its answers are right. Everything
//! happens in a temporary folder that is removed afterwards.

pub(crate) mod decision;
mod durable;
mod mcp;
mod rounds;
pub(crate) mod scene;
mod tokens;

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

/// How long to measure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// Rounds of measures that take milliseconds.
    pub(crate) rounds_short: usize,
    /// Rounds of the others.
    pub(crate) rounds: usize,
    /// How long one figure of a rate takes.
    pub(crate) span: Duration,
}

impl Effort {
    /// For figures that are written down.
    pub(crate) const FULL: Effort = Effort { rounds_short: 101, rounds: 9, span: Duration::from_secs(1) };
    /// For a look: fewer rounds, never fewer than three.
    pub(crate) const QUICK: Effort = Effort { rounds_short: 21, rounds: 3, span: Duration::from_millis(400) };
}

/// A bound on a ratio or difference.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
}

impl Goal {
    fn is_met_by(self, value: f64) -> bool {
        match self {
            Goal::AtMost(most) => value <= most,
            Goal::AtLeast(least) => value >= least,
        }
    }
    fn in_words(self) -> String {
        match self {
            Goal::AtMost(most) => format!("at most {most}"),
            Goal::AtLeast(least) => format!("at least {least}"),
        }
    }
}

/// A figure with a name.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Named {
    /// What was measured.
    pub(crate) name: String,
    /// How much, in the line's unit.
    pub(crate) value: f64,
}

/// What a goal came to.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Judged {
    /// The median of the ratios or differences, each within one round.
    pub(crate) value: f64,
    /// To what.
    pub(crate) of: String,
    /// The bound.
    pub(crate) goal: Goal,
    /// Whether it holds.
    pub(crate) met: bool,
}

/// One measure: the product beside the least it could cost and beside others.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Line {
    /// Stable name.
    pub(crate) id: String,
    /// In words.
    pub(crate) what: String,
    /// Unit of all its figures.
    pub(crate) unit: &'static str,
    /// The median of the product's figures.
    pub(crate) product: f64,
    /// The least it could cost.
    pub(crate) floor: Option<Named>,
    /// What others, or a part of it, cost.
    pub(crate) peer: Option<Named>,
    /// The goal, if there is one.
    pub(crate) judged: Option<Judged>,
}

impl Line {
    fn new(id: &str, what: &str, unit: &'static str) -> Self {
        Line {
            id: id.to_owned(),
            what: what.to_owned(),
            unit,
            product: 0.0,
            floor: None,
            peer: None,
            judged: None,
        }
    }
    fn product(self, product: f64) -> Self {
        Line { product, ..self }
    }
    fn floor(self, name: &str, value: f64) -> Self {
        Line { floor: Some(Named { name: name.to_owned(), value }), ..self }
    }
    fn peer(self, name: &str, value: f64) -> Self {
        Line { peer: Some(Named { name: name.to_owned(), value }), ..self }
    }
    fn goal(self, value: f64, goal: Goal, of: &str) -> Self {
        Line { judged: Some(Judged { value, of: of.to_owned(), goal, met: goal.is_met_by(value) }), ..self }
    }
}

/// All measures of one run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    /// Load averages (1, 5 and 15 minutes) before.
    pub(crate) load_before: String,
    /// Load averages after.
    pub(crate) load_after: String,
    /// Processors the program may use.
    pub(crate) processors: usize,
    /// The measures.
    pub(crate) lines: Vec<Line>,
}

impl Report {
    /// The last line: under which circumstances, and how many goals were met.
    pub(crate) fn closing(&self) -> String {
        let judged = self.lines.iter().filter_map(|line| line.judged.as_ref());
        let (met, missed): (Vec<_>, Vec<_>) = judged.partition(|judged| judged.met);
        let Report { processors, load_before, load_after, .. } = self;
        format!(
            "{processors} processors, load {load_before} before and {load_after} after; {} goals met, {} missed",
            met.len(),
            missed.len()
        )
    }
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{:<52} {:>12}", self.what, figure(self.product, self.unit))?;
        for (role, named) in [("floor", &self.floor), ("beside", &self.peer)] {
            if let Some(named) = named {
                let name = format!("{role}: {}", named.name);
                writeln!(f, "  {name:<50} {:>12}", figure(named.value, self.unit))?;
            }
        }
        let Some(judged) = &self.judged else { return Ok(()) };
        let verdict = if judged.met { "met" } else { "MISSED" };
        writeln!(f, "  {:.2} {}; goal {}: {verdict}", judged.value, judged.of, judged.goal.in_words())
    }
}

fn figure(value: f64, unit: &str) -> String {
    match value.abs() {
        v if v >= 1000.0 => format!("{value:.0} {unit}"),
        v if v >= 10.0 => format!("{value:.1} {unit}"),
        _ => format!("{value:.3} {unit}"),
    }
}

/// The parts of a run, in order.
pub(crate) const PARTS: [&str; 4] = ["decision", "token", "durable", "mcp"];

/// Measures everything, or one of the [`PARTS`], in this folder, and tells after each what it gave. Blocks, and
/// starts runtimes of its own: call it outside of one.
pub(crate) fn run(
    effort: Effort,
    only: Option<&str>,
    folder: &Path,
    told: &mut dyn FnMut(&[Line]),
) -> anyhow::Result<Report> {
    let load_before = rounds::load();
    let mut lines = Vec::new();
    for part in PARTS.into_iter().filter(|part| only.is_none_or(|only| only == *part)) {
        let measured = match part {
            "decision" => decision::measure(effort),
            "token" => tokens::measure(effort),
            "durable" => durable::measure(effort, folder),
            _ => mcp::measure(effort, folder),
        }?;
        told(&measured);
        lines.extend(measured);
    }
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(Report { load_before, load_after: rounds::load(), processors, lines })
}
