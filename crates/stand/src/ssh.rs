//! A throw-away sshd: on a free port of the loopback interface, unprivileged, stopped by its own pid.
//!
//! It trusts one certificate authority and nothing else, and asks a command who may log in. Being unprivileged, it can
//! log in only the user that it runs as; that it asks about others, and refuses them, shows in its log.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::supervisor::Supervisor;
use crate::{as_user, folder_for, free_port, is_root};

/// A packaged user with a shell, for stands that are started by root.
const USER: &str = "postgres";

/// A running server.
pub struct Sshd {
    folder: PathBuf,
    port: u16,
    running: Mutex<Option<Supervisor>>,
}

impl Sshd {
    /// A new one that trusts this authority (a line of a public key) and asks this command, a shell line to which
    /// sshd's tokens can be given: `%u` the login, `%i` the id of the certificate, `%s` its number.
    pub fn start(authority: &str, principals: &str) -> Sshd {
        for (program, package) in [
            ("/usr/sbin/sshd", "openssh-server"),
            ("/usr/bin/ssh", "openssh-client"),
            ("/usr/bin/ssh-keygen", "openssh-client"),
        ] {
            assert!(
                Path::new(program).exists(),
                "{program} is missing; install the Debian package {package}"
            );
        }
        let folder = folder_for(USER, "bw-sshd-");
        let at = folder.display();
        let server = Sshd { port: free_port(), running: Mutex::new(None), folder: folder.clone() };
        std::fs::write(folder.join("ca.pub"), format!("{authority}\n")).unwrap();
        // sshd runs only what nobody but root can change: the shell is such a program, and it is given a script.
        std::fs::write(folder.join("principals.sh"), format!("{principals}\n")).unwrap();
        let settings = format!(
            "Port {}\nListenAddress 127.0.0.1\nHostKey {at}/host_key\nPidFile {at}/pid\nLogLevel VERBOSE\n\
             UsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nAuthorizedKeysFile none\n\
             MaxStartups 100\nTrustedUserCAKeys {at}/ca.pub\nAuthorizedPrincipalsCommandUser {}\n\
             AuthorizedPrincipalsCommand /bin/sh {at}/principals.sh %u %i %s\nSubsystem sftp internal-sftp\n",
            server.port,
            server.user()
        );
        std::fs::write(folder.join("sshd_config"), settings).unwrap();
        let made = as_user(USER, Path::new("/usr/bin/ssh-keygen"))
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(folder.join("host_key"))
            .status();
        assert!(made.is_ok_and(|s| s.success()), "no host key could be made");
        let readable = Command::new("chmod").arg("a+rx").arg(&folder).status();
        assert!(readable.is_ok_and(|s| s.success()));
        server.run();
        server
    }

    /// Starts it, again if it was stopped.
    pub fn run(&self) {
        let script = r#"
            exec 3<&0
            /usr/sbin/sshd -D -e -f "$1/sshd_config" 2>>"$1/log" &
            pid=$!
            (cat <&3 >/dev/null; kill -TERM $pid 2>/dev/null) &
            until grep -q '^Server listening' "$1/log"; do
                kill -0 $pid || { echo failed; exit 1; }
                sleep 0.05
            done
            echo ready
            wait $pid
            [ -e "$1/keep" ] || rm -rf "$1"
        "#;
        let running = Supervisor::start(USER, script, &[self.folder.as_os_str()])
            .unwrap_or_else(|| panic!("sshd did not start; see its log in {}", self.folder.display()));
        *self.running.lock().unwrap() = Some(running);
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The one user that can log in.
    pub fn user(&self) -> String {
        if is_root() {
            return USER.to_owned();
        }
        let id = Command::new("id").arg("-un").output().expect("id");
        String::from_utf8_lossy(&id.stdout).trim().to_owned()
    }

    /// Its public key, without the comment.
    pub fn host_key(&self) -> String {
        let line = std::fs::read_to_string(self.folder.join("host_key.pub")).unwrap();
        line.split(' ').take(2).collect::<Vec<_>>().join(" ")
    }

    /// Everything it wrote down.
    pub fn log(&self) -> String {
        let mut bytes = Vec::new();
        let _read = std::fs::File::open(self.folder.join("log")).and_then(|mut f| f.read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    }
}
