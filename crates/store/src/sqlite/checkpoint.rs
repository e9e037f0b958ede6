//! Folding the write-ahead log back into the file, away from the writer.
//!
//! The bulk is copied while commits go on. Only for the short rest, so that the log can start over, the
//! writer is held at a gate; a turnstile in front of it makes the hold fair in both directions.

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::Connection;

use super::open;
use super::store_error;
use crate::error::{Fault, StoreError};

/// Written to the log since the last checkpoint before one is due, bytes, estimated: three quarters of its room.
const DUE_AFTER_BYTES: usize = 12 << 20;
/// What a commit writes beside its events, bytes: the pages of the tree's edge, of the newest events and of their index.
const COMMIT_BYTES: usize = 3 * 4120;
/// Quiet time after which whatever is in the log is folded back.
const IDLE: Duration = Duration::from_secs(1);

/// Where writer and checkpointer meet.
#[derive(Debug, Default)]
pub(super) struct Gate {
    turnstile: Mutex<()>,
    passage: Mutex<()>,
}

impl Gate {
    /// Waits until the other one is through.
    pub(super) fn pass(&self) -> MutexGuard<'_, ()> {
        let turn = self.turnstile.lock().unwrap_or_else(PoisonError::into_inner);
        let passage = self.passage.lock().unwrap_or_else(PoisonError::into_inner);
        drop(turn);
        passage
    }

    /// Passes if nobody is at it or waiting for it.
    pub(super) fn try_pass(&self) -> Option<MutexGuard<'_, ()>> {
        let _turn = self.turnstile.try_lock().ok()?;
        self.passage.try_lock().ok()
    }
}

/// The writer's view of the checkpointer; dropping it ends the thread.
#[derive(Debug)]
pub(super) struct Checkpointer {
    due: Option<SyncSender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
    written: usize,
}

impl Checkpointer {
    pub(super) fn start(path: &Path, gate: Arc<Gate>) -> Result<Self, StoreError> {
        let connection = open::checkpointer(path)?;
        let (due, called) = sync_channel(1);
        let body = move || run(&connection, &gate, &called);
        let spawned = std::thread::Builder::new().name("bw-checkpoint".into()).spawn(body);
        let thread = spawned.map_err(|error| StoreError::new(Fault::Busy, format!("no thread: {error}")))?;
        Ok(Checkpointer { due: Some(due), thread: Some(thread), written: 0 })
    }

    /// Counts what was committed, and calls when enough has come together.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.written += bytes + COMMIT_BYTES;
        if self.written >= DUE_AFTER_BYTES
            && let Some(due) = &self.due
            && due.try_send(()).is_ok()
        {
            self.written = 0;
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.due = None;
        if let Some(thread) = self.thread.take() {
            let _ended_anyhow = thread.join();
        }
    }
}

fn run(connection: &Connection, gate: &Gate, called: &Receiver<()>) {
    loop {
        match called.recv_timeout(IDLE) {
            Ok(()) => {
                fold(connection);
                let _writer_waits = gate.pass();
                fold(connection);
            }
            Err(RecvTimeoutError::Timeout) => fold(connection),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// One passive checkpoint. Its failure loses nothing: the log stays, and the next one tries again.
fn fold(connection: &Connection) {
    let result = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
    if let Err(error) = result.map_err(store_error) {
        tracing::warn!(code = error.code(), %error, "checkpoint of the log failed");
    }
}
