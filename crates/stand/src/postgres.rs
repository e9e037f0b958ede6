//! A throw-away PostgreSQL server: own folder, socket in it, no network, stopped by its own pid.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use tokio_postgres::NoTls;

use crate::supervisor::Supervisor;
use crate::{Certificate, as_user, folder_for, free_port};

/// Names the socket; nothing listens on the network.
const PORT: u16 = 5432;

/// A running server.
pub struct Cluster {
    folder: PathBuf,
    port: u16,
    databases: AtomicU32,
    running: Mutex<Option<Supervisor>>,
}

impl Cluster {
    /// The one that all tests of this run share.
    pub fn shared() -> Arc<Cluster> {
        static SHARED: OnceLock<Arc<Cluster>> = OnceLock::new();
        Arc::clone(SHARED.get_or_init(|| Arc::new(Cluster::start("fsync=on"))))
    }

    /// A new one with one more setting.
    pub fn start(setting: &str) -> Cluster {
        let cluster = Cluster::prepare(PORT);
        cluster.configure(&format!("listen_addresses=''\n{setting}"));
        cluster.run();
        cluster
    }

    /// A new one that also listens on the loopback interface, with a certificate for `localhost`.
    pub fn start_with_tls() -> Cluster {
        let cluster = Cluster::prepare(free_port());
        let made = as_postgres(Path::new("openssl"))
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
            .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
            .arg(cluster.folder.join("server.key"))
            .arg("-out")
            .arg(cluster.certificate())
            .output()
            .expect("the Debian package openssl is needed");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let key = cluster.folder.join("server.key");
        cluster.configure(&format!(
            "listen_addresses='127.0.0.1'\nssl=on\nssl_cert_file='{}'\nssl_key_file='{}'",
            cluster.certificate().display(),
            key.display()
        ));
        cluster.run();
        cluster
    }

    /// A new one in which everybody but the administrator `bailiwick` logs in with a password, and which writes
    /// every statement to its log.
    pub fn start_with_passwords() -> Cluster {
        let cluster = Cluster::prepare(free_port());
        let rules = "local all bailiwick trust\nlocal replication bailiwick trust\nlocal all all scram-sha-256\n\
                     host all bailiwick 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
        std::fs::write(cluster.folder.join("data/pg_hba.conf"), rules).unwrap();
        cluster.configure(
            "listen_addresses='127.0.0.1'\nlog_statement=all\nlog_connections=on\nfsync=off\n\
                           max_wal_senders=4\nwal_level=replica\nmax_prepared_transactions=4",
        );
        cluster.run();
        cluster
    }

    /// A new one with this certificate, which lets nobody in from the network without TLS and a password. The
    /// administrator `bailiwick` has the password `administrator`.
    pub fn start_with_certificate(certificate: &Certificate) -> Cluster {
        let cluster = Cluster::prepare(free_port());
        let rules = "local all bailiwick trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n";
        std::fs::write(cluster.folder.join("data/pg_hba.conf"), rules).unwrap();
        certificate.write(&cluster.folder, "postgres");
        cluster.configure(&format!(
            "listen_addresses='127.0.0.1'\nlog_connections=on\nlog_statement=all\nfsync=off\nssl=on\n\
             ssl_cert_file='{0}/server.crt'\nssl_key_file='{0}/server.key'",
            cluster.folder.display()
        ));
        cluster.run();
        cluster
    }

    /// A streaming replica of a server that was started with passwords.
    pub fn replica_of(primary: &Cluster) -> Cluster {
        let folder = folder_for("postgres", "bw-pg-");
        let port = free_port();
        let copy = as_postgres(&bin().join("pg_basebackup"))
            .args(["--checkpoint=fast", "--write-recovery-conf", "--no-sync", "-U", "bailiwick", "-h"])
            .arg(&primary.folder)
            .args(["-p", &primary.port.to_string(), "-D"])
            .arg(folder.join("data"))
            .output()
            .unwrap();
        assert!(copy.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&copy.stderr));
        let replica = Cluster { folder, port, databases: AtomicU32::new(0), running: Mutex::new(None) };
        let settings = std::fs::read_to_string(replica.folder.join("data/postgresql.auto.conf")).unwrap();
        let upstream =
            settings.lines().filter(|l| l.starts_with("primary_conninfo")).collect::<Vec<_>>().join("\n");
        replica.configure(&format!(
            "listen_addresses='127.0.0.1'\nhot_standby=on\nfsync=off\nmax_wal_senders=4\n\
                                    max_prepared_transactions=4\n{upstream}"
        ));
        replica.run();
        replica
    }

    /// What the server has written to its log.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.folder.join("log")).unwrap_or_default()).into_owned()
    }

    fn prepare(port: u16) -> Cluster {
        let initdb = bin().join("initdb");
        let folder = folder_for("postgres", "bw-pg-");
        let init = as_postgres(&initdb)
            .args(["--auth=trust", "--username=bailiwick", "--encoding=UTF8", "--no-sync", "-D"])
            .arg(folder.join("data"))
            .output()
            .unwrap();
        assert!(init.status.success(), "initdb: {}", String::from_utf8_lossy(&init.stderr));
        Cluster { folder, port, databases: AtomicU32::new(0), running: Mutex::new(None) }
    }

    fn configure(&self, settings: &str) {
        let own = format!(
            "unix_socket_directories='{}'\nport={}\nmax_connections=200\n{settings}\n",
            self.folder.display(),
            self.port
        );
        std::fs::write(self.folder.join("data/postgresql.auto.conf"), own).unwrap();
    }

    /// What a client has to trust to believe the server.
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("server.crt")
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts the server under a shell that stops it, by pid, when its standard input closes.
    pub fn run(&self) {
        let script = r#"
            exec 3<&0
            "$1/postgres" -D "$2/data" 2>"$2/log" &
            pid=$!
            (cat <&3 >/dev/null; kill -QUIT $pid 2>/dev/null) &
            until "$1/pg_isready" -q -h "$2" -p "$3"; do
                kill -0 $pid || { echo failed; cat "$2/log"; exit 1; }
                sleep 0.05
            done
            echo ready
            wait $pid
            [ -e "$2/keep" ] || rm -rf "$2"
        "#;
        let (bin, port) = (bin(), self.port.to_string());
        let args = [bin.as_os_str(), self.folder.as_os_str(), port.as_ref()];
        let running = Supervisor::start("postgres", script, &args)
            .unwrap_or_else(|| panic!("the server did not start; see its log in {}", self.folder.display()));
        *self.running.lock().unwrap() = Some(running);
    }

    /// Ends the server without a clean shutdown, as a crash would, and waits until it is gone.
    pub fn crash(&self) {
        std::fs::write(self.folder.join("keep"), "").unwrap();
        drop(self.running.lock().unwrap().take().unwrap());
        std::fs::remove_file(self.folder.join("keep")).unwrap();
    }

    /// A fresh database.
    pub async fn new_database(&self) -> String {
        let name = format!("store_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let client = self.connect("postgres").await;
        client.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        name
    }

    /// A connection as the administrator.
    pub async fn connect(&self, database: &str) -> tokio_postgres::Client {
        let (client, connection) = tokio_postgres::connect(&self.url(database), NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// The administrator's connection string.
    pub fn url(&self, database: &str) -> String {
        format!("{} port={}", url_at(&self.folder, database), self.port)
    }

    /// The folder of its socket.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The server's socket.
    pub fn socket(&self) -> PathBuf {
        socket_in(&self.folder)
    }
}

/// How to reach a server whose socket is in this folder.
pub fn url_at(folder: &Path, database: &str) -> String {
    format!("host={} user=bailiwick dbname={database}", folder.display())
}

/// The name that clients expect the socket in a folder to have.
pub fn socket_in(folder: &Path) -> PathBuf {
    folder.join(format!(".s.PGSQL.{PORT}"))
}

/// The folder of the newest server's programs.
fn bin() -> PathBuf {
    static BIN: OnceLock<PathBuf> = OnceLock::new();
    BIN.get_or_init(|| {
        newest().expect("PostgreSQL's server programs are missing; install the Debian package postgresql")
    })
    .clone()
}

fn newest() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let packaged = versions
        .filter_map(|v| Some((v.file_name().to_str()?.parse::<u32>().ok()?, v.path().join("bin"))))
        .filter(|(_, bin)| bin.join("initdb").exists())
        .max()
        .map(|(_, bin)| bin);
    let on_path = || std::env::split_paths(&std::env::var_os("PATH")?).find(|p| p.join("initdb").exists());
    packaged.or_else(on_path)
}

/// The server refuses to run as root, so root runs it as the packaged user.
fn as_postgres(program: &Path) -> Command {
    as_user("postgres", program)
}
