//! Every kind of credential against every route.

use bailiwick_api::routes::{ROUTES, Route, Verb, Who};

use crate::world::*;

fn method(route: &Route) -> &'static str {
    match route.verb {
        Verb::Get => "GET",
        Verb::Post => "POST",
        Verb::Put => "PUT",
        Verb::Delete => "DELETE",
    }
}

fn path(route: &Route) -> String {
    route.path.replace("{id}", "t-nothing")
}

/// Sends what the route could take, with these headers; gives the status.
async fn knock(world: &World, route: &Route, headers: &[(&str, String)]) -> u16 {
    let url = format!("{}{}", world.base, path(route));
    let mut request = world.http.request(method(route).parse().unwrap(), url);
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let request = match route.takes {
        Some("TokenForm") => request.header("content-type", "application/x-www-form-urlencoded"),
        Some(_) => request.header("content-type", "application/json").body("{}"),
        None => request,
    };
    request.send().await.unwrap().status().as_u16()
}

// Keystone K10 of the threat model: no route reaches an effect around the guard.
#[tokio::test]
async fn nothing_changes_without_credentials() {
    let world = World::new().await;
    let before = world.size().await;
    let changing: Vec<&Route> = ROUTES.iter().filter(|r| r.changes()).collect();
    assert!(changing.len() > 15);
    for route in changing {
        assert_eq!(knock(&world, route, &[]).await, 401, "{} {}", method(route), route.path);
    }
    assert_eq!(world.size().await, before);
}

/// What a person or a thief may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Nothing,
    Operator,
    Person,
    Workload,
    UnknownKey,
    Token,
    TokenAsBearer,
    TokenWithoutProof,
    AssertionAsBearer,
    AssertionAsToken,
    KeyAsToken,
    ForeignPerson,
    ForeignToken,
}

const ALL: [Held; 13] = [
    Held::Nothing,
    Held::Operator,
    Held::Person,
    Held::Workload,
    Held::UnknownKey,
    Held::Token,
    Held::TokenAsBearer,
    Held::TokenWithoutProof,
    Held::AssertionAsBearer,
    Held::AssertionAsToken,
    Held::KeyAsToken,
    Held::ForeignPerson,
    Held::ForeignToken,
];

/// Whether a route is open to a holder: `None` if it must answer 401, otherwise whether it must answer 403.
fn expected(held: Held, who: Who) -> Option<bool> {
    match (who, held) {
        (Who::Anyone, _) => Some(false),
        (Who::Opener, Held::Operator | Held::Person | Held::Workload) => Some(false),
        (Who::Person | Who::Operator, Held::Workload) => Some(true),
        (Who::Person, Held::Operator | Held::Person) => Some(false),
        (Who::Operator, Held::Operator) => Some(false),
        (Who::Operator, Held::Person) => Some(true),
        (Who::Agent, Held::Token) => Some(false),
        _ => None,
    }
}

// proves: A07, A08, A09, I2, I3
#[tokio::test]
async fn no_credential_opens_a_door_that_is_not_its_own() {
    let (world, other) = (World::new().await, World::of("globex").await);
    let task = world.open().await;
    let token = world.token("support", task.grant.as_str()).await;
    let foreign = other.token("support", other.open().await.grant.as_str()).await;
    let headers = |held: Held, route: &Route| -> Vec<(&str, String)> {
        let bearer = |key: String| vec![("authorization", format!("Bearer {key}"))];
        let dpop = |w: &World, token: &str| {
            let proof = w.prove("support", method(route), &path(route), Some(token));
            vec![("authorization", format!("DPoP {token}")), ("dpop", proof)]
        };
        match held {
            Held::Nothing => vec![],
            Held::Operator => bearer(world.key("root")),
            Held::Person => bearer(world.key("dana")),
            Held::Workload => bearer(world.key("ci")),
            Held::UnknownKey => bearer(world.key("nobody")),
            Held::Token => dpop(&world, &token),
            Held::TokenAsBearer => bearer(token.clone()),
            Held::TokenWithoutProof => vec![("authorization", format!("DPoP {token}"))],
            Held::AssertionAsBearer => bearer(world.assertion("support")),
            Held::AssertionAsToken => dpop(&world, &world.assertion("support")),
            Held::KeyAsToken => dpop(&world, &world.key("root")),
            Held::ForeignPerson => bearer(other.key("root")),
            Held::ForeignToken => dpop(&other, &foreign),
        }
    };
    for held in ALL {
        let before = world.size().await;
        for route in ROUTES {
            let status = knock(&world, route, &headers(held, route)).await;
            let what = format!("{held:?} at {} {}: {status}", method(route), route.path);
            match expected(held, route.who) {
                None => assert_eq!(status, 401, "{what}"),
                Some(true) => assert_eq!(status, 403, "{what}"),
                Some(false) => assert!(!matches!(status, 401 | 403 | 405 | 500..), "{what}"),
            }
        }
        if !matches!(held, Held::Operator) {
            assert_eq!(world.size().await, before, "{held:?} changed something");
        }
    }
}

// proves: A07
#[tokio::test]
async fn a_workflow_opens_tasks_and_does_nothing_else() {
    let world = World::new().await;
    let ci = world.sign_in("ci");
    let task = bailiwick_api::wire::TaskOpen::new("nightly", agent("support"));
    let opened = ci.open_task(&task).await.unwrap();
    assert_eq!(ci.task(&opened.task).await.unwrap_err().code(), "person.workload");
    assert_eq!(ci.status().await.unwrap_err().code(), "person.workload");
}
