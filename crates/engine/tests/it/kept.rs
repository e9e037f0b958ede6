//! The head that is kept outside: the same ledger starts, an older copy does not.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bailiwick_audit::NoteSigner;
use bailiwick_core::Time;
use bailiwick_core::event::Cause;
use bailiwick_core::registry::Scope;
use bailiwick_core::task::TaskState;
use bailiwick_engine::{
    Config, Engine, EngineError, Ledger, OpenedTask, TestClock, accept_loss, keep_first_head,
};

use crate::world::*;

/// A node's folder, and another disk.
struct Place {
    data: tempfile::TempDir,
    elsewhere: tempfile::TempDir,
    clock: Arc<TestClock>,
}

impl Place {
    fn new() -> Place {
        let folder = || tempfile::tempdir().unwrap();
        Place { data: folder(), elsewhere: folder(), clock: Arc::new(TestClock::at(Time(1_800_000_000_000))) }
    }

    fn head(&self) -> PathBuf {
        self.elsewhere.path().join("head")
    }

    fn kept(&self) -> String {
        std::fs::read_to_string(self.head()).unwrap()
    }

    fn ledger(&self, seed: u8) -> Ledger {
        Ledger::new(NoteSigner::from_seed("example.org/ledger", &[seed; 32]).unwrap()).kept_at(self.head())
    }

    fn config(&self) -> Config {
        Config { ledger: self.ledger(7), ..config("acme", self.clock.clone()) }
    }

    async fn start(&self) -> Result<Engine, EngineError> {
        self.start_as(self.config()).await
    }

    async fn start_as(&self, config: Config) -> Result<Engine, EngineError> {
        let store = store_in(self.data.path()).await;
        let opened = Engine::open(store.clone(), config).await;
        if opened.is_err() {
            store.close().await;
        }
        opened
    }

    /// A node that has a task, and is stopped.
    async fn with_a_task() -> (Place, OpenedTask) {
        let place = Place::new();
        let engine = place.start().await.unwrap();
        furnish(&engine).await;
        let task = open_on(&engine).await;
        engine.keep_head().await.unwrap();
        engine.store().close().await;
        (place, task)
    }

    fn copy(&self) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        put(self.data.path(), copy.path());
        copy
    }

    async fn refused(&self) -> String {
        let error = self.start().await.err().expect("it must not start");
        assert!(error.reason.contains("accept-loss") || error.code == "ledger.head_unusable", "{error}");
        error.code
    }

    async fn accept(&self) -> Result<bailiwick_engine::Halted, EngineError> {
        let store = store_in(self.data.path()).await;
        let accepted = accept_loss(store.clone(), self.config(), &person("root"), "the disk died").await;
        store.close().await;
        accepted
    }
}

/// Makes the files of a folder those of another.
fn put(from: &Path, to: &Path) {
    for old in std::fs::read_dir(to).unwrap() {
        std::fs::remove_file(old.unwrap().path()).unwrap();
    }
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

async fn open_on(engine: &Engine) -> OpenedTask {
    engine.open_task(a_task()).await.unwrap()
}

// proves: INV8
#[tokio::test]
async fn the_same_ledger_starts_again_and_its_head_moves_on() {
    let (place, task) = Place::with_a_task().await;
    let before = place.kept();
    let engine = place.start().await.unwrap();
    engine.end_task("dana@example.org", &task.task, Cause::Completed, "done").await.unwrap();
    assert_ne!(place.kept(), before, "an end is covered before it is acknowledged");
    engine.store().close().await;
    place.start().await.unwrap();
}

// proves: INV8, INV2, A69
#[tokio::test]
async fn a_copy_from_before_a_kill_does_not_start() {
    let (place, task) = Place::with_a_task().await;
    let copy = place.copy();
    let engine = place.start().await.unwrap();
    engine.end_task("root@example.org", &task.task, Cause::Killed, "hijacked").await.unwrap();
    engine.store().close().await;
    put(copy.path(), place.data.path());
    assert_eq!(place.refused().await, "ledger.rolled_back");
}

// proves: INV8, A69
#[tokio::test]
async fn a_copy_that_was_written_to_since_does_not_start() {
    let (place, task) = Place::with_a_task().await;
    let copy = place.copy();
    let engine = place.start().await.unwrap();
    engine.end_task("root@example.org", &task.task, Cause::Killed, "hijacked").await.unwrap();
    engine.store().close().await;
    put(copy.path(), place.data.path());
    let forked = place.start_as(config("acme", place.clock.clone())).await;
    let forked = forked.expect("without a kept head nobody can tell");
    for _ in 0..5 {
        open_on(&forked).await;
    }
    forked.store().close().await;
    assert_eq!(place.refused().await, "ledger.forked");
}

#[tokio::test]
async fn a_head_that_is_missing_changed_or_anothers_is_refused() {
    let (place, _) = Place::with_a_task().await;
    let good = place.kept();
    let worse = good.replacen('\n', " \n", 1);
    for changed in [worse.as_bytes(), b"", b"\xff\xfe", good.replace('1', "2").as_bytes()] {
        std::fs::write(place.head(), changed).unwrap();
        assert_eq!(place.refused().await, "ledger.head_not_ours");
    }
    std::fs::remove_file(place.head()).unwrap();
    assert_eq!(place.refused().await, "ledger.head_missing");
    std::fs::create_dir(place.head()).unwrap();
    assert_eq!(place.refused().await, "ledger.head_unusable");
    std::fs::remove_dir(place.head()).unwrap();
    let other = Config { ledger: place.ledger(8), ..place.config() };
    std::fs::write(place.head(), &good).unwrap();
    let other = place.start_as(other).await.err().unwrap();
    assert_eq!(other.code, "ledger.head_not_ours");
    place.start().await.unwrap();
}

#[tokio::test]
async fn an_empty_ledger_beside_a_kept_head_is_an_older_copy_too() {
    let (place, _) = Place::with_a_task().await;
    put(tempfile::tempdir().unwrap().path(), place.data.path());
    assert_eq!(place.refused().await, "ledger.rolled_back");
}

#[tokio::test]
async fn a_head_for_a_ledger_that_never_had_one_is_kept_only_when_somebody_says_so() {
    let place = Place::new();
    let engine = place.start_as(config("acme", place.clock.clone())).await.unwrap();
    engine.store().close().await;
    assert_eq!(place.refused().await, "ledger.head_missing");
    let store = store_in(place.data.path()).await;
    keep_first_head(&store, &place.ledger(7)).await.unwrap();
    let again = keep_first_head(&store, &place.ledger(7)).await.unwrap_err();
    assert_eq!(again.code, "ledger.head_kept");
    store.close().await;
    place.start().await.unwrap();
}

// proves: INV2, R3
#[tokio::test]
async fn accepting_a_loss_kills_all_that_the_copy_holds_and_says_so() {
    let (place, task) = Place::with_a_task().await;
    assert_eq!(place.accept().await.unwrap_err().code, "ledger.nothing_lost");
    let copy = place.copy();
    let engine = place.start().await.unwrap();
    engine.end_task("root@example.org", &task.task, Cause::Killed, "hijacked").await.unwrap();
    engine.store().close().await;
    let lost = place.kept();
    put(copy.path(), place.data.path());
    assert_eq!(place.accept().await.unwrap().tasks, vec![task.task.clone()]);
    let engine = place.start().await.unwrap();
    let state = engine.task(&task.task).await.unwrap().state().clone();
    assert!(matches!(state, TaskState::Ended { cause: Cause::Killed, .. }), "{state:?}");
    let said = engine.registry().suspension(&Scope::All).cloned().expect("nothing is allowed yet");
    assert!(said.reason.contains("the disk died") && said.reason.contains("ledger.rolled_back"), "{said:?}");
    assert!(engine.open_task(a_task()).await.is_err());
    engine.lift(&person("root"), Scope::All, "looked at it").await.unwrap();
    open_on(&engine).await;
    let aside = std::fs::read_dir(place.elsewhere.path()).unwrap().map(|f| f.unwrap().path());
    let aside: Vec<_> = aside.filter(|p| p.to_string_lossy().contains(".lost-")).collect();
    assert_eq!(std::fs::read_to_string(&aside[0]).unwrap(), lost, "the head of what was lost is evidence");
}

#[tokio::test]
async fn a_kill_counts_although_its_head_cannot_be_kept_and_the_head_follows() {
    let (place, task) = Place::with_a_task().await;
    let engine = place.start().await.unwrap();
    let before = place.kept();
    std::fs::remove_dir_all(place.elsewhere.path()).unwrap();
    engine.end_task("root@example.org", &task.task, Cause::Killed, "hijacked").await.unwrap();
    assert!(engine.task(&task.task).await.unwrap().has_ended());
    let told = engine.head_state().unwrap();
    assert_eq!(told.trouble.as_ref().unwrap().code, "ledger.head_unusable", "the first kill tells already");
    let since = told.trouble.unwrap().since;
    place.clock.advance_ms(60_000);
    assert_eq!(engine.keep_head().await.unwrap_err().code, "ledger.head_unusable");
    let still = engine.head_state().unwrap();
    assert_eq!((still.covers, still.trouble.as_ref().unwrap().since), (told.covers, since));
    assert!(!still.trouble.unwrap().is_another_past());
    std::fs::create_dir(place.elsewhere.path()).unwrap();
    engine.keep_head().await.unwrap();
    assert_ne!(place.kept(), before);
    let well = engine.head_state().unwrap();
    assert_eq!((well.trouble, well.covers), (None, engine.store().head().await.unwrap().size));
}
