//! The invariants as properties: random trees, random callers, random clocks. Each check is told in the plainest
//! words there are (try a call, count, compare), never with the code that is under test.

use std::collections::{BTreeMap, BTreeSet};

use bailiwick_core::approval::Vote;
use bailiwick_core::capability::{Capability, Delegate, Limits, Spent};
use bailiwick_core::chain::Chain;
use bailiwick_core::constraint::{Constraint, Each, Range, texts};
use bailiwick_core::decision::{could_be_allowed, decide};
use bailiwick_core::event::{HandedOff, NewGrant, Recorded, Ruled, TaskEvent};
use bailiwick_core::grant::Grant;
use bailiwick_core::handoff::hand_off;
use bailiwick_core::label::{Label, Level};
use bailiwick_core::registry::{RegistryEvent, Scope};
use bailiwick_core::task::Task;
use bailiwick_core::tool::{Effect, Manifest, Role};
use bailiwick_core::{Digest, Time, Value};
use proptest::prelude::*;

use crate::world::*;

const AGENTS: [&str; 3] = ["planner", "executor", "reader"];
const TOOLS: [&str; 4] = ["cloud.restart", "cloud.note", "mail.search", "bank.pay"];

fn pick<T: Clone + std::fmt::Debug + 'static>(all: &[T]) -> impl Strategy<Value = T> + use<T> {
    prop::sample::select(all.to_vec())
}

/// This many cases, and no file beside the sources for one that failed: a story is written for it instead.
fn quietly(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// A small lattice of constraints that hold, overlap and exclude each other, some written oddly.
fn some_constraint() -> impl Strategy<Value = Constraint> {
    let range = |min: Option<i64>, max: Option<i64>| {
        Constraint::Range(Range { min: min.map(Value::Int), max: max.map(Value::Int) })
    };
    let each = |items: &[&str], max| Constraint::Each(Each { item: Box::new(texts(items)), max });
    let one = pick(&[
        Constraint::Any,
        Constraint::Never,
        texts(&["db-1"]),
        texts(&["db-1", "db-2"]),
        Constraint::Spelled(["db-1".to_owned(), "5".to_owned()].into()),
        Constraint::Prefix("db-".to_owned()),
        Constraint::Prefix(String::new()),
        Constraint::PathUnder("/srv".to_owned()),
        Constraint::PathUnder("/srv/".to_owned()),
        Constraint::PathUnder("/srv/a/".to_owned()),
        Constraint::PathUnder("/etc/".to_owned()),
        Constraint::PathUnder("/".to_owned()),
        Constraint::Template(vec!["db-".to_owned(), String::new()]),
        Constraint::Length(4),
        range(None, Some(5)),
        range(Some(0), None),
        range(Some(3), Some(9)),
        each(&["db-1"], 1),
        each(&["db-1", "db-2"], 2),
        Constraint::Host("*.example.org".to_owned()),
        Constraint::Host("a.example.org".to_owned()),
        Constraint::AllOf(vec![]),
    ]);
    let all = |cs: Vec<Constraint>| {
        if cs.len() == 1 { cs[0].clone() } else { Constraint::AllOf(cs) }
    };
    prop::collection::vec(one, 1..3).prop_map(all)
}

/// Every value that a call can carry in these worlds.
fn probes() -> Vec<Value> {
    let texts = [
        "db-1",
        "db-2",
        "db-9",
        "5",
        "",
        "/srv",
        "/srv/a",
        "/srv/a/b",
        "/etc",
        "/etc/x",
        "/srvx",
        "a.example.org",
        "b.example.org",
        "db-\n",
    ];
    let mut values: Vec<Value> = texts.into_iter().map(Value::from).collect();
    values.extend([-1, 0, 4, 5, 9].map(Value::Int));
    values.push(Value::Null);
    values.push(json("2.5"));
    values.extend([r#"["db-1"]"#, r#"["db-1","db-2"]"#, r#"["db-9"]"#, "[]"].map(json));
    values
}

fn some_limits() -> impl Strategy<Value = Limits> {
    let n = || prop::option::of(0u64..6);
    let until = prop::option::of(pick(&[Time(1_500_000), Time(3_000_000), EVENING]));
    (n(), n(), n(), n(), until).prop_map(|(uses, amount, bytes, rows, until)| Limits {
        uses,
        amount,
        bytes,
        rows,
        until,
    })
}

prop_compose! {
    fn some_capability()(
        tools in pick(&["cloud.restart", "cloud.*", "cloud.re*", "mail.*", "mail.search", "bank.pay"]),
        arg in prop::option::of(some_constraint()), limits in some_limits(), may_use in any::<bool>(),
        to in prop::collection::btree_set(pick(&AGENTS), 0..4), depth in 0u8..5, passes in prop::bool::weighted(0.7),
    ) -> Capability {
        let name = if tools.starts_with("cloud") { "vm" } else { "to" };
        Capability {
            tool: pattern(tools),
            args: arg.map(|c| (name.to_owned(), c)).into_iter().collect(),
            limits,
            may_use,
            delegate: passes.then(|| Delegate { to: to.iter().map(|a| agent(a)).collect(), depth }),
        }
    }
}

/// What is asked at one handoff: from and to whom, what, how long.
type Ask = (usize, &'static str, Vec<Capability>, Option<u64>);

fn some_ask() -> impl Strategy<Value = Ask> {
    let ttl = prop::option::of(prop_oneof![0u64..5_000_000, Just(u64::MAX)]);
    (0usize..6, pick(&AGENTS), prop::collection::vec(some_capability(), 0..3), ttl)
}

/// A root that hands on freely, so that trees grow.
fn some_root() -> impl Strategy<Value = Vec<Capability>> {
    let generous = |mut c: Capability| {
        c.delegate = Some(Delegate { to: AGENTS.map(agent).into(), depth: 5 });
        c
    };
    prop::collection::vec(some_capability().prop_map(generous), 1..4)
}

/// Grows a tree by honest handoffs. Comes back with the world, and each refusal's or grant's event.
fn grown(root: Vec<Capability>, asks: Vec<Ask>) -> (World, Vec<HandedOff>) {
    let mut world = World::opened(|o| {
        o.capabilities = root;
        o.limits.handoffs = 100;
    });
    let mut grants = vec![grant("g-root")];
    let mut made = Vec::new();
    for (from, to, capabilities, ttl_ms) in asks {
        let parent = grants[from % grants.len()].clone();
        let holder = world.task.grant(&parent).unwrap().agent.clone();
        let mut request = world.handoff(holder.as_str(), to, capabilities);
        (request.grant, request.ttl_ms) = (parent, ttl_ms);
        let handed = world.hand(&request);
        grants.extend(handed.grant.iter().map(|new| new.grant.clone()));
        made.push(handed);
    }
    (world, made)
}

fn args_of(name: &str, value: &Value) -> BTreeMap<String, Value> {
    BTreeMap::from([(name.to_owned(), value.clone())])
}

fn least(a: Option<u64>, b: Option<u64>) -> bool {
    a.is_some_and(|a| b.is_none_or(|b| a <= b)) || b.is_none()
}

/// Whether all that the child's grant says lies inside its parent's, looked at in every dimension by itself.
fn is_contained(task: &Task, child: &Grant) -> Result<(), String> {
    let parent = child.parent.as_ref().and_then(|id| task.grant(id)).ok_or("no parent")?;
    if child.until > parent.until || child.depth != parent.depth + 1 {
        return Err(format!("until {:?} > {:?} or depth", child.until, parent.until));
    }
    if !parent.label.flows_to(&child.label) {
        return Err("the label became lower".to_owned());
    }
    for held in &child.held {
        let own = &held.capability;
        let from = held.from.and_then(|at| parent.held.get(usize::from(at))).ok_or("cut from nothing")?;
        let above = &from.capability;
        let right = above.delegate.as_ref().ok_or("no right to hand on")?;
        if right.depth == 0 || !right.to.contains(&child.agent) {
            return Err(format!("{} is no recipient", child.agent));
        }
        if own.delegate.as_ref().is_some_and(|d| d.depth >= right.depth || !d.to.is_subset(&right.to)) {
            return Err(format!("hands on further: {:?} than {right:?}", own.delegate));
        }
        for name in TOOLS {
            for value in probes() {
                for arg in ["vm", "to", "other"] {
                    let args = args_of(arg, &value);
                    if own.covers(&tool(name), &args).is_ok() && above.covers(&tool(name), &args).is_err() {
                        return Err(format!("{name} {args:?}: {own:?} is wider than {above:?}"));
                    }
                }
            }
        }
        let (mine, theirs) = (&own.limits, &above.limits);
        let times = |l: &Limits| l.until.map(|t| t.0);
        let fits = least(mine.uses, theirs.uses)
            && least(mine.amount, theirs.amount)
            && least(mine.bytes, theirs.bytes)
            && least(mine.rows, theirs.rows)
            && least(times(mine), times(theirs));
        if !fits {
            return Err(format!("{mine:?} exceeds {theirs:?}"));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(quietly(300))]

    // proves: INV1, H1, H5, H9, A01, A03
    #[test]
    fn every_child_that_is_made_lies_inside_its_parent(
        root in some_root(), asks in prop::collection::vec(some_ask(), 1..8)
    ) {
        let (world, _) = grown(root, asks);
        for grant in world.task.grants().filter(|g| g.parent.is_some()) {
            prop_assert_eq!(is_contained(&world.task, grant), Ok(()));
        }
    }

    // proves: INV1, H9
    #[test]
    fn whatever_a_leaf_may_do_the_root_could_have_handed_on(
        root in some_root(), asks in prop::collection::vec(some_ask(), 1..8), value in pick(&probes()),
        name in pick(&TOOLS),
    ) {
        let (mut world, _) = grown(root, asks);
        let arg = if name.starts_with("cloud") { "vm" } else { "to" };
        let args = Value::Map(args_of(arg, &value)).canonical();
        let leaves: Vec<(String, bailiwick_core::GrantId)> = world
            .task.grants().filter(|g| g.parent.is_some())
            .map(|g| (g.agent.to_string(), g.id.clone())).collect();
        for (who, id) in leaves {
            let mut request = world.request(&who, name, &args);
            request.grant = id;
            if decide(world.scene(), &request).decided().outcome == Ruled::Allow {
                let root = world.task.grant(&grant("g-root")).unwrap();
                let could = root.held.iter().any(|h| {
                    h.capability.delegate.is_some()
                        && h.capability.covers(&tool(name), &args_of(arg, &value)).is_ok()
                });
                prop_assert!(could, "{who} did {name} {args}");
            }
        }
    }

    // proves: INV1, H9, N4
    #[test]
    fn forged_handoffs_carry_no_more_than_the_hops_above_them(
        root in some_root(), honest in prop::collection::vec(some_ask(), 0..4),
        forged in prop::collection::vec((0usize..6, pick(&AGENTS), some_capability(), 0u16..4), 1..5),
        value in pick(&probes()), name in pick(&TOOLS),
    ) {
        let (mut world, _) = grown(root, honest);
        let mut grants: Vec<_> = world.task.grants().map(|g| g.id.clone()).collect();
        for (at, to, capability, from) in forged {
            let parent = grants[at % grants.len()].clone();
            let holder = world.task.grant(&parent).unwrap().agent.to_string();
            let request = world.handoff(&holder, to, vec![]);
            let new = NewGrant {
                grant: request.fresh_grant.clone(),
                capabilities: vec![(Capability { may_use: true, ..capability }, from)],
                until: Time(u64::MAX),
                label: Label::bottom(),
            };
            let honest = hand_off(world.scene(), &request);
            let event = HandedOff { parent, outcome: Ruled::Allow, grant: Some(new), ..honest };
            world.append(vec![TaskEvent::HandedOff(event)]);
            if world.task.grant(&request.fresh_grant).is_some() {
                grants.push(request.fresh_grant);
            }
        }
        let arg = if name.starts_with("cloud") { "vm" } else { "to" };
        let args = args_of(arg, &value);
        for id in grants {
            let who = world.task.grant(&id).unwrap().agent.to_string();
            let mut request = world.request(&who, name, &Value::Map(args.clone()).canonical());
            request.grant = id.clone();
            let ruling = decide(world.scene(), &request);
            if ruling.decided().outcome != Ruled::Allow {
                continue;
            }
            let mut place = ruling.decided().charge.as_ref().unwrap().capability;
            let line: Vec<&Grant> = world.task.lineage(world.task.grant(&id).unwrap()).collect();
            for pair in line.windows(2) {
                prop_assert!(pair[1].until > world.now);
                place = pair[0].held[usize::from(place)].from.unwrap();
                let above = &pair[1].held[usize::from(place)].capability;
                prop_assert!(above.covers(&tool(name), &args).is_ok(), "{name} {args:?} through {above:?}");
                prop_assert!(above.delegate.as_ref().is_some_and(|d| d.to.contains(&pair[0].agent)));
            }
        }
    }

    // proves: INV4, R2
    #[test]
    fn revoking_a_node_ends_what_is_below_it_and_nothing_else(
        asks in prop::collection::vec((0usize..8, pick(&AGENTS)), 1..10), victim in 0usize..11
    ) {
        let all = to_use("cloud.restart").and_pass(&AGENTS, u8::MAX);
        let mut depth = u8::MAX;
        let asks = asks.into_iter().map(|(from, to)| {
            depth -= 1;
            (from, to, vec![to_use("cloud.restart").and_pass(&AGENTS, depth)], None)
        });
        let (mut world, _) = grown(vec![all], asks.collect());
        let ids: Vec<_> = world.task.grants().map(|g| g.id.clone()).collect();
        let victim = ids[victim % ids.len()].clone();
        let allowed = |world: &mut World, id: &bailiwick_core::GrantId| {
            let who = world.task.grant(id).unwrap().agent.to_string();
            let mut request = world.request(&who, "cloud.restart", r#"{"vm":"db-1"}"#);
            request.grant = id.clone();
            decide(world.scene(), &request).decided().outcome == Ruled::Allow
        };
        for id in &ids {
            prop_assert!(allowed(&mut world, id));
        }
        let (by, reason) = ("erin".to_owned(), "enough".to_owned());
        world.append(vec![TaskEvent::GrantRevoked { grant: victim.clone(), by, reason }]);
        for id in &ids {
            let mut at = Some(id.clone());
            let mut under = false;
            while let Some(grant) = at.and_then(|id| world.task.grant(&id)) {
                under |= grant.id == victim;
                at = grant.parent.clone();
            }
            prop_assert_eq!(allowed(&mut world, id), !under);
        }
    }
}

/// What one caller of a race does next.
#[derive(Debug, Clone, Copy)]
enum Move {
    Read,
    Decide(usize),
    Append,
}

/// A node with an old fold and, perhaps, a ruling that it has not appended yet.
struct Racer {
    seen: Task,
    ruling: Option<bailiwick_core::decision::Ruling>,
}

const WISHES: [(&str, &str, &str); 4] = [
    ("planner", "cloud.restart", r#"{"vm":"db-1"}"#),
    ("executor", "cloud.restart", r#"{"vm":"db-1"}"#),
    ("planner", "mail.send", r#"{"to":"ann@example.org"}"#),
    ("executor", "bank.pay", r#"{"amount":3,"to":"DE89370400440532013000"}"#),
];

fn racing_world() -> World {
    let any = |names: &[&str]| names.iter().map(|n| ((*n).to_owned(), Constraint::Any)).collect::<Vec<_>>();
    let borrowed = |args: &[(String, Constraint)], id: &str, who: &str, tools: &str| {
        let args: Vec<(&str, Constraint)> = args.iter().map(|(n, c)| (n.as_str(), c.clone())).collect();
        step(id, who, tools, &args)
    };
    let restart = any(&["vm"]);
    let steps = vec![
        times(hand_step("hand", "planner", "executor", &[]), 1, 1),
        times(borrowed(&restart, "fix-a", "planner", "cloud.restart"), 0, 9),
        times(borrowed(&restart, "fix-b", "executor", "cloud.restart"), 1, 9),
        after(borrowed(&any(&["to"]), "tell", "planner", "mail.send"), &["fix-b"]),
        times(borrowed(&any(&["to", "amount"]), "pay", "executor", "bank.pay"), 0, 9),
    ];
    let mut world = World::opened(|o| {
        o.chain = Some(Chain { steps, ..Chain::default() });
        let money = Limits { amount: Some(7), ..Limits::default() };
        o.capabilities = vec![
            to_use("cloud.restart").uses(3).and_pass(&["executor"], 1),
            to_use("mail.send"),
            to_pass("bank.pay", &["executor"], 1).limits(money),
        ];
    });
    world.gives("planner", "executor", vec![to_use("cloud.restart"), to_use("bank.pay")]);
    world
}

proptest! {
    #![proptest_config(quietly(400))]

    // proves: INV10, A20, A27
    #[test]
    fn however_callers_race_budgets_hold_and_order_is_kept(
        moves in prop::collection::vec(
            (0usize..3, prop_oneof![
                Just(Move::Read), (0usize..4).prop_map(Move::Decide), Just(Move::Append), Just(Move::Append),
            ]), 1..120),
    ) {
        let mut world = racing_world();
        let mut racers: Vec<Racer> =
            (0..3).map(|_| Racer { seen: world.task.clone(), ruling: None }).collect();
        let mut word: Vec<(String, String)> = Vec::new();
        for (who, next) in moves {
            let racer = &mut racers[who];
            match next {
                Move::Read => racer.seen = world.task.clone(),
                Move::Decide(wish) => {
                    let (agent, tool, args) = WISHES[wish];
                    let request = world.request(agent, tool, args);
                    let scene = bailiwick_core::decision::Scene { task: &racer.seen, ..world.scene() };
                    racer.ruling = Some(decide(scene, &request));
                }
                Move::Append => {
                    let Some(ruling) = racer.ruling.take() else { continue };
                    // The store's promise: only at the version it was judged on.
                    let decided = ruling.decided().clone();
                    let there = world.scene().judged_at();
                    let mut written = Vec::new();
                    let outcome = at_once(ruling.commit(async |at, events| {
                        (at == there).then(|| written = events).ok_or("conflict")
                    }));
                    if outcome.is_ok() {
                        world.append(written);
                        if decided.outcome == Ruled::Allow {
                            word.push((decided.agent.to_string(), decided.tool.to_string()));
                        }
                    }
                    racer.seen = world.task.clone();
                }
            }
        }
        let count = |tool: &str| word.iter().filter(|(_, t)| t == tool).count();
        prop_assert!(count("cloud.restart") <= 3 && count("mail.send") <= 1 && count("bank.pay") * 3 <= 7);
        if let Some(told) = word.iter().position(|(_, t)| t == "mail.send") {
            let fix = |(who, tool): &(String, String)| who == "executor" && tool == "cloud.restart";
            prop_assert!(word[..told].iter().any(fix), "told before it was fixed: {word:?}");
            prop_assert!(!word[told..].iter().any(fix), "fixed after it was told: {word:?}");
        }
    }

    // proves: INV3, H7, A14, A15
    #[test]
    fn a_yes_serves_the_one_who_asked_for_what_was_asked_and_no_more_often_than_it_was_given(
        moves in prop::collection::vec((0usize..3, 0usize..3, prop::option::of(0usize..6), any::<bool>()), 1..60)
    ) {
        let mut world = World::holding(vec![to_use("cloud.restart").and_pass(&["executor", "reader"], 1)]);
        world.answer("cloud.restart", Answer::Ask(terms()));
        world.gives("planner", "executor", vec![to_use("cloud.restart")]);
        world.gives("planner", "reader", vec![to_use("cloud.restart")]);
        let args = [r#"{"vm":"db-1"}"#, r#"{"force":true,"vm":"db-1"}"#, r#"{"force":1,"vm":"db-1"}"#];
        let (mut asked, mut given, mut used) = (Vec::new(), Vec::new(), Vec::new());
        for (who, what, handle, vote) in moves {
            if vote {
                let Some((approval, by, what)) = handle.and_then(|h| asked.get(h)).cloned() else { continue };
                let waiting = world.task.approval(&approval).unwrap().state
                    == bailiwick_core::approval::State::Waiting;
                world.vote("erin", &approval, Vote::Approve);
                if waiting {
                    given.push((by, what));
                }
                continue;
            }
            let approval = handle.and_then(|h| asked.get(h)).map(|(a, ..): &(_, _, _)| a.clone());
            let mut request = world.request(AGENTS[who], "cloud.restart", args[what]);
            request.approval = approval;
            let decided = world.decide(&request);
            if let Some(question) = &decided.asked {
                asked.push((question.approval.clone(), who, what));
            }
            if decided.outcome == Ruled::Allow {
                used.push((who, what));
            }
        }
        for act in &used {
            let count = |all: &[(usize, usize)]| all.iter().filter(|a| *a == act).count();
            prop_assert!(count(&used) <= count(&given), "{act:?} was done {} times", count(&used));
        }
    }

    // proves: INV5
    #[test]
    fn the_same_log_gives_the_same_decision_bytes(
        root in some_root(), asks in prop::collection::vec(some_ask(), 0..5), value in pick(&probes()),
        name in pick(&TOOLS), says in prop::option::of(".{0,20}"),
    ) {
        let (mut world, _) = grown(root, asks);
        let arg = if name.starts_with("cloud") { "vm" } else { "to" };
        let mut request = world.request("planner", name, &Value::Map(args_of(arg, &value)).canonical());
        request.says = says;
        // Once on the fold that grew, once on one read back from its leaves.
        let leaves: Vec<Vec<u8>> = world.log.iter().map(|(event, time)| encoded(event, *time)).collect();
        let read: Vec<Recorded<TaskEvent>> = leaves.iter().map(|b| Recorded::decode(b).unwrap()).collect();
        let again = Task::fold(read.iter().map(|r| (&r.event, r.time))).unwrap();
        let registry = registry();
        let other = bailiwick_core::decision::Scene { task: &again, registry: &registry, ..world.scene() };
        let bytes = |scene| -> Vec<Vec<u8>> {
            decide(scene, &request).events().iter().map(|e| encoded(e, NOON)).collect()
        };
        prop_assert_eq!(bytes(world.scene()), bytes(other));
    }

    // proves: INV6, D6
    #[test]
    fn take_anything_away_and_the_answer_is_no(missing in 0usize..10) {
        let mut world = World::opened(|_| {});
        let mut request = world.request("planner", "cloud.restart", r#"{"vm":"db-1"}"#);
        let by = person("root");
        match missing {
            0 => world.registry = Default::default(),
            1 => world.registry.apply(&RegistryEvent::AgentRetired { agent: agent("planner"), by }),
            2 => request.grant = grant("g-none"),
            3 => request.instance = String::new(),
            4 => request.tool = tool("cloud.unheard"),
            5 => request.args = Value::Null,
            6 => world.policy.by_default = Answer::Error,
            7 => world.fresh = false,
            8 => world.now = Time(u64::MAX),
            _ => request.approval = Some(bailiwick_core::ApprovalId::parse("ap-none").unwrap()),
        }
        prop_assert_eq!(world.decide(&request).outcome, Ruled::Deny);
    }

    // proves: INV11, A62
    #[test]
    fn no_clock_gives_more_time_than_was_granted(
        ttl in 1u64..100_000, clocks in prop::collection::vec((any::<bool>(), 0u64..4_000_000), 1..30)
    ) {
        let mut world = World::holding(vec![to_use("cloud.restart").and_pass(&["executor"], 1)]);
        let mut request = world.handoff("planner", "executor", vec![to_use("cloud.restart")]);
        request.ttl_ms = Some(ttl);
        world.hand(&request);
        let mut over = false;
        for (node, now) in clocks {
            // Two nodes, each with a clock of its own, append to one log.
            world.now = Time(if node { now } else { NOON.0 + now / 100 });
            let decided = world.call("executor", "cloud.restart", r#"{"vm":"db-1"}"#);
            over |= world.now.0 >= NOON.0 + ttl;
            prop_assert!(!over || decided.outcome != Ruled::Allow, "revived at {:?}", world.now);
        }
    }

    // proves: INV13, A34
    #[test]
    fn what_an_agent_claims_never_opens_anything(
        seen in some_label(), claims in some_label(), sink in prop::option::of(some_label()), level in pick(&LEVELS)
    ) {
        let mut world = World::opened(|_| {});
        let manifest = Manifest {
            sink, reversible: true, ..Manifest::new(tool("cloud.post"), Effect::Create).arg("text", Role::Content)
        };
        world.registry.apply(&RegistryEvent::ToolClassified { manifest, pin: None, by: person("root") });
        let read = world.must("planner", "mail.search", "{}");
        world.report(&read.decision, seen, Spent::default());
        let labelled = Labelled(level);
        let outcome = |world: &mut World, claims: Label| {
            let mut request = world.request("planner", "cloud.post", "{}");
            request.claims = claims;
            let scene = bailiwick_core::decision::Scene { policy: &labelled, ..world.scene() };
            decide(scene, &request).decided().clone()
        };
        let silent = outcome(&mut world, Label::bottom());
        let claimed = outcome(&mut world, claims);
        prop_assert!(silent.label.flows_to(&claimed.label));
        prop_assert!(claimed.outcome != Ruled::Allow || silent.outcome == Ruled::Allow);
    }

    // proves: V1
    #[test]
    fn whatever_is_allowed_was_listed(
        root in some_root(), asks in prop::collection::vec(some_ask(), 0..5), value in pick(&probes()),
        name in pick(&TOOLS), now in 900_000u64..6_000_000, halt in prop::option::of(pick(&TOOLS)),
    ) {
        let (mut world, _) = grown(root, asks);
        world.now = Time(now);
        if let Some(halted) = halt {
            world.suspend(Scope::Tool(pattern(halted)));
        }
        let arg = if name.starts_with("cloud") { "vm" } else { "to" };
        let args = Value::Map(args_of(arg, &value)).canonical();
        let all: Vec<_> = world.task.grants().map(|g| (g.agent.to_string(), g.id.clone())).collect();
        for (who, id) in all {
            let mut request = world.request(&who, name, &args);
            request.grant = id.clone();
            if decide(world.scene(), &request).decided().outcome == Ruled::Allow {
                let held = world.task.grant(&id).unwrap();
                prop_assert!(could_be_allowed(world.scene(), held, &tool(name)), "{name} was not listed");
            }
        }
    }
}

const LEVELS: [Level; 4] = [Level::Public, Level::Internal, Level::Confidential, Level::Secret];

fn some_label() -> impl Strategy<Value = Label> {
    let classes = prop::collection::btree_set(pick(&["pii", "card"]), 0..3);
    (pick(&LEVELS), classes, prop::collection::btree_set("[a-c]", 0..3)).prop_map(
        |(level, classes, untrusted)| {
            let classes = classes.into_iter().map(|c| bailiwick_core::DataClass::parse(c).unwrap()).collect();
            Label { level, classes, untrusted }
        },
    )
}

/// A stub that forbids above a level, and to what is not trusted.
struct Labelled(Level);

impl bailiwick_core::verdict::Policy for Labelled {
    fn evaluate(&self, facts: &bailiwick_core::verdict::Facts<'_>) -> bailiwick_core::verdict::Verdict {
        use bailiwick_core::verdict::Verdict;
        if facts.label.level > self.0 || !facts.label.is_trusted() {
            return Verdict::Forbid { rule: "labels".to_owned(), reason: "too secret".to_owned() };
        }
        Verdict::Permit { rules: Vec::new() }
    }
    fn version(&self) -> Digest {
        Digest::of(b"labels")
    }
}

fn encoded(event: &TaskEvent, time: Time) -> Vec<u8> {
    let stream = "acme/task/t-1".to_owned();
    Recorded { v: bailiwick_core::event::FORMAT, stream, at: 0, time, event: event.clone() }.encode().unwrap()
}

// proves: INV1
#[test]
fn the_check_of_containment_itself_bites() {
    let mut world = World::holding(vec![to_use("cloud.restart").uses(1).and_pass(&["executor"], 1)]);
    let honest = world.gives("planner", "executor", vec![to_use("cloud.restart")]);
    let id = honest.grant.as_ref().unwrap().grant.clone();
    assert_eq!(is_contained(&world.task, world.task.grant(&id).unwrap()), Ok(()));
    for (serial, wider) in [
        to_use("cloud.*").uses(1),
        to_use("cloud.restart").uses(2),
        to_use("cloud.restart").uses(1).and_pass(&["executor"], 1),
        to_use("mail.search").uses(1),
    ]
    .into_iter()
    .enumerate()
    {
        let name = grant(&format!("g-wide-{serial}"));
        let mut event = honest.clone();
        let new = event.grant.as_mut().unwrap();
        (new.grant, new.capabilities) = (name.clone(), vec![(wider, 0)]);
        world.append(vec![TaskEvent::HandedOff(event)]);
        assert!(is_contained(&world.task, world.task.grant(&name).unwrap()).is_err());
    }
}

/// The small lattice, whole: three actions, three resources, three bounds, four deep, every ask.
// proves: INV1, A01, A03
#[test]
fn on_a_small_lattice_every_line_of_handoffs_is_inside_its_parents() {
    let tools = ["cloud.restart", "cloud.re*", "cloud.*"];
    let vms = [texts(&["db-1"]), texts(&["db-1", "db-2"]), Constraint::Any];
    let uses = [1, 2, 3];
    let asks: Vec<Capability> = tools
        .iter()
        .flat_map(|t| vms.iter().map(move |vm| to_use(t).arg("vm", vm.clone())))
        .flat_map(|c| uses.iter().map(move |n| c.clone().uses(*n)))
        .collect();
    let mut seen = BTreeSet::new();
    let mut open = vec![(to_use("cloud.*").uses(3).and_pass(&AGENTS, 5), 0u8)];
    let mut made = 0;
    while let Some((held, depth)) = open.pop() {
        if depth == 4 || !seen.insert((format!("{held:?}"), depth)) {
            continue;
        }
        for ask in &asks {
            let ask = ask.clone().and_pass(&AGENTS, 4 - depth);
            let mut world = World::holding(vec![held.clone()]);
            let request = world.handoff("planner", "executor", vec![ask.clone()]);
            let handed = world.hand(&request);
            let narrower = |t: &str| tools.iter().position(|x| *x == t).unwrap();
            let index = |c: &Capability| {
                let vm = vms.iter().position(|v| Some(v) == c.args.get("vm")).unwrap_or(2);
                (narrower(&c.tool.to_string()), vm, c.limits.uses.unwrap())
            };
            let (own, theirs) = (index(&ask), index(&held));
            let inside = own.0 <= theirs.0 && own.1 <= theirs.1 && own.2 <= theirs.2;
            assert_eq!(handed.outcome == Ruled::Allow, inside, "{ask:?} of {held:?}: {:?}", handed.why);
            if let Some(new) = handed.grant {
                let child = world.task.grant(&new.grant).unwrap();
                assert_eq!(is_contained(&world.task, child), Ok(()));
                open.push((child.held[0].capability.clone(), depth + 1));
                made += 1;
            }
        }
    }
    assert!(made > 500, "{made}");
}
