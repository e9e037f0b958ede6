//! The event stream.

use std::time::Duration;

use bailiwick_api::client::EventStream;
use bailiwick_api::wire::{EndCause, EventNotice, TaskEnd};

use crate::world::*;

async fn next(stream: &mut EventStream) -> EventNotice {
    let next = tokio::time::timeout(Duration::from_secs(20), stream.next());
    next.await.expect("an event comes").unwrap().expect("the stream goes on")
}

#[tokio::test]
async fn a_stream_resumes_where_it_broke_off() {
    let world = World::new().await;
    let root = world.sign_in("root");
    let mut live = root.events(None).await.unwrap();
    let task = world.open().await;
    let opened = next(&mut live).await;
    assert_eq!((opened.kind.as_str(), opened.task.as_deref()), ("opened", Some(task.task.as_str())));
    drop(live);
    world.token("support", task.grant.as_str()).await;
    let end = TaskEnd { cause: EndCause::Completed, reason: String::new() };
    world.sign_in("dana").end_task(&task.task, &end).await.unwrap();

    let world = world.restarted().await;
    let mut resumed = world.sign_in("root").events(Some(opened.index)).await.unwrap();
    let (minted, ended) = (next(&mut resumed).await, next(&mut resumed).await);
    assert_eq!((minted.kind.as_str(), ended.kind.as_str()), ("token_minted", "ended"));
    assert_eq!((minted.index, ended.index), (opened.index + 1, opened.index + 2), "nothing is missed");
}

#[tokio::test]
async fn a_person_sees_what_they_may_see_and_no_more() {
    let world = World::new().await;
    let mut danas = world.sign_in("dana").events(None).await.unwrap();
    let mut mallorys = world.sign_in("mallory").events(None).await.unwrap();
    let root = world.sign_in("root");
    let directory = bailiwick_api::wire::DirectoryBody {
        own_domains: ["a.example".to_owned()].into(),
        ..Default::default()
    };
    root.set_directory(&directory).await.unwrap();
    let task = world.open().await;
    let seen = next(&mut danas).await;
    assert_eq!(seen.task.as_deref(), Some(task.task.as_str()), "not the registry's event before it");
    let mine = bailiwick_api::wire::TaskOpen::new("mine", agent("support"));
    let mine = world.sign_in("mallory").open_task(&mine).await.unwrap();
    assert_eq!(next(&mut mallorys).await.task.as_deref(), Some(mine.task.as_str()), "not dana's before it");
}

#[tokio::test]
async fn a_stream_ends_when_the_person_behind_it_changes() {
    let world = World::new().await;
    let mut danas = world.sign_in("dana").events(None).await.unwrap();
    let gone = bailiwick_api::wire::PersonSet {
        id: person("dana"),
        groups: Default::default(),
        workload: false,
        keys: Some(Default::default()),
    };
    world.sign_in("root").set_person(&gone).await.unwrap();
    let end = tokio::time::timeout(Duration::from_secs(20), danas.next()).await.unwrap().unwrap();
    assert!(end.is_none());
    assert_eq!(world.sign_in("dana").status().await.unwrap_err().code(), "person.unknown");
}

#[tokio::test]
async fn a_stop_ends_the_streams_instead_of_waiting_for_them() {
    let world = World::new().await;
    let mut danas = world.sign_in("dana").events(None).await.unwrap();
    world.state.end_streams();
    let end = tokio::time::timeout(Duration::from_secs(20), danas.next()).await.unwrap().unwrap();
    assert!(end.is_none());
}
