//! A node's life: founded, used, killed, verified, stopped, started again.

use crate::support::{House, text};

const CONFIG: &str = "
version: 1
trust_domain: example.org
listen: 127.0.0.1:$PORT
people:
  - { id: dana@example.org, groups: [operators, approvers] }
  - { id: omar@example.org, groups: [sre-oncall] }
";

// proves: P4, Z1, R5
#[test]
fn an_operator_registers_opens_kills_and_verifies() {
    let mut house = House::open(CONFIG);
    let status = house.json(&["status"]);
    assert_eq!((text(&status, "store"), text(&status, "backend")), ("up".into(), "sqlite".into()));
    let agent = house.json(&["agent", "add", "support", "--class", "desk", "--may", "tickets.*"]);
    assert_eq!(text(&agent, "spiffe"), "spiffe://example.org/agent/support");
    assert_eq!(agent["keys"].as_array().unwrap().len(), 1);
    assert_eq!(house.json(&["agent", "ls"])[0]["owner"], "dana@example.org");
    // Its bare name changes nothing: one agent, one key, the same ceiling.
    let again = house.json(&["agent", "add", "support"]);
    assert_eq!(again["ceiling"], agent["ceiling"]);
    assert_eq!(again["keys"], agent["keys"]);

    assert_eq!(house.json(&["standing"])["grants"], 0, "registering grants nothing");
    let opened = house.json(&[
        "task",
        "open",
        "--agent",
        "support",
        "--intent",
        "Look at ticket 4711",
        "--ttl",
        "5m",
        "--var",
        "ticket=4711",
    ]);
    let task = text(&opened, "task");
    assert_eq!(house.json(&["standing"])["grants"], 1);
    let shown = house.json(&["task", "show", &task]);
    assert_eq!((&shown["inputs"]["ticket"], &shown["summary"]["state"]), (&4711.into(), &"open".into()));
    assert!(house.run(&["task", "ls"]).good().contains(&task));
    assert!(house.run(&["task", "watch", &task, "--once"]).good().contains("Look at ticket 4711"));

    let halted = house.json(&["kill", "task", &task, "--reason", "test"]);
    assert_eq!(halted["tasks"][0], task.as_str());
    assert_eq!(house.json(&["standing"])["grants"], 0, "a kill leaves nothing");
    assert_eq!(house.json(&["task", "show", &task])["summary"]["cause"], "killed");

    let report = house.json(&["audit", "export", "evidence"]);
    assert!(report["size"].as_u64().unwrap() > 4);
    let key = house.run(&["audit", "key"]).good().trim().to_owned();
    let verify = ["audit", "verify", "evidence", "--key", &key, "--json"];
    assert_eq!(house.run(&verify).json()["key_pinned"], true);
    assert!(house.run(&["audit", "verify"]).good().contains("verified"));
    flip(&house);
    let said = house.run(&["audit", "verify", "evidence", "--key", &key]);
    assert!(said.failed(7).contains("entry "), "{said:?}");

    assert_eq!(house.down(), 0, "a stop that was asked for is no failure");
    house.up();
    assert_eq!(text(&house.json(&["task", "show", &task])["summary"], "state"), "ended");
    assert_eq!(house.run(&["audit", "key"]).good().trim(), key, "the same ledger");
}

/// One bit of one entry.
fn flip(house: &House) {
    let entries = house.path("evidence/tile/entries");
    let file =
        std::fs::read_dir(&entries).unwrap().map(|e| e.unwrap().path()).find(|p| p.is_file() || p.is_dir());
    let mut file = file.unwrap();
    while file.is_dir() {
        file = std::fs::read_dir(&file).unwrap().next().unwrap().unwrap().path();
    }
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x20;
    std::fs::write(&file, bytes).unwrap();
}

#[test]
fn freezing_stops_and_resuming_lets_go_on() {
    let house = House::open(CONFIG);
    house.json(&["agent", "add", "support", "--may", "tickets.*"]);
    let task = text(&house.json(&["task", "open", "--agent", "support", "--intent", "x"]), "task");
    house.run(&["freeze", "task", &task, "--reason", "look first"]).good();
    assert_eq!(house.json(&["task", "show", &task])["summary"]["state"], "frozen");
    house.run(&["resume", "task", &task, "--reason", "fine"]).good();
    assert_eq!(house.json(&["task", "show", &task])["summary"]["state"], "open");
    house.run(&["freeze", "agent", "support", "--reason", "look first"]).good();
    let refused = house.run(&["task", "open", "--agent", "support", "--intent", "y"]);
    assert!(refused.code != 0 && refused.err.contains("suspended"), "{refused:?}");
    house.run(&["resume", "agent", "support", "--reason", "fine"]).good();
    house.run(&["task", "open", "--agent", "support", "--intent", "y"]).good();
    house.run(&["kill", "all", "--reason", "test"]).failed(2);
    house.run(&["kill", "all", "--reason", "test", "--yes"]).good();
    assert_eq!(house.json(&["standing"])["tasks"], 0);
}

#[test]
fn a_person_gets_a_key_and_only_their_own_rights() {
    let house = House::open(CONFIG);
    let added = house.run(&["person", "add", "omar@example.org", "--group", "sre-oncall"]);
    let key_file = house.path("bailiwick-data/keys/people/omar@example.org.key");
    let key = std::fs::read_to_string(&key_file).unwrap();
    assert!(!added.good().contains(&key) && !added.err.contains(&key), "a key is never printed");
    assert!(house.run(&["--as", "omar@example.org", "status"]).code == 0);
    let refused = house.run(&["--as", "omar@example.org", "agent", "add", "mine"]);
    refused.failed(3);
    let mut elsewhere = house.command(&["status", "--server", &format!("http://127.0.0.1:{}", house.port)]);
    elsewhere.current_dir(std::env::temp_dir()).env("BAILIWICK_KEY", key.trim());
    assert!(elsewhere.output().unwrap().status.success(), "the key alone signs in");
    house.run(&["--as", "nobody@example.org", "status"]).failed(5);
}

#[cfg(unix)]
#[test]
fn what_the_node_writes_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let house = House::open(CONFIG);
    let mode = |name: &str| std::fs::metadata(house.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("bailiwick-data"), 0o700);
    for key in ["token.p8", "ledger.seed", "people/dana@example.org.key"] {
        assert_eq!(mode(&format!("bailiwick-data/keys/{key}")), 0o600, "{key}");
    }
}

#[test]
fn the_network_is_asked_for_by_name() {
    let house = House::new(CONFIG);
    let said = house.run(&["up", "--listen", "0.0.0.0:0"]);
    assert!(said.failed(2).contains("external_url"), "{said:?}");
}

#[test]
fn a_configuration_without_an_operator_does_not_start() {
    let house = House::new("version: 1\nlisten: 127.0.0.1:$PORT\npeople: [ { id: a@example.org } ]\n");
    assert!(house.run(&["up"]).failed(2).contains("operator"));
}

// proves: INV8
#[test]
fn a_head_that_would_go_back_with_the_data_is_not_kept_there() {
    let house = House::new(CONFIG);
    std::fs::create_dir_all(house.path("data/deeper")).unwrap();
    for inside in ["data/head", "data/deeper/head", "data/../data/head"] {
        let env = [("BAILIWICK_DATA", "data"), ("BAILIWICK_LEDGER_HEAD", inside)];
        let ran = crate::support::run_in(house.folder.path(), &["ledger", "keep-head"], &env);
        assert!(ran.failed(2).contains("inside the data folder"), "{inside}: {ran:?}");
        assert!(!house.path(inside).exists(), "{inside}");
    }
}

// proves: X3
#[cfg(target_os = "linux")]
#[test]
fn another_program_of_the_same_user_reads_nothing_of_a_node_in_memory() {
    use std::io::{BufRead, BufReader};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    // Root reads everything, so for root this is played by somebody else.
    let root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    let played = |mut command: Command| {
        if root {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    };
    let house = House::new(CONFIG);
    let program = house.path("bailiwick");
    std::fs::copy(crate::support::PROGRAM, &program).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    if root {
        chown(house.folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let start = |mut command: Command, ready: &str| {
        command.current_dir(house.folder.path()).stdin(Stdio::piped());
        let mut child = played(command).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let said = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        assert!(said.into_iter().any(|line| line.contains(ready)));
        child
    };
    let mut plain = Command::new("sh");
    plain.args(["-c", "echo ready >&2; read wait"]);
    let mut node = Command::new(&program);
    node.arg("up");
    let (mut plain, mut node) = (start(plain, "ready"), start(node, "bailiwick status"));
    let read = |pid: u32, what: &str| {
        let mut command = Command::new("head");
        command.args(["-c", "1", &format!("/proc/{pid}/{what}")]).stdout(Stdio::null()).stderr(Stdio::null());
        played(command).status().unwrap().success()
    };
    for what in ["environ", "maps"] {
        assert!(read(plain.id(), what), "the pair: {what} of any other process of this user");
        assert!(!read(node.id(), what), "{what}");
    }
    for child in [&mut plain, &mut node] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

/// A user that owns nothing.
#[cfg(target_os = "linux")]
const NOBODY: u32 = 65_534;
