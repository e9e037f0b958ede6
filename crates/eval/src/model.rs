//! A model of a small house, run by the real core: two agents, two nodes, one task, every order of events.
//!
//! Nothing of the judgement is described again here. Each transition calls `decide` or `hand_off` on a real
//! fold, and appends what comes back as the store would: only at the version that was read. What is modelled is
//! the world around the core: nodes that read, decide, append, act and crash at any moment in between, people
//! who vote, revoke, suspend and end, and a planted [`Fault`] to see that the checker still bites.
//!
//! A node that holds an old fold and decides on it now is the same, the core being pure, as one that decided
//! when the fold was new and appends late; so reading and deciding are one step, and appending is another.
//!
//! Reach: the sound house has 98 705 states and 541 468 transitions and is gone through whole (measured, see
//! `tests/model.rs`). It has two restarts to spend, one question per agent and one handoff. Time stands still in
//! it, every node is fresh, and tokens are taken as proven; a suspension moves the registry, whose version an
//! append depends on as it does on the task's.

mod log;
mod setting;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bailiwick_core::approval::{State as Question, Vote};
use bailiwick_core::capability::Capability;
use bailiwick_core::constraint::{Constraint, texts};
use bailiwick_core::decision::{Request, decide};
use bailiwick_core::event::{Cause, HandedOff, NewGrant, Ruled, TaskEvent};
use bailiwick_core::handoff::{HandoffRequest, hand_off};
use bailiwick_core::label::Label;
use bailiwick_core::registry::{Halt, RegistryEvent, Scope, Suspension};
use bailiwick_core::{DecisionId, Time, Value};
use stateright::{Model, Property};

use log::{History, Log, is_wider};
use setting::{Gate, NOW, RESTART, id, pattern};

/// A mistake in the world around the core, planted on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Makes the child grant as it was asked for, whatever the judgement says.
    GrantAsAsked,
    /// Appends without looking at the version of the task that was read.
    AppendWithoutVersion,
    /// Appends without looking at the version of the registry that was read.
    AppendWithoutGuard,
    /// Finds an approval by its handle and lets other arguments through.
    ApprovalWithoutAct,
    /// Forgets that an approval was used.
    ApprovalReusable,
    /// Looks at a child's own grant and not at those above it.
    LivenessWithoutAncestors,
    /// Charges nobody for what a child does.
    ChildrenUncharged,
    /// Acts first and appends afterwards.
    EffectBeforeAppend,
}

/// Who acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Who {
    /// Holds the root grant.
    Planner,
    /// Gets its grant by a handoff.
    Executor,
}

/// With which arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What {
    /// A restart that needs nobody.
    Plain,
    /// A forced restart, which needs a person.
    ForcedOne,
    /// Another forced restart.
    ForcedTwo,
    /// The last step of the chain.
    Tell,
}

/// What a node is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wish {
    /// A call, perhaps with the handle of somebody's approval.
    Call(Who, What, Option<Who>),
    /// The planner hands the restart to the executor, or tries to hand on more than it has.
    HandOff { wide: bool },
}

/// Where one node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Node {
    /// Waiting for a request.
    Idle,
    /// Has decided on this log and not appended yet.
    Decided(Wish, LogId),
    /// Has decided on a log that has moved since.
    Outrun,
    /// Holds a permit.
    Permitted(Who, What),
    /// Has acted before appending. Only a fault leads here.
    Acted(Wish, LogId),
}

/// A log by its number in the table: equal logs have equal numbers.
pub type LogId = u32;

/// The whole world at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    /// The one log that counts.
    pub log: LogId,
    /// The nodes, in order: they are alike.
    pub nodes: [Node; 2],
    /// What was really done, how often.
    pub done: BTreeMap<(Who, What), u8>,
}

/// What may happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// A node reads and decides.
    Decide(usize, Wish),
    /// It appends what it decided.
    Append(usize),
    /// It does what it was permitted.
    Act(usize),
    /// It dies and comes back empty.
    Crash(usize),
    /// A person says yes to this agent's question.
    Approve(Who),
    /// A person says no to it.
    Refuse(Who),
    /// A person revokes this agent's grant.
    Revoke(Who),
    /// A person suspends this agent.
    Suspend(Who),
    /// The task ends.
    End,
}

/// A child grant is contained in its parent's.
pub const INV1: &str = "INV1 a child holds no more than its parent";
/// Nothing is allowed after the end.
pub const INV2: &str = "INV2 nothing is allowed after the end";
/// One yes, one agent, one act.
pub const INV3: &str = "INV3 a yes serves one agent for one act once";
/// Revocation reaches descendants.
pub const INV4: &str = "INV4 nothing is allowed under what was revoked or suspended";
/// No effect without a durable event.
pub const INV7: &str = "INV7 nothing is done that is not in the log";
/// Budgets and order.
pub const INV10: &str = "INV10 budgets hold and order is kept";
/// All that must always hold.
pub const ALWAYS: [&str; 6] = [INV1, INV2, INV3, INV4, INV7, INV10];
/// Reachable, so that the model is not empty of what it is about.
pub const A_CHILD_IS_MADE: &str = "a handoff makes a child";
/// Reachable.
pub const A_CHILD_ACTS: &str = "a child acts";
/// Reachable.
pub const AN_APPROVAL_SERVES: &str = "an approval serves";
/// Reachable.
pub const THE_CHAIN_ENDS: &str = "the chain comes to its end";
/// Reachable.
pub const A_RACE_IS_LOST: &str = "a race is lost";
/// Reachable.
pub const AN_OUTCOME_IS_UNKNOWN: &str = "an outcome is unknown";
/// All that must be reachable.
pub const SOMETIMES: [&str; 6] = [
    A_CHILD_IS_MADE,
    A_CHILD_ACTS,
    AN_APPROVAL_SERVES,
    THE_CHAIN_ENDS,
    A_RACE_IS_LOST,
    AN_OUTCOME_IS_UNKNOWN,
];

/// The model: the world, with or without a fault.
pub struct House {
    fault: Option<Fault>,
    policy: Gate,
    table: Mutex<Table>,
}

/// What has been worked out already: the core is pure, so nothing needs to be asked twice.
#[derive(Default)]
struct Table {
    logs: Vec<Arc<Log>>,
    numbers: HashMap<String, LogId>,
    rulings: HashMap<(LogId, Wish), Option<Arc<Outcome>>>,
    appended: HashMap<(LogId, LogId, Wish), LogId>,
    changed: HashMap<(LogId, Action), Option<LogId>>,
}

/// What a wish came to: the events, and whether they allow.
struct Outcome {
    events: Vec<TaskEvent>,
    permit: Option<(Who, What)>,
}

impl House {
    /// A house, with a fault or as it should be.
    pub fn new(fault: Option<Fault>) -> House {
        House { fault, policy: Gate, table: Mutex::default() }
    }

    /// Every wish a node may hear.
    fn wishes() -> Vec<Wish> {
        let mut wishes = vec![Wish::HandOff { wide: false }, Wish::HandOff { wide: true }];
        wishes.push(Wish::Call(Who::Planner, What::Tell, None));
        for who in [Who::Planner, Who::Executor] {
            wishes.push(Wish::Call(who, What::Plain, None));
            wishes.push(Wish::Call(who, What::ForcedOne, None));
            for handle in [Who::Planner, Who::Executor] {
                wishes.push(Wish::Call(who, What::ForcedOne, Some(handle)));
                wishes.push(Wish::Call(who, What::ForcedTwo, Some(handle)));
            }
        }
        wishes
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self, number: LogId) -> Arc<Log> {
        self.table().logs[number as usize].clone()
    }

    fn number(&self, log: Log) -> LogId {
        let key = log.key();
        let mut table = self.table();
        let next = table.logs.len() as LogId;
        let number = *table.numbers.entry(key).or_insert(next);
        if number == next {
            table.logs.push(Arc::new(log));
        }
        number
    }

    /// What the core makes of a wish on a log; `None` if it is refused or changes nothing.
    fn ruling(&self, on: LogId, wish: Wish) -> Option<Arc<Outcome>> {
        let known = self.table().rulings.get(&(on, wish)).cloned();
        known.unwrap_or_else(|| {
            let log = self.log(on);
            let ruled = match wish {
                Wish::Call(who, what, handle) => self.call(&log, who, what, handle),
                Wish::HandOff { wide } => self.hand_off(&log, wide),
            };
            let ruled = ruled.map(Arc::new);
            self.table().rulings.insert((on, wish), ruled.clone());
            ruled
        })
    }

    fn call(&self, log: &Log, who: Who, what: What, handle: Option<Who>) -> Option<Outcome> {
        log.task.grant(&who.grant())?;
        if let Some(asker) = handle {
            log.task.approval(&asker.question())?;
        }
        let request = Request {
            decision: DecisionId::parse(&format!("d-{}", log.task.version())).ok()?,
            fresh_approval: who.question(),
            grant: who.grant(),
            agent: who.agent(),
            instance: who.key(),
            token_until: Time(u64::MAX),
            proof: None,
            tool: what.tool(),
            args: what.args(),
            definition: None,
            approval: handle.map(Who::question),
            claims: Label::bottom(),
            says: None,
        };
        let scene = log.scene(who, self.fault, &self.policy);
        let mut ruling = decide(scene, &request);
        if self.fault == Some(Fault::ApprovalWithoutAct) && ruling.decided().why.code == "approval.other_act"
        {
            let approved = log.history.asked.get(&handle?)?;
            ruling = decide(scene, &Request { args: approved.args(), ..request });
        }
        let decided = ruling.decided();
        let permit = (decided.outcome == Ruled::Allow).then_some((who, what));
        // A question that is asked already, or by a call that only serves to misuse a handle, adds nothing.
        let asks =
            decided.asked.is_some() && handle.is_none() && log.task.approval(&who.question()).is_none();
        (permit.is_some() || asks).then(|| Outcome { events: ruling.events(), permit })
    }

    fn hand_off(&self, log: &Log, wide: bool) -> Option<Outcome> {
        let mut asked = Capability::to_use(pattern(RESTART));
        let vm = if wide { Constraint::Any } else { texts(&["db-1", "db-2"]) };
        asked.args.insert("vm".to_owned(), vm);
        let request = HandoffRequest {
            decision: DecisionId::parse(&format!("h-{}", log.task.version())).ok()?,
            fresh_grant: Who::Executor.grant(),
            grant: Who::Planner.grant(),
            agent: Who::Planner.agent(),
            instance: Who::Planner.key(),
            token_until: Time(u64::MAX),
            proof: None,
            to: Who::Executor.agent(),
            capabilities: vec![asked],
            ttl_ms: None,
            payload: Value::empty(),
        };
        let mut handed = hand_off(log.scene(Who::Planner, self.fault, &self.policy), &request);
        if self.fault == Some(Fault::GrantAsAsked) && handed.why.code == "handoff.widens" {
            handed = as_asked(handed, &request);
        }
        handed.grant.is_some().then(|| Outcome { events: vec![TaskEvent::HandedOff(handed)], permit: None })
    }

    /// The log after a ruling made on `read` was appended to `to`.
    fn appended(&self, read: LogId, to: LogId, wish: Wish) -> Option<LogId> {
        let known = self.table().appended.get(&(read, to, wish)).copied();
        if known.is_some() {
            return known;
        }
        let outcome = self.ruling(read, wish)?;
        let mut log = Log::clone(&self.log(to));
        for event in &outcome.events {
            log.append(&self.spoilt(event, wish), self.fault);
        }
        match (wish, outcome.permit) {
            (_, Some((who, what))) => log.history.allow(who, what),
            (Wish::Call(who, what, _), None) => {
                log.history.asked.entry(who).or_insert(what);
            }
            (Wish::HandOff { .. }, None) => log.history.wider |= is_wider(&log.task),
        }
        let number = self.number(log);
        self.table().appended.insert((read, to, wish), number);
        Some(number)
    }

    /// An event as a faulty house writes it.
    fn spoilt(&self, event: &TaskEvent, wish: Wish) -> TaskEvent {
        let mut event = event.clone();
        if let (TaskEvent::Decided(decided), Wish::Call(who, what, _)) = (&mut event, wish) {
            match self.fault {
                Some(Fault::ApprovalReusable) => decided.approval = None,
                Some(Fault::ApprovalWithoutAct) => decided.args = what.args(),
                Some(Fault::ChildrenUncharged) if who == Who::Executor => decided.charge = None,
                _ => {}
            }
        }
        event
    }

    /// The log after people did something to it; `None` if that is not possible now.
    fn changed(&self, on: LogId, action: Action) -> Option<LogId> {
        let known = self.table().changed.get(&(on, action)).copied();
        known.unwrap_or_else(|| {
            let number = self.change(on, action);
            self.table().changed.insert((on, action), number);
            number
        })
    }

    fn change(&self, on: LogId, action: Action) -> Option<LogId> {
        let mut log = Log::clone(&self.log(on));
        let (by, reason) = ("erin".to_owned(), "so".to_owned());
        let event = match action {
            Action::Approve(who) => {
                log.task.approval(&who.question()).filter(|a| a.state == Question::Waiting)?;
                let asked = *log.history.asked.get(&who)?;
                *log.history.granted.entry((who, asked)).or_insert(0) += 1;
                TaskEvent::Voted { approval: who.question(), by: id("erin"), vote: Vote::Approve }
            }
            Action::Refuse(who) => {
                log.task.approval(&who.question()).filter(|a| a.state == Question::Waiting)?;
                TaskEvent::Voted { approval: who.question(), by: id("erin"), vote: Vote::Deny { reason } }
            }
            Action::Revoke(who) => {
                log.task.grant(&who.grant()).filter(|g| !g.revoked)?;
                log.history.revoked.insert(who);
                TaskEvent::GrantRevoked { grant: who.grant(), by, reason }
            }
            Action::End if !log.history.ended => {
                log.history.ended = true;
                TaskEvent::Ended { cause: Cause::Completed, by, reason }
            }
            Action::Suspend(who) if log.history.suspended.insert(who) => {
                let target = Scope::Agent(who.agent());
                let suspension = Suspension { halt: Halt::Frozen, by: id("erin"), reason, at: NOW };
                log.registry.apply(&RegistryEvent::Suspended { target, suspension });
                return Some(self.number(log));
            }
            _ => return None,
        };
        log.append(&event, self.fault);
        Some(self.number(log))
    }

    /// The world with another log: whoever has decided on the old one is outrun, unless nobody looks.
    fn moved(&self, mut world: World, log: LogId, unseen: Fault) -> World {
        world.log = log;
        if self.fault != Some(unseen) {
            for node in &mut world.nodes {
                if matches!(node, Node::Decided(..)) {
                    *node = Node::Outrun;
                }
            }
        }
        world
    }

    fn append(&self, mut world: World, at: usize) -> Option<World> {
        let (wish, read, acted) = match world.nodes[at] {
            Node::Decided(wish, read) => (wish, read, false),
            Node::Acted(wish, read) => (wish, read, true),
            Node::Outrun => {
                world.nodes[at] = Node::Idle;
                return Some(world);
            }
            Node::Idle | Node::Permitted(..) => return None,
        };
        let permit = self.ruling(read, wish)?.permit;
        world.nodes[at] = match permit {
            Some((who, what)) if !acted => Node::Permitted(who, what),
            _ => Node::Idle,
        };
        if acted && read != world.log {
            return Some(world);
        }
        let log = self.appended(read, world.log, wish)?;
        Some(self.moved(world, log, Fault::AppendWithoutVersion))
    }

    fn act(&self, mut world: World, at: usize) -> Option<World> {
        let (who, what, next) = match world.nodes[at] {
            Node::Permitted(who, what) => (who, what, Node::Idle),
            Node::Decided(wish, read) if self.fault == Some(Fault::EffectBeforeAppend) => {
                let (who, what) = self.ruling(read, wish)?.permit?;
                (who, what, Node::Acted(wish, read))
            }
            _ => return None,
        };
        *world.done.entry((who, what)).or_insert(0) += 1;
        world.nodes[at] = next;
        Some(world)
    }
}

/// A refused handoff as a house writes it that does not look at what the parent may hand on.
fn as_asked(refused: HandedOff, request: &HandoffRequest) -> HandedOff {
    let grant = NewGrant {
        grant: request.fresh_grant.clone(),
        capabilities: request.capabilities.iter().map(|capability| (capability.clone(), 0)).collect(),
        until: setting::UNTIL,
        label: Label::bottom(),
    };
    HandedOff { outcome: Ruled::Allow, grant: Some(grant), chain_step: Some(id("hand")), ..refused }
}

impl Model for House {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let log = self.number(Log::begin());
        vec![World { log, nodes: [Node::Idle; 2], done: BTreeMap::new() }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for (at, node) in world.nodes.iter().enumerate() {
            match node {
                // Two idle nodes are alike: one of them is enough.
                Node::Idle if at > 0 && world.nodes[0] == Node::Idle => {}
                Node::Idle => actions.extend(House::wishes().into_iter().map(|w| Action::Decide(at, w))),
                _ => actions.extend([Action::Append(at), Action::Act(at), Action::Crash(at)]),
            }
        }
        for who in [Who::Planner, Who::Executor] {
            actions.extend([Action::Approve(who), Action::Refuse(who), Action::Revoke(who)]);
        }
        actions.extend([Action::Suspend(Who::Executor), Action::End]);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        let mut next = match action {
            Action::Decide(at, wish) => {
                self.ruling(world.log, wish)?;
                next.nodes[at] = Node::Decided(wish, world.log);
                next
            }
            Action::Append(at) => self.append(next, at)?,
            Action::Act(at) => self.act(next, at)?,
            Action::Crash(at) => {
                next.nodes[at] = Node::Idle;
                next
            }
            people => {
                let log = self.changed(world.log, people)?;
                let in_registry = matches!(people, Action::Suspend(_));
                let unseen =
                    if in_registry { Fault::AppendWithoutGuard } else { Fault::AppendWithoutVersion };
                self.moved(next, log, unseen)
            }
        };
        next.nodes.sort();
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(INV1, |house: &House, world: &World| !house.log(world.log).history.wider),
            Property::always(INV2, |house: &House, world: &World| {
                !house.log(world.log).history.allowed_after_end
            }),
            Property::always(INV3, |house: &House, world: &World| {
                house.log(world.log).history.answers_served_once()
            }),
            Property::always(INV4, |house: &House, world: &World| {
                !house.log(world.log).history.allowed_under_stopped
            }),
            Property::always(INV7, |house: &House, world: &World| {
                world.has_done_only(&house.log(world.log).history)
            }),
            Property::always(INV10, |house: &House, world: &World| {
                house.log(world.log).history.kept_budget_and_order()
            }),
            Property::sometimes(A_CHILD_IS_MADE, |house: &House, world: &World| {
                house.log(world.log).task.grant(&Who::Executor.grant()).is_some()
            }),
            Property::sometimes(A_CHILD_ACTS, |_: &House, world: &World| {
                world.done.keys().any(|(who, _)| *who == Who::Executor)
            }),
            Property::sometimes(AN_APPROVAL_SERVES, |_: &House, world: &World| {
                world.has_done(Who::Planner, What::ForcedOne)
            }),
            Property::sometimes(THE_CHAIN_ENDS, |_: &House, world: &World| {
                world.has_done(Who::Planner, What::Tell)
            }),
            Property::sometimes(A_RACE_IS_LOST, |_: &House, world: &World| {
                world.nodes.contains(&Node::Outrun)
            }),
            Property::sometimes(AN_OUTCOME_IS_UNKNOWN, |house: &House, world: &World| {
                let allowed: u8 = house.log(world.log).history.allowed.values().sum();
                world.nodes == [Node::Idle; 2] && allowed > world.done.values().sum::<u8>()
            }),
        ]
    }
}

impl World {
    fn has_done(&self, who: Who, what: What) -> bool {
        self.done.contains_key(&(who, what))
    }

    fn has_done_only(&self, told: &History) -> bool {
        self.done.iter().all(|((who, what), times)| *times <= told.count(*who, *what))
    }
}
