//! SSH: the suite on a real sshd with the real client, and what only SSH can get wrong.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bailiwick_broker::mark::Maker;
use bailiwick_broker::ssh::relay::InForce;
use bailiwick_broker::ssh::{Config, PUBLIC_KEY, Scope, Ssh, Through};
use bailiwick_broker::{
    Broker, BrokerError, Capabilities, Created, Credential, Did, Doing, Effective, Found, Handle, Login,
    Plan, Secret, Sight, Spec,
};
use bailiwick_core::lease::{Mandate, Revocability, Step};
use bailiwick_core::tool::{Effect, Manifest};
use bailiwick_core::value::Value;
use bailiwick_core::{LeaseId, SystemId, ToolId};
use bailiwick_stand::{Sshd, free_port};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use crate::kit::{Session, Stage, end, soon};
use crate::mandates::ready;

/// The address from which the host sees the relay; agents connect from another.
const RELAY_FROM: &str = "127.0.0.2";

/// Another login on the host, which the stand's sshd could not even become.
const ANOTHER: &str = "backup";

/// What stands in for the log: which leases are in force, in memory for the relay, as files for the host's command.
struct Log {
    folder: tempfile::TempDir,
    in_force: Mutex<HashMap<LeaseId, ()>>,
    answers: Mutex<Answers>,
}

#[derive(Clone, Copy, PartialEq)]
enum Answers {
    Truly,
    Never,
    WithAnError,
}

impl Log {
    fn path(&self, lease: &LeaseId) -> PathBuf {
        self.folder.path().join(lease.as_str())
    }

    fn begins(&self, lease: &LeaseId, user: &str, line: &str) {
        std::fs::write(self.path(lease), format!("{line}\n")).unwrap();
        std::fs::write(self.path(lease).with_extension("user"), user).unwrap();
        self.in_force.lock().unwrap().insert(lease.clone(), ());
    }

    fn ends(&self, lease: &LeaseId) {
        let _gone = std::fs::remove_file(self.path(lease));
        self.in_force.lock().unwrap().remove(lease);
    }
}

impl InForce for Log {
    fn is_in_force<'a>(&'a self, lease: &'a LeaseId) -> Doing<'a, bool> {
        let (answers, known) =
            (*self.answers.lock().unwrap(), self.in_force.lock().unwrap().contains_key(lease));
        Box::pin(async move {
            match answers {
                Answers::Truly => Ok(known),
                Answers::Never => std::future::pending().await,
                Answers::WithAnError => Err(BrokerError::new("connector.config", "the log cannot be read")),
            }
        })
    }
}

/// The connector, with the log before it: in force once it is created, and not any more before it is revoked.
struct Logged {
    ssh: Ssh,
    user: String,
    log: Arc<Log>,
    given: Mutex<HashMap<String, Credential>>,
}

impl Broker for Logged {
    fn system(&self) -> &SystemId {
        self.ssh.system()
    }
    fn capabilities(&self) -> Capabilities {
        self.ssh.capabilities()
    }
    fn scopes(&self) -> Vec<Manifest> {
        self.ssh.scopes()
    }
    fn longest_secs(&self, scope: &ToolId) -> u64 {
        self.ssh.longest_secs(scope)
    }
    fn prepare(&self, spec: Spec) -> Doing<'_, Plan> {
        self.ssh.prepare(spec)
    }
    fn create<'a>(&'a self, mandate: &'a Mandate, plan: &'a Plan) -> Doing<'a, Created> {
        Box::pin(async move {
            let created = self.ssh.create(mandate, plan).await?;
            let login = self.login(plan);
            let handle = handle(plan);
            assert_eq!(self.ssh.claimed(&login), Some(handle.lease.clone()));
            let line = self.ssh.admit(&login, &handle, &plan.spec.on_behalf).unwrap();
            self.log.begins(&handle.lease, &login.user, &line);
            let kept = Credential {
                plain: created.credential.plain.clone(),
                secret: created.credential.secret.clone(),
                env: BTreeMap::new(),
            };
            self.given.lock().unwrap().insert(plan.name.clone(), kept);
            Ok(created)
        })
    }
    fn describe<'a>(&'a self, handle: &'a Handle) -> Doing<'a, Effective> {
        self.ssh.describe(handle)
    }
    fn revoke<'a>(&'a self, handle: &'a Handle, step: Step) -> Doing<'a, Did> {
        self.log.ends(&handle.lease);
        self.ssh.revoke(handle, step)
    }
    fn look<'a>(&'a self, handle: &'a Handle) -> Doing<'a, Sight> {
        self.ssh.look(handle)
    }
    fn sweep(&self) -> Doing<'_, Vec<Found>> {
        self.ssh.sweep()
    }
}

impl Logged {
    /// The login that a holder of this plan's certificate would try.
    fn login(&self, plan: &Plan) -> Login {
        let by = &plan.spec.on_behalf;
        let key_id = format!("bailiwick:{}:{}:{}", plan.spec.lease, by.agent, by.initiator);
        let serial = bailiwick_core::Digest::of_parts(&[b"ssh serial v1", plan.name.as_bytes()]);
        let serial = u64::from_be_bytes(serial.as_bytes()[..8].try_into().unwrap()).to_string();
        let another = plan.spec.tool.action() == "as_another";
        Login { user: if another { ANOTHER } else { &self.user }.to_owned(), key_id, serial }
    }
}

fn handle(plan: &Plan) -> Handle {
    Handle {
        lease: plan.spec.lease.clone(),
        name: plan.name.clone(),
        external: None,
        tool: plan.spec.tool.clone(),
        until: plan.spec.until,
    }
}

/// A web server that can be looked at, its relay, and the log.
struct Host {
    sshd: Sshd,
    broker: Logged,
    log: Arc<Log>,
    relay: Option<(u16, tokio::task::JoinHandle<()>)>,
}

fn authority() -> (String, Secret) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca");
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&path)
        .status();
    assert!(made.unwrap().success());
    let public = std::fs::read_to_string(path.with_extension("pub")).unwrap();
    (public.trim().to_owned(), Secret::new(std::fs::read_to_string(&path).unwrap()))
}

fn scope(user: &str, relayed: bool) -> Scope {
    let commands = ["printf %s {unit}", "echo status of {unit} is fine", "id -un", "sleep {seconds}"];
    Scope {
        user: user.to_owned(),
        effect: Effect::Update,
        reversible: false,
        commands: commands.map(str::to_owned).into(),
        sources: if relayed { vec![] } else { vec!["127.0.0.0/8".to_owned()] },
        labels: Default::default(),
        ttl_s: 3600,
    }
}

impl Host {
    async fn new() -> Host {
        Host::with(true).await
    }

    async fn with(relayed: bool) -> Host {
        let (public, authority) = authority();
        let folder = tempfile::Builder::new().prefix("bw-ssh-log-").tempdir_in("/tmp").unwrap();
        std::process::Command::new("chmod").arg("a+rx").arg(folder.path()).status().unwrap();
        // What a host asks a node over HTTP is a file here: the same answer for the same three facts.
        let asks = format!(
            "lease=$(printf %s \"$2\" | cut -d: -f2)\necho \"$1 $2 $3\" >> {0}/asked\n\
             [ \"$1\" = \"$(cat {0}/$lease.user)\" ] && exec cat {0}/$lease",
            folder.path().display()
        );
        let sshd = Sshd::start(&public, &asks);
        let listen = free_port();
        let config = Config {
            system: "web".parse().unwrap(),
            host: "127.0.0.1".to_owned(),
            port: sshd.port(),
            host_key: sshd.host_key(),
            authority,
            relay: relayed.then(|| Through {
                agents_reach: ("127.0.0.1".to_owned(), listen),
                from: RELAY_FROM.parse::<IpAddr>().unwrap(),
            }),
            scopes: [
                ("look_at".to_owned(), scope(&sshd.user(), relayed)),
                ("as_another".to_owned(), scope(ANOTHER, relayed)),
            ]
            .into(),
        };
        let ssh = Ssh::new(config, Maker::new(&[9; 32])).unwrap();
        let answers = Mutex::new(Answers::Truly);
        let log = Arc::new(Log { folder, in_force: Mutex::default(), answers });
        std::fs::write(log.folder.path().join("asked"), "").unwrap();
        std::process::Command::new("chmod")
            .arg("a+rw")
            .arg(log.folder.path().join("asked"))
            .status()
            .unwrap();
        let relay = match ssh.relay() {
            Some(relay) => {
                let listener = TcpListener::bind(("127.0.0.1", listen)).await.unwrap();
                Some((listen, tokio::spawn(relay.serve(listener, log.clone()))))
            }
            None => None,
        };
        let broker = Logged { ssh, user: sshd.user(), log: log.clone(), given: Mutex::default() };
        Host { sshd, broker, log, relay }
    }

    /// A credential, through the whole of planning and recording.
    async fn given(&self, scope: &str, ttl_ms: u64) -> (Created, Handle) {
        let tool: ToolId = format!("web.{scope}").parse().unwrap();
        ready(&self.broker, &tool, &args(), ttl_ms).await.unwrap().create(&self.broker).await.unwrap()
    }

    fn client(&self, credential: &Credential) -> Client {
        Client::new(credential, self.relay.as_ref().map(|(port, _)| *port))
    }
}

fn args() -> BTreeMap<String, Value> {
    [("unit".to_owned(), Value::from("web@1")), ("seconds".to_owned(), Value::from("4711"))].into()
}

/// A folder with what a holder was given, and how `ssh` is called with it.
struct Client {
    folder: tempfile::TempDir,
    user: String,
    proxy: Option<String>,
    port: String,
}

impl Client {
    fn new(credential: &Credential, relay: Option<u16>) -> Client {
        let folder = tempfile::tempdir().unwrap();
        let plain = &credential.plain;
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::process::Command::new("chmod").arg("go=").arg(path).status().unwrap();
        };
        write("key-cert.pub", &plain["certificate"]);
        write("known_hosts", &format!("host {}\n", plain["host_key"]));
        if let Some(key) = credential.secret.get("private_key") {
            write("key", key.expose());
        }
        let proxy = relay.map(|port| {
            let pass = credential.secret["relay_pass"].expose();
            // Whichever side ends first, the other ends with it.
            write(
                "proxy",
                &format!(
                    "exec 3<>/dev/tcp/127.0.0.1/{port} 4<&0 2>/dev/null\nprintf '%s\\n' 'bailiwick-relay 1 {} {pass}' >&3\n\
                     cat <&4 >&3 & a=$!\ncat <&3 & b=$!\nwait -n\nkill $a $b 2>/dev/null\n",
                    plain["name"]
                ),
            );
            format!("/bin/bash {}/proxy", folder.path().display())
        });
        Client { user: plain["user"].clone(), proxy, port: plain["port"].clone(), folder }
    }

    fn ssh(&self, options: &[&str]) -> Command {
        let at = self.folder.path().display().to_string();
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-p", &self.port, "-l", &self.user, "-i"]).arg(format!("{at}/key"));
        let usual = [
            format!("CertificateFile={at}/key-cert.pub"),
            format!("UserKnownHostsFile={at}/known_hosts"),
            "HostKeyAlias=host".to_owned(),
            "StrictHostKeyChecking=yes".to_owned(),
            "IdentitiesOnly=yes".to_owned(),
            "IdentityAgent=none".to_owned(),
            "BatchMode=yes".to_owned(),
            "LogLevel=ERROR".to_owned(),
        ];
        for option in usual.iter().chain(&self.proxy.as_ref().map(|p| format!("ProxyCommand={p}"))) {
            ssh.args(["-o", option]);
        }
        ssh.args(options).stdin(Stdio::null()).env_remove("SSH_AUTH_SOCK").kill_on_drop(true);
        ssh
    }

    async fn ran(&self, options: &[&str], command: &[&str]) -> Output {
        let mut ssh = self.ssh(options);
        ssh.arg("127.0.0.1").args(command);
        tokio::time::timeout(Duration::from_secs(30), ssh.output()).await.expect("ssh ends").unwrap()
    }

    async fn lets_in(&self) -> bool {
        self.ran(&[], &["id -un"]).await.status.success()
    }
}

/// A connection that stays, over which commands are run one after the other.
struct Open {
    client: Client,
    master: Mutex<Child>,
}

impl Open {
    async fn new(client: Client) -> Result<Open, String> {
        let socket = client.folder.path().join("s");
        let mut master = client
            .ssh(&["-M", "-N", "-S", socket.to_str().unwrap()])
            .arg("127.0.0.1")
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        loop {
            if socket.exists() {
                return Ok(Open { client, master: Mutex::new(master) });
            }
            if master.try_wait().unwrap().is_some() {
                let mut said = String::new();
                let _read = master.stderr.take().unwrap().read_to_string(&mut said).await;
                return Err(said);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn is_cut(&self) -> bool {
        self.master.lock().unwrap().try_wait().unwrap().is_some()
    }
}

impl Session for Open {
    async fn run(&mut self, what: &str) -> Result<String, String> {
        let socket = self.client.folder.path().join("s");
        // Over the connection that is there, never over a new one.
        let mut options = vec!["-S", socket.to_str().unwrap(), "-o", "ControlMaster=no"];
        if !what.is_empty() {
            options.push("-T");
        }
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-o", "ProxyCommand=/bin/false", "-o", "BatchMode=yes"]).args(&options);
        ssh.arg("127.0.0.1").stdin(Stdio::null()).kill_on_drop(true);
        if !what.is_empty() {
            ssh.arg(what);
        }
        let out =
            tokio::time::timeout(Duration::from_secs(20), ssh.output()).await.expect("ssh ends").unwrap();
        let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
        if out.status.success() { Ok(said) } else { Err(said) }
    }
}

impl Stage for Host {
    type Session = Open;

    fn broker(&self) -> &dyn Broker {
        &self.broker
    }
    fn scope(&self) -> (ToolId, BTreeMap<String, Value>) {
        ("web.look_at".parse().unwrap(), args())
    }
    fn allowed(&self) -> Vec<&'static str> {
        vec!["printf %s web@1", "echo status of web@1 is fine", "id -un"]
    }
    fn denied(&self) -> Vec<&'static str> {
        vec![
            "",
            "id",
            "id -un ",
            "id -un; id",
            "id -un && id",
            "id -un\nid",
            "printf %s web@2",
            "printf %s {unit}",
            "echo status of web@1 is fine; cat /etc/passwd",
            "$(id -un)",
            "/bin/sh",
            "scp -t /tmp",
            "internal-sftp",
            "/usr/lib/openssh/sftp-server",
            "*",
            "id -u?",
        ]
    }
    async fn log_in(&self, credential: &Credential) -> Result<Open, String> {
        Open::new(self.client(credential)).await
    }
    async fn exists(&self, name: &str) -> bool {
        let client = match self.broker.given.lock().unwrap().get(name) {
            Some(credential) => self.client(credential),
            None => return false,
        };
        client.lets_in().await
    }
    async fn plant_lookalike(&self, _: &str) {}
    async fn remove_lookalike(&self, _: &str) {}
    async fn logs(&self) -> String {
        self.sshd.log() + &std::fs::read_to_string(self.log.folder.path().join("asked")).unwrap()
    }
    fn keeps_principals(&self) -> bool {
        false
    }
    fn rounds(&self) -> usize {
        4
    }
}

crate::conformance!(Host::new().await);

// proves: X2, Z4
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_gives_its_commands_and_no_terminal_no_forwarding_and_no_files() {
    let host = Host::new().await;
    let (created, handle) = host.given("look_at", 60_000).await;
    let client = host.client(&created.credential);
    let good = client.ran(&[], &["printf %s web@1"]).await;
    assert_eq!(String::from_utf8_lossy(&good.stdout), "web@1", "{good:?}");

    let terminal = client.ran(&["-tt"], &["id -un"]).await;
    assert!(
        String::from_utf8_lossy(&terminal.stderr).contains("PTY allocation request failed"),
        "{terminal:?}"
    );
    let there = format!("127.0.0.1:{}", host.sshd.port());
    let forwarded = client.ran(&["-W", &there], &[]).await;
    assert!(!forwarded.status.success() && forwarded.stdout.is_empty(), "{forwarded:?}");
    let back = format!("{}:{there}", free_port());
    let remote = client.ran(&["-o", "ExitOnForwardFailure=yes", "-R", &back], &["id -un"]).await;
    assert!(!remote.status.success() && remote.stdout.is_empty(), "{remote:?}");
    let files = client.ran(&["-s"], &["sftp"]).await;
    assert_eq!(files.status.code(), Some(126), "{files:?}");
    assert!(
        host.sshd.log().contains("refused local port forward"),
        "it was asked for, and refused by the host"
    );
    assert!(host.sshd.log().contains(&format!("bailiwick:{}:reporter:dana@example.org", handle.lease)));
    end(&host.broker, &handle).await;
}

// proves: X2, R2
#[tokio::test(flavor = "multi_thread")]
async fn it_is_good_through_the_relay_only() {
    let host = Host::new().await;
    let (created, handle) = host.given("look_at", 60_000).await;
    assert!(host.client(&created.credential).lets_in().await);
    let past = Client::new(&created.credential, None);
    assert!(!past.lets_in().await);
    assert!(host.sshd.log().contains("not from a permitted source address"));
    end(&host.broker, &handle).await;
}

// proves: X2, Z2
#[tokio::test(flavor = "multi_thread")]
async fn another_login_and_another_lease_are_refused() {
    let host = Host::new().await;
    let (mine, handle) = host.given("look_at", 60_000).await;
    let (theirs, other) = host.given("as_another", 60_000).await;

    // Another login with my certificate, and my login with another's.
    for (credential, user) in [(&mine.credential, ANOTHER), (&theirs.credential, &host.sshd.user() as &str)] {
        let client = Client { user: user.to_owned(), ..host.client(credential) };
        assert!(!client.lets_in().await, "{user}");
    }
    // The host is told the principal of another lease: that is not the one in the certificate.
    let line = std::fs::read_to_string(host.log.path(&other.lease)).unwrap();
    std::fs::write(host.log.path(&handle.lease), line).unwrap();
    assert!(!host.client(&mine.credential).lets_in().await);
    let refused = host.sshd.log().matches("Certificate does not contain an authorized principal").count();
    assert_eq!(refused, 3, "{}", host.sshd.log());
    end(&host.broker, &handle).await;
    end(&host.broker, &other).await;
}

// proves: Z2, D6
#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_told_to_let_in_nobody_but_the_holder() {
    let host = Host::new().await;
    let plan = ready(&host.broker, &"web.look_at".parse().unwrap(), &args(), 60_000).await.unwrap().plan;
    let (login, handle, by) = (host.broker.login(&plan), handle(&plan), plan.spec.on_behalf.clone());
    let ssh = &host.broker.ssh;
    assert_eq!(ssh.admit(&login, &handle, &by), Some(format!("restrict {}", plan.name)));
    let change = |change: &dyn Fn(&mut Login)| {
        let mut login = login.clone();
        change(&mut login);
        login
    };
    for odd in [
        change(&|l| l.user = "root".to_owned()),
        change(&|l| l.serial = "1".to_owned()),
        change(&|l| l.serial = format!("0{}", l.serial)),
        change(&|l| l.key_id.push('x')),
        change(&|l| l.key_id = l.key_id.replace("reporter", "another")),
        change(&|l| l.key_id = l.key_id.replace("dana", "mallory")),
    ] {
        assert_eq!(ssh.admit(&odd, &handle, &by), None, "{odd:?}");
    }
    for key_id in ["", "bailiwick", "bailiwick:", "bailiwick:x", "other:l-1:a:b", "bailiwick:../../x:a:b"] {
        assert_eq!(ssh.claimed(&change(&|l| l.key_id = key_id.to_owned())), None, "{key_id}");
    }
}

// proves: R2, R6, A55
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_ends_the_session_at_once_and_its_command_soon_after() {
    let host = Host::new().await;
    let (created, handle) = host.given("look_at", 60_000).await;
    let open = host.log_in(&created.credential).await.unwrap();
    let client = host.client(&created.credential);
    let mut long = client.ssh(&[]).args(["127.0.0.1", "sleep 4711"]).spawn().unwrap();
    soon("the command", async || sleeping()).await;
    let begun = Instant::now();
    end(&host.broker, &handle).await;
    let did = begun.elapsed();
    soon("the end of the session", async || open.is_cut()).await;
    assert!(!long.wait().await.unwrap().success());
    assert!(did < Duration::from_secs(3), "{did:?}");
    soon("the end of the command", async || !sleeping()).await;
}

/// Whether the long command runs, as the machine sees it.
fn sleeping() -> bool {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter(|p| p.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit()))
        .filter_map(|p| std::fs::read(p.path().join("cmdline")).ok())
        .any(|line| line == b"sleep\x004711\x00")
}

// proves: R3, D6, INV6
#[tokio::test(flavor = "multi_thread")]
async fn the_relay_cuts_when_nobody_can_say_that_a_lease_is_in_force() {
    for answers in [Answers::WithAnError, Answers::Never] {
        let host = Host::new().await;
        let (created, handle) = host.given("look_at", 60_000).await;
        let mut open = host.log_in(&created.credential).await.unwrap();
        open.run("id -un").await.unwrap();
        *host.log.answers.lock().unwrap() = answers;
        soon("the cut", async || open.is_cut()).await;
        assert!(!host.client(&created.credential).lets_in().await, "and lets nobody in");
        *host.log.answers.lock().unwrap() = Answers::Truly;
        assert!(host.client(&created.credential).lets_in().await, "until it can");
        end(&host.broker, &handle).await;
    }
}

// proves: R3
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_not_served_any_more_has_cut_everything() {
    let host = Host::new().await;
    let (created, _) = host.given("look_at", 60_000).await;
    let open = host.log_in(&created.credential).await.unwrap();
    host.relay.as_ref().unwrap().1.abort();
    soon("the cut", async || open.is_cut()).await;
}

// proves: D6, INV6
#[tokio::test(flavor = "multi_thread")]
async fn the_relay_carries_nobody_without_the_pass_of_a_lease_in_force() {
    let host = Host::new().await;
    let (created, handle) = host.given("look_at", 60_000).await;
    let (other, _) = host.given("look_at", 60_000).await;
    let port = host.relay.as_ref().unwrap().0;
    let pass = created.credential.secret["relay_pass"].expose();
    let hello = |name: &str, pass: &str| format!("bailiwick-relay 1 {name} {pass}\n").into_bytes();
    let good = said(port, &hello(&handle.name, pass)).await;
    assert!(good.starts_with("SSH-2.0-"), "{good}");
    for odd in [
        b"\n".to_vec(),
        b"SSH-2.0-x\r\n".to_vec(),
        hello(&handle.name, ""),
        hello(&handle.name, &pass[1..]),
        hello(&handle.name, other.credential.secret["relay_pass"].expose()),
        hello("bw_xxxx_1", pass),
        vec![b'x'; 4000],
        vec![0xff, 0xfe, b'\n'],
    ] {
        let answer = said(port, &odd).await;
        assert!(!answer.contains("SSH-2.0-"), "{:?} got {answer}", String::from_utf8_lossy(&odd));
    }
    host.log.ends(&handle.lease);
    assert_eq!(said(port, &hello(&handle.name, pass)).await, "bailiwick: the lease is not in force\r\n");
}

/// What comes first after these bytes; empty if it is an end.
async fn said(port: u16, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let _sent = stream.write_all(bytes).await;
    let mut answer = vec![0; 200];
    let read =
        tokio::time::timeout(Duration::from_secs(15), stream.read(&mut answer)).await.expect("an answer");
    String::from_utf8_lossy(&answer[..read.unwrap_or(0)]).into_owned()
}

/// Letters and digits of the shape of ISO 13616 stand in it.
const READS_LIKE_AN_ACCOUNT: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIP1+RS04JHGlFTyOG6f4xH8lb7p0SJ36/rNISUzrBTtI dana@laptop";

// proves: X2, INV14
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_can_bring_its_own_key_and_then_there_is_no_private_one() {
    let host = Host::new().await;
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&key)
        .status();
    assert!(made.unwrap().success());
    let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    let mut args = args();
    args.insert(PUBLIC_KEY.to_owned(), Value::from(public.trim()));
    let tool = "web.look_at".parse().unwrap();
    let by_chance = BTreeMap::from([(PUBLIC_KEY.to_owned(), Value::from(READS_LIKE_AN_ACCOUNT))]);
    let by_chance = args.clone().into_iter().chain(by_chance).collect();
    drop(
        ready(&host.broker, &tool, &by_chance, 60_000)
            .await
            .expect("a key is no account, whatever it reads like"),
    );
    let ready = ready(&host.broker, &tool, &args, 60_000).await.unwrap();
    let spec = ready.plan.spec.clone();
    let (created, handle) = ready.create(&host.broker).await.unwrap();
    assert_eq!(created.credential.secret.keys().collect::<Vec<_>>(), ["relay_pass"]);
    let client = host.client(&created.credential);
    std::fs::copy(&key, client.folder.path().join("key")).unwrap();
    assert!(client.lets_in().await);
    end(&host.broker, &handle).await;
    for odd in ["", "ssh-ed25519 AAAA", "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQ=="] {
        args.insert(PUBLIC_KEY.to_owned(), Value::from(odd));
        let refused = host.broker.prepare(Spec { args: args.clone(), ..spec.clone() }).await.unwrap_err();
        assert_eq!(refused.code(), "scope.argument", "{odd}");
    }
}

// proves: R6, Z3
#[tokio::test(flavor = "multi_thread")]
async fn without_a_relay_it_is_gone_when_it_has_run_out_and_not_before() {
    let host = Host::with(false).await;
    assert_eq!(host.broker.capabilities().class, Revocability::D);
    let (created, long) = host.given("look_at", 3_600_000).await;
    let client = host.client(&created.credential);
    assert!(client.lets_in().await);
    for step in Step::ALL {
        host.broker.revoke(&long, step).await.unwrap();
    }
    assert!(!client.lets_in().await, "the host asks, and is told no");
    let sight = host.broker.look(&long).await.unwrap();
    assert!(
        !sight.gone && sight.answer.contains("good for"),
        "but nobody can say that nothing is open: {sight:?}"
    );

    let (created, short) = host.given("look_at", 1).await;
    let client = host.client(&created.credential);
    soon("the expiry", async || host.broker.look(&short).await.unwrap().gone).await;
    assert!(!client.lets_in().await, "although the host is told yes");
    assert!(host.log.path(&short.lease).exists());
    assert!(host.sshd.log().contains("Certificate invalid: expired"), "{}", host.sshd.log());
}

// proves: D6
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_says_more_than_its_scope_is_found_out() {
    let host = Host::new().await;
    let (mine, handle) = host.given("look_at", 60_000).await;
    let (theirs, _) = host.given("look_at", 3_000_000).await;
    host.broker.describe(&handle).await.unwrap();
    for (external, code) in [
        (None, "target.gone"),
        (Some(theirs.external), "scope.wider"),
        (Some("ssh-ed25519-cert-v01@openssh.com AAAA".to_owned()), "connector.certificate"),
        (Some(host.sshd.host_key()), "connector.certificate"),
    ] {
        let refused = host.broker.describe(&Handle { external, ..handle.clone() }).await.unwrap_err();
        assert_eq!(refused.code(), code);
    }
    let short = Handle { until: bailiwick_core::Time(1), ..handle };
    assert_eq!(host.broker.describe(&short).await.unwrap_err().code(), "scope.wider", "it lives too long");
    assert!(!mine.external.is_empty());
}

// proves: D6
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_not_there_gives_nothing_out() {
    let host = Host::new().await;
    let (tool, args) = host.scope();
    let spec = ready(&host.broker, &tool, &args, 1000).await.unwrap().plan.spec;
    drop(host.sshd);
    assert_eq!(host.broker.prepare(spec).await.unwrap_err().code(), "target.unreachable");
}

// proves: D6, INV14
#[test]
fn what_is_no_host_and_no_authority_cannot_be_stated() {
    let (_, key) = authority();
    let config = |host: &str, host_key: &str, authority: &Secret| Config {
        system: "web".parse().unwrap(),
        host: host.to_owned(),
        port: 22,
        host_key: host_key.to_owned(),
        authority: authority.clone(),
        relay: None,
        scopes: BTreeMap::new(),
    };
    let line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    assert!(Ssh::new(config("web-1.example.org", line, &key), Maker::new(&[1; 32])).is_ok());
    let none = Secret::new("no key at all, but a secret".to_owned());
    for odd in [
        config("", line, &key),
        config("-oProxyCommand=x", line, &key),
        config("a b", line, &key),
        config("web", "ssh-ed25519", &key),
        config("web", &format!("{line}\n* {line}"), &key),
        config("web", line, &none),
    ] {
        let printed = format!("{odd:?}");
        let refused = Ssh::new(odd, Maker::new(&[1; 32])).err().unwrap();
        assert_eq!(refused.code(), "connector.config");
        assert!(!format!("{printed} {refused}").contains("a secret") && !printed.contains("OPENSSH"));
    }
}
