//! SSH for a task, end to end: the program, a real sshd that asks it at every login, and the real client.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use bailiwick_stand::Sshd;
use serde_json::Value as Json;

use crate::support::{House, PROGRAM, Ran, free_port, text};

const CONFIG: &str = "
version: 1
trust_domain: example.org
listen: 127.0.0.1:$PORT
people:
  - { id: dana@example.org, groups: [operators, approvers] }
targets:
  web:
    ssh:
      host: 127.0.0.1
      port: $SSHD
      host_key: $HOST_KEY
      authority: secret://file/authority
      host_token: secret://file/host.token
      relay: { listen: \"127.0.0.1:$RELAY\", from: 127.0.0.2 }
      scopes:
        look:
          user: $USER
          effect: update
          reversible: true
          commands: [\"echo status of {unit}\", \"sleep 300\"]
          ttl_s: 600
";

/// The token of the host, in the file that only the host has.
const TOKEN: &str = "the-token-of-the-host-in-the-tests";

struct Web {
    house: House,
    sshd: Sshd,
    /// What the host has: the program and its token, readable by its unprivileged user.
    _host: tempfile::TempDir,
}

impl Web {
    fn open() -> Web {
        let mut house = House::new("version: 1");
        made(
            Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(house.path("authority")),
        );
        house.write("host.token", TOKEN);
        let host = tempfile::Builder::new().prefix("bw-host-").tempdir_in("/tmp").unwrap();
        let program = host.path().join("bailiwick");
        std::fs::hard_link(PROGRAM, &program)
            .or_else(|_| std::fs::copy(PROGRAM, &program).map(|_| ()))
            .unwrap();
        std::fs::write(host.path().join("host.token"), TOKEN).unwrap();
        made(Command::new("chmod").args(["-R", "a+rX"]).arg(host.path()));
        let asks = format!(
            "exec {0}/bailiwick --server http://127.0.0.1:{1} ssh principals web \"$1\" \"$2\" \"$3\" --token-file {0}/host.token",
            host.path().display(),
            house.port
        );
        let public = std::fs::read_to_string(house.path("authority.pub")).unwrap();
        let sshd = Sshd::start(public.trim(), &asks);
        let config = CONFIG
            .replace("$PORT", &house.port.to_string())
            .replace("$SSHD", &sshd.port().to_string())
            .replace("$HOST_KEY", &sshd.host_key())
            .replace("$RELAY", &free_port().to_string())
            .replace("$USER", &sshd.user());
        house.write("bailiwick.yaml", &config);
        let printed = house.run(&["target", "setup", "web"]);
        let key: Vec<&str> = public.split(' ').take(2).collect();
        assert!(printed.good().contains(&key.join(" ")), "the authority, for the host's administrator");
        house.up();
        house.run(&["agent", "add", "deployer", "--may", "web.*"]).good();
        Web { house, sshd, _host: host }
    }

    fn task(&self) -> String {
        let args =
            ["task", "open", "--agent", "deployer", "--intent", "Look at web@1", "--var", "unit=web@1"];
        text(&self.house.json(&args), "task")
    }

    fn lease(&self, task: &str, rest: &[&str]) -> Command {
        self.house.command(&[&["lease", "--agent", "deployer", "--task", task], rest].concat())
    }

    fn leased(&self, task: &str, rest: &[&str]) -> Ran {
        let out = self.lease(task, rest).output().unwrap();
        Ran {
            code: out.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&out.stdout).into_owned(),
            err: String::from_utf8_lossy(&out.stderr).into_owned(),
        }
    }

    /// A holder with what it was told, as an agent of one's own would keep it.
    fn holder(&self, task: &str) -> Holder {
        Holder::new(self.leased(task, &["web.look", r#"{"unit": "web@1"}"#, "--json"]).json())
    }

    fn soon(&self, what: &str, is: impl Fn(&Web) -> bool) {
        let begun = Instant::now();
        while !is(self) {
            assert!(begun.elapsed() < Duration::from_secs(30), "{what} did not come about");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What a host is told about a login, asked with this token of this target at this address.
    fn asked(&self, server: &str, target: &str, token: &str, login: [&str; 3]) -> Output {
        let file = self.house.write("shown.token", token);
        let mut args = vec!["--server", server, "ssh", "principals", target];
        args.extend(login);
        args.extend(["--token-file", file.to_str().unwrap()]);
        self.house.command(&args).output().unwrap()
    }

    fn server(&self) -> String {
        format!("http://127.0.0.1:{}", self.house.port)
    }
}

fn made(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}

struct Holder {
    body: Json,
    folder: tempfile::TempDir,
}

impl Holder {
    fn new(body: Json) -> Holder {
        let folder = tempfile::tempdir().unwrap();
        let (plain, secret) = (&body["plain"], &body["secret"]);
        let write = |name: &str, text: String| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            made(Command::new("chmod").arg("go=").arg(path));
        };
        write("key", text(secret, "private_key"));
        write("key-cert.pub", text(plain, "certificate"));
        write("pass", text(secret, "relay_pass"));
        write("known_hosts", format!("web {}\n", text(plain, "host_key")));
        Holder { body, folder }
    }

    /// `ssh` with it: through the relay, or past it from the address that the relay has.
    fn ssh(&self, relayed: bool, what: &str) -> Command {
        let at = self.folder.path().display();
        let plain = &self.body["plain"];
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-p", &text(plain, "port"), "-l", &text(plain, "user"), "-i"])
            .arg(format!("{at}/key"));
        for option in [
            format!("CertificateFile={at}/key-cert.pub"),
            format!("UserKnownHostsFile={at}/known_hosts"),
            "HostKeyAlias=web".to_owned(),
            "IdentitiesOnly=yes".to_owned(),
            "BatchMode=yes".to_owned(),
            match relayed {
                true => format!(
                    "ProxyCommand={PROGRAM} ssh proxy {}:{} {} --pass-file {at}/pass",
                    text(plain, "relay_host"),
                    text(plain, "relay_port"),
                    text(plain, "name")
                ),
                false => "BindAddress=127.0.0.2".to_owned(),
            },
        ] {
            ssh.args(["-o", &option]);
        }
        ssh.args(["127.0.0.1", what]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        ssh
    }

    fn lets_in(&self, relayed: bool) -> bool {
        let out = self.ssh(relayed, "echo status of web@1").output().unwrap();
        assert!(out.status.success() || out.stdout.is_empty());
        out.status.success()
    }

    /// What this holder's login looks like to a host.
    fn login(&self, user: &str) -> [String; 3] {
        let printed = Command::new("ssh-keygen")
            .args(["-L", "-f"])
            .arg(self.folder.path().join("key-cert.pub"))
            .output()
            .unwrap();
        let printed = String::from_utf8(printed.stdout).unwrap();
        let after = |name: &str| {
            let line = printed.lines().find_map(|l| l.trim().strip_prefix(name)).unwrap();
            line.trim().trim_matches('"').to_owned()
        };
        [user.to_owned(), after("Key ID:"), after("Serial:")]
    }
}

/// Ends, and with a failure, in time.
fn is_cut(mut child: Child) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(20) {
        if let Some(status) = child.try_wait().unwrap() {
            return !status.success();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    false
}

// proves: X2, Z1, Z3, R1, R2, R5, R6, INV2, INV14
#[test]
fn a_certificate_appears_for_a_task_runs_its_commands_and_is_worth_nothing_after_it() {
    let mut web = Web::open();
    assert_eq!(web.house.json(&["standing"])["targets"][0]["class"], "B");
    let task = web.task();

    // A command finds how to call ssh; what is not a line of the scope is refused on the host.
    let run = |what: &str| {
        let shell = format!("exec ssh -F \"$BAILIWICK_SSH_CONFIG\" web '{what}'");
        web.leased(&task, &["web.look", r#"{"unit": "web@1"}"#, "--", "sh", "-c", &shell])
    };
    assert_eq!(run("echo status of web@1").good().trim(), "status of web@1");
    for odd in ["echo status of web@2", "id", "sh"] {
        let refused = run(odd);
        assert!(refused.code != 0 && refused.out.is_empty(), "{odd}: {refused:?}");
    }
    web.soon("what was given back", |w| w.house.json(&["standing"])["leases"] == 0);

    // An agent that brings its own key is told no private one.
    let own = web.house.path("own");
    made(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(&own));
    let public = std::fs::read_to_string(own.with_extension("pub")).unwrap();
    let asked = serde_json::json!({"unit": "web@1", "public_key": public.trim()}).to_string();
    let body = web.leased(&task, &["web.look", &asked, "--json"]).json();
    assert_eq!(body["secret"].as_object().unwrap().keys().collect::<Vec<_>>(), ["relay_pass"]);
    let other = web.leased(&task, &["web.look", r#"{"unit": "web@2"}"#]);
    assert!(
        other.failed(4).contains("unit"),
        "a unit that nobody vouches for is a person's to allow: {other:?}"
    );

    // Told to an agent, in use, and killed with the task.
    let holder = web.holder(&task);
    assert!(holder.lets_in(true) && holder.lets_in(false), "the second only from the relay's own address");
    let live = holder.ssh(true, "sleep 300").spawn().unwrap();
    web.soon("the session", |w| w.sshd.log().matches("Starting session").count() >= 4);
    web.house.run(&["kill", "task", &task, "--reason", "test"]).good();
    assert!(!holder.lets_in(true), "the relay refuses");
    assert!(!holder.lets_in(false), "and so does the host, which asks");
    assert!(is_cut(live), "the live session is cut");
    web.soon("nothing standing", |w| w.house.json(&["standing"])["leases"] == 0);
    web.soon("the receipt", |w| w.house.json(&["receipt", &task])["receipt"].is_object());
    let receipt = web.house.json(&["receipt", &task]);
    assert_eq!(
        (&receipt["agrees"], &receipt["receipt"]["systems"][0]["credentials"]),
        (&true.into(), &6.into())
    );
    assert!(receipt["receipt"]["systems"][0]["sessions_ended"].as_u64().unwrap() >= 1, "{receipt}");

    // The host's own log names agent and person; secrets are nowhere.
    let log = web.sshd.log();
    assert!(log.contains(":deployer:dana@example.org"), "{log}");
    assert_eq!(web.house.down(), 0);
    let said = web.house.said.lock().unwrap().join("\n");
    let key = text(&holder.body["secret"], "private_key");
    let key = key.lines().nth(3).unwrap();
    for secret in [text(&holder.body["secret"], "relay_pass"), key.to_owned(), TOKEN.to_owned()] {
        for file in std::fs::read_dir(web.house.path("bailiwick-data")).unwrap().flatten() {
            let bytes = std::fs::read(file.path()).unwrap_or_default();
            assert!(!String::from_utf8_lossy(&bytes).contains(&secret), "{:?}", file.path());
        }
        assert!(!log.contains(&secret) && !said.contains(&secret));
    }
}

// proves: R2, R3, Z3, INV2
#[test]
fn a_frozen_task_lets_nobody_in_and_a_resumed_one_asks_anew() {
    let web = Web::open();
    let task = web.task();
    let holder = web.holder(&task);
    assert!(holder.lets_in(true));
    let live = holder.ssh(true, "sleep 300").spawn().unwrap();
    web.soon("the session", |w| w.sshd.log().matches("Starting session").count() >= 2);
    web.house.run(&["freeze", "task", &task, "--reason", "look first"]).good();
    assert!(!holder.lets_in(true) && !holder.lets_in(false));
    assert!(is_cut(live));
    web.house.run(&["resume", "task", &task, "--reason", "fine"]).good();
    assert!(!holder.lets_in(true) && !holder.lets_in(false), "what ended stays ended");
    assert!(web.holder(&task).lets_in(true), "and a new one is asked for");
}

// proves: D6, R3, INV6
#[test]
fn without_an_answer_of_the_node_a_host_lets_nobody_in() {
    let mut web = Web::open();
    let task = web.task();
    let holder = web.holder(&task);
    let live = holder.ssh(true, "sleep 300").spawn().unwrap();
    web.soon("the session", |w| w.sshd.log().contains("Starting session"));
    assert!(holder.lets_in(false), "past the relay, from its address: only the host's question is between");
    web.house.kill();
    assert!(!holder.lets_in(false), "nobody answers");
    assert!(is_cut(live), "a node that dies has cut what went through it");

    let login = holder.login(&web.sshd.user());
    let login: [&str; 3] = [&login[0], &login[1], &login[2]];
    let nothing = |out: Output| {
        assert!(!out.status.success() && out.stdout.is_empty(), "{out:?}");
    };
    nothing(web.asked(&web.server(), "web", TOKEN, login));
    // Somebody else answers there, or nobody ever does.
    for answer in ["HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", "HTTP/1.1 500 No\r\n\r\n", "", "wait"]
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = format!("http://{}", listener.local_addr().unwrap());
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _read = stream.read(&mut [0; 2048]);
            let _written = stream.write_all(answer.as_bytes());
            if answer == "wait" {
                let _until_they_leave = stream.read_to_end(&mut Vec::new());
            }
        });
        let begun = Instant::now();
        nothing(web.asked(&at, "web", TOKEN, login));
        assert!(begun.elapsed() < Duration::from_secs(6), "{answer:?} took {:?}", begun.elapsed());
        served.join().unwrap();
    }

    web.house.up();
    assert!(
        holder.lets_in(false) && holder.lets_in(true),
        "it is in force still, and there is somebody to say so"
    );
}

// proves: I3, Z2, D6
#[test]
fn a_host_hears_of_its_own_logins_only_and_only_with_its_token() {
    let web = Web::open();
    let (task, other) = (web.task(), web.task());
    let (holder, others) = (web.holder(&task), web.holder(&other));
    let user = web.sshd.user();
    let login = holder.login(&user);
    let ask = |target: &str, token: &str, login: &[String; 3]| {
        let login: [&str; 3] = [&login[0], &login[1], &login[2]];
        let out = web.asked(&web.server(), target, token, login);
        assert!(out.status.success() || out.stdout.is_empty());
        (out.status.success(), String::from_utf8(out.stdout).unwrap())
    };
    let name = text(&holder.body["plain"], "name");
    assert_eq!(ask("web", TOKEN, &login), (true, format!("restrict {name}\n")));

    assert!(!ask("web", "another-token-of-another-host", &login).0);
    assert!(!ask("shop", TOKEN, &login).0, "its token is for its own target");
    let operator = std::fs::read_to_string(web.house.path("bailiwick-data/keys/people/dana@example.org.key"));
    assert!(!ask("web", operator.unwrap().trim(), &login).0, "a person is no host");

    // Logins that do not fit are answered with nobody.
    let their = others.login(&user);
    for odd in [
        ["backup".to_owned(), login[1].clone(), login[2].clone()],
        [user.clone(), login[1].clone(), their[2].clone()],
        [user.clone(), their[1].clone(), login[2].clone()],
        [user.clone(), login[1].replace("deployer", "somebody"), login[2].clone()],
        [user.clone(), "bailiwick:l-nobody-1:a:b".to_owned(), "1".to_owned()],
        [user.clone(), "x".to_owned(), "1".to_owned()],
        [user, "\n\u{1b}[31m".to_owned(), String::new()],
    ] {
        assert_eq!(ask("web", TOKEN, &odd), (true, String::new()), "{odd:?}");
    }
}
