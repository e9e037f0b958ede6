//! `Idempotency-Key`: the same again is answered, not done.

use bailiwick_api::wire::TaskOpen;

use crate::world::*;

#[tokio::test]
async fn the_same_key_opens_one_task_also_after_a_restart() {
    let world = World::new().await;
    let task = TaskOpen::new("tidy up", agent("support"));
    let first = world.sign_in("dana").once("k-1").open_task(&task).await.unwrap();
    let before = world.size().await;
    let again = world.sign_in("dana").once("k-1").open_task(&task).await.unwrap();
    assert_eq!(first, again);
    let world = world.restarted().await;
    let later = world.sign_in("dana").once("k-1").open_task(&task).await.unwrap();
    assert_eq!(first, later);
    assert_eq!(world.size().await, before, "answered, not done");

    let other = TaskOpen::new("something else", agent("support"));
    let reused = world.sign_in("dana").once("k-1").open_task(&other).await.unwrap_err();
    assert_eq!(reused.code(), "idempotency.reused");
    assert_eq!(world.size().await, before);
    let anew = world.sign_in("dana").once("k-2").open_task(&task).await.unwrap();
    assert_ne!(anew.task, first.task, "another key is another act");
    let root = world.sign_in("root").once("k-1").open_task(&task).await.unwrap();
    assert_ne!(root.task, first.task, "a key belongs to the person who sent it");
}

#[tokio::test]
async fn a_refusal_is_kept_as_well_and_races_do_a_thing_once() {
    let world = World::new().await;
    let nobody = TaskOpen::new("tidy up", agent("nobody"));
    let dana = world.sign_in("dana").once("k-1");
    let first = dana.open_task(&nobody).await.unwrap_err();
    let again = dana.open_task(&nobody).await.unwrap_err();
    assert_eq!((first.code(), again.code()), ("task.agent", "task.agent"));

    let task = TaskOpen::new("tidy up", agent("support"));
    let racing = world.sign_in("dana").once("k-2");
    let before = world.size().await;
    let all = futures_util::future::join_all((0..8).map(|_| racing.open_task(&task))).await;
    let opened: Vec<_> = all.iter().filter_map(|r| r.as_ref().ok()).collect();
    assert!(!opened.is_empty() && opened.iter().all(|o| *o == opened[0]));
    assert!(all.iter().filter_map(|r| r.as_ref().err()).all(|e| e.code() == "idempotency.unknown"));
    assert_eq!(world.size().await, before + 1, "one task was opened");
}
