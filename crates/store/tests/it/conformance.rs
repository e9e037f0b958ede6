//! What every backend must do, told as scenarios and run on each.

use std::collections::BTreeSet;

use bailiwick_store::{AppendError, HealthState, MAX_EVENTS_PER_APPEND, Remembered, ViewPut};

use crate::support::{Place, append, append_somewhere, assert_whole, event, everything, leaf, tree_hash};

/// Runs each scenario below on both backends, each in a place of its own.
macro_rules! on_both_backends {
    ($($scenario:ident)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $scenario() {
                super::$scenario(&super::Place::sqlite()).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $scenario() {
                super::$scenario(&super::Place::postgres().await).await;
            })*
        }
    };
}

on_both_backends! {
    what_is_appended_reads_back_in_order
    an_append_at_another_version_changes_nothing
    a_guard_that_stands_lets_through_and_one_that_moved_refuses
    views_change_with_their_events_or_not_at_all
    views_are_scanned_in_byte_order_by_prefix
    streams_are_listed_by_prefix_with_their_versions
    of_64_deciding_on_the_same_version_one_wins
    of_64_racing_on_one_stream_all_get_in_once_and_in_order
    racing_streams_share_one_ledger_without_gaps
    two_handles_on_one_guard_never_both_win
    the_tree_is_the_tree_of_the_events_at_every_size
    a_key_is_new_once_however_many_race
    a_key_counts_again_after_it_expired_and_expired_keys_go_away
    what_cannot_be_stored_is_refused_and_what_just_can_is_kept
    everything_is_there_after_opening_again
    a_checkpoint_is_kept_and_one_beyond_the_ledger_refused
    the_database_refuses_to_change_or_remove_an_event
    a_store_behind_its_checkpoint_does_not_open
    a_store_without_its_tail_does_not_open
    a_store_with_an_altered_event_does_not_open
    a_store_of_a_newer_program_does_not_open
    a_subscriber_hears_of_commits
    a_closed_store_says_so
    what_is_in_no_hurry_is_seen_by_reads_and_stands_before_what_follows
    what_is_in_no_hurry_is_written_though_nobody_asks_for_more
    what_is_in_no_hurry_hears_of_a_conflict_and_changes_nothing
    closing_writes_what_was_in_no_hurry_and_afterwards_nothing_is_taken
}

async fn what_is_in_no_hurry_is_seen_by_reads_and_stands_before_what_follows(place: &Place) {
    let store = place.open().await;
    for round in 0..20 {
        let soon = store.append_soon(append("task/1", 2 * round, &["soon"])).await.unwrap();
        if round % 2 == 0 {
            assert_eq!(store.version("task/1").await.unwrap(), 2 * round + 1, "a read sees it");
        }
        store.append_at(append("task/1", 2 * round + 1, &["now"])).await.unwrap();
        assert_eq!(soon.outcome().await.unwrap().version, 2 * round + 1);
    }
    let read = store.read("task/1", 0).await.unwrap();
    let said: Vec<&[u8]> = read.iter().map(|event| event.bytes.as_slice()).collect();
    assert_eq!(said, [b"soon".as_slice(), b"now"].repeat(20));
    assert_whole(&store).await;
}

async fn what_is_in_no_hurry_is_written_though_nobody_asks_for_more(place: &Place) {
    let store = place.open().await;
    let mut committed = store.subscribe();
    let mut soon = store.append_soon(append("task/1", 0, &["soon"])).await.unwrap();
    committed.wait_for(|size| *size == 1).await.unwrap();
    let outcome = loop {
        match soon.known() {
            Some(outcome) => break outcome,
            None => tokio::task::yield_now().await,
        }
    };
    assert_eq!(outcome.unwrap().version, 1);
}

async fn what_is_in_no_hurry_hears_of_a_conflict_and_changes_nothing(place: &Place) {
    let store = place.open().await;
    let first = store.append_soon(append("task/1", 0, &["first"])).await.unwrap();
    let second = store.append_soon(append("task/1", 0, &["second"])).await.unwrap();
    let third = store.append_soon(append("task/1", 2, &["built on the second"])).await.unwrap();
    assert_eq!(first.outcome().await.unwrap().version, 1);
    assert!(matches!(second.outcome().await, Err(AppendError::Conflict { .. })));
    assert!(matches!(third.outcome().await, Err(AppendError::Conflict { .. })));
    assert_eq!(store.read("task/1", 0).await.unwrap().len(), 1);
}

async fn closing_writes_what_was_in_no_hurry_and_afterwards_nothing_is_taken(place: &Place) {
    let store = place.open().await;
    let soon = store.append_soon(append("task/1", 0, &["soon"])).await.unwrap();
    store.close().await;
    assert_eq!(soon.outcome().await.unwrap().version, 1);
    let late = store.append_soon(append("task/1", 1, &["late"])).await.unwrap();
    assert!(matches!(late.outcome().await, Err(AppendError::Unavailable(_))));
    assert_eq!(place.open().await.version("task/1").await.unwrap(), 1);
}

async fn what_is_appended_reads_back_in_order(place: &Place) {
    let store = place.open().await;
    let first = store.append_at(append("task/1", 0, &["a", "b"])).await.unwrap();
    let second = store.append_at(append("task/1", 2, &["c"])).await.unwrap();
    assert_eq!((first.version, first.first_index), (2, 0));
    assert_eq!((second.version, second.first_index), (3, 2));

    let read = store.read("task/1", 1).await.unwrap();
    let brief: Vec<_> = read.iter().map(|r| (r.index, r.version, r.bytes.as_slice())).collect();
    assert_eq!(brief, [(1, 1, &b"b"[..]), (2, 2, b"c")]);
    assert_eq!(
        (read[0].stream.as_str(), read[0].kind.as_str(), read[0].time_ms),
        ("task/1", "test.happened", 1_700_000_000_000)
    );
    assert_eq!(store.version("task/1").await, Ok(3));
    assert_eq!((store.version("task/2").await, store.read("task/2", 0).await), (Ok(0), Ok(vec![])));
    assert_eq!(store.scan(1, 1).await.unwrap(), read[..1]);
    assert_whole(&store).await;
}

async fn an_append_at_another_version_changes_nothing(place: &Place) {
    let store = place.open().await;
    store.append_at(append("s", 0, &["a"])).await.unwrap();
    for stale in [0, 2, 7] {
        let refused = store.append_at(append("s", stale, &["b"])).await.unwrap_err();
        assert_eq!(refused, AppendError::Conflict { stream: "s".into(), actual: 1 });
        assert_eq!(refused.code(), "store.conflict");
    }
    store.append_at(append("s", 1, &["b"])).await.unwrap();
    assert_eq!(assert_whole(&store).await.len(), 2);
}

// proves: INV10
async fn a_guard_that_stands_lets_through_and_one_that_moved_refuses(place: &Place) {
    let store = place.open().await;
    store.append_at(append("agent/1", 0, &["enrolled"])).await.unwrap();
    let mut guarded = append("task/1", 0, &["opened"]);
    guarded.guards = vec![("agent/1".into(), 1), ("freeze/all".into(), 0)];
    store.append_at(guarded.clone()).await.unwrap();

    guarded.expect = 1;
    store.append_at(append("freeze/all", 0, &["frozen"])).await.unwrap();
    let refused = store.append_at(guarded).await.unwrap_err();
    assert_eq!(refused, AppendError::Conflict { stream: "freeze/all".into(), actual: 1 });
    assert_eq!(store.version("task/1").await, Ok(1));
}

async fn views_change_with_their_events_or_not_at_all(place: &Place) {
    let store = place.open().await;
    let put = |key: &str, value: Option<&str>| ViewPut {
        view: "open".into(),
        key: key.into(),
        value: value.map(|v| v.as_bytes().to_vec()),
    };
    let mut first = append("s", 0, &["a"]);
    first.views =
        vec![put("1", Some("draft")), put("1", Some("open")), put("2", Some("open")), put("3", None)];
    store.append_at(first.clone()).await.unwrap();
    assert_eq!(store.view_get("open", "1").await, Ok(Some(b"open".to_vec())), "the last one counts");
    assert_eq!(store.view_get("other", "1").await, Ok(None));

    first.views = vec![put("1", None), put("2", Some("stale"))];
    store.append_at(first.clone()).await.unwrap_err();
    assert_eq!(
        store.view_get("open", "1").await,
        Ok(Some(b"open".to_vec())),
        "a conflict leaves views alone"
    );

    (first.expect, first.events) = (1, vec![event("b")]);
    store.append_at(first).await.unwrap();
    assert_eq!(store.view_get("open", "1").await, Ok(None));
    assert_eq!(store.view_get("open", "2").await, Ok(Some(b"stale".to_vec())));
}

async fn views_are_scanned_in_byte_order_by_prefix(place: &Place) {
    let store = place.open().await;
    let keys = ["a", "a/1", "a/10", "a/2", "a/Z", "a/ä", "a/\u{10FFFF}", "a0", "b"];
    let mut filled = append("s", 0, &["a"]);
    let put = |key: &&str| ViewPut { view: "v".into(), key: (*key).into(), value: Some(vec![]) };
    filled.views = keys.iter().rev().map(put).collect();
    store.append_at(filled).await.unwrap();
    let scan = async |prefix: &str, after: Option<&str>, limit: usize| {
        let rows = store.view_scan("v", prefix, after, limit).await.unwrap();
        rows.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    assert_eq!(scan("", None, 99).await, keys);
    assert_eq!(scan("a/", None, 99).await, ["a/1", "a/10", "a/2", "a/Z", "a/ä", "a/\u{10FFFF}"]);
    assert_eq!(scan("a/", Some("a/10"), 2).await, ["a/2", "a/Z"]);
    assert_eq!(scan("c", None, 99).await, [""; 0]);
}

async fn streams_are_listed_by_prefix_with_their_versions(place: &Place) {
    let store = place.open().await;
    for (stream, texts) in
        [("task/2", &["x"][..]), ("task/1", &["x", "y"]), ("agent/1", &["x"]), ("task/3", &["x"])]
    {
        store.append_at(append(stream, 0, texts)).await.unwrap();
    }
    let listed = |name: &str, version: u64| (name.to_owned(), version);
    let tasks = [listed("task/1", 2), listed("task/2", 1), listed("task/3", 1)];
    assert_eq!(store.streams("task/", None, 99).await.unwrap(), tasks);
    assert_eq!(store.streams("task/", Some("task/1"), 1).await.unwrap(), tasks[1..2]);
    assert_eq!(store.streams("", None, 99).await.unwrap().len(), 4);
    assert_eq!(store.streams("zone/", None, 99).await.unwrap(), []);
}

// proves: INV10
async fn of_64_deciding_on_the_same_version_one_wins(place: &Place) {
    let store = place.open().await;
    store.append_at(append("s", 0, &["start"])).await.unwrap();
    for round in 1..4 {
        let tries = (0..64).map(|n| {
            let store = store.clone();
            tokio::spawn(async move { store.append_at(append("s", round, &[&format!("{round}/{n}")])).await })
        });
        let (mut won, mut lost) = (0, 0);
        for attempt in tries.collect::<Vec<_>>() {
            match attempt.await.unwrap() {
                Ok(appended) => won += u64::from(appended.version == round + 1),
                Err(AppendError::Conflict { actual, .. }) => lost += u64::from(actual == round + 1),
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!((won, lost), (1, 63));
    }
    assert_eq!(assert_whole(&store).await.len(), 4);
}

// proves: INV10
async fn of_64_racing_on_one_stream_all_get_in_once_and_in_order(place: &Place) {
    let store = place.open().await;
    let racers = (0..64).map(|n| {
        let store = store.clone();
        tokio::spawn(async move {
            let text = format!("racer {n}");
            let appended = append_somewhere(&store, "s", &text).await;
            (appended, text)
        })
    });
    let mut accepted = vec![];
    for racer in racers.collect::<Vec<_>>() {
        accepted.push(racer.await.unwrap());
    }
    accepted.sort_by_key(|(appended, _)| appended.version);
    let recorded = assert_whole(&store).await;
    assert_eq!(recorded.len(), 64);
    for ((appended, text), recorded) in accepted.iter().zip(&recorded) {
        assert_eq!((appended.version - 1, appended.first_index), (recorded.version, recorded.index));
        assert_eq!(text.as_bytes(), recorded.bytes);
    }
}

async fn racing_streams_share_one_ledger_without_gaps(place: &Place) {
    let store = place.open().await;
    let writers = (0..16).map(|n| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut indices = vec![];
            for version in 0..10 {
                let stream = format!("task/{n}");
                let appended = store.append_at(append(&stream, version * 2, &["x", "y"])).await.unwrap();
                indices.extend([appended.first_index, appended.first_index + 1]);
            }
            assert!(indices.is_sorted(), "a later append has an earlier index");
            indices
        })
    });
    let mut indices = BTreeSet::new();
    for writer in writers.collect::<Vec<_>>() {
        indices.extend(writer.await.unwrap());
    }
    assert!(indices.into_iter().eq(0..320), "each index was given once");
    assert_whole(&store).await;
}

// proves: INV10
async fn two_handles_on_one_guard_never_both_win(place: &Place) {
    let store = place.open().await;
    for round in 0..20 {
        let (left, right) = (format!("left/{round}"), format!("right/{round}"));
        let mut one = append(&left, 0, &["x"]);
        one.guards = vec![(right.clone(), 0)];
        let mut two = append(&right, 0, &["y"]);
        two.guards = vec![(left, 0)];
        let (one, two) = tokio::join!(store.append_at(one), store.append_at(two));
        assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
    }
}

// proves: INV8
async fn the_tree_is_the_tree_of_the_events_at_every_size(place: &Place) {
    let store = place.open().await;
    assert_eq!(store.head().await.unwrap().root.0, tree_hash(&[]));
    let texts: Vec<String> = (0..600).map(|n| format!("event {n}")).collect();
    let leaves: Vec<[u8; 32]> = texts.iter().map(|text| leaf(text.as_bytes())).collect();
    for (n, part) in texts.chunks(100).enumerate() {
        let part: Vec<&str> = part.iter().map(String::as_str).collect();
        store.append_at(append("s", n as u64 * 100, &part)).await.unwrap();
    }
    assert_whole(&store).await;
    for size in [0, 1, 2, 255, 256, 257, 511, 512, 513, 600] {
        let head = store.head_at(size).await.unwrap().unwrap();
        assert_eq!(head.root.0, tree_hash(&leaves[..size as usize]), "size {size}");
    }
    assert_eq!(store.head_at(601).await, Ok(None));
    let some = store.leaf_hashes(250, 260).await.unwrap();
    assert!(some.iter().map(|hash| hash.0).eq(leaves[250..260].iter().copied()));
    assert_eq!(store.leaf_hashes(590, 9999).await.unwrap().len(), 10);
    let tiles = store.tile_hashes(1, 0, 256).await.unwrap();
    assert!(tiles.iter().map(|hash| hash.0).eq([tree_hash(&leaves[..256]), tree_hash(&leaves[256..512])]));
}

async fn a_key_is_new_once_however_many_race(place: &Place) {
    let store = place.open().await;
    let racers = (0..64_u8).map(|n| {
        let store = store.clone();
        tokio::spawn(
            async move { (n, store.remember_once("proof", &[7; 32], vec![n], 1000, 1).await.unwrap()) },
        )
    });
    let (mut new, mut seen) = (vec![], vec![]);
    for racer in racers.collect::<Vec<_>>() {
        match racer.await.unwrap() {
            (n, Remembered::New) => new.push(vec![n]),
            (_, Remembered::Seen(value)) => seen.push(value),
        }
    }
    assert_eq!((new.len(), seen.len()), (1, 63));
    assert!(seen.iter().all(|value| *value == new[0]), "everyone sees the winner's value");
    let other_scope = store.remember_once("idempotency", &[7; 32], vec![1], 1000, 1).await.unwrap();
    assert_eq!(other_scope, Remembered::New);

    store.close().await;
    let store = place.open().await;
    let again = store.remember_once("proof", &[7; 32], vec![99], 1000, 2).await.unwrap();
    assert_eq!(again, Remembered::Seen(new[0].clone()), "it outlives the process");
}

async fn a_key_counts_again_after_it_expired_and_expired_keys_go_away(place: &Place) {
    let store = place.open().await;
    let key = |n: u8| [n; 32];
    for n in 0..40 {
        assert_eq!(store.remember_once("s", &key(n), vec![n], 100, 1).await, Ok(Remembered::New));
    }
    assert_eq!(store.remember_once("s", &key(0), vec![9], 200, 99).await, Ok(Remembered::Seen(vec![0])));
    assert_eq!(store.remember_once("s", &key(0), vec![9], 200, 100).await, Ok(Remembered::New));
    assert_eq!(store.remember_once("s", &key(0), vec![8], 300, 101).await, Ok(Remembered::Seen(vec![9])));
    place.sql("INSERT INTO remembered (scope, key, value, expires_ms) SELECT 'left', key, value, expires_ms FROM remembered WHERE expires_ms <= 100").await.unwrap();
    assert_eq!(store.remember_once("s", &key(50), vec![], 300, 150).await, Ok(Remembered::New));
    let lone_row = "INSERT INTO remembered (scope, key, value, expires_ms) SELECT scope, key, value, 1 FROM remembered WHERE scope = 'left'";
    place.sql(lone_row).await.expect("no expired row is left to collide with");
}

// proves: A72
async fn what_cannot_be_stored_is_refused_and_what_just_can_is_kept(place: &Place) {
    let store = place.open().await;
    let max = bailiwick_audit::MAX_EVENT_BYTES;
    let mut big = append("s", 0, &["x"]);
    big.events[0].bytes = vec![b'x'; max + 1];
    assert_eq!(store.append_at(big.clone()).await.unwrap_err().code(), "store.refused");
    big.events[0].bytes.pop();
    store.append_at(big).await.unwrap();

    let many = vec!["x"; MAX_EVENTS_PER_APPEND];
    store.append_at(append("s", 1, &many)).await.unwrap();
    let too_many = vec!["x"; MAX_EVENTS_PER_APPEND + 1];
    let refused =
        [append("t", 0, &[]), append("t", 0, &too_many), append("t\0", 0, &["x"]), append("", 0, &["x"])];
    for refused in refused {
        assert_eq!(store.append_at(refused).await.unwrap_err().code(), "store.refused");
    }
    assert_eq!(store.version("t").await, Ok(0));
    assert_eq!(assert_whole(&store).await.len(), 1 + MAX_EVENTS_PER_APPEND);
    assert_eq!(store.health().state, HealthState::Up, "a refusal is not trouble");
}

// proves: INV7
async fn everything_is_there_after_opening_again(place: &Place) {
    let store = place.open().await;
    for n in 0..300 {
        store.append_at(append(&format!("task/{}", n % 7), n / 7, &[&format!("{n}")])).await.unwrap();
    }
    let (before, head) = (everything(&store).await, store.head().await.unwrap());
    store.close().await;

    let store = place.open().await;
    assert_eq!(assert_whole(&store).await, before);
    assert_eq!(store.head().await, Ok(head));
    let next = store.append_at(append("task/0", 43, &["on"])).await.unwrap();
    assert_eq!(next.first_index, 300);
    assert_whole(&store).await;
}

async fn a_checkpoint_is_kept_and_one_beyond_the_ledger_refused(place: &Place) {
    let store = place.open().await;
    assert_eq!(store.latest_checkpoint().await, Ok(None));
    store.append_at(append("s", 0, &["a", "b"])).await.unwrap();
    store.put_checkpoint(2, "two").await.unwrap();
    store.put_checkpoint(1, "one").await.unwrap();
    store.put_checkpoint(2, "two, countersigned").await.unwrap();
    assert_eq!(store.put_checkpoint(3, "three").await.unwrap_err().code(), "store.refused");
    let latest = store.latest_checkpoint().await.unwrap().unwrap();
    assert_eq!((latest.size, latest.note), (2, b"two, countersigned".to_vec()));
}

// proves: INV8, A67
async fn the_database_refuses_to_change_or_remove_an_event(place: &Place) {
    let store = place.open().await;
    store.append_at(append("s", 0, &["a", "b"])).await.unwrap();
    let before = everything(&store).await;
    for script in [
        "UPDATE events SET kind = 'other' WHERE idx = 0",
        "UPDATE events SET idx = 7 WHERE idx = 1",
        "DELETE FROM events WHERE idx = 1",
        "DELETE FROM events",
    ] {
        let refused = place.sql(script).await.unwrap_err();
        assert!(refused.contains("append-only"), "{script}: {refused}");
    }
    assert_eq!(assert_whole(&store).await, before);
}

/// Twenty events with a checkpoint over them, then the tail of five cut off by an administrator.
async fn cut_off(place: &Place, and: &str) {
    let store = place.open().await;
    store.append_at(append("s", 0, &["x"; 15])).await.unwrap();
    let fifteen = store.head().await.unwrap().size;
    place.sql("CREATE TABLE earlier AS SELECT * FROM frontier").await.unwrap();
    store.append_at(append("s", fifteen, &["y"; 5])).await.unwrap();
    store.put_checkpoint(20, "signed").await.unwrap();
    store.close().await;
    place.sql(&format!("{}; DELETE FROM events WHERE idx >= 15; {and}", disarm(place))).await.unwrap();
}

/// What an administrator must do first to alter events.
fn disarm(place: &Place) -> &'static str {
    match place.location() {
        bailiwick_store::Location::Sqlite(_) => {
            "DROP TRIGGER events_stay; DROP TRIGGER events_keep_what_they_say"
        }
        bailiwick_store::Location::Postgres(_) => "ALTER TABLE events DISABLE TRIGGER ALL",
    }
}

// proves: A69
async fn a_store_behind_its_checkpoint_does_not_open(place: &Place) {
    cut_off(place, "UPDATE frontier SET bytes = (SELECT bytes FROM earlier)").await;
    let refused = bailiwick_store::Store::open(place.location()).await.unwrap_err();
    assert_eq!(refused.code(), "store.rolled_back", "{refused}");

    place.sql("DELETE FROM checkpoints").await.unwrap();
    assert_eq!(place.open().await.head().await.unwrap().size, 15, "without the checkpoint it is whole");
}

// proves: A68
async fn a_store_without_its_tail_does_not_open(place: &Place) {
    cut_off(place, "DELETE FROM checkpoints").await;
    let refused = bailiwick_store::Store::open(place.location()).await.unwrap_err();
    assert_eq!(refused.code(), "store.corrupt", "{refused}");
}

// proves: A67
async fn a_store_with_an_altered_event_does_not_open(place: &Place) {
    let store = place.open().await;
    for n in 0..3 {
        store.append_at(append("s", n * 100, &["x"; 100])).await.unwrap();
    }
    store.close().await;
    place.sql(&format!("{}; UPDATE events SET bytes = leaf WHERE idx = 299", disarm(place))).await.unwrap();
    let refused = bailiwick_store::Store::open(place.location()).await.unwrap_err();
    assert_eq!(refused.code(), "store.corrupt", "{refused}");
}

async fn a_store_of_a_newer_program_does_not_open(place: &Place) {
    place.open().await.close().await;
    let newer = match place.location() {
        bailiwick_store::Location::Sqlite(_) => "PRAGMA user_version = 99",
        bailiwick_store::Location::Postgres(_) => "UPDATE schema_version SET version = 99",
    };
    place.sql(newer).await.unwrap();
    let refused = bailiwick_store::Store::open(place.location()).await.unwrap_err();
    assert_eq!(refused.code(), "store.schema", "{refused}");
    assert!(refused.to_string().contains("99"), "{refused}");
}

async fn a_subscriber_hears_of_commits(place: &Place) {
    let store = place.open().await;
    let mut committed = store.subscribe();
    assert_eq!(*committed.borrow_and_update(), 0);
    store.append_at(append("s", 0, &["a", "b"])).await.unwrap();
    assert_eq!(*committed.wait_for(|size| *size == 2).await.unwrap(), 2);
}

async fn a_closed_store_says_so(place: &Place) {
    let store = place.open().await;
    let clone = store.clone();
    store.append_at(append("s", 0, &["a"])).await.unwrap();
    store.close().await;
    assert_eq!(clone.append_at(append("s", 1, &["b"])).await.unwrap_err().code(), "store.closed");
    assert_eq!(clone.read("s", 0).await.unwrap_err().code(), "store.closed");
    let store = place.open().await;
    store.append_at(append("s", 1, &["b"])).await.unwrap();
}
