//! A throw-away Redis server with an ACL file: on a free port of the loopback interface, stopped by its own pid.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::supervisor::Supervisor;
use crate::{Certificate, folder_for, free_port};

/// The administrator's password.
pub const PASSWORD: &str = "administrator-of-the-stand";

/// A running server.
pub struct RedisServer {
    folder: PathBuf,
    port: u16,
    tls: bool,
    running: Mutex<Option<Supervisor>>,
}

impl RedisServer {
    /// A new one.
    pub fn start() -> RedisServer {
        RedisServer::start_as(None)
    }

    /// A new one with this certificate, which speaks TLS alone.
    pub fn start_with_certificate(certificate: &Certificate) -> RedisServer {
        RedisServer::start_as(Some(certificate))
    }

    fn start_as(certificate: Option<&Certificate>) -> RedisServer {
        let program = ["/usr/bin/redis-server", "/usr/local/bin/redis-server"];
        let found = program.iter().any(|p| Path::new(p).exists());
        assert!(found, "redis-server is missing; install the Debian package redis-server");
        let folder = folder_for("redis", "bw-redis-");
        let tls = certificate.is_some();
        let server = RedisServer { port: free_port(), tls, running: Mutex::new(None), folder };
        let users = format!("user default on >{PASSWORD} ~* &* +@all\n");
        std::fs::write(server.folder.join("users.acl"), users).unwrap();
        let ports = match certificate {
            None => format!("port {}", server.port),
            Some(certificate) => {
                certificate.write(&server.folder, "redis");
                format!(
                    "port 0\ntls-port {}\ntls-auth-clients no\ntls-cert-file {1}/server.crt\ntls-key-file {1}/server.key",
                    server.port,
                    server.folder.display()
                )
            }
        };
        let settings = format!(
            "bind 127.0.0.1\n{ports}\ndir {0}\nsave \"\"\naclfile {0}/users.acl\nlogfile {0}/log\nloglevel debug\n",
            server.folder.display()
        );
        std::fs::write(server.folder.join("redis.conf"), settings).unwrap();
        let everything =
            std::process::Command::new("chmod").args(["-R", "a+rwX"]).arg(&server.folder).status();
        assert!(everything.is_ok_and(|s| s.success()));
        server.run();
        server
    }

    /// Starts it, again if it was stopped.
    pub fn run(&self) {
        let script = r#"
            exec 3<&0
            redis-server "$1/redis.conf" &
            pid=$!
            (cat <&3 >/dev/null; kill -KILL $pid 2>/dev/null) &
            until redis-cli $3 -p "$2" ping >/dev/null 2>&1; do
                kill -0 $pid || { echo failed; exit 1; }
                sleep 0.05
            done
            echo ready
            wait $pid
            [ -e "$1/keep" ] || rm -rf "$1"
        "#;
        let port = self.port.to_string();
        let how = if self.tls { "--tls --insecure" } else { "" };
        let args: [&OsStr; 3] = [self.folder.as_os_str(), port.as_ref(), how.as_ref()];
        let running = Supervisor::start("redis", script, &args).unwrap_or_else(|| {
            panic!("redis-server did not start; see its log in {}", self.folder.display())
        });
        *self.running.lock().unwrap() = Some(running);
    }

    /// Kills it, as a crash would. Its files stay.
    pub fn crash(&self) {
        let keep = self.folder.join("keep");
        std::fs::write(&keep, "").unwrap();
        drop(self.running.lock().unwrap().take().unwrap());
        std::fs::remove_file(keep).unwrap();
    }

    /// The administrator's address.
    pub fn url(&self) -> String {
        let scheme = if self.tls { "rediss" } else { "redis" };
        format!("{scheme}://default:{PASSWORD}@127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it wrote down: its log, and the file of its users.
    pub fn log(&self) -> String {
        let read = |file: &str| std::fs::read(self.folder.join(file)).unwrap_or_default();
        let all = [read("log"), read("users.acl")].concat();
        String::from_utf8_lossy(&all).into_owned()
    }
}
