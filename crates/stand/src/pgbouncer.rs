//! A throw-away PgBouncer in front of a throw-away PostgreSQL: on a free port of the loopback interface, stopped by its
//! own pid. It finds its users' verifiers in the server, as poolers of changing users do.

use std::path::{Path, PathBuf};

use crate::supervisor::Supervisor;
use crate::{Cluster, folder_for, free_port};

/// A running pooler. A client that it finds no session for waits three seconds; 120 are its default.
pub struct PgBouncer {
    folder: PathBuf,
    port: u16,
    _running: Supervisor,
}

/// How it lends the server's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// To one client until it leaves.
    Session,
    /// To one client until its transaction ends.
    Transaction,
}

const SCRIPT: &str = r#"
    exec 3<&0
    /usr/sbin/pgbouncer -q "$1/pgbouncer.ini" &
    pid=$!
    (cat <&3 >/dev/null; kill -KILL $pid 2>/dev/null) &
    until pg_isready -q -h 127.0.0.1 -p "$2"; do
        kill -0 $pid || { echo failed; exit 1; }
        sleep 0.05
    done
    echo ready
    wait $pid
    rm -rf "$1"
"#;

impl PgBouncer {
    /// One in front of a server that was started with passwords.
    pub fn before(server: &Cluster, pooling: Pooling) -> PgBouncer {
        assert!(
            Path::new("/usr/sbin/pgbouncer").exists(),
            "pgbouncer is missing; install the Debian package pgbouncer"
        );
        let (folder, port) = (folder_for("postgres", "bw-pgb-"), free_port());
        let mode = if pooling == Pooling::Session { "session" } else { "transaction" };
        let settings = format!(
            "[databases]\n* = host={} port={} auth_user=bailiwick\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nlogfile = {}/log\n\
             auth_type = scram-sha-256\nauth_query = SELECT usename, passwd FROM pg_shadow WHERE usename = $1\n\
             pool_mode = {mode}\nserver_login_retry = 1\nserver_idle_timeout = 0\n\
             query_wait_timeout = 3\n",
            server.folder().display(),
            server.port(),
            folder.display(),
        );
        std::fs::write(folder.join("pgbouncer.ini"), settings).expect("its settings");
        let running = Supervisor::start("postgres", SCRIPT, &[folder.as_os_str(), port.to_string().as_ref()])
            .unwrap_or_else(|| panic!("pgbouncer did not start; see its log in {}", folder.display()));
        PgBouncer { folder, port, _running: running }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it wrote down.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.folder.join("log")).unwrap_or_default()).into_owned()
    }
}
