//! Connections of our own to one server: few, reused while they are sound, thrown away when in doubt.

use std::ops::Deref;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bailiwick_tls::PostgresTls;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_postgres::{Client, Config};

use crate::error::BrokerError;

/// How long the target may take to let us in.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// What the server keeps each of our statements to, in milliseconds.
const SETTINGS: &str = "-c search_path=pg_catalog -c statement_timeout=15000 -c lock_timeout=5000 -c idle_in_transaction_session_timeout=20000";
/// How many connections to one database at most.
const CONNECTIONS: usize = 8;

/// The connections to one database of one server.
pub(super) struct Pool {
    config: Config,
    tls: PostgresTls,
    idle: Mutex<Vec<Client>>,
    room: Semaphore,
}

/// A connection on loan. It goes back only when [`Lent::done`] says that nothing is half finished on it.
pub(super) struct Lent<'a> {
    client: Client,
    pool: &'a Pool,
    _room: SemaphorePermit<'a>,
}

impl Pool {
    pub(super) fn new(mut config: Config, tls: PostgresTls) -> Self {
        config.options(SETTINGS).connect_timeout(CONNECT_WITHIN).application_name("bailiwick");
        Pool { config, tls, idle: Mutex::default(), room: Semaphore::new(CONNECTIONS) }
    }

    /// The same server, another database.
    pub(super) fn to(&self, database: &str) -> Pool {
        let mut config = self.config.clone();
        config.dbname(database);
        Pool { config, tls: self.tls.clone(), idle: Mutex::default(), room: Semaphore::new(CONNECTIONS) }
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    pub(super) async fn lend(&self) -> Result<Lent<'_>, BrokerError> {
        let closed = |_| BrokerError::new("connector.closed", "the connector is closing");
        let room = self.room.acquire().await.map_err(closed)?;
        let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let client = match kept.filter(|c| !c.is_closed()) {
            Some(client) => client,
            None => self.connect().await?,
        };
        Ok(Lent { client, pool: self, _room: room })
    }

    async fn connect(&self) -> Result<Client, BrokerError> {
        let connecting = tokio::time::timeout(CONNECT_WITHIN, self.config.connect(self.tls.clone()));
        let (client, connection) = connecting
            .await
            .map_err(|_| BrokerError::new("target.unreachable", "the server did not let us in within 5 s"))?
            .map_err(trouble)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a target has ended");
            }
        });
        Ok(client)
    }
}

impl Lent<'_> {
    /// Gives it back for the next one. Without this it is closed.
    pub(super) fn done(self) {
        let Lent { client, pool, .. } = self;
        if !client.is_closed() {
            pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push(client);
        }
    }
}

impl Deref for Lent<'_> {
    type Target = Client;
    fn deref(&self) -> &Client {
        &self.client
    }
}

/// What the server said, without the statement.
pub(super) fn trouble(error: tokio_postgres::Error) -> BrokerError {
    match error.as_db_error() {
        Some(db) => {
            let detail = db.detail().map(|d| format!("; {d}")).unwrap_or_default();
            let code = if db.code().code() == "42501" { "target.forbidden" } else { "target.refused" };
            BrokerError::new(code, format!("{} ({}){detail}", db.message(), db.code().code()))
        }
        None => crate::private::unproven(&error)
            .unwrap_or_else(|| BrokerError::new("target.unreachable", error.to_string())),
    }
}
