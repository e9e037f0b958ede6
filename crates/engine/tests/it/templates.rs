//! Registered templates where several nodes and tenants share one log.

use std::collections::BTreeMap;

use bailiwick_core::TemplateName;
use bailiwick_core::template::TaskTemplate;
use bailiwick_engine::{Engine, NewTask};

use crate::world::*;

fn template(asks: u32) -> TaskTemplate {
    TaskTemplate {
        about: None,
        agent: agent("support"),
        inputs: BTreeMap::new(),
        chain: Some(json(r#"{"steps":[{"id":"read","agent":"support","act":"call","tool":"tickets.get"}]}"#)),
        ttl_s: None,
        asks: Some(asks),
        handoffs: None,
        depth: None,
        refusals: None,
        seeking: None,
    }
}

/// A task as the template with three questions says.
fn from(named: &str) -> NewTask {
    let says = template(3);
    NewTask { inputs: BTreeMap::new(), chain: says.chain, template: Some(named.to_owned()), ..a_task() }
}

async fn beside(world: &World, tenant: &str) -> Engine {
    Engine::open(world.engine.store().clone(), config(tenant, world.clock.clone())).await.unwrap()
}

// proves: T2, INV12
#[tokio::test]
async fn of_two_nodes_that_register_one_version_one_does_and_no_other_tenant_knows_of_it() {
    let world = World::new().await;
    let (other, stranger) = (beside(&world, "acme").await, beside(&world, "zenith").await);
    let (name, root) = (TemplateName::parse("tell").unwrap(), person("root"));
    let (one, two) = tokio::join!(
        world.engine.add_template(&root, &name, Some(1), template(3)),
        other.add_template(&root, &name, Some(1), template(4)),
    );
    let lost = match (one, two) {
        (Ok(_), Err(lost)) | (Err(lost), Ok(_)) => lost,
        both => panic!("{both:?}"),
    };
    assert_eq!(lost.code, "template.exists");
    let first = world.engine.template("tell@1").unwrap().1;
    assert_eq!(other.template("tell").unwrap().1, first, "both nodes know the same one");
    assert_eq!(
        other.add_template(&root, &name, Some(1), first.template).await.unwrap().to_string(),
        "tell@1"
    );
    assert_eq!(world.engine.templates().len(), 1, "the same again is nothing new");
    assert_eq!(stranger.template("tell@1").unwrap_err().code, "not_found");
    assert!(stranger.templates().is_empty());
}

// proves: T2, INV2
#[tokio::test]
async fn a_node_that_has_not_heard_of_a_removal_opens_nothing_from_it_either() {
    let world = World::new().await;
    let (name, root) = (TemplateName::parse("tell").unwrap(), person("root"));
    let id = world.engine.add_template(&root, &name, None, template(3)).await.unwrap();
    let other = beside(&world, "acme").await;
    let opened = world.engine.open_task(from("tell@1")).await.unwrap();
    other.remove_template(&root, &id).await.unwrap();
    // This node has not read on: it learns of it by losing the race.
    assert!(world.engine.template("tell@1").unwrap().1.removed.is_none());
    let refused = world.engine.open_task(from("tell@1")).await.unwrap_err();
    assert_eq!(refused.code, "template.removed");
    let summary = world.engine.summary(&opened.task).await.unwrap();
    assert_eq!(
        (summary.template.as_deref(), summary.live_grants),
        (Some("tell@1"), 1),
        "what was opened goes on"
    );
}

// proves: T2
#[tokio::test]
async fn a_template_that_asks_more_than_a_task_may_is_not_registered() {
    let world = World::new().await;
    let (name, root) = (TemplateName::parse("tell").unwrap(), person("root"));
    let refused = world.engine.add_template(&root, &name, None, template(201)).await.unwrap_err();
    assert_eq!(refused.code, "task.asks");
    assert!(refused.reason.contains("at most 200"), "{}", refused.reason);
    world.engine.add_template(&root, &name, None, template(200)).await.unwrap();
}

// proves: T1, T2
#[tokio::test]
async fn what_says_that_it_comes_from_a_version_is_that_version_in_every_part() {
    let world = World::new().await;
    let (name, root) = (TemplateName::parse("tell").unwrap(), person("root"));
    let shorter = TaskTemplate { ttl_s: Some(3600), ..template(3) };
    world.engine.add_template(&root, &name, None, shorter).await.unwrap();
    world.engine.open_task(from("tell@1")).await.unwrap();
    world.engine.open_task(NewTask { ttl_ms: 1000, ..from("tell@1") }).await.unwrap();
    let all = agent("remediator");
    let bad: [NewTask; 6] = [
        NewTask { asks: 4, ..from("tell@1") },
        NewTask { ttl_ms: 3_600_001, ..from("tell@1") },
        NewTask { chain: None, ..from("tell@1") },
        NewTask { chain: Some(json(CHAIN)), ..from("tell@1") },
        NewTask { capabilities: Some(vec![]), ..from("tell@1") },
        NewTask { agent: all, ..from("tell@1") },
    ];
    for (at, new) in bad.into_iter().enumerate() {
        assert_eq!(world.engine.open_task(new).await.unwrap_err().code, "template.differs", "{at}");
    }
    let more = NewTask { inputs: a_task().inputs, ..from("tell@1") };
    assert_eq!(world.engine.open_task(more).await.unwrap_err().code, "input.undeclared", "it declares none");
    for (named, code) in [("tell@2", "not_found"), ("tell@x", "id.malformed"), ("@", "id.malformed")] {
        assert_eq!(world.engine.open_task(from(named)).await.unwrap_err().code, code, "{named}");
    }
    // A name of one's own is only a name, as before.
    world.engine.open_task(NewTask { asks: 9, ..from("tell") }).await.unwrap();
}
