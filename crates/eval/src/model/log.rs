//! A log with its fold, and what happened in it, told independently of the core.

use std::collections::{BTreeMap, BTreeSet};

use bailiwick_core::Value;
use bailiwick_core::approval::State as Question;
use bailiwick_core::capability::Limits;
use bailiwick_core::decision::Scene;
use bailiwick_core::event::TaskEvent;
use bailiwick_core::registry::Registry;
use bailiwick_core::task::Task;

use super::setting::{Gate, NOW, RESTART, RESTARTS, TELL, id, opening, registry};
use super::{Fault, What, Who};

/// A log with its folds and what is true of its history.
#[derive(Clone)]
pub(super) struct Log {
    pub(super) task: Task,
    /// The fold as a faulty reader keeps it for children.
    pub(super) lenient: Task,
    pub(super) registry: Registry,
    pub(super) history: History,
}

/// What happened, told independently of the core.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct History {
    pub(super) allowed: BTreeMap<(Who, What), u8>,
    pub(super) granted: BTreeMap<(Who, What), u8>,
    pub(super) asked: BTreeMap<Who, What>,
    pub(super) revoked: BTreeSet<Who>,
    pub(super) suspended: BTreeSet<Who>,
    pub(super) ended: bool,
    pub(super) allowed_after_end: bool,
    pub(super) allowed_under_stopped: bool,
    pub(super) order_broken: bool,
    pub(super) wider: bool,
}

impl Log {
    pub(super) fn begin() -> Log {
        let opened = TaskEvent::Opened(opening());
        let task = Task::begin(&opened, NOW).unwrap_or_else(|| unreachable!("an opening opens"));
        Log { lenient: task.clone(), task, registry: registry(), history: History::default() }
    }

    /// Everything that later decisions and properties can depend on, and no more: what differs only in
    /// numbers of events is one.
    pub(super) fn key(&self) -> String {
        use core::fmt::Write;
        let mut key = format!("{:?} {:?} {:?}", self.history, self.task.progress(), self.task.state());
        for grant in self.task.grants() {
            let _ = write!(key, " {} {} {:?}", grant.id, grant.revoked, grant.held);
        }
        for approval in self.task.approvals() {
            let state = match approval.state {
                Question::Waiting => "waiting",
                Question::Approved => "approved",
                Question::Denied { .. } => "denied",
                Question::Used { .. } => "used",
            };
            let _ = write!(key, " {} {state} {}", approval.id, approval.act.short());
        }
        key
    }

    pub(super) fn append(&mut self, event: &TaskEvent, fault: Option<Fault>) {
        self.task.apply(event, NOW);
        let above = matches!(event, TaskEvent::GrantRevoked { grant, .. } if *grant == Who::Planner.grant());
        if fault == Some(Fault::LivenessWithoutAncestors) && !above {
            self.lenient.apply(event, NOW);
        }
    }

    /// The scene a node decides on.
    pub(super) fn scene<'a>(&'a self, who: Who, fault: Option<Fault>, policy: &'a Gate) -> Scene<'a> {
        let lenient = fault == Some(Fault::LivenessWithoutAncestors) && who == Who::Executor;
        let task = if lenient { &self.lenient } else { &self.task };
        Scene { registry: &self.registry, task, policy, now: NOW, fresh: true }
    }
}

impl History {
    pub(super) fn count(&self, who: Who, what: What) -> u8 {
        self.allowed.get(&(who, what)).copied().unwrap_or(0)
    }
    pub(super) fn restarts(&self, who: Option<Who>) -> u8 {
        let mine = |(by, what): &(Who, What)| *what != What::Tell && who.is_none_or(|who| who == *by);
        self.allowed.iter().filter(|(key, _)| mine(key)).map(|(_, n)| n).sum()
    }

    /// Whether every forced restart had a yes of its own, to this agent, for this act.
    pub(super) fn answers_served_once(&self) -> bool {
        let forced = |what: What| matches!(what, What::ForcedOne | What::ForcedTwo);
        let granted = |key| self.granted.get(key).copied().unwrap_or(0);
        self.allowed.iter().all(|(key, times)| !forced(key.1) || *times <= granted(key))
    }

    pub(super) fn kept_budget_and_order(&self) -> bool {
        self.restarts(None) <= RESTARTS && !self.order_broken
    }

    pub(super) fn allow(&mut self, who: Who, what: What) {
        let told = self.count(Who::Planner, What::Tell) > 0;
        let too_early = what == What::Tell && self.restarts(Some(Who::Executor)) == 0;
        self.order_broken |= too_early || told && (what == What::Tell || who == Who::Executor);
        self.allowed_after_end |= self.ended;
        let stopped = self.revoked.union(&self.suspended).any(|above| who.is_under(*above));
        self.allowed_under_stopped |= stopped;
        *self.allowed.entry((who, what)).or_insert(0) += 1;
    }
}

/// Whether the child's grant reaches further than the root's, by trying it out.
pub(super) fn is_wider(task: &Task) -> bool {
    let (Some(root), Some(child)) = (task.grant(&Who::Planner.grant()), task.grant(&Who::Executor.grant()))
    else {
        return false;
    };
    let vms = ["db-1", "db-2", "db-9"].map(|vm| BTreeMap::from([("vm".to_owned(), Value::from(vm))]));
    let covers = |grant: &bailiwick_core::grant::Grant, tool: &str, args: &BTreeMap<String, Value>| {
        grant.held.iter().any(|h| h.capability.covers(&id(tool), args).is_ok())
    };
    let reaches = [RESTART, TELL, "cloud.other"].iter().any(|tool| {
        vms.iter().any(|args| covers(child, tool, args) && (*tool == TELL || !covers(root, tool, args)))
    });
    let uses = |limits: &Limits| limits.uses.unwrap_or(u64::MAX);
    let more = child.held.iter().any(|h| uses(&h.capability.limits) > u64::from(RESTARTS));
    let passes_on = child.held.iter().any(|h| h.capability.delegate.is_some());
    reaches || more || passes_on || child.until > root.until
}
