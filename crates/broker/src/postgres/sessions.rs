//! Ending sessions: they are told to, and counted until there are none.
//!
//! A server ends a session a moment after it was told to. How long that is depends on what the session does, so the
//! first counts follow each other without a pause, the next ones soon, and then ever slower.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use super::pool::trouble;
use crate::error::BrokerError;

/// How long to wait for sessions to end after they were told to, in one attempt.
const ENDING: Duration = Duration::from_secs(4);
/// So many counts follow each other without a pause.
const AT_ONCE: u32 = 8;
/// So many more follow a millisecond apart: most sessions are gone by then.
const SOON: u32 = 12;
/// The longest pause between two counts.
const PAUSE_MOST: Duration = Duration::from_millis(50);

/// Ends our own connections on which a create of this name may still be under way, and waits until they are gone.
pub(super) async fn end_creators(client: &Client, name: &str) -> Result<(), BrokerError> {
    let end = "SELECT usesysid, count(pg_terminate_backend(pid)) FROM pg_stat_activity \
               WHERE application_name = $1 AND pid <> pg_backend_pid() AND usename = current_user GROUP BY 1";
    until_none(client, end, &[(&name, Type::TEXT)]).await.map(|_| ())
}

/// Ends the sessions of roles on one server, by OID; how many there were of each. An OID that now is a role of another
/// name is somebody else's: a server that crashed may give out again what it had not flushed.
pub(super) async fn end_on(
    client: &Client,
    names: &[&str],
    oids: &[u32],
) -> Result<HashMap<u32, u64>, BrokerError> {
    // The function behind `pg_stat_activity`: the view also looks for the names, which are needed of few.
    let end = "SELECT a.usesysid, count(pg_terminate_backend(a.pid)) FROM pg_stat_get_activity(NULL) a \
               WHERE a.usesysid = ANY ($1) AND a.pid <> pg_backend_pid() \
               AND coalesce((SELECT r.rolname FROM pg_roles r WHERE r.oid = a.usesysid) = ANY ($2), true) GROUP BY 1";
    until_none(client, end, &[(&oids, Type::OID_ARRAY), (&names, Type::NAME_ARRAY)]).await
}

/// Repeats a statement that ends sessions and counts them by role, until it finds none; gives the most it counted.
async fn until_none(
    client: &Client,
    statement: &str,
    args: &[(&(dyn ToSql + Sync), Type)],
) -> Result<HashMap<u32, u64>, BrokerError> {
    let begun = Instant::now();
    let mut most: HashMap<u32, u64> = HashMap::new();
    for counted in 1.. {
        let rows = client.query_typed(statement, args).await.map_err(trouble)?;
        if rows.is_empty() {
            break;
        }
        for row in &rows {
            let (oid, left): (u32, i64) = (row.get(0), row.get(1));
            let most = most.entry(oid).or_default();
            *most = (*most).max(u64::try_from(left).unwrap_or(0));
        }
        if begun.elapsed() > ENDING {
            let what = format!("sessions of {} logins were told to end and have not", rows.len());
            return Err(BrokerError::new("target.sessions_stay", what));
        }
        // A pause of nothing would still wait for the clock's next tick.
        if let Some(pause) = pause(counted) {
            tokio::time::sleep(pause).await;
        }
    }
    Ok(most)
}

/// None at first; then a millisecond for a while; then doubled each time.
fn pause(counted: u32) -> Option<Duration> {
    let beyond = counted.checked_sub(AT_ONCE)?.saturating_sub(SOON);
    Some(Duration::from_millis(1 << beyond.min(6)).min(PAUSE_MOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_follow_at_once_and_then_ever_slower() {
        let pauses = [1, 7, 8, 9, 20, 21, 25, 26, u32::MAX].map(|n| pause(n).map(|p| p.as_millis()));
        let then = [1, 1, 1, 2, 32, 50, 50].map(Some);
        assert_eq!((&pauses[..2], &pauses[2..]), (&[None, None][..], &then[..]));
    }
}
