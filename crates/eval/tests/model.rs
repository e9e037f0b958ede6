//! The whole small house, every order of events, and proof that the checker still bites.
//!
//! Each test prints how many states it looked at; `-- --nocapture` shows it. A broken promise is told with a
//! way that leads to it.

use std::collections::BTreeSet;

use bailiwick_eval::model::{ALWAYS, Fault, House, INV1, INV2, INV3, INV4, INV7, INV10, SOMETIMES};
use stateright::{Checker, HasDiscoveries, Model};

// proves: INV1, INV2, INV3, INV4, INV7, INV10
#[test]
fn in_every_order_of_events_the_house_keeps_its_promises() {
    let checker = House::new(None).checker().threads(2).spawn_bfs().join();
    let (states, tried, depth) = (checker.unique_state_count(), checker.state_count(), checker.max_depth());
    println!("sound house: {states} states, {tried} transitions, {depth} deep");
    for name in ALWAYS {
        if let Some(path) = checker.discovery(name) {
            panic!("{name} is broken by: {:#?}", path.into_actions());
        }
    }
    for name in SOMETIMES {
        assert!(checker.discovery(name).is_some(), "never reached: {name}");
    }
    assert!(checker.is_done() && states > 50_000, "only {states} states: the house has become too small");
}

/// The fault is caught, by this promise and by no luck: the path that breaks it is found and told.
fn bites(fault: Fault, breaks: &'static str) {
    let checker = House::new(Some(fault))
        .checker()
        .finish_when(HasDiscoveries::AnyOf(BTreeSet::from([breaks])))
        .spawn_bfs()
        .join();
    let states = checker.unique_state_count();
    let path = checker.discovery(breaks).unwrap_or_else(|| panic!("{fault:?} does not break {breaks}"));
    println!("{fault:?} breaks {breaks} ({states} states): {:?}", path.into_actions());
}

#[test]
fn a_grant_made_as_it_was_asked_for_is_caught() {
    bites(Fault::GrantAsAsked, INV1);
}

#[test]
fn appending_without_the_version_is_caught_by_every_promise_it_breaks() {
    for broken in [INV2, INV3, INV4, INV10] {
        bites(Fault::AppendWithoutVersion, broken);
    }
}

#[test]
fn appending_without_a_look_at_the_registry_is_caught() {
    bites(Fault::AppendWithoutGuard, INV4);
}

#[test]
fn an_approval_that_is_found_without_its_act_is_caught() {
    bites(Fault::ApprovalWithoutAct, INV3);
}

#[test]
fn an_approval_that_can_be_used_again_is_caught() {
    bites(Fault::ApprovalReusable, INV3);
}

#[test]
fn looking_at_a_grant_without_those_above_it_is_caught() {
    bites(Fault::LivenessWithoutAncestors, INV4);
}

#[test]
fn children_who_are_not_charged_to_their_parents_are_caught() {
    bites(Fault::ChildrenUncharged, INV10);
}

#[test]
fn acting_before_the_append_is_caught() {
    bites(Fault::EffectBeforeAppend, INV7);
}
