//! The worker: closes windows, carries out kills, ends leases, signs heads, keeps up with other nodes.

use std::time::Duration;

use crate::log::Engine;

impl Engine {
    /// Runs until the process ends. Every round is safe to repeat, and a failing round is logged and tried
    /// again: nothing here ever gives up quietly.
    pub async fn work(&self) {
        tokio::join!(self.keep_up(), self.work_on_targets());
    }

    async fn keep_up(&self) {
        let mut fast = tokio::time::interval(Duration::from_millis(500));
        let mut rounds: u64 = 0;
        loop {
            fast.tick().await;
            rounds += 1;
            if let Err(error) = self.catch_up().await {
                tracing::error!(code = %error.code, %error, "cannot keep up with the registry");
            }
            if rounds.is_multiple_of(2)
                && let Err(error) = self.checkpoint().await
            {
                tracing::error!(code = %error.code, %error, "cannot sign the ledger's head");
            }
            if rounds.is_multiple_of(2)
                && let Err(error) = self.keep_head().await
            {
                tracing::error!(code = %error.code, %error, "cannot keep the ledger's head outside; trying again");
            }
            if rounds.is_multiple_of(4)
                && let Err(error) = self.reconcile().await
            {
                tracing::error!(code = %error.code, %error, "cannot end what is due; trying again");
            }
        }
    }
}
