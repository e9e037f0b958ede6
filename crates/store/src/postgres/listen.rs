//! Hearing of commits, of this node and of others.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::read;
use super::session::{Address, Session};
use super::trouble::store_error;
use crate::error::{Fault, StoreError};
use crate::queue::Status;
use crate::record::HealthState;

/// The channel that every commit notifies, with the size of the ledger.
pub(super) const CHANNEL: &str = "bailiwick_committed";
/// A lost notification delays news by at most this.
const POLL: Duration = Duration::from_millis(500);
/// Between attempts to reach a server that is away.
const RETRY: Duration = Duration::from_millis(500);

/// Starts listening; ends when `alive` turns false or its sender is gone.
pub(super) fn start(address: Address, status: Arc<Status>, mut alive: watch::Receiver<bool>) {
    tokio::spawn(async move {
        tokio::select! {
            _ = alive.wait_for(|alive| !alive) => {}
            () = listen_for_ever(&address, &status) => {}
        }
    });
}

async fn listen_for_ever(address: &Address, status: &Status) {
    loop {
        let error = match listen(address, status).await {
            Ok(()) => StoreError::new(Fault::Gone, "the connection that hears of commits was closed"),
            Err(error) => error,
        };
        status.failed(HealthState::Failing, &error);
        tokio::time::sleep(RETRY).await;
    }
}

/// Listens until the connection is lost.
async fn listen(address: &Address, status: &Status) -> Result<(), StoreError> {
    let (notified, mut notifications) = mpsc::unbounded_channel();
    let session = Session::connect(address, Some(notified)).await?;
    session.client.batch_execute(&format!("LISTEN {CHANNEL}")).await.map_err(store_error)?;
    let mut polling = tokio::time::interval(POLL);
    let mut recovering = status.health().state == HealthState::Failing;
    loop {
        tokio::select! {
            size = notifications.recv() => match size {
                Some(size) => size.parse().into_iter().for_each(|size| status.committed(size)),
                None => return Ok(()),
            },
            _ = polling.tick() => {
                status.committed(read::frontier(&session.client).await?.size());
                if std::mem::take(&mut recovering) {
                    status.up();
                }
            }
        }
    }
}
