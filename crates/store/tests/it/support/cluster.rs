//! A throw-away PostgreSQL server: own folder, socket in it, no network, stopped by its own pid.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use tokio_postgres::NoTls;

const BIN: &str = "/usr/lib/postgresql/15/bin";
/// Names the socket; nothing listens on the network.
const PORT: u16 = 5432;

/// A running server.
pub(crate) struct Cluster {
    folder: PathBuf,
    port: u16,
    databases: AtomicU32,
    running: Mutex<Option<Running>>,
}

struct Running {
    supervisor: Child,
    /// While it is open the server runs. The kernel closes it with this process, whatever ends that.
    leash: ChildStdin,
}

impl Cluster {
    /// The one that all tests of this run share.
    pub(crate) fn shared() -> Arc<Cluster> {
        static SHARED: OnceLock<Arc<Cluster>> = OnceLock::new();
        Arc::clone(SHARED.get_or_init(|| Arc::new(Cluster::start("fsync=on"))))
    }

    /// A new one with one more setting.
    pub(crate) fn start(setting: &str) -> Cluster {
        let cluster = Cluster::prepare(PORT);
        cluster.configure(&format!("listen_addresses=''\n{setting}"));
        cluster.run();
        cluster
    }

    /// A new one that also listens on the loopback interface, with a certificate for `localhost`.
    pub(crate) fn start_with_tls() -> Cluster {
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

    fn prepare(port: u16) -> Cluster {
        let initdb = Path::new(BIN).join("initdb");
        assert!(initdb.exists(), "{} is missing; install the Debian package postgresql-15", initdb.display());
        let folder = tempfile::Builder::new().prefix("bw-pg-").tempdir_in("/tmp").unwrap().keep();
        let chown = Command::new("chown").args(["postgres", folder.to_str().unwrap()]).status().unwrap();
        assert!(chown.success() || !is_root(), "the folder cannot be given to the postgres user");
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
    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.join("server.crt")
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Starts the server under a shell that stops it, by pid, when its standard input closes.
    pub(crate) fn run(&self) {
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
        let mut supervisor = as_postgres(Path::new("/bin/sh"))
            .args(["-c", script, "sh", BIN])
            .arg(&self.folder)
            .arg(self.port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0) // so that an interrupt at the terminal reaches only the test
            .spawn()
            .unwrap();
        let leash = supervisor.stdin.take().unwrap();
        let mut said = String::new();
        BufReader::new(supervisor.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(
            said.trim(),
            "ready",
            "the server did not start; see its log in {}",
            self.folder.display()
        );
        *self.running.lock().unwrap() = Some(Running { supervisor, leash });
    }

    /// Ends the server without a clean shutdown, as a crash would, and waits until it is gone.
    pub(crate) fn crash(&self) {
        std::fs::write(self.folder.join("keep"), "").unwrap();
        let Running { mut supervisor, leash } = self.running.lock().unwrap().take().unwrap();
        drop(leash);
        supervisor.wait().unwrap();
        std::fs::remove_file(self.folder.join("keep")).unwrap();
    }

    pub(crate) async fn new_database(&self) -> String {
        let name = format!("store_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let client = self.connect("postgres").await;
        client.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        name
    }

    pub(crate) async fn connect(&self, database: &str) -> tokio_postgres::Client {
        let (client, connection) = tokio_postgres::connect(&self.url(database), NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    pub(crate) fn url(&self, database: &str) -> String {
        format!("{} port={}", url_at(&self.folder, database), self.port)
    }

    /// The server's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        socket_in(&self.folder)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(Running { mut supervisor, leash }) = self.running.lock().unwrap().take() {
            drop(leash);
            let _stopped = supervisor.wait();
        }
    }
}

/// A port of the loopback interface that is free and not given out by the kernel by itself.
fn free_port() -> u16 {
    let free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (20_000 + (std::process::id() % 10_000) as u16..32_000).find(free).expect("a port is free")
}

/// How to reach a server whose socket is in this folder.
pub(crate) fn url_at(folder: &Path, database: &str) -> String {
    format!("host={} user=bailiwick dbname={database}", folder.display())
}

/// The name that clients expect the socket in a folder to have.
pub(crate) fn socket_in(folder: &Path) -> PathBuf {
    folder.join(format!(".s.PGSQL.{PORT}"))
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout.trim_ascii() == b"0"
}

/// The server refuses to run as root, so root runs it as the packaged user.
fn as_postgres(program: &Path) -> Command {
    if is_root() {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program).current_dir("/tmp");
        command
    } else {
        Command::new(program)
    }
}
