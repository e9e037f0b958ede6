//! The demo as the README promises it: one command, no network, no key, a document with a known form.

use crate::support::run_in;
use serde_json::{Value as Json, json};

/// The form of the document.
fn schema() -> Json {
    let denial = json!({"type": "object", "required": ["step", "rule", "reason", "code"], "properties": {
        "step": {"type": "integer", "minimum": 1, "maximum": 10},
        "rule": {"type": "string", "minLength": 1}, "reason": {"type": "string", "minLength": 1}, "code": {"type": "string", "minLength": 1}}});
    let count = json!({"type": "integer", "minimum": 0});
    let round = json!({"type": "object",
        "required": ["name", "harm_done", "legitimate_work_done", "denials", "asks", "standing_before", "standing_after", "events"],
        "properties": {
            "name": {"enum": ["unguarded", "guarded"]}, "harm_done": {"type": "boolean"}, "legitimate_work_done": {"type": "boolean"},
            "denials": {"type": "array", "items": denial}, "asks": count, "standing_before": count, "standing_after": count, "events": count}});
    json!({"type": "object", "required": ["rounds", "audit"], "properties": {
        "rounds": {"type": "array", "items": round, "minItems": 2, "maxItems": 2},
        "audit": {"type": "object", "required": ["verified", "tamper_detected", "checkpoint"], "properties": {
            "verified": {"type": "boolean"}, "tamper_detected": {"type": "boolean"}, "checkpoint": {"type": "string", "minLength": 1}}}}})
}

// proves: Z1, H1, H4, H7, A2, N1, R5, P1, P4
#[test]
fn the_demo_does_the_work_without_the_harm_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let document = run_in(folder.path(), &["demo", "--json"], &[]).json();
    let errors: Vec<String> =
        jsonschema::validator_for(&schema()).unwrap().iter_errors(&document).map(|e| e.to_string()).collect();
    assert_eq!(errors, Vec::<String>::new());
    let (before, after) = (&document["rounds"][0], &document["rounds"][1]);
    assert_eq!((&before["name"], &before["harm_done"]), (&"unguarded".into(), &true.into()));
    assert_eq!(
        (&after["name"], &after["harm_done"], &after["legitimate_work_done"]),
        (&"guarded".into(), &false.into(), &true.into())
    );
    assert_eq!(
        (&after["standing_before"], &after["standing_after"], &after["asks"]),
        (&0.into(), &0.into(), &1.into())
    );
    assert!(before["standing_after"].as_u64().unwrap() > 0 && after["events"].as_u64().unwrap() > 20);
    let codes: Vec<&str> =
        after["denials"].as_array().unwrap().iter().filter_map(|d| d["code"].as_str()).collect();
    for code in [
        "handoff.widens",
        "capability.none",
        "approval.not_yours",
        "approval.used",
        "policy.forbid",
        "task.ended",
    ] {
        assert!(codes.contains(&code), "{code} is not among {codes:?}");
    }
    for check in after["checks"].as_array().unwrap() {
        assert_eq!(check["held"], true, "{check}");
    }
    assert_eq!(
        (&document["audit"]["verified"], &document["audit"]["tamper_detected"]),
        (&true.into(), &true.into())
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn people_are_told_a_story() {
    let folder = tempfile::tempdir().unwrap();
    let ran = run_in(folder.path(), &["demo"], &[]);
    for word in
        ["GONE", "DENY", "Standing privileges: before 11, now 0", "initiated by", "verifies offline: yes"]
    {
        assert!(ran.good().contains(word), "{word}: {}", ran.out);
    }
    assert!(ran.out.lines().count() < 60, "it fits two screens");
}
