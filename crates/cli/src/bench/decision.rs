//! What one decision costs in process, and what it does not depend on.
//!
//! Measured is `core::decide` with real policies on folded tasks: no token, no disk. The floor is the least
//! that any program must do for the same answer: find the grant, walk to the root, compare the arguments.

use std::collections::HashMap;
use std::hint::black_box;

use bailiwick_core::decision::{Request, Scene, decide};
use bailiwick_core::event::Ruled;
use bailiwick_core::registry::Registry;
use bailiwick_core::task::Task;
use bailiwick_core::verdict::{Facts, Policy, Verdict};
use bailiwick_core::{Digest, GrantId, TaskId};

use super::rounds::{Figures, each, rotate};
use super::{Effort, Goal, Line, scene};

/// Decisions in one figure.
const CALLS: usize = 256;

/// Decides restarts in a population of tasks, another grant each time.
pub(crate) struct Population {
    tasks: HashMap<TaskId, Task>,
    /// Which task and grant come next, in an order that no cache can foresee.
    order: Vec<(TaskId, GrantId)>,
    request: Request,
    next: usize,
    /// Decisions that were not the yes they had to be.
    pub(crate) wrong: usize,
}

impl Population {
    /// So many live grants, ten to a task.
    pub(crate) fn of(grants: usize) -> anyhow::Result<Self> {
        let (mut tasks, mut order, mut request) = (HashMap::new(), Vec::new(), None);
        for serial in 0..grants.div_ceil(scene::GRANTS_PER_TASK) {
            let (task, workers) = scene::wide(serial + 100, scene::GRANTS_PER_TASK - 1)?;
            let id = task.opening().task.clone();
            // One worker acts everywhere, so that the sizes differ in size alone.
            let first = workers.first().ok_or_else(|| anyhow::anyhow!("a task without workers"))?;
            request.get_or_insert(scene::request(&task, first)?);
            order.push((id.clone(), first.clone()));
            tasks.insert(id, task);
        }
        let request = request.ok_or_else(|| anyhow::anyhow!("no tasks"))?;
        shuffle(&mut order);
        Ok(Population { tasks, order, request, next: 0, wrong: 0 })
    }

    /// The end of a chain of so many handoffs. Deeper than the product lets anybody hand on; the fold does not
    /// mind, and only the depth differs.
    pub(crate) fn at_depth(depth: usize) -> anyhow::Result<Self> {
        let (task, last) = scene::deep(depth)?;
        let (id, request) = (task.opening().task.clone(), scene::request(&task, &last)?);
        let order = vec![(id.clone(), last)];
        Ok(Population { tasks: HashMap::from([(id, task)]), order, request, next: 0, wrong: 0 })
    }

    /// One grant of one task.
    pub(crate) fn alone((task, grant): (Task, GrantId)) -> anyhow::Result<Self> {
        let id = task.opening().task.clone();
        let request = Request { args: scene::args_with_a_host(), ..scene::request(&task, &grant)? };
        let order = vec![(id.clone(), grant)];
        Ok(Population { tasks: HashMap::from([(id, task)]), order, request, next: 0, wrong: 0 })
    }

    /// One decision.
    pub(crate) fn decide(&mut self, registry: &Registry, policy: &dyn Policy) {
        self.next = (self.next + 1) % self.order.len();
        let (id, grant) = &self.order[self.next];
        let Some(task) = self.tasks.get(id) else { return self.wrong += 1 };
        self.request.grant.clone_from(grant);
        let scene = Scene { registry, task, policy, now: scene::NOW, fresh: true };
        let ruling = decide(scene, black_box(&self.request));
        self.wrong += usize::from(black_box(&ruling).decided().outcome != Ruled::Allow);
    }

    /// Nanoseconds per decision.
    pub(crate) fn figure(&mut self, registry: &Registry, policy: &dyn Policy) -> f64 {
        each(CALLS, || self.decide(registry, policy))
    }
}

/// The order of a deck of cards, the same every time.
fn shuffle<T>(deck: &mut [T]) {
    let mut state: u64 = 0x9E37_79B9_7F4A_7C15;
    for i in (1..deck.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        deck.swap(i, (state >> 33) as usize % (i + 1));
    }
}

/// Says yes without looking: what is left is the core's own part.
pub(crate) struct Nod;

impl Policy for Nod {
    fn evaluate(&self, _: &Facts<'_>) -> Verdict {
        Verdict::Permit { rules: vec!["inside-the-task".to_owned()] }
    }
    fn version(&self) -> Digest {
        Digest::from_bytes([7; 32])
    }
}

/// Grants as a program would keep them that does nothing else.
struct Bare {
    grants: HashMap<String, BareGrant>,
    order: Vec<String>,
    next: usize,
}

struct BareGrant {
    parent: Option<String>,
    revoked: bool,
    until: u64,
    name: String,
    left: u64,
}

impl Bare {
    fn of(grants: usize) -> Self {
        let (mut all, mut order) = (HashMap::new(), Vec::new());
        for serial in 0..grants.div_ceil(scene::GRANTS_PER_TASK) {
            for n in 0..scene::GRANTS_PER_TASK {
                let parent = (n > 0).then(|| format!("g-{serial}-0"));
                let grant = BareGrant { parent, revoked: false, until: 9, name: "web-3".to_owned(), left: 9 };
                all.insert(format!("g-{serial}-{n}"), grant);
            }
            order.push(format!("g-{serial}-1"));
        }
        shuffle(&mut order);
        Bare { grants: all, order, next: 0 }
    }

    fn decide(&mut self, name: &str, now: u64) -> bool {
        self.next = (self.next + 1) % self.order.len();
        let mut at = self.grants.get(&self.order[self.next]);
        let covered = at.is_some_and(|grant| grant.name == name && grant.left > 0);
        while let Some(grant) = at {
            if grant.revoked || now >= grant.until {
                return false;
            }
            at = grant.parent.as_ref().and_then(|id| self.grants.get(id));
        }
        covered
    }

    fn figure(&mut self) -> f64 {
        each(CALLS, || assert!(self.decide(black_box("web-3"), black_box(5)), "the floor must say yes"))
    }
}

/// Measures and compares.
pub(crate) fn measure(effort: Effort) -> anyhow::Result<Vec<Line>> {
    let registry = scene::registry()?;
    // First, while nothing has been given back that could be taken again.
    let mut lines = vec![memory()?];
    lines.extend(split(effort, &registry)?);
    lines.extend(grants(effort, &registry)?);
    lines.extend(policies(effort, &registry)?);
    lines.extend(depth(effort, &registry)?);
    lines.extend(provenance(effort, &registry)?);
    Ok(lines)
}

/// The core's part and the policies' part of one decision.
fn split(effort: Effort, registry: &Registry) -> anyhow::Result<Vec<Line>> {
    let set = scene::compiled(&scene::policies(10))?;
    let (mut whole, mut core, mut bare) = (Population::of(10)?, Population::of(10)?, Bare::of(10));
    let figures = rotate(
        effort.rounds_short,
        &mut [&mut || whole.figure(registry, &set), &mut || core.figure(registry, &Nod), &mut || {
            bare.figure()
        }],
    );
    all_yes(&[&whole, &core])?;
    let [whole, core, bare] = take(figures)?;
    let cedar = whole.minus(&core);
    Ok(vec![
        Line::new("decision.whole", "one decision, 10 grants, 10 policies", "µs")
            .product(whole.median() / 1e3)
            .floor("bare lookups and comparisons", bare.median() / 1e3)
            .peer("of it, in Cedar", cedar / 1e3),
        Line::new("decision.core", "the same without the policies", "µs")
            .product(core.median() / 1e3)
            .floor("bare lookups and comparisons", bare.median() / 1e3),
    ])
}

/// Flat in the number of live grants.
fn grants(effort: Effort, registry: &Registry) -> anyhow::Result<Vec<Line>> {
    let set = scene::compiled(&scene::policies(10))?;
    let (mut ten, mut some, mut many) =
        (Population::of(10)?, Population::of(1_000)?, Population::of(100_000)?);
    let (mut bare_ten, mut bare_many) = (Bare::of(10), Bare::of(100_000));
    let figures = rotate(
        effort.rounds_short,
        &mut [
            &mut || ten.figure(registry, &set),
            &mut || some.figure(registry, &set),
            &mut || many.figure(registry, &set),
            &mut || bare_ten.figure(),
            &mut || bare_many.figure(),
        ],
    );
    all_yes(&[&ten, &some, &many])?;
    let [ten, some, many, bare_ten, bare_many] = take(figures)?;
    let grown = format!("bare, {:.1} x its own 10", bare_many.over(&bare_ten));
    Ok(vec![
        flat("decision.grants.1000", "one decision, 1 000 live grants", &some, &ten),
        flat("decision.grants.100000", "one decision, 100 000 live grants", &many, &ten)
            .floor(&grown, bare_many.median() / 1e3),
    ])
}

/// Flat in the number of policies that speak about something else.
fn policies(effort: Effort, registry: &Registry) -> anyhow::Result<Vec<Line>> {
    let (few, some) = (scene::compiled(&scene::policies(10))?, scene::compiled(&scene::policies(1_000))?);
    let many = scene::compiled(&scene::policies(10_000))?;
    let mut population = [Population::of(10)?, Population::of(10)?, Population::of(10)?];
    let [a, b, c] = &mut population;
    let figures = rotate(
        effort.rounds_short,
        &mut [&mut || a.figure(registry, &few), &mut || b.figure(registry, &some), &mut || {
            c.figure(registry, &many)
        }],
    );
    all_yes(&population.each_ref())?;
    let [few, some, many] = take(figures)?;
    Ok(vec![
        flat("decision.policies.1000", "one decision, 1 000 policies", &some, &few),
        flat("decision.policies.10000", "one decision, 10 000 policies", &many, &few),
    ])
}

fn flat(id: &str, what: &str, grown: &Figures, small: &Figures) -> Line {
    Line::new(id, what, "µs").product(grown.median() / 1e3).goal(
        grown.over(small),
        Goal::AtMost(1.5),
        "x the decision with 10",
    )
}

/// What each further handoff above the caller costs.
fn depth(effort: Effort, registry: &Registry) -> anyhow::Result<Vec<Line>> {
    let set = scene::compiled(&scene::policies(10))?;
    let (mut one, mut eight, mut sixteen) =
        (Population::at_depth(1)?, Population::at_depth(8)?, Population::at_depth(16)?);
    let (mut core_one, mut core_sixteen) = (Population::at_depth(1)?, Population::at_depth(16)?);
    let figures = rotate(
        effort.rounds_short,
        &mut [
            &mut || one.figure(registry, &set),
            &mut || eight.figure(registry, &set),
            &mut || sixteen.figure(registry, &set),
            &mut || core_one.figure(registry, &Nod),
            &mut || core_sixteen.figure(registry, &Nod),
        ],
    );
    all_yes(&[&one, &eight, &sixteen, &core_one, &core_sixteen])?;
    let [one, eight, sixteen, core_one, core_sixteen] = take(figures)?;
    let line = |id: &str, what: &str, deep: &Figures, shallow: &Figures| {
        Line::new(id, what, "µs").product(deep.median() / 1e3).goal(
            deep.minus(shallow) / 1e3,
            Goal::AtMost(1.0),
            "µs more than depth 1",
        )
    };
    Ok(vec![
        line("decision.depth.8", "one decision, 8 handoffs deep", &eight, &one),
        line("decision.depth.16", "one decision, 16 handoffs deep", &sixteen, &one),
        line("decision.core.depth.16", "the same without the policies", &core_sixteen, &core_one),
    ])
}

/// What it costs to explain every value and to look at labels, beside the same call whose values are written down in
/// the chain: nothing to explain, no label.
fn provenance(effort: Effort, registry: &Registry) -> anyhow::Result<Vec<Line>> {
    let set = scene::compiled(&scene::policies(10))?;
    let mut plain = Population::alone(scene::spelled_out()?)?;
    let (mut few, mut many) =
        (Population::alone(scene::explaining(10)?)?, Population::alone(scene::explaining(10_000)?)?);
    let (mut core_plain, mut core_many) =
        (Population::alone(scene::spelled_out()?)?, Population::alone(scene::explaining(10_000)?)?);
    let figures = rotate(
        effort.rounds_short,
        &mut [
            &mut || plain.figure(registry, &set),
            &mut || few.figure(registry, &set),
            &mut || many.figure(registry, &set),
            &mut || core_plain.figure(registry, &Nod),
            &mut || core_many.figure(registry, &Nod),
        ],
    );
    all_yes(&[&plain, &few, &many, &core_plain, &core_many])?;
    let [plain, few, many, core_plain, core_many] = take(figures)?;
    let added = |with: &Figures, without: &Figures| (with.over(without) - 1.0) * 100.0;
    Ok(vec![
        Line::new("decision.known.10000", "one decision, 10 000 known values, a label of 8 classes", "µs")
            .product(many.median() / 1e3)
            .floor("nothing to explain, no label", plain.median() / 1e3)
            .goal(added(&many, &plain), Goal::AtMost(20.0), "% added to it"),
        Line::new("decision.known.10", "the same with 10 known values", "µs")
            .product(few.median() / 1e3)
            .goal(added(&many, &few), Goal::AtMost(5.0), "% more with 10 000"),
        Line::new("decision.core.known.10000", "10 000 known values, without the policies", "µs")
            .product(core_many.median() / 1e3)
            .floor("nothing to explain, no label", core_plain.median() / 1e3),
    ])
}

/// Tasks at all their caps that are held at once.
const FULL_TASKS: usize = 8;

/// What a task holds in memory when it knows, has written and has seen as much as it keeps.
fn memory() -> anyhow::Result<Line> {
    let first = scene::full(0)?;
    let before = resident_bytes()?;
    let tasks = (1..=FULL_TASKS).map(scene::full).collect::<anyhow::Result<Vec<_>>>()?;
    let grown = resident_bytes()?.saturating_sub(before) as f64 / FULL_TASKS as f64 / f64::from(1 << 20);
    let kept = tasks.iter().chain([&first]).map(|task| task.explained().len()).min().unwrap_or(0);
    anyhow::ensure!(kept == bailiwick_core::origin::KNOWN_MAX, "a task keeps {kept} values only");
    Ok(Line::new("memory.task", "a task at all its caps, in memory", "MiB").product(grown).goal(
        grown,
        Goal::AtMost(16.0),
        "MiB",
    ))
}

/// Bytes of this process in memory; Linux tells.
fn resident_bytes() -> anyhow::Result<usize> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: usize = statm.split_whitespace().nth(1).unwrap_or_default().parse()?;
    Ok(pages * 4096)
}

fn all_yes(populations: &[&Population]) -> anyhow::Result<()> {
    let wrong: usize = populations.iter().map(|p| p.wrong).sum();
    anyhow::ensure!(wrong == 0, "{wrong} decisions were not the yes they had to be");
    Ok(())
}

/// As many figures as were rotated.
pub(super) fn take<const N: usize>(figures: Vec<Figures>) -> anyhow::Result<[Figures; N]> {
    figures.try_into().map_err(|_| anyhow::anyhow!("not {N} figures"))
}
