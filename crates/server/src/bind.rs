//! Routes bound to handlers: the table of the API on one side, the functions on the other.

use axum::Router;
use axum::extract::{Request, State};
use axum::routing::{MethodFilter, on};
use bailiwick_api::Caller;
use bailiwick_api::routes::{ROUTES, Route, Verb, Who};
use bailiwick_core::SystemId;
use bailiwick_core::agent::Person;
use futures_util::future::BoxFuture;

use crate::body::Reply;
use crate::guard::{self, Ask};
use crate::handle::{
    admin, approvals, audit, decisions, events, halts, leases, oauth, status, tasks, templates,
};
use crate::refusal::Refusal;
use crate::state::ServerState;

macro_rules! anyone {
    ($f:path) => {
        Handler::Anyone(|state, ask| Box::pin($f(state, ask)))
    };
}
macro_rules! person {
    ($f:path) => {
        Handler::Person(|state, person, ask| Box::pin($f(state, person, ask)))
    };
}
macro_rules! host {
    ($f:path) => {
        Handler::Host(|state, system, ask| Box::pin($f(state, system, ask)))
    };
}
macro_rules! agent {
    ($f:path) => {
        Handler::Agent(|state, caller, ask| Box::pin($f(state, caller, ask)))
    };
}

/// What a handler gives, some time later.
pub(crate) type Replying = BoxFuture<'static, Result<Reply, Refusal>>;

/// A handler, by whom it serves. None of these can be called without what its kind has to be proven first.
#[derive(Clone, Copy)]
pub(crate) enum Handler {
    /// Serves everybody, or proves its caller itself (the token endpoint).
    Anyone(fn(ServerState, Ask) -> Replying),
    /// Serves a signed-in person.
    Person(fn(ServerState, Person, Ask) -> Replying),
    /// Serves a proven agent.
    Agent(fn(ServerState, Caller, Ask) -> Replying),
    /// Serves a host of a target.
    Host(fn(ServerState, SystemId, Ask) -> Replying),
}

impl Handler {
    /// Whether it may stand behind a route for these.
    fn fits(&self, who: Who) -> bool {
        match self {
            Handler::Anyone(_) => matches!(who, Who::Anyone | Who::Client),
            Handler::Person(_) => matches!(who, Who::Person | Who::Opener | Who::Operator),
            Handler::Agent(_) => who == Who::Agent,
            Handler::Host(_) => who == Who::Host,
        }
    }
}

/// Moves the clock of a server that was started for tests. In no table: no other server has it.
const TEST_CLOCK: Route = Route {
    name: "test_clock",
    verb: Verb::Post,
    path: "/v1/test-clock",
    who: Who::Operator,
    about: "Moves the test clock",
    takes: Some("ClockAdvance"),
    gives: "",
    query: &[],
};

/// The API, to be mounted or served as it is. What is in the table without a fitting handler is not served.
pub fn router(state: ServerState) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        match bound(route) {
            Some(handler) => {
                let serve = move |State(state): State<ServerState>, request: Request| {
                    guard::serve(state, route, handler, request)
                };
                router = router.route(route.path, on(filter(route.verb), serve));
            }
            None => tracing::error!(route = route.name, "has no fitting handler and is not served"),
        }
    }
    if state.test_clock.is_some() {
        let serve = |State(state): State<ServerState>, request: Request| {
            guard::serve(state, &TEST_CLOCK, person!(status::advance), request)
        };
        router = router.route(TEST_CLOCK.path, on(filter(TEST_CLOCK.verb), serve));
    }
    router.method_not_allowed_fallback(guard::wrong_method).fallback(guard::no_such_route).with_state(state)
}

fn filter(verb: Verb) -> MethodFilter {
    match verb {
        Verb::Get => MethodFilter::GET,
        Verb::Post => MethodFilter::POST,
        Verb::Put => MethodFilter::PUT,
        Verb::Delete => MethodFilter::DELETE,
    }
}

/// The handler of a route, if it has one that fits.
fn bound(route: &Route) -> Option<Handler> {
    handler(route.name).filter(|handler| handler.fits(route.who))
}

fn handler(name: &str) -> Option<Handler> {
    Some(match name {
        "status" => person!(status::status),
        "standing" => person!(status::standing),
        "inventory" => person!(status::inventory),
        "agents" => person!(admin::agents),
        "set_agent" => person!(admin::set_agent),
        "agent" => person!(admin::agent),
        "retire_agent" => person!(admin::retire_agent),
        "tools" => person!(admin::tools),
        "tool" => person!(admin::tool),
        "classify" => person!(admin::classify),
        "people" => person!(admin::people),
        "set_person" => person!(admin::set_person),
        "directory" => person!(admin::directory),
        "set_directory" => person!(admin::set_directory),
        "policies" => person!(admin::policies),
        "set_policies" => person!(admin::set_policies),
        "check_policies" => person!(admin::check_policies),
        "policy_versions" => person!(admin::policy_versions),
        "policy_version" => person!(admin::policy_version),
        "use_policies" => person!(admin::use_policies),
        "replay_policies" => person!(admin::replay_policies),
        "open_task" => person!(tasks::open),
        "templates" => person!(templates::list),
        "template" => person!(templates::one),
        "add_template" => person!(templates::add),
        "remove_template" => person!(templates::remove),
        "open_from_template" => person!(templates::open),
        "tasks" => person!(tasks::list),
        "task" => person!(tasks::one),
        "task_events" => person!(tasks::events),
        "end_task" => person!(tasks::end),
        "freeze_task" => person!(tasks::freeze),
        "resume_task" => person!(tasks::resume),
        "halt" => person!(halts::halt),
        "lift" => person!(halts::lift),
        "approvals" => person!(approvals::list),
        "approval" => person!(approvals::card),
        "vote" => person!(approvals::vote),
        "why" => person!(decisions::why),
        "trace" => person!(decisions::trace),
        "checkpoint" => person!(audit::checkpoint),
        "audit_key" => person!(audit::key),
        "ledger" => person!(audit::ledger),
        "proof" => person!(audit::proof),
        "events" => person!(events::stream),
        "decide" => agent!(decisions::decide),
        "report" => agent!(decisions::report),
        "own_tools" => agent!(decisions::own_tools),
        "own_approval" => agent!(approvals::own),
        "hand_off" => agent!(decisions::hand_off),
        "amend" => agent!(decisions::amend),
        "lease" => agent!(leases::lease),
        "give_back" => agent!(leases::give_back),
        "acknowledge" => person!(leases::acknowledge),
        "receipt" => person!(leases::of_task),
        "principals" => host!(leases::principals),
        "token" => anyone!(oauth::token),
        "introspect" => person!(oauth::introspect),
        "metadata" => anyone!(oauth::metadata),
        "jwks" => anyone!(oauth::jwks),
        "healthz" => anyone!(status::healthz),
        "readyz" => anyone!(status::readyz),
        "openapi" => anyone!(status::openapi),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_of_the_table_has_a_handler_of_its_kind() {
        let missing: Vec<_> = ROUTES.iter().filter(|r| bound(r).is_none()).map(|r| r.name).collect();
        assert!(missing.is_empty(), "{missing:?}");
        let person = handler("halt").unwrap();
        assert!(!person.fits(Who::Anyone) && !person.fits(Who::Agent) && person.fits(Who::Operator));
    }
}
