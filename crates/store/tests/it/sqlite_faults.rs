//! The embedded store on a medium that refuses, fails, fills up or goes away.

use std::path::Path;
use std::process::Command;

use bailiwick_store::{HealthState, Location, Store};
use tokio::task::JoinSet;

use crate::support::{Place, append, append_somewhere, assert_whole, inside, run_inside};

/// Tells a story twice: where only the writer's own thread writes, and where its callers may.
fn both_ways(story: impl AsyncFn()) {
    let mut several = tokio::runtime::Builder::new_multi_thread();
    for runtime in [&mut tokio::runtime::Builder::new_current_thread(), several.worker_threads(2)] {
        runtime.enable_all().build().unwrap().block_on(story());
    }
}

async fn refusal(location: Location) -> &'static str {
    Store::open(location).await.unwrap_err().code()
}

#[tokio::test]
async fn a_second_writer_is_refused_until_the_first_has_closed() {
    let place = Place::sqlite();
    let first = place.open().await;
    assert_eq!(refusal(place.location()).await, "store.locked");
    append_somewhere(&first, "s", "the first goes on").await;
    first.close().await;
    append_somewhere(&place.open().await, "s", "the second may now").await;
}

#[test]
fn a_file_locked_from_outside_is_waited_for_then_refused_then_written_again() {
    both_ways(async || {
        let place = Place::sqlite();
        let store = place.open().await;
        append_somewhere(&store, "before", "quick").await;
        let outsider = rusqlite::Connection::open(place.file()).unwrap();
        outsider.execute_batch("BEGIN IMMEDIATE").unwrap();
        assert_eq!(store.append_at(append("s", 0, &["a"])).await.unwrap_err().code(), "store.locked");
        assert_eq!(store.health().state, HealthState::Failing);
        assert_eq!(store.version("s").await, Ok(0), "reading goes on");
        outsider.execute_batch("ROLLBACK").unwrap();
        store.append_at(append("s", 0, &["a"])).await.unwrap();
        assert_eq!(store.health().state, HealthState::Up);
        assert_eq!(store.health().last_error.unwrap().code(), "store.locked", "what happened is still told");
        assert_whole(&store).await;
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_one_caller_waits_for_a_locked_file_others_go_on() {
    let place = Place::sqlite();
    let store = place.open().await;
    append_somewhere(&store, "before", "quick").await;
    let outsider = rusqlite::Connection::open(place.file()).unwrap();
    outsider.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut waiting = JoinSet::new();
    for n in 0..8 {
        let (store, stream) = (store.clone(), format!("s-{n}"));
        waiting.spawn(async move { store.append_at(append(&stream, 0, &["a"])).await });
    }
    // Served by the same threads, before anything that waits for the file is let go.
    let going = tokio::spawn(async move {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        store.version("before").await
    });
    assert_eq!(going.await.unwrap(), Ok(1));
    outsider.execute_batch("ROLLBACK").unwrap();
    while let Some(appended) = waiting.join_next().await {
        appended.unwrap().unwrap();
    }
}

// proves: INV7
#[test]
fn nothing_is_acknowledged_into_a_file_that_was_removed_or_replaced() {
    both_ways(async || {
        for replace in [false, true] {
            let place = Place::sqlite();
            let store = place.open().await;
            store.append_at(append("s", 0, &["a"])).await.unwrap();
            std::fs::remove_file(place.file()).unwrap();
            if replace {
                std::fs::write(place.file(), "").unwrap();
            }
            for _ in 0..2 {
                assert_eq!(store.append_at(append("s", 1, &["b"])).await.unwrap_err().code(), "store.gone");
            }
            assert_eq!(store.health().state, HealthState::Stopped);
        }
    });
}

#[tokio::test]
async fn what_is_no_store_of_ours_is_not_opened_nor_changed() {
    let place = Place::sqlite();
    let nowhere = Location::Sqlite(place.folder().join("missing/ledger.db"));
    assert_eq!(refusal(nowhere).await, "store.gone");

    let garbage = "not a database, ".repeat(100);
    std::fs::write(place.file(), &garbage).unwrap();
    assert_eq!(refusal(place.location()).await, "store.corrupt");
    assert_eq!(std::fs::read_to_string(place.file()).unwrap(), garbage);

    let others = Place::sqlite();
    others.sql("CREATE TABLE accounts (id INTEGER)").await.unwrap();
    assert_eq!(refusal(others.location()).await, "store.schema");
    others.sql("INSERT INTO accounts VALUES (1)").await.unwrap();
}

#[tokio::test]
async fn the_log_is_folded_back_while_writing_goes_on() {
    let place = Place::sqlite();
    let store = place.open().await;
    let text = "x".repeat(32 << 10);
    for version in 0..1280 {
        store.append_at(append("s", version, &[&text])).await.unwrap();
    }
    let log = std::fs::metadata(place.folder().join("ledger.db-wal")).unwrap().len();
    assert!(log < 32 << 20, "the log is {log} bytes after writing 40 MiB");
    assert_eq!(store.head().await.unwrap().size, 1280);
}

#[tokio::test]
async fn the_log_has_its_room_before_it_is_needed_and_a_copy_of_it_opens() {
    let place = Place::sqlite();
    let store = place.open().await;
    let log = place.folder().join("ledger.db-wal");
    let laid_out = std::fs::metadata(&log).unwrap().len();
    assert_eq!(laid_out, 16 << 20);
    for version in 0..3 {
        store.append_at(append("s", version, &["said"])).await.unwrap();
    }
    assert_eq!(std::fs::metadata(&log).unwrap().len(), laid_out, "nothing was made longer");

    // What a crash leaves: events in a log whose rest is zeros.
    let left = Place::sqlite();
    for (from, to) in [(place.file(), left.file()), (log, left.folder().join("ledger.db-wal"))] {
        std::fs::copy(from, to).unwrap();
    }
    let after = left.open().await;
    assert_eq!(after.read("s", 0).await.unwrap().len(), 3);
    after.append_at(append("s", 3, &["said after"])).await.unwrap();
    assert_eq!(after.head().await.unwrap().size, 4);
}

/// A command whose mounts nobody else sees, with a small disk of its own at the folder.
fn with_small_disk(folder: &Path) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--map-root-user", "--", "sh", "-c"]);
    command.arg(r#"mount -t tmpfs -o size=1m small "$1" && shift && exec "$@""#).arg("sh").arg(folder);
    command
}

fn remount(folder: &Path, options: &str) {
    let remounted =
        Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(folder).status().unwrap();
    assert!(remounted.success());
}

// proves: INV6, INV7, A71
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_loses_nothing_and_is_written_again_when_freed() {
    let Some(folder) = inside().map(std::path::PathBuf::from) else {
        let folder = tempfile::tempdir().unwrap();
        let test = "sqlite_faults::a_full_disk_refuses_loses_nothing_and_is_written_again_when_freed";
        return run_inside(test, folder.path().as_os_str(), with_small_disk(folder.path()));
    };
    let location = Location::Sqlite(folder.join("ledger.db"));
    let store = Store::open(location.clone()).await.unwrap();
    let text = "x".repeat(2000);
    let mut version = 0;
    let error = loop {
        match store.append_at(append("s", version, &[&text])).await {
            Ok(appended) => version = appended.version,
            Err(error) => break error,
        }
        assert!(version < 2000, "a disk of 1 MiB never filled up");
    };
    assert_eq!(error.code(), "store.full", "{error}");
    assert_eq!(store.health().state, HealthState::Failing);
    assert_eq!(store.version("s").await, Ok(version), "reading goes on, and shows what was acknowledged");

    remount(&folder, "size=8m");
    store.append_at(append("s", version, &[&text])).await.unwrap();
    assert_eq!(store.health().state, HealthState::Up);
    store.close().await;
    let store = Store::open(location).await.unwrap();
    assert_eq!(assert_whole(&store).await.len() as u64, version + 1);
}

// proves: R3, A71
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_the_reserve_still_records_endings() {
    let Some(folder) = inside().map(std::path::PathBuf::from) else {
        let folder = tempfile::tempdir().unwrap();
        let test = "sqlite_faults::on_a_full_disk_the_reserve_still_records_endings";
        return run_inside(test, folder.path().as_os_str(), with_small_disk(folder.path()));
    };
    let store = Store::open(Location::Sqlite(folder.join("ledger.db"))).await.unwrap();
    store.keep_reserve(400 << 10).await.unwrap();
    assert_eq!(
        store.keep_reserve(64 << 20).await.unwrap_err().code(),
        "store.full",
        "more than the disk has"
    );
    store.keep_reserve(400 << 10).await.unwrap();
    let (text, mut version) = ("x".repeat(2000), 0);
    while let Ok(appended) = store.append_at(append("s", version, &[&text])).await {
        version = appended.version;
    }
    for ended in 0..10 {
        store.append_ending(append("ends", ended, &["revoked"])).await.unwrap();
        let ordinary = store.append_at(append("s", version, &["granted"])).await.unwrap_err();
        assert_eq!(ordinary.code(), "store.full");
    }
    assert_eq!(store.health().state, HealthState::Failing);
    assert_eq!(assert_whole(&store).await.len() as u64, version + 10);

    remount(&folder, "size=8m");
    while let Err(error) = store.append_at(append("s", version, &["granted"])).await {
        assert_eq!(error.code(), "store.full"); // until the reserve is set aside again
    }
    assert_eq!(store.health().state, HealthState::Up);
    assert_eq!(std::fs::metadata(folder.join("ledger.db.reserve")).unwrap().len(), 400 << 10);
}

// proves: INV6, A71
#[tokio::test]
async fn a_read_only_disk_is_named_as_such() {
    let Some(folder) = inside().map(std::path::PathBuf::from) else {
        let folder = tempfile::tempdir().unwrap();
        let test = "sqlite_faults::a_read_only_disk_is_named_as_such";
        return run_inside(test, folder.path().as_os_str(), with_small_disk(folder.path()));
    };
    let location = Location::Sqlite(folder.join("ledger.db"));
    let store = Store::open(location.clone()).await.unwrap();
    append_somewhere(&store, "s", "a").await;
    store.close().await;
    remount(&folder, "ro");
    assert_eq!(refusal(location.clone()).await, "store.read_only");
    remount(&folder, "rw");
    append_somewhere(&Store::open(location).await.unwrap(), "s", "b").await;
}

/// Makes every flush fail while the file named in the environment exists.
const FAILING_FLUSH: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
static int flush(const char *name, int fd) {
    const char *trigger = getenv("BAILIWICK_FLUSH_FAILS");
    if (trigger && access(trigger, F_OK) == 0) { errno = EIO; return -1; }
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    return real(fd);
}
int fsync(int fd) { return flush("fsync", fd); }
int fdatasync(int fd) { return flush("fdatasync", fd); }
"#;

// proves: INV7, A71
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failed_flush_nothing_is_acknowledged_until_the_store_is_opened_again() {
    let Some(folder) = inside().map(std::path::PathBuf::from) else {
        let folder = tempfile::tempdir().unwrap();
        let (source, library) = (folder.path().join("flush.c"), folder.path().join("flush.so"));
        std::fs::write(&source, FAILING_FLUSH).unwrap();
        let compiled =
            Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
        assert!(compiled.unwrap().success(), "a C compiler is needed, as for the bundled SQLite");
        let mut with_library = Command::new("env");
        with_library.arg(format!("LD_PRELOAD={}", library.display()));
        with_library.arg(format!("BAILIWICK_FLUSH_FAILS={}", folder.path().join("fail").display()));
        let test =
            "sqlite_faults::after_a_failed_flush_nothing_is_acknowledged_until_the_store_is_opened_again";
        return run_inside(test, folder.path().as_os_str(), with_library);
    };
    let location = Location::Sqlite(folder.join("ledger.db"));
    let store = Store::open(location.clone()).await.unwrap();
    store.append_at(append("s", 0, &["a"])).await.unwrap();

    std::fs::write(folder.join("fail"), "").unwrap();
    assert_eq!(store.append_at(append("s", 1, &["b"])).await.unwrap_err().code(), "store.io");
    std::fs::remove_file(folder.join("fail")).unwrap();
    assert_eq!(store.append_at(append("s", 1, &["b"])).await.unwrap_err().code(), "store.io");
    assert_eq!(store.health().state, HealthState::Stopped);
    store.close().await;

    let store = Store::open(location).await.unwrap();
    let found = assert_whole(&store).await.len() as u64;
    assert!((1..=2).contains(&found), "the acknowledged event is there");
    store.append_at(append("s", found, &["c"])).await.unwrap();
    assert_whole(&store).await;
}
