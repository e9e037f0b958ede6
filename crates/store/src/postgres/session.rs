//! One connection, as the writer and the listener use it.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bailiwick_tls::{PostgresStream, PostgresTls, Trust};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::{AsyncMessage, Client, Config, Connection};

use super::trouble::{connect_error, store_error};
use crate::error::{Fault, StoreError};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Bounds of a statement, of waiting for a lock, and of a transaction nobody drives, in that order. The last
/// one lets other nodes go on when this one is cut off while it holds the head of the ledger.
const TIMEOUTS: &str = "-c statement_timeout=6s -c lock_timeout=4s -c idle_in_transaction_session_timeout=6s";

/// Where the server is and how to speak to it.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) config: Config,
    pub(super) tls: PostgresTls,
}

/// Reads the connection string and adds what the store needs.
pub(super) fn address(url: &str) -> Result<Address, StoreError> {
    // The parser's own words may quote the string, which may hold a password.
    let unreadable = |_| StoreError::new(Fault::Config, "the connection string cannot be read");
    let mut config: Config = url.parse().map_err(unreadable)?;
    let options = [TIMEOUTS, config.get_options().unwrap_or_default()].join(" "); // the operator's win
    config.options(options.trim());
    if config.get_application_name().is_none() {
        config.application_name("bailiwick");
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(Duration::from_secs(10));
    }
    if config.get_ssl_mode() == SslMode::Prefer {
        // Preferring is no protection: whoever is in between can say that there is no TLS.
        config.ssl_mode(if is_local(&config) { SslMode::Disable } else { SslMode::Require });
    }
    if config.get_hosts().len() > 1 {
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    let tls = if config.get_ssl_mode() == SslMode::Disable {
        PostgresTls::none()
    } else {
        let no = |error| StoreError::new(Fault::Config, format!("no TLS: {error}"));
        PostgresTls::verifying(&Trust::of_system().map_err(no)?, None)
    };
    Ok(Address { config, tls })
}

/// Whether nothing leaves this machine.
fn is_local(config: &Config) -> bool {
    let loopback = |host: &Host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
        }
    };
    config.get_hosts().iter().all(loopback) && config.get_hostaddrs().iter().all(|ip| ip.is_loopback())
}

/// A client with the task that moves its messages; both end together.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    driver: JoinHandle<()>,
    warnings: Arc<AtomicU64>,
}

impl Session {
    /// Connects, and sees to it that a commit on this connection is a durable one.
    pub(super) async fn connect(
        address: &Address,
        notified: Option<mpsc::UnboundedSender<String>>,
    ) -> Result<Self, StoreError> {
        let connecting = address.config.connect(address.tls.clone());
        let (client, connection) = connecting.await.map_err(connect_error)?;
        let warnings = Arc::new(AtomicU64::new(0));
        let driver = tokio::spawn(drive(connection, Arc::clone(&warnings), notified));
        let session = Session { client, driver, warnings };
        session.demand_durability().await?;
        Ok(session)
    }

    async fn demand_durability(&self) -> Result<(), StoreError> {
        let sql = "SELECT current_setting('fsync'), current_setting('synchronous_commit')";
        let row = self.client.query_one(sql, &[]).await.map_err(store_error)?;
        let (fsync, commit): (String, String) = (row.get(0), row.get(1));
        if fsync != "on" {
            return Err(StoreError::new(
                Fault::Config,
                "the server runs with fsync=off and would lose commits",
            ));
        }
        if commit == "off" {
            self.client.batch_execute("SET synchronous_commit = on").await.map_err(store_error)?;
        }
        Ok(())
    }

    /// Warnings the server has sent on this connection. One that comes with the answer to a commit says that
    /// the commit is not where it should be, for example not on the synchronous standby.
    pub(super) fn warnings(&self) -> u64 {
        self.warnings.load(Ordering::Acquire)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

type Wire = Connection<tokio_postgres::Socket, PostgresStream>;

async fn drive(
    mut connection: Wire,
    warnings: Arc<AtomicU64>,
    notified: Option<mpsc::UnboundedSender<String>>,
) {
    while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
        match message {
            AsyncMessage::Notice(notice)
                if notice.parsed_severity() == WARNING || notice.severity() == "WARNING" =>
            {
                tracing::warn!(message = notice.message(), "the server warns");
                warnings.fetch_add(1, Ordering::Release);
            }
            AsyncMessage::Notification(notification) => {
                if let Some(notified) = &notified {
                    let _listener_left = notified.send(notification.payload().to_owned());
                }
            }
            _ => {}
        }
    }
}

const WARNING: Option<tokio_postgres::error::Severity> = Some(tokio_postgres::error::Severity::Warning);
