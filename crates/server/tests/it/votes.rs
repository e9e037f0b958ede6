//! Answers to questions, forged, played again and asked for in floods.

use bailiwick_api::wire::*;

use crate::world::*;

async fn question(world: &World, who: (&str, &str), args: &str) -> serde_json::Value {
    let body = format!(r#"{{"tool":"cloud.restart","args":{args}}}"#);
    world.ask(who, "POST", "/v1/decisions", Some(&body)).await.1
}

/// A remediator of a new task, who may ask for `asks` restarts of production.
async fn remediator(world: &World, asks: u32) -> (TaskOpened, String) {
    let chain = CHAIN.replace(r#""after":["hand"],"max":2"#, r#""after":["hand"],"max":9"#);
    let chain = chain.replace(r#"{"one_of":["web-3","db-1"]}"#, "\"any\"");
    let task = TaskOpen {
        inputs: [("ticket".to_owned(), bailiwick_core::Value::Int(4711))].into(),
        chain: Some(json(&chain)),
        asks: Some(asks),
        ..TaskOpen::new("Fix ticket 4711: everything is slow", agent("support"))
    };
    let task = world.sign_in("dana").open_task(&task).await.unwrap();
    let token = world.token("support", task.grant.as_str()).await;
    let body = r#"{"to":"remediator","payload":{"summary":"slow"}}"#;
    let (_, made) = world.ask(("support", &token), "POST", "/v1/handoffs", Some(body)).await;
    let token = world.token("remediator", made["grant"].as_str().unwrap()).await;
    (task, token)
}

/// What a vote over plain HTTP is answered with.
async fn vote(world: &World, approval: &str, authorization: &str, body: &str) -> u16 {
    let url = format!("{}/v1/approvals/{approval}/votes", world.base);
    let request = world.http.post(url).header("content-type", "application/json").body(body.to_owned());
    let request =
        if authorization.is_empty() { request } else { request.header("authorization", authorization) };
    request.send().await.unwrap().status().as_u16()
}

const YES: &str = r#"{"vote":"approve"}"#;

// proves: A19, A3, A5, INV3
#[tokio::test]
async fn a_vote_counts_from_the_person_who_may_cast_it_once_and_from_nobody_else() {
    let world = World::new().await;
    let (_, token) = remediator(&world, 5).await;
    let who = ("remediator", token.as_str());
    let asked = question(&world, who, r#"{"name":"db-1"}"#).await;
    let approval = asked["approval"].as_str().unwrap_or_else(|| panic!("{asked}"));

    let bearer = |key: &str| format!("Bearer {key}");
    for (forged, says) in [
        ("".to_owned(), "nobody"),
        (bearer("bwk_forged"), "a made-up key"),
        (bearer(&world.key("nobody-of-that-name")), "a key of nobody"),
        (bearer(&format!("{} ", &world.key("omar")[..20])), "half a key"),
        (bearer(&token), "the agent's own token"),
        (format!("DPoP {token}"), "the same as what it is"),
        (bearer(&world.key("mallory")), "a person of another group"),
        (bearer(&world.key("ci")), "a workflow"),
    ] {
        let status = vote(&world, approval, &forged, YES).await;
        assert!(matches!(status, 401 | 403 | 404), "{says}: {status}");
    }
    let own = world.ask(who, "GET", &format!("/v1/self/approvals/{approval}"), None).await.1;
    assert_eq!(own["state"], "waiting", "none of it counted");

    let omar = bearer(&world.key("omar"));
    for odd in [r#"{"vote":"approve","by":"dana@example.org"}"#, r#"{"vote":"yes"}"#, "{}", ""] {
        assert!(vote(&world, approval, &omar, odd).await >= 400, "{odd}");
    }
    assert_eq!(vote(&world, "apr-forged-1", &omar, YES).await, 404);
    assert_eq!(vote(&world, approval, &omar, YES).await, 200);
    assert_eq!(vote(&world, approval, &omar, YES).await, 409, "played again");
    let done = question(&world, who, r#"{"name":"db-1"}"#).await;
    assert_eq!(done["effect"], "allow", "{done}");
    assert_eq!(vote(&world, approval, &omar, YES).await, 409, "played again after its use");
    let next = question(&world, who, r#"{"name":"db-1"}"#).await;
    assert_eq!(next["effect"], "ask", "one yes is one act: {next}");
}

// proves: A19, A5, N3
#[tokio::test]
async fn a_flood_of_questions_freezes_the_task_and_not_the_people() {
    let world = World::new().await;
    let (task, token) = remediator(&world, 3).await;
    let who = ("remediator", token.as_str());
    // The same act again is the same question, however often it is asked.
    for _ in 0..20 {
        assert_eq!(question(&world, who, r#"{"name":"db-1"}"#).await["effect"], "ask");
    }
    let omar = world.sign_in("omar");
    assert_eq!(omar.approvals().await.unwrap().len(), 1);
    // Each other act is another one, and the budget of them is the task's.
    for n in 0..20 {
        question(&world, who, &format!(r#"{{"name":"vm-{n}"}}"#)).await;
    }
    assert_eq!(omar.approvals().await.unwrap().len(), 3);
    let seen = world.sign_in("dana").task(&task.task).await.unwrap();
    assert!(format!("{seen:?}").contains("asked people 3 times"), "{seen:?}");
    let (other, token) = remediator(&world, 3).await;
    assert_eq!(question(&world, ("remediator", &token), r#"{"name":"db-1"}"#).await["effect"], "ask");
    assert_ne!(other.task, task.task, "other tasks ask on");
}
