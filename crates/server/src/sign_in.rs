//! Who is signed in: a person, by the key whose hash the registry keeps; a target's host, by its token.

use axum::http::{HeaderMap, header};
use bailiwick_api::routes::Who;
use bailiwick_api::wire::key_digest;
use bailiwick_core::agent::{OPERATORS, Person};
use bailiwick_core::{Digest, SystemId};
use bailiwick_engine::Engine;
use subtle::{Choice, ConstantTimeEq};

use crate::refusal::Refusal;
use crate::state::ServerState;

/// The person behind a request, if they may ask what this kind of route offers.
///
/// Every key of every person is compared, each in constant time, so that neither the key nor the place of its
/// owner shows in the time it takes.
pub(crate) fn person(engine: &Engine, headers: &HeaderMap, who: Who) -> Result<Person, Refusal> {
    let key = bearer(headers).and_then(key_digest).ok_or_else(Refusal::sign_in)?;
    let found = engine.look(|registry| {
        let mut found = None;
        for person in registry.people() {
            let hit = person
                .keys
                .iter()
                .fold(Choice::from(0), |hit, kept| hit | kept.as_bytes().ct_eq(key.as_bytes()));
            if bool::from(hit) {
                found = Some(person.clone());
            }
        }
        found
    });
    let person = found.ok_or_else(Refusal::sign_in)?;
    may(&person, who)?;
    Ok(person)
}

/// The target whose host this is, by the token that the target's configuration names.
pub(crate) fn host(state: &ServerState, headers: &HeaderMap) -> Result<SystemId, Refusal> {
    let shown = Digest::of(bearer(headers).unwrap_or_default().as_bytes());
    let mut found = None;
    for (system, kept) in state.host_tokens.iter() {
        if bool::from(kept.as_bytes().ct_eq(shown.as_bytes())) {
            found = Some(system.clone());
        }
    }
    found.ok_or_else(|| {
        let detail = "this needs the token of a target's host";
        Refusal::new(
            401,
            "host.unknown_token",
            detail,
            "send `Authorization: Bearer …` with the target's `host_token`",
        )
    })
}

/// Whether a person is one of those a route is for.
fn may(person: &Person, who: Who) -> Result<(), Refusal> {
    let workload = "a workflow may open tasks and nothing else";
    match who {
        Who::Opener => Ok(()),
        _ if person.workload => Err(Refusal::new(403, "person.workload", workload, "sign in as a person")),
        Who::Operator if !person.is_in(OPERATORS) => Err(Refusal::new(
            403,
            "person.not_operator",
            format!("only members of `{OPERATORS}` may do this"),
            "ask an operator",
        )),
        Who::Person | Who::Operator => Ok(()),
        Who::Anyone | Who::Agent | Who::Client | Who::Host => Err(Refusal::sign_in()),
    }
}

/// The bearer credential, if there is exactly one `Authorization` header.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(one), None) = (all.next(), all.next()) else { return None };
    let (scheme, key) = one.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

/// Whether a person answers for a task: who opened it, and operators.
pub(crate) fn answers_for(person: &Person, initiator: &bailiwick_core::PrincipalId) -> bool {
    person.id == *initiator || person.is_in(OPERATORS)
}
