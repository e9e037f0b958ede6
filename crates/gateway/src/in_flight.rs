//! What every enforcement point does around a call that was allowed: watch that it may still run, and record what
//! came of it.

use bailiwick_api::{Caller, DecisionPoint, Outcome, PointError};
use bailiwick_core::DecisionId;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// Tries to record an outcome, and the first pause between them.
const REPORT_TRIES: u32 = 4;
const REPORT_PAUSE: Duration = Duration::from_millis(50);

/// Why a call in flight was ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stopped {
    /// Its task or grant is no longer live.
    Revoked,
    /// The client took it back or went away.
    Withdrawn,
}

impl Stopped {
    pub(crate) fn code(self) -> &'static str {
        match self {
            Stopped::Revoked => "task.ended",
            Stopped::Withdrawn => "call.withdrawn",
        }
    }
    pub(crate) fn words(self) -> &'static str {
        match self {
            Stopped::Revoked => "its task or grant ended while it ran, so it was cut off",
            Stopped::Withdrawn => "it was taken back while it ran",
        }
    }
}

/// Resolves when a call in flight must end; looks as often as `poll` says.
pub(crate) async fn stopped<P: DecisionPoint>(
    point: &P,
    caller: &Caller,
    poll: Duration,
    mut withdrawn: watch::Receiver<bool>,
) -> Stopped {
    let dead = async {
        loop {
            sleep(poll).await;
            if !point.live(caller).await {
                return;
            }
        }
    };
    tokio::select! {
        () = dead => Stopped::Revoked,
        _ = withdrawn.wait_for(|withdrawn| *withdrawn) => Stopped::Withdrawn,
    }
}

/// Records an outcome; what may succeed later is tried again.
pub(crate) async fn report<P: DecisionPoint>(
    point: &P,
    caller: &Caller,
    decision: &DecisionId,
    outcome: Outcome,
) -> Result<(), PointError> {
    let mut pause = REPORT_PAUSE;
    for _ in 1..REPORT_TRIES {
        match point.report_soon(caller, decision, outcome.clone()).await {
            Err(error) if error.retry => sleep(pause).await,
            last => return last,
        }
        pause *= 4;
    }
    point.report_soon(caller, decision, outcome).await
}

/// Takes the call back when the request's future is dropped: the client has gone.
pub(crate) struct TakeBack(pub(crate) watch::Sender<bool>);

impl Drop for TakeBack {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}
