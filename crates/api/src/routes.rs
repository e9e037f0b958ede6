//! Every route of the HTTP API: who may ask it, what goes in, what comes out.
//!
//! The server builds itself from this table and from nothing else: a route that is not here cannot be served,
//! and a route is guarded as it says here before its handler sees the request. The OpenAPI document is made of
//! the same table and is kept in `crates/api/openapi.json`.

use serde_json::{Map, Value as Json, json};
use utoipa::{PartialSchema, ToSchema};

use crate::wire::*;

/// The HTTP methods in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Looks; changes nothing.
    Get,
    /// Does something.
    Post,
    /// Replaces something.
    Put,
    /// Retires something.
    Delete,
}

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Everybody: it says nothing that is not public and changes nothing.
    Anyone,
    /// A person who is signed in; no workflow.
    Person,
    /// A person or a workflow.
    Opener,
    /// A person in the group `operators`.
    Operator,
    /// An agent with a task token and a proof of possession.
    Agent,
    /// An agent with an assertion by its registered key and a proof of possession.
    Client,
    /// A host of a target, with the token that the target's configuration names.
    Host,
}

/// One route.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// Its name; unique.
    pub name: &'static str,
    /// The method.
    pub verb: Verb,
    /// The path, with `{id}` where a name stands.
    pub path: &'static str,
    /// Who may ask.
    pub who: Who,
    /// What it does.
    pub about: &'static str,
    /// The schema of the body, if it takes one. `[Name]` is a list.
    pub takes: Option<&'static str>,
    /// The schema of the answer; empty for none.
    pub gives: &'static str,
    /// Query parameters.
    pub query: &'static [&'static str],
}

impl Route {
    /// Whether it can change state.
    pub fn changes(&self) -> bool {
        self.verb != Verb::Get
    }
}

const fn get(
    name: &'static str,
    path: &'static str,
    who: Who,
    gives: &'static str,
    about: &'static str,
) -> Route {
    Route { name, verb: Verb::Get, path, who, about, takes: None, gives, query: &[] }
}

const fn body(
    verb: Verb,
    name: &'static str,
    path: &'static str,
    who: Who,
    (takes, gives): (&'static str, &'static str),
    about: &'static str,
) -> Route {
    Route { name, verb, path, who, about, takes: Some(takes), gives, query: &[] }
}

const fn with(route: Route, query: &'static [&'static str]) -> Route {
    Route { query, ..route }
}

use Verb::{Delete, Post, Put};
use Who::{Agent, Anyone, Client, Host, Opener, Operator, Person};

/// All of them.
pub const ROUTES: &[Route] = &[
    get("status", "/v1/status", Person, "Status", "The control plane at a glance"),
    get("standing", "/v1/standing", Person, "StandingView", "What stands anywhere, right now"),
    get("inventory", "/v1/inventory", Person, "InventoryView", "What is alive"),
    get("agents", "/v1/agents", Person, "[AgentView]", "All agents"),
    body(
        Post,
        "set_agent",
        "/v1/agents",
        Operator,
        ("AgentSet", "AgentView"),
        "Registers an agent or changes it; grants nothing",
    ),
    get("agent", "/v1/agents/{id}", Person, "AgentView", "One agent"),
    Route {
        name: "retire_agent",
        verb: Delete,
        path: "/v1/agents/{id}",
        who: Operator,
        about: "Retires an agent for good and ends what it holds",
        takes: None,
        gives: "HaltedView",
        query: &[],
    },
    get("tools", "/v1/tools", Person, "[ToolDetail]", "All tools, with where each stands"),
    get("tool", "/v1/tools/{id}", Person, "ToolDetail", "One tool"),
    body(Put, "classify", "/v1/tools/{id}", Operator, ("ToolSet", "ToolDetail"), "Classifies a tool"),
    get("people", "/v1/people", Operator, "[PersonView]", "All people and workflows"),
    body(
        Post,
        "set_person",
        "/v1/people",
        Operator,
        ("PersonSet", "PersonView"),
        "Registers a person or workflow, or changes them",
    ),
    get(
        "directory",
        "/v1/directory",
        Operator,
        "DirectoryBody",
        "The organisation's own domains and known values",
    ),
    body(
        Put,
        "set_directory",
        "/v1/directory",
        Operator,
        ("DirectoryBody", "DirectoryBody"),
        "Replaces the directory",
    ),
    get("policies", "/v1/policies", Operator, "PolicySetView", "The active policies"),
    body(
        Put,
        "set_policies",
        "/v1/policies",
        Operator,
        ("[PolicySource]", "PolicyActive"),
        "Makes these policies the active ones",
    ),
    body(
        Post,
        "check_policies",
        "/v1/policies/check",
        Operator,
        ("[PolicySource]", "PolicyCheck"),
        "Whether these policies could be made active; changes nothing",
    ),
    get(
        "policy_versions",
        "/v1/policies/versions",
        Operator,
        "[PolicyVersionView]",
        "Every set of policies that was ever active, the newest first",
    ),
    get("policy_version", "/v1/policies/versions/{id}", Operator, "PolicySetView", "The text of one of them"),
    body(
        Post,
        "use_policies",
        "/v1/policies/use",
        Operator,
        ("PolicyUse", "PolicyActive"),
        "Makes a set active again that was active before",
    ),
    body(
        Post,
        "replay_policies",
        "/v1/policies/replay",
        Operator,
        ("ReplayAsk", "ReplayView"),
        "What recorded decisions would have been under these policies; changes nothing",
    ),
    get(
        "templates",
        "/v1/templates",
        Opener,
        "[TemplateView]",
        "All versions of all registered task templates",
    ),
    body(
        Post,
        "add_template",
        "/v1/templates",
        Operator,
        ("TemplateAdd", "TemplateView"),
        "Registers a version of a task template, which never changes",
    ),
    get(
        "template",
        "/v1/templates/{id}",
        Opener,
        "TemplateView",
        "One version, as NAME@VERSION, or the newest of a name",
    ),
    Route {
        name: "remove_template",
        verb: Delete,
        path: "/v1/templates/{id}",
        who: Operator,
        about: "No further task can be opened from this version; those that were go on",
        takes: None,
        gives: "TemplateView",
        query: &[],
    },
    body(
        Post,
        "open_from_template",
        "/v1/templates/{id}/tasks",
        Opener,
        ("TemplateOpen", "TaskOpened"),
        "Opens a task from a registered template for whoever is signed in",
    ),
    body(
        Post,
        "open_task",
        "/v1/tasks",
        Opener,
        ("TaskOpen", "TaskOpened"),
        "Opens a task for whoever is signed in",
    ),
    with(
        get("tasks", "/v1/tasks", Person, "[TaskSummary]", "Tasks the asker may see, newest first"),
        &["limit"],
    ),
    get("task", "/v1/tasks/{id}", Person, "TaskDetail", "One task"),
    with(
        get("task_events", "/v1/tasks/{id}/events", Person, "[EventView]", "The events of a task"),
        &["from"],
    ),
    body(
        Post,
        "end_task",
        "/v1/tasks/{id}/end",
        Person,
        ("TaskEnd", "HaltedView"),
        "Ends a task; its initiator or an operator",
    ),
    get(
        "receipt",
        "/v1/tasks/{id}/receipt",
        Person,
        "ReceiptView",
        "What became of a task's credentials, and its receipt once all were seen gone",
    ),
    body(
        Post,
        "freeze_task",
        "/v1/tasks/{id}/freeze",
        Person,
        ("Reason", "TaskSummary"),
        "Freezes a task; its initiator or an operator",
    ),
    body(
        Post,
        "resume_task",
        "/v1/tasks/{id}/resume",
        Operator,
        ("Reason", "TaskSummary"),
        "Lets a frozen task go on",
    ),
    body(
        Post,
        "halt",
        "/v1/halts",
        Operator,
        ("HaltAsk", "HaltedView"),
        "Freezes or kills an agent, class, task, initiator, tools, or everything",
    ),
    body(
        Post,
        "lift",
        "/v1/halts/lift",
        Operator,
        ("LiftAsk", ""),
        "Lifts a freeze or a kill; what ended stays ended",
    ),
    get(
        "approvals",
        "/v1/approvals",
        Person,
        "[ApprovalSummary]",
        "Questions that wait and that the asker may see, oldest first",
    ),
    get(
        "approval",
        "/v1/approvals/{id}",
        Person,
        "ApprovalCard",
        "One question: computed facts first, the agent's words last",
    ),
    body(
        Post,
        "vote",
        "/v1/approvals/{id}/votes",
        Person,
        ("VoteBody", "ApprovalSummary"),
        "Answers a question",
    ),
    get("why", "/v1/decisions/{id}", Person, "DecisionView", "A decision explained"),
    get("trace", "/v1/decisions/{id}/trace", Person, "TraceView", "From a decision back to the human intent"),
    get(
        "checkpoint",
        "/v1/audit/checkpoint",
        Person,
        "CheckpointView",
        "The newest signed head of the ledger",
    ),
    get("audit_key", "/v1/audit/key", Person, "AuditKeyView", "The key that verifies it"),
    with(
        get("ledger", "/v1/audit/events", Operator, "LedgerPage", "A page of the ledger"),
        &["from", "limit"],
    ),
    get("proof", "/v1/audit/proofs/{id}", Operator, "ProofView", "The receipt of the event at an index"),
    get(
        "events",
        "/v1/events",
        Person,
        "EventNotice",
        "Committed events as they happen (text/event-stream), resumable by Last-Event-ID",
    ),
    body(Post, "decide", "/v1/decisions", Agent, ("CallAsk", "CallAnswer"), "Decides one tool call"),
    body(
        Post,
        "report",
        "/v1/decisions/{id}/outcome",
        Agent,
        ("OutcomeBody", ""),
        "Reports what came of an allowed call",
    ),
    get("own_tools", "/v1/self/tools", Agent, "[ToolOffer]", "The tools that could be allowed to the caller"),
    get(
        "own_approval",
        "/v1/self/approvals/{id}",
        Agent,
        "ApprovalStateView",
        "The state of a question the caller asked",
    ),
    body(
        Post,
        "hand_off",
        "/v1/handoffs",
        Agent,
        ("HandoffBody", "HandoffAnswer"),
        "Hands part of the caller's authority to another agent",
    ),
    body(
        Post,
        "amend",
        "/v1/amendments",
        Agent,
        ("AmendBody", "AmendAnswer"),
        "Asks people for an addition to the chain of the caller's task",
    ),
    body(
        Post,
        "lease",
        "/v1/leases",
        Agent,
        ("LeaseAsk", "LeaseAnswer"),
        "Asks for a credential in a target system; its secrets are told once",
    ),
    Route {
        name: "give_back",
        verb: Delete,
        path: "/v1/leases/{id}",
        who: Agent,
        about: "Gives a credential back before its time",
        takes: None,
        gives: "LeaseView",
        query: &[],
    },
    body(
        Post,
        "acknowledge",
        "/v1/leases/{id}/acknowledge",
        Operator,
        ("Reason", "LeaseView"),
        "Notes that a person knows of a standing debt; it stands all the same",
    ),
    with(
        get(
            "principals",
            "/v1/targets/{id}/principals",
            Host,
            "PrincipalsView",
            "Whom a host of a target lets in for the login at hand: asked at every login, and only for now",
        ),
        &["user", "key_id", "serial"],
    ),
    body(
        Post,
        "token",
        "/oauth/token",
        Client,
        ("TokenForm", "TokenAnswer"),
        "Mints a task token (RFC 6749, 7523, 8693, 9449)",
    ),
    body(
        Post,
        "introspect",
        "/oauth/introspect",
        Operator,
        ("TokenForm", "Introspection"),
        "What a task token is (RFC 7662)",
    ),
    get(
        "metadata",
        "/.well-known/oauth-authorization-server",
        Anyone,
        "ServerMetadata",
        "Metadata of the authorization server (RFC 8414)",
    ),
    get("jwks", "/.well-known/jwks.json", Anyone, "Object", "The keys that verify task tokens (RFC 7517)"),
    get("healthz", "/healthz", Anyone, "HealthView", "Whether the server lives"),
    get("readyz", "/readyz", Anyone, "HealthView", "Whether it can decide"),
    get("openapi", "/openapi.json", Anyone, "Object", "This document"),
];

/// The OpenAPI 3.1 document of the API. Members are sorted by name, however JSON objects are kept in this build.
pub fn openapi() -> Json {
    sorted(document())
}

fn sorted(json: Json) -> Json {
    match json {
        Json::Object(members) => {
            let mut members: Vec<_> = members.into_iter().collect();
            members.sort_by(|(a, _), (b, _)| a.cmp(b));
            Json::Object(members.into_iter().map(|(name, member)| (name, sorted(member))).collect())
        }
        Json::Array(items) => Json::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

fn document() -> Json {
    let mut paths: Map<String, Json> = Map::new();
    for route in ROUTES {
        let item = paths.entry(route.path).or_insert_with(|| json!({}));
        if let Some(item) = item.as_object_mut() {
            item.insert(verb(route.verb).to_owned(), operation(route));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "bailiwick",
            "version": "1",
            "description": "A runtime privilege control plane for AI agents. Times are milliseconds since 1970-01-01 00:00 UTC.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": {
                "person": { "type": "http", "scheme": "bearer", "description": "A person's key: `Authorization: Bearer bwk_…`" },
                "host": { "type": "http", "scheme": "bearer", "description": "The token of a target's hosts: `Authorization: Bearer …`" },
                "agent": { "type": "http", "scheme": "dpop", "description": "A task token and a proof of possession (RFC 9449): `Authorization: DPoP …` and `DPoP: …`; never a bearer token" },
            },
        },
    })
}

fn verb(verb: Verb) -> &'static str {
    match verb {
        Verb::Get => "get",
        Verb::Post => "post",
        Verb::Put => "put",
        Verb::Delete => "delete",
    }
}

fn operation(route: &Route) -> Json {
    let mut responses = Map::new();
    responses.insert("200".to_owned(), answer(route));
    responses.insert("default".to_owned(), refusal(route));
    let mut operation = json!({
        "operationId": route.name,
        "summary": route.about,
        "responses": responses,
        "parameters": parameters(route),
        "security": match route.who {
            Who::Anyone | Who::Client => json!([]),
            Who::Agent => json!([{ "agent": [] }]),
            Who::Host => json!([{ "host": [] }]),
            Who::Person | Who::Opener | Who::Operator => json!([{ "person": [] }]),
        },
    });
    if let (Some(takes), Some(operation)) = (route.takes, operation.as_object_mut()) {
        let media =
            if takes == "TokenForm" { "application/x-www-form-urlencoded" } else { "application/json" };
        let body = json!({ "required": true, "content": { media: { "schema": reference(takes) } } });
        operation.insert("requestBody".to_owned(), body);
    }
    operation
}

fn answer(route: &Route) -> Json {
    let media = if route.name == "events" { "text/event-stream" } else { "application/json" };
    match route.gives {
        "" => json!({ "description": "Done" }),
        gives => json!({ "description": "Done", "content": { media: { "schema": reference(gives) } } }),
    }
}

fn refusal(route: &Route) -> Json {
    let (media, schema) = match route.name {
        "token" => ("application/json", "OAuthError"),
        _ => (PROBLEM_JSON, "Problem"),
    };
    json!({ "description": "Refused", "content": { media: { "schema": reference(schema) } } })
}

fn parameters(route: &Route) -> Json {
    let mut all = Vec::new();
    if route.path.contains("{id}") {
        all.push(json!({ "name": "id", "in": "path", "required": true, "schema": { "type": "string" } }));
    }
    for name in route.query {
        let schema = match *name {
            "user" | "key_id" | "serial" => json!({ "type": "string" }),
            _ => json!({ "type": "integer", "minimum": 0 }),
        };
        all.push(json!({ "name": name, "in": "query", "schema": schema }));
    }
    let of_a_person = matches!(route.who, Who::Person | Who::Opener | Who::Operator);
    if route.verb == Verb::Post && of_a_person {
        all.push(json!({
            "name": "Idempotency-Key", "in": "header",
            "description": "Sent again with the same body, the request is answered as before and not done again",
            "schema": { "type": "string", "maxLength": 200 },
        }));
    }
    Json::Array(all)
}

/// `Name` or `[Name]`.
fn reference(name: &str) -> Json {
    match name.strip_prefix('[').and_then(|n| n.strip_suffix(']')) {
        Some(item) => json!({ "type": "array", "items": reference(item) }),
        None if name == "Object" => json!({ "type": "object" }),
        None => json!({ "$ref": format!("#/components/schemas/{name}") }),
    }
}

fn schemas() -> Map<String, Json> {
    let mut all = Map::new();
    macro_rules! add {
        ($($name:ident),* $(,)?) => { $( put::<$name>(&mut all); )* };
    }
    add!(
        AgentKey,
        AgentSet,
        AgentView,
        AllowBody,
        AmendAnswer,
        AmendBody,
        AmendedStep,
        ApprovalCard,
        ApprovalStateView,
        ApprovalSummary,
        AskBody,
        AuditKeyView,
        CallAnswer,
        CallAsk,
        CardAddition,
        CardAskedOf,
        CardExpiry,
        CardTask,
        CardTouches,
        CheckpointView,
        DecisionView,
        DenialBody,
        DirectoryBody,
        EndCause,
        EventNotice,
        EventView,
        GrantView,
        SeekingView,
        HaltAsk,
        HaltKind,
        HaltedView,
        HandoffAnswer,
        HandoffBody,
        HandoffMadeBody,
        HealthView,
        HeldView,
        Introspection,
        InventoryView,
        KeptHeadView,
        LeaseAnswer,
        LeaseAsk,
        LeaseBody,
        LeaseView,
        LedgerEvent,
        LedgerPage,
        LiftAsk,
        OAuthError,
        OpenCallView,
        OutcomeBody,
        OutcomeKind,
        PersonSet,
        PersonView,
        PrincipalsView,
        PolicyActive,
        PolicyCheck,
        PolicySetView,
        PolicySource,
        PolicyUse,
        PolicyVersionView,
        Problem,
        ProofView,
        Reason,
        ReceiptView,
        ReplayAsk,
        ReplayView,
        ReplayedView,
        ScopeKind,
        ServerMetadata,
        StandingView,
        Status,
        SuspensionView,
        TargetView,
        TaskDetail,
        TaskEnd,
        TaskOpen,
        TaskOpened,
        TaskSummary,
        TemplateAdd,
        TemplateOpen,
        TemplateView,
        TokenAnswer,
        TokenForm,
        ToolDetail,
        ToolOffer,
        ToolSet,
        TraceEnd,
        TraceView,
        UntoldView,
        UntrustedWords,
        VoteBody,
        VoteKind,
    );
    all
}

fn put<T: ToSchema + PartialSchema>(all: &mut Map<String, Json>) {
    let schema = serde_json::to_value(T::schema()).unwrap_or_else(|_| json!({}));
    all.insert(T::name().into_owned(), schema);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const CHECKED_IN: &str = include_str!("../openapi.json");

    /// The document as it is checked in: two spaces, one line feed at the end.
    fn printed() -> String {
        format!("{}\n", serde_json::to_string_pretty(&openapi()).unwrap())
    }

    #[test]
    fn the_checked_in_document_is_the_one_the_code_makes() {
        if std::env::var_os("BAILIWICK_WRITE_OPENAPI").is_some() {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
            std::fs::write(path, printed()).unwrap();
        } else {
            assert!(
                printed() == CHECKED_IN,
                "crates/api/openapi.json is stale: run `BAILIWICK_WRITE_OPENAPI=1 cargo test -p bailiwick-api document`, \
                 look at what changed and commit it"
            );
        }
    }

    #[test]
    fn every_reference_in_the_document_resolves() {
        let document = openapi();
        let known: BTreeSet<String> =
            document["components"]["schemas"].as_object().unwrap().keys().cloned().collect();
        let text = document.to_string();
        let used: BTreeSet<String> = text
            .split("#/components/schemas/")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap_or_default().to_owned())
            .collect();
        assert!(used.is_subset(&known), "unknown: {:?}", used.difference(&known).collect::<Vec<_>>());
        assert!(known.is_subset(&used), "unused: {:?}", known.difference(&used).collect::<Vec<_>>());
    }

    #[test]
    fn no_two_routes_share_a_name_or_a_place() {
        let names: BTreeSet<_> = ROUTES.iter().map(|r| r.name).collect();
        let places: BTreeSet<_> = ROUTES.iter().map(|r| (verb(r.verb), r.path)).collect();
        assert_eq!((names.len(), places.len()), (ROUTES.len(), ROUTES.len()));
    }

    #[test]
    fn what_changes_state_is_never_for_anyone() {
        assert!(ROUTES.iter().filter(|r| r.changes()).all(|r| r.who != Who::Anyone));
        assert!(ROUTES.iter().any(|r| r.who == Who::Anyone), "the pair: public looks exist");
    }
}
