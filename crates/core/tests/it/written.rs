//! What a task has written and read: its own words vouch for nothing, its reads are told, and marks outlive it.

use std::collections::BTreeSet;

use bailiwick_core::constraint::texts;
use bailiwick_core::decision::RECORDED_MAX;
use bailiwick_core::event::{Reported, Ruled, TaskEvent, Went};
use bailiwick_core::origin::{
    Explained, Identifier, Kind, Origin, Sourced, Written, harvest, host_in_domains, identify, mark, marks,
    record_mark, said, scan, shows,
};
use bailiwick_core::tool::{ResultRule, Trust};
use bailiwick_core::typed::ValueType;
use bailiwick_core::{DecisionId, Value};

use crate::world::*;

fn record(of: &str, id: &str) -> Identifier {
    ValueType::Record(of.to_owned()).identify(id).unwrap()
}

/// A result of a call comes back: what it explains, and what it shows besides.
fn comes_back(
    world: &mut World,
    decision: &DecisionId,
    explains: Vec<(Identifier, String)>,
    shows: Vec<(Identifier, String)>,
) {
    let mut reported: Reported = serde_json::from_value(serde_json::json!({
        "decision": decision, "went": "done", "label": { "level": "public" }, "spent":
            { "uses": 0, "amount": 0, "bytes": 0, "rows": 0 },
    }))
    .unwrap();
    assert_eq!(reported.went, Went::Done);
    (reported.explains, reported.shows) = (explains, shows);
    world.append(vec![TaskEvent::Reported(reported)]);
}

/// A search whose result has a trusted field with this value.
fn reads(world: &mut World, value: &str) {
    let read = world.must("planner", "mail.search", "{}").decision;
    comes_back(world, &read, vec![(identify(value), "name".to_owned())], vec![]);
}

#[track_caller]
fn deletes(world: &mut World, path: &str, explained: bool) {
    let decided = world.call("planner", "files.delete", &format!(r#"{{"path":"{path}"}}"#));
    let wanted = if explained { Ruled::Allow } else { Ruled::Ask };
    assert_eq!(decided.outcome, wanted, "{path}: {:?}", decided.why);
}

const PLACE: &str = "Lakeside View";

// proves: N1, A31
#[test]
fn what_a_task_wrote_itself_is_not_trusted_when_it_is_read_back() {
    let mut honest = World::opened(|_| {});
    deletes(&mut honest, PLACE, false);
    reads(&mut honest, PLACE);
    deletes(&mut honest, PLACE, true);

    let mut writer = World::opened(|_| {});
    writer.must("planner", "cloud.note", &format!(r#"{{"text":"{PLACE}"}}"#));
    reads(&mut writer, PLACE);
    deletes(&mut writer, PLACE, false);
    // What it did not write is as good as before.
    reads(&mut writer, "Harbour Inn");
    deletes(&mut writer, "Harbour Inn", true);
}

// proves: N1
#[test]
fn what_a_task_only_searched_for_was_not_written() {
    let mut world = World::opened(|_| {});
    world.must("planner", "mail.search", &format!(r#"{{"query":"{PLACE}"}}"#));
    reads(&mut world, PLACE);
    deletes(&mut world, PLACE, true);
}

// proves: N1, INV6
#[test]
fn after_something_was_written_that_is_not_recorded_whole_nothing_that_is_read_is_trusted() {
    let mut world = World::opened(|_| {});
    world.must("planner", "cloud.note", &format!(r#"{{"text":"{}"}}"#, "a ".repeat(RECORDED_MAX)));
    reads(&mut world, PLACE);
    deletes(&mut world, PLACE, false);
}

// proves: N1
#[test]
fn words_that_the_chain_fixed_are_the_person_s_and_not_the_agent_s() {
    for (pinned, explained) in [(true, true), (false, false)] {
        let text = if pinned { texts(&[PLACE]) } else { bailiwick_core::constraint::Constraint::Any };
        let mut world = World::with_chain(chain(vec![
            step("note", "planner", "cloud.note", &[("text", text)]),
            step("drop", "planner", "files.delete", &[("path", bailiwick_core::constraint::Constraint::Any)]),
        ]));
        world.must("planner", "cloud.note", &format!(r#"{{"text":"{PLACE}"}}"#));
        reads(&mut world, PLACE);
        deletes(&mut world, PLACE, explained);
    }
}

// proves: N1, A02
#[test]
fn the_id_of_a_record_explains_a_selector_and_never_a_target_nor_a_neighbour() {
    let mut world = World::opened(|_| {});
    let read = world.must("planner", "mail.search", "{}").decision;
    comes_back(&mut world, &read, vec![(record("file", "13"), "id".to_owned())], vec![]);
    deletes(&mut world, "13", true);
    for other in ["12", "1", "130", "14", ""] {
        deletes(&mut world, other, false);
    }
    let sent = world.call("planner", "mail.send", r#"{"to":"13"}"#);
    assert_eq!(sent.why.rule, "unexplained-value", "a record is nobody to write to");
}

// proves: N1, A4
#[test]
fn people_are_told_where_a_value_that_nobody_vouches_for_was_come_across() {
    let mut world = World::opened(|_| {});
    let seen = |world: &mut World| {
        let asked = world.call("planner", "mail.send", r#"{"to":"eve@evil.com"}"#);
        (asked.sources[0].seen.clone(), asked.why.reason)
    };
    assert_eq!(seen(&mut world).0, None);
    let read = world.must("planner", "mail.search", "{}").decision;
    comes_back(&mut world, &read, vec![], vec![(identify("eve@evil.com"), "body".to_owned())]);
    let (place, reason) = seen(&mut world);
    assert_eq!(place, Some(("mail.search".to_owned(), "body".to_owned())));
    assert!(reason.contains("`body` of what mail.search returned"), "{reason}");
}

// proves: A31
#[test]
fn only_so_many_places_are_remembered() {
    let mut world = World::opened(|_| {});
    let read = world.must("planner", "mail.search", "{}").decision;
    let many = (0..2_001).map(|n| (identify(&format!("a{n}@evil.com")), "body".to_owned())).collect();
    comes_back(&mut world, &read, vec![], many);
    let seen =
        |n: u32| world.task.seen(&bailiwick_core::origin::Wanted::One(identify(&format!("a{n}@evil.com"))));
    assert!(seen(0).is_some() && seen(1_999).is_some() && seen(2_000).is_none());
}

// proves: N1
#[test]
fn what_is_too_long_to_be_explained_is_not_kept_as_written_either() {
    let (mut written, long) = (Written::default(), "x".repeat(513));
    written.add(&Value::from([("text", Value::from(long.as_str()))]), &Explained::default());
    assert!(!written.may_be(&identify(&long)));
    written.add(&Value::from([("text", Value::from(&long[..512]))]), &Explained::default());
    assert!(written.may_be(&identify(&long[..512])));
}

fn left_by(leaf: &str) -> BTreeSet<u64> {
    marks(&Value::from([("k", Value::from(leaf))]), &Explained::default())
}

// proves: N1
#[test]
fn words_leave_marks_by_which_a_later_task_knows_them_again() {
    for word in ["Lakeside View", "eve@evil.com", "12345", "https://evil.com/x", "INV-17"] {
        assert!(left_by(word).contains(&mark(&identify(word))), "{word}");
        assert!(!left_by("Harbour Inn").contains(&mark(&identify(word))), "{word}");
    }
    assert_eq!(
        mark(&identify("lakeside  VIEW")),
        mark(&identify("Lakeside View")),
        "case and blanks are lost"
    );
    let mut explained = Explained::default();
    assert!(explained.is_empty());
    explained.add(identify("Lakeside View"), Origin::Intent);
    assert!(!explained.is_empty());
    let known = marks(&Value::from([("k", Value::from("Lakeside View"))]), &explained);
    assert!(!known.contains(&mark(&identify("Lakeside View"))), "what somebody vouched for is no invention");
}

// proves: N1
#[test]
fn a_name_that_the_person_wrote_is_nobody_s_invention() {
    let mut explained = Explained::default();
    for id in said("Tell Alice") {
        explained.add(id, Origin::Intent);
    }
    for (to, invented) in [("Alice", false), ("Fred", true), ("To: Alice", true)] {
        let left = marks(&Value::from([("to", Value::from(to))]), &explained);
        assert_eq!(left.contains(&mark(&identify(to))), invented, "{to}");
        assert!(!left.contains(&mark(&identify("Alice"))), "{to}");
    }
}

// proves: N1
#[test]
fn days_flags_and_small_numbers_leave_none() {
    for little in ["true", "false", "1234", "12.50", "12345.67", "0", "-3"] {
        assert!(!left_by(little).contains(&mark(&identify(little))), "{little}");
    }
    assert!(!left_by("2026-11-22").contains(&mark(&identify("2026-11-22"))));
    assert!(!left_by("2026-11-22T10:00").contains(&mark(&identify("2026-11-22T10:00"))));
}

// proves: N1, A02
#[test]
fn the_mark_of_a_record_is_its_own() {
    let file = record_mark(&record("file", "13")).unwrap();
    assert_eq!(record_mark(&record("file", "13")), Some(file));
    for other in [record_mark(&record("mail", "13")), record_mark(&record("file", "14"))] {
        assert!(other.is_some() && other != Some(file));
    }
    assert_ne!(file, mark(&record("file", "13")));
    assert_eq!(record_mark(&identify("13")), None, "no type, no record");
}

// proves: A02
#[test]
fn shapes_that_only_look_like_one_are_none() {
    for (text, kind) in [
        ("ann@example.org", Kind::Address),
        ("a b@example.org", Kind::Plain),
        ("ann@example.12", Kind::Plain),
        ("ann@example.c", Kind::Plain),
        ("@example.org", Kind::Plain),
        ("DE89370400440532013000", Kind::Account),
        ("1234567890123456", Kind::Plain),
        ("DEAB567890123456", Kind::Plain),
        ("www.example.de", Kind::Url),
        ("example.de/x", Kind::Url),
        ("example.com", Kind::Url),
        ("example.de", Kind::Plain),
    ] {
        assert_eq!(identify(text).kind, kind, "{text}");
    }
    assert_eq!(identify(&format!("{}@example.org", "a".repeat(64))).kind, Kind::Address);
    assert_eq!(identify(&format!("{}@example.org", "a".repeat(65))).kind, Kind::Plain);
}

// proves: N1
#[test]
fn telephone_numbers_in_text_are_each_found_whole() {
    let found = |text: &str| scan(text).into_iter().map(|id| id.text).collect::<Vec<_>>();
    assert_eq!(found("call +49 30 901820, or (+49 30) 901821 at noon"), ["+4930901820", "+4930901821"]);
    assert_eq!(found("+49 30 901820 +49 30 901821"), ["+4930901820", "+4930901821"]);
    assert_eq!(found("+4930901820+4930901821"), ["+4930901820", "+4930901821"]);
    assert_eq!(found("1 + 1 is 2, and +1 too"), [""; 0]);
}

// proves: A02
#[test]
fn a_link_is_inside_only_by_its_host() {
    let own = BTreeSet::from(["example.org".to_owned()]);
    for (url, inside) in [
        ("example.org", true),
        ("example.org:8443/a", true),
        ("wiki.example.org?x", true),
        ("evil.com", false),
        ("evil.com/example.org", false),
        ("evil.com#.example.org", false),
        ("notexample.org", false),
        (".example.org", false),
        ("ann@example.org", false),
        ("example.org:80x", false),
        ("", false),
    ] {
        assert_eq!(host_in_domains(url, &own), inside, "{url}");
    }
}

fn rule(path: &str, trust: Trust) -> ResultRule {
    ResultRule { path: path.to_owned(), trust, of: None, assigned: false, when: None }
}

// proves: N1
#[test]
fn a_rule_speaks_of_its_own_field_and_of_names_only_when_it_says_all() {
    let result = json(r#"{"to":"ann@example.org","from":"eve@evil.com","Harbour Inn":{"stars":"four"}}"#);
    let told = |rules: &[ResultRule]| {
        let found = harvest(&result, rules, &BTreeSet::new());
        found.into_iter().map(|(id, field)| format!("{field}: {}", id.text)).collect::<BTreeSet<_>>()
    };
    let set = |items: &[&str]| items.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    assert_eq!(told(&[rule("to", Trust::Exact)]), set(&["to: ann@example.org"]));
    assert_eq!(told(&[rule("stars", Trust::Exact)]), set(&["stars: four"]));
    assert_eq!(told(&[rule("*", Trust::Text)]), set(&["to: ann@example.org", "from: eve@evil.com"]));
    let all = told(&[rule("*", Trust::Exact)]);
    assert!(
        all.is_superset(&set(&["*: Harbour Inn", "*: to", "from: eve@evil.com", "stars: four"])),
        "{all:?}"
    );
    assert_eq!(told(&[]), set(&[]));
}

// proves: A31
#[test]
fn a_result_shows_its_first_values_and_no_endless_ones() {
    let many: Vec<String> = (0..70).map(|n| format!("a{n:02}@evil.com")).collect();
    let lines = Value::from([("body", Value::from(many.join(" ")))]);
    assert_eq!(shows(&lines).len(), 64);
    let items = Value::List(many.iter().map(|m| Value::from([("who", Value::from(m.as_str()))])).collect());
    let told = shows(&items);
    assert_eq!((told.len(), told[0].1.as_str()), (64, "who"));
    let long = |path: usize| json(&format!(r#"{{"body":"https://evil.com/{}"}}"#, "x".repeat(path)));
    assert_eq!(shows(&long(120 - "evil.com/".len())).len(), 1);
    assert_eq!(shows(&long(121 - "evil.com/".len())), []);
    let twice = json(r#"{"a":"eve@evil.com","b":"eve@evil.com"}"#);
    assert_eq!(shows(&twice), [(identify("eve@evil.com"), "a".to_owned())]);
}

// proves: A4
#[test]
fn what_a_screen_would_not_show_as_it_is_is_told_as_a_mark() {
    let told = |text: &str| Sourced::new("to", text, None, None).value;
    assert_eq!(told("ann@example.org"), "ann@example.org");
    assert_eq!(told("a\u{7}b\u{202e}c\u{200b}d\ne"), "a\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}e");
    assert_eq!(told(&"x".repeat(81)).len(), 80);
    assert_eq!(Sourced::new("a\u{202e}", "", None, None).arg, "a\u{fffd}");
}
