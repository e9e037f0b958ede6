//! The newest signed head, kept in a file outside the data folder: what finds an older copy of the ledger.
//!
//! A copy of the store agrees with itself, however old it is. Only something that did not go back with it can tell.
//! So the head is written to a file elsewhere (C2SP tlog-checkpoint, replaced as a whole and durably), and a node that
//! starts compares: a ledger that does not extend the kept head is refused, and so is one whose head is missing.
//!
//! What is covered: everything up to the head that was kept last. Kills, ends, freezes and revocations that somebody asks
//! for, and changes of the registry, are in it before they are acknowledged; all else follows within a second. Whoever
//! can put an older head back in the file's place is not found: keep it where the folder's copies are not.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bailiwick_audit::{Checkpoint, MAX_NOTE_BYTES, NoteSigner};
use bailiwick_core::registry::{Halt, Scope};
use bailiwick_core::{PrincipalId, Time};
use bailiwick_store::Store;

use crate::end::Halted;
use crate::error::{EngineError, Kind};
use crate::ledger::{Ledger, audit};
use crate::log::{Config, Engine};

/// How long keeping a head may take. A disk that hangs must not hold up what ends.
const WITHIN: Duration = Duration::from_secs(5);

/// The file, and the head that this process knows to be in it.
pub(crate) struct KeptHead {
    path: PathBuf,
    newest: Arc<tokio::sync::Mutex<Option<Checkpoint>>>,
    state: Arc<Mutex<HeadState>>,
}

/// How keeping the head goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeadState {
    /// So many events of the ledger are under the head that is kept.
    pub covers: u64,
    /// Why it is not brought up to date, if it is not.
    pub trouble: Option<HeadTrouble>,
}

/// Why the head cannot be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadTrouble {
    /// `ledger.head_unusable`, `ledger.rolled_back`, `ledger.forked`, or the store's own.
    pub code: String,
    /// In words.
    pub reason: String,
    /// Since when.
    pub since: Time,
}

impl HeadTrouble {
    /// Whether the ledger in use is not the one whose head was kept. What it allows may have been ended since.
    pub fn is_another_past(&self) -> bool {
        ["ledger.rolled_back", "ledger.forked"].contains(&self.code.as_str())
    }
}

impl KeptHead {
    pub(crate) fn at(path: PathBuf) -> Self {
        KeptHead { path, newest: Arc::default(), state: Arc::default() }
    }

    /// Compares the ledger with the kept head. On a ledger that holds nothing yet the file may be missing.
    pub(crate) async fn confirm(&self, store: &Store, signer: &NoteSigner) -> Result<(), EngineError> {
        let found = self.read(signer)?;
        match &found {
            Some(kept) => self.extends(store, kept).await?,
            None if store.head().await?.size == 0 => {}
            None => return Err(self.missing()),
        }
        self.state().covers = found.as_ref().map_or(0, |kept| kept.size);
        *self.newest.lock().await = found;
        self.keep(store, signer).await
    }

    /// Replaces the file by the ledger's head, if that has grown. Of many who want this at once, one writes for all.
    pub(crate) async fn keep(&self, store: &Store, signer: &NoteSigner) -> Result<(), EngineError> {
        let mut newest = self.newest.clone().lock_owned().await;
        let head = store.head().await?;
        if let Some(kept) = newest.as_ref() {
            if kept.size == head.size && kept.root == head.root {
                return Ok(());
            }
            self.extends(store, kept).await?;
        }
        let next = Checkpoint::new(signer.name(), head.size, head.root);
        let note = next.sign(signer).map_err(audit)?;
        let (path, state) = (self.path.clone(), self.state.clone());
        // The lock goes along: whoever stops waiting must not let a second writer at the file.
        let written = tokio::task::spawn_blocking(move || {
            replace(&path, &note)?;
            state.lock().unwrap_or_else(PoisonError::into_inner).covers = next.size;
            *newest = Some(next);
            Ok(())
        });
        match written.await {
            Ok(done) => done.map_err(|error: std::io::Error| self.unusable(&error)),
            Err(_) => Err(self.unusable(&std::io::Error::other("writing it was broken off"))),
        }
    }

    fn state(&self) -> MutexGuard<'_, HeadState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of how it went, for people.
    fn note(&self, kept: &Result<(), EngineError>, now: Time) {
        let mut state = self.state();
        state.trouble = kept.as_ref().err().map(|error| HeadTrouble {
            code: error.code.clone(),
            reason: error.reason.clone(),
            since: state.trouble.as_ref().filter(|t| t.code == error.code).map_or(now, |t| t.since),
        });
    }

    fn hangs(&self) -> EngineError {
        self.unusable(&std::io::Error::other(format!("it is not written after {} s", WITHIN.as_secs())))
    }

    /// The kept head; `None` if there is no file.
    fn read(&self, signer: &NoteSigner) -> Result<Option<Checkpoint>, EngineError> {
        let mut note = String::new();
        let most = MAX_NOTE_BYTES as u64 + 1;
        let read = std::fs::File::open(&self.path).and_then(|file| file.take(most).read_to_string(&mut note));
        match read {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            // Not text: changed by somebody, not a disk that fails.
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => note.clear(),
            Err(error) => return Err(self.unusable(&error)),
            Ok(_) => {}
        }
        Checkpoint::open(&note, signer.verifier()).map(Some).map_err(|error| {
            let what = format!(
                "{} is not a head that this ledger's key has signed ({error}): it was changed, or it belongs to another \
                 ledger. Put the right file back, or correct `ledger.head`; {ACCEPT}",
                self.path.display()
            );
            EngineError::new(Kind::Unavailable, "ledger.head_not_ours", what)
        })
    }

    /// The ledger holds all that the kept head covers, unchanged.
    async fn extends(&self, store: &Store, kept: &Checkpoint) -> Result<(), EngineError> {
        let path = self.path.display();
        let refused = |code: &str, what: String| Err(EngineError::new(Kind::Unavailable, code, what));
        match store.head_at(kept.size).await? {
            Some(then) if then.root == kept.root => Ok(()),
            Some(_) => refused(
                "ledger.forked",
                format!(
                    "the first {} events of the ledger are not those whose head is kept at {path}: it was restored from \
                     an older copy and written to since, or altered. Put the newest copy back; {ACCEPT}",
                    kept.size
                ),
            ),
            None => refused(
                "ledger.rolled_back",
                format!(
                    "the ledger holds {} events, and the head kept at {path} covers {}: this is an older copy, and what \
                     happened since, such as a kill, is not in it. Put the newest copy back; {ACCEPT}",
                    store.head().await?.size,
                    kept.size
                ),
            ),
        }
    }

    fn missing(&self) -> EngineError {
        let what = format!(
            "there is no kept head at {}, and the ledger is not new. Is its disk mounted? If no head was ever kept, begin \
             with `bailiwick ledger keep-head`; {ACCEPT}",
            self.path.display()
        );
        EngineError::new(Kind::Unavailable, "ledger.head_missing", what)
    }

    fn unusable(&self, error: &std::io::Error) -> EngineError {
        let what = format!(
            "the ledger's head cannot be kept at {}: {error}. Its folder must exist and be writable",
            self.path.display()
        );
        EngineError::new(Kind::Unavailable, "ledger.head_unusable", what)
    }

    /// Puts the old head aside, as evidence of what was lost.
    fn put_aside(&self, at: u64) -> Result<(), EngineError> {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".lost-{at}"));
        match std::fs::rename(&self.path, &name) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(self.unusable(&error)),
            _ => Ok(()),
        }
    }
}

/// The way out when the newest copy is gone for good.
const ACCEPT: &str = "if it is lost for good, `bailiwick ledger accept-loss` kills all that this ledger holds open, \
                      records it, and begins anew";

/// Write, flush, rename, flush the folder: after a crash there is the old file or the new one.
fn replace(path: &Path, note: &str) -> std::io::Result<()> {
    let mut fresh = path.to_path_buf().into_os_string();
    fresh.push(".new");
    let mut file = std::fs::File::create(&fresh)?;
    file.write_all(note.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(folder)?.sync_all()
}

impl Engine {
    /// Brings the kept head up to date, if one is kept.
    ///
    /// # Errors
    /// `ledger.head_unusable`; `ledger.rolled_back` or `ledger.forked` if the store was put back while it was in use.
    pub async fn keep_head(&self) -> Result<(), EngineError> {
        let ledger = &self.inner.config.ledger;
        let Some(kept) = &ledger.kept else { return Ok(()) };
        let keeping = tokio::time::timeout(WITHIN, kept.keep(self.store(), &ledger.signer));
        let done = keeping.await.unwrap_or_else(|_| Err(kept.hangs()));
        kept.note(&done, self.now());
        done
    }

    /// How keeping the head goes; `None` if none is kept.
    pub fn head_state(&self) -> Option<HeadState> {
        self.inner.config.ledger.kept.as_ref().map(|kept| kept.state().clone())
    }

    /// The same before an end is acknowledged. The end is durable and counts, so trouble here is told aloud and does not
    /// undo it; the next round tries again.
    pub(crate) async fn keep_ending(&self) {
        if let Err(error) = self.keep_head().await {
            tracing::error!(code = %error.code, %error, "an end is recorded, and the head kept outside does not cover it yet");
        }
    }
}

/// Keeps a first head of a ledger that is not new. For the one time when `ledger.head` is set on it.
///
/// # Errors
/// `ledger.head_kept` if the file is there; `ledger.no_head` if none is configured; `store.corrupt`; `ledger.head_unusable`.
pub async fn keep_first_head(store: &Store, ledger: &Ledger) -> Result<u64, EngineError> {
    let kept = configured(ledger.kept.as_ref())?;
    if kept.path.exists() {
        let what = format!("a head is kept at {} already; just start the node", kept.path.display());
        return Err(EngineError::new(Kind::Conflict, "ledger.head_kept", what));
    }
    let size = crate::ledger::verify(store).await?;
    kept.keep(store, &ledger.signer).await?;
    Ok(size)
}

/// Accepts that this ledger is an older copy: kills everything (recorded, by whom and why), puts the kept head aside and
/// keeps the new one. Nothing is allowed until somebody resumes `all`; what the lost events said has to be said again.
///
/// # Errors
/// `ledger.nothing_lost` if the ledger extends the kept head; `ledger.no_head` if none is configured; or if the store
/// or the file cannot be used.
pub async fn accept_loss(
    store: Store,
    mut config: Config,
    by: &PrincipalId,
    reason: &str,
) -> Result<Halted, EngineError> {
    let kept = configured(config.ledger.kept.take())?;
    let lost = match kept.confirm(&store, &config.ledger.signer).await {
        Err(error) if error.code == "ledger.head_unusable" || error.code.starts_with("store.") => {
            return Err(error);
        }
        Err(lost) => lost,
        Ok(()) => {
            let what = "the ledger extends the kept head: nothing is lost, just start the node";
            return Err(EngineError::new(Kind::Conflict, "ledger.nothing_lost", what));
        }
    };
    let engine = Engine::open(store, config).await?;
    let reason = format!("{reason} (accepted loss: {})", lost.code);
    let halted = engine.suspend(by, Scope::All, Halt::Killed, &reason).await?;
    kept.put_aside(engine.now().0)?;
    *kept.newest.lock().await = None;
    kept.keep(engine.store(), &engine.inner.config.ledger.signer).await?;
    engine.store().close().await;
    Ok(halted)
}

fn configured<K>(kept: Option<K>) -> Result<K, EngineError> {
    kept.ok_or_else(|| EngineError::invalid("ledger.no_head", "no head is kept: set `ledger.head` first"))
}
