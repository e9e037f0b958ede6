//! The rules of the house, held against this repository.

use bailiwick_tidy::{RULES, Repo};

fn holds(rule: &str) {
    let repo = Repo::here().expect("the repository is readable");
    let (_, check) = RULES.iter().find(|(name, _)| *name == rule).expect("a rule of this name");
    let found: Vec<String> = check(&repo).iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "{} findings\n{}", found.len(), found.join("\n"));
}

#[test]
fn dependencies_point_down() {
    holds("layers");
}

#[test]
fn every_crate_inherits_what_the_house_decided() {
    holds("manifests");
}

#[test]
fn nothing_is_built_in_that_should_not_be() {
    holds("supply");
}

#[test]
fn files_say_what_they_promise_and_leave_nothing_lying_about() {
    holds("words");
}

#[test]
fn links_lead_somewhere() {
    holds("links");
}

#[test]
fn numbers_in_the_manual_are_those_in_the_code() {
    holds("defaults");
}

#[test]
fn pages_about_proofs_match_the_tests() {
    holds("proofs");
}
