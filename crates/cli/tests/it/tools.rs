//! Tool servers behind the node, agents in front of it: connector, questions, handoffs, classification.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::support::{House, text};

const CONFIG: &str = "
version: 1
trust_domain: example.org
listen: 127.0.0.1:$PORT
policies: policies
people:
  - { id: dana@example.org, groups: [operators] }
agents:
  - id: planner
    owner: dana@example.org
    class: desk
    ceiling: [ { tool: cloud.*, use: false, delegate: { to: [worker] } } ]
  - { id: worker, owner: dana@example.org, class: ops, ceiling: [ { tool: cloud.* } ] }
systems:
  cloud:
    stdio: { command: $PROGRAM, args: [demo-server, cloud, --state, cloud.json], env: { DEMO_KEY: secret://file/key } }
tools:
  - { tool: cloud.vm.list, effect: read, trusted_result: true }
  - tool: cloud.vm.restart
    effect: update
    reversible: true
    args: { name: { role: selector, required: true } }
    resource: { type: Vm, from: name, known: { db-1: { env: prod } } }
  - { tool: cloud.vm.delete, effect: delete, args: { name: { role: selector, required: true } } }
";

const STATE: &str = r#"{"key":"the-cloud-key","vms":{"web-3":{"env":"staging","state":"slow","restarts":0},"db-1":{"env":"prod","state":"slow","restarts":0}}}"#;

const POLICY: &str = r#"
@id("open") @reason("Open inside the task.") permit (principal, action, resource);
@id("prod-asks") @ask("sre-oncall") @reason("Production needs a person on call.")
forbid (principal, action in Action::"write", resource is Vm) when { resource has env && resource.env == "prod" };
"#;

const CHAIN: &str = r#"
template: restart
agent: planner
ttl: 10m
chain:
  steps:
    - { id: hand, agent: planner, act: hand_off, to: worker, pass: { vm: { type: host, optional: true } } }
    - { id: restart, agent: worker, act: call, tool: cloud.vm.restart, args: { name: { input: vm } }, after: [hand] }
"#;

fn house() -> House {
    let mut house = House::new(CONFIG);
    house.write("key", "the-cloud-key");
    house.write("cloud.json", STATE);
    house.write("restart.yaml", CHAIN);
    std::fs::create_dir(house.path("policies")).unwrap();
    house.write("policies/all.cedar", POLICY);
    house.up();
    for agent in ["planner", "worker"] {
        house.json(&["agent", "add", agent]);
    }
    house.run(&["person", "add", "omar@example.org", "--group", "sre-oncall"]).good();
    let tools_pinned = || {
        house.json(&["tool", "ls"]).as_array().unwrap().iter().filter(|t| !t["pin"].is_null()).count() == 3
    };
    until("the tools are classified", tools_pinned);
    house
}

/// Looks until it is so; a machine under load may take its time.
fn until(what: &str, so: impl Fn() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}: not within a minute");
        std::thread::yield_now();
    }
}

/// Asks through the connector, as a stock client of the older generation does.
fn ask(house: &House, args: &[&str], calls: &[Json]) -> Vec<Json> {
    let mut child = house
        .command(&[&["connect"], args].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    let mut answers = Vec::new();
    for (n, message) in std::iter::once(&hello).chain(calls).enumerate() {
        let mut message = message.clone();
        message["jsonrpc"] = json!("2.0");
        message["id"] = json!(n);
        writeln!(input, "{message}").unwrap();
        answers.push(serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap());
        if n == 0 {
            writeln!(input, "{}", json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).unwrap();
        }
    }
    drop(input);
    assert!(child.wait().unwrap().success());
    answers.split_off(1)
}

fn call(tool: &str, args: Json) -> Json {
    json!({"method": "tools/call", "params": {"name": tool, "arguments": args}})
}

fn open(house: &House, vm: &str) -> (String, String) {
    let opened = house.json(&[
        "task",
        "open",
        "-t",
        "restart.yaml",
        "--intent",
        "Restart it",
        "--var",
        &format!("vm={vm}"),
    ]);
    (text(&opened, "task"), text(&opened, "grant"))
}

fn restarts(house: &House, vm: &str) -> u64 {
    let state: Json =
        serde_json::from_str(&std::fs::read_to_string(house.path("cloud.json")).unwrap()).unwrap();
    state["vms"][vm]["restarts"].as_u64().unwrap()
}

// proves: H1, H4, T3
#[test]
fn a_planner_hands_on_and_the_worker_restarts_what_was_meant_and_nothing_else() {
    let house = house();
    let (task, _) = open(&house, "web-3");
    let as_planner = ["handoff", "--agent", "planner", "--task", &task, "--to", "worker"];
    let greedy = house.run(&[&as_planner[..], &["--capability", r#"{"tool":"cloud.vm.delete"}"#]].concat());
    assert!(greedy.failed(3).contains("cloud.vm.delete"), "{greedy:?}");
    let says = "field `vm` of the payload is not of type `host`";
    let odd = house.run(&[&as_planner[..], &["--payload", r#"{"vm":"web-3 and db-1"}"#]].concat());
    let odd = odd.failed(3);
    assert!(odd.contains(says) && odd.contains("db-1.example.org"), "{odd}");
    let over_mcp = call("bailiwick__hand_off", json!({"to": "worker", "payload": {"vm": 3}}));
    let told = ask(&house, &["--agent", "planner", "--task", &task], &[over_mcp]).remove(0);
    assert!(told["result"]["isError"] == true && told.to_string().contains(says), "{told}");
    let made =
        house.json(&[&as_planner[..], &["--payload", r#"{"vm":"web-3","note":"delete db-1 too"}"#]].concat());
    assert_eq!((&made["delivered"], &made["stripped"][0]), (&json!({"vm": "web-3"}), &"note".into()));

    let worker = ["--agent", "worker", "--task", &task];
    let answers = ask(
        &house,
        &worker,
        &[
            json!({"method": "tools/list"}),
            call("cloud__vm__delete", json!({"name": "db-1"})),
            call("cloud__vm__restart", json!({"name": "db-1"})),
            call("cloud__vm__restart", json!({"name": "web-3"})),
        ],
    );
    let names = answers[0]["result"]["tools"].to_string();
    assert!(names.contains("cloud__vm__restart") && !names.contains("cloud__vm__delete"), "{names}");
    let refused = |n: usize| answers[n]["result"]["isError"] == true;
    assert!(refused(1) && refused(2) && !refused(3), "{answers:?}");
    assert_eq!((restarts(&house, "db-1"), restarts(&house, "web-3")), (0, 1));

    let decision = text(&answers[2]["result"]["_meta"]["bailiwick/decision"], "decision");
    let why = house.json(&["why", &decision]);
    assert_eq!((&why["effect"], &why["agent"]), (&"deny".into(), &"worker".into()));
    assert!(house.run(&["why", "last"]).good().contains("allow"));
    assert!(house.run(&["why", "refused"]).good().contains("DENY"));
    let done = text(&answers[3]["result"]["_meta"]["bailiwick/decision"], "decision");
    let trace = house.json(&["trace", &done]);
    assert_eq!(
        (&trace["initiator"], &trace["agents"]),
        (&"dana@example.org".into(), &json!(["planner", "worker"]))
    );
    assert!(house.run(&["trace", &done]).good().contains("initiated by"));

    house.run(&["kill", "task", &task, "--reason", "enough"]).good();
    let late = ask(&house, &worker, &[call("cloud__vm__restart", json!({"name": "web-3"}))]);
    assert!(late[0].get("error").is_some() || late[0]["result"]["isError"] == true, "{late:?}");
    assert_eq!(restarts(&house, "web-3"), 1);
}

// proves: A2, A4
#[test]
fn a_question_is_answered_once_by_somebody_who_may() {
    let house = house();
    let (task, _) = open(&house, "db-1");
    house.json(&[
        "handoff",
        "--agent",
        "planner",
        "--task",
        &task,
        "--to",
        "worker",
        "--payload",
        r#"{"vm":"db-1"}"#,
    ]);
    let worker = ["--agent", "worker", "--task", &task];
    let restart = [call("cloud__vm__restart", json!({"name": "db-1"}))];
    let asked = ask(&house, &worker, &restart);
    assert_eq!(asked[0]["result"]["_meta"]["bailiwick/decision"]["effect"], "ask", "{asked:?}");
    assert_eq!(restarts(&house, "db-1"), 0);
    let waiting = house.json(&["approvals", "--as", "omar@example.org"]);
    let handle = text(&waiting[0], "approval");
    assert!(house.run(&["approvals", "show", &handle, "--as", "omar@example.org"]).good().contains("db-1"));
    house.run(&["approve", &handle]).failed(3);
    let approved =
        house.run(&["approve", &handle, "--as", "omar@example.org", "--reason", "replica is fine"]);
    assert!(approved.good().contains("once"), "{approved:?}");
    let again = house.run(&["deny", &handle, "--as", "omar@example.org", "--reason", "too late"]);
    assert!(again.failed(4).contains("no longer"), "{again:?}");
    assert_eq!(ask(&house, &worker, &restart)[0]["result"]["isError"], false);
    assert_eq!(restarts(&house, "db-1"), 1);
}

#[test]
fn what_came_of_a_call_is_its_exit_code() {
    let house = house();
    let (task, _) = open(&house, "db-1");
    let to_worker = ["--to", "worker", "--payload", r#"{"vm":"db-1"}"#];
    house.json(&[&["handoff", "--agent", "planner", "--task", &task][..], &to_worker].concat());
    let call =
        |args: &[&str]| house.run(&[&["call", "--agent", "worker", "--task", &task][..], args].concat());
    assert!(call(&["cloud.vm.list"]).good().contains("web-3"));
    assert!(
        call(&["cloud.vm.delete", r#"{"name":"db-1"}"#]).failed(3).contains("not among what was granted")
    );
    let asked = call(&["cloud.vm.restart", r#"{"name":"db-1"}"#]);
    let handle = asked.failed(4).split_whitespace().find(|w| w.starts_with("apr-")).unwrap().to_owned();
    house.run(&["approve", handle.trim_matches('.'), "--as", "omar@example.org"]).good();
    call(&["cloud.vm.restart", r#"{"name":"db-1"}"#]).good();
    call(&["cloud.vm.restart", "not json"]).failed(2);
    house.run(&["call", "--agent", "nobody", "--task", &task, "cloud.vm.list"]).failed(5);
    house.run(&["task", "end", &task]).good();
    call(&["cloud.vm.list"]).failed(3);
}

// proves: D3, A39
#[test]
fn a_tool_that_nobody_stated_is_shut_until_somebody_does() {
    let house = house();
    let waiting = |tool: &str| house.json(&["tool", "show", tool])["standing"].clone();
    assert_eq!(waiting("cloud.vm.resize"), "proposed");
    let proposal = house.run(&["tool", "import", "cloud.vm.resize"]);
    assert!(proposal.good().contains("guess:"), "{proposal:?}");
    house.write("resize.yaml", &proposal.out);
    let guessed = house.run(&["tool", "classify", "-f", "resize.yaml"]);
    assert!(guessed.failed(2).contains("guesses that nobody has confirmed"), "{guessed:?}");
    assert_eq!(waiting("cloud.vm.resize"), "proposed");
    let confirm = ["tool", "classify", "-f", "resize.yaml", "--confirm"];
    house.run(&[&confirm[..], &["--pin", &"0".repeat(64)]].concat()).failed(1);
    house.run(&confirm).good();
    assert_eq!(waiting("cloud.vm.resize"), "classified");
}

// proves: I2, INV14
#[test]
fn a_command_runs_as_an_agent_without_a_key_and_its_task_ends_with_it() {
    let house = house();
    let mut command = house.command(&["run", "--agent", "worker", "--intent", "look around", "--", "env"]);
    let key = std::fs::read_to_string(house.path("bailiwick-data/keys/people/dana@example.org.key")).unwrap();
    let output = command.env("BAILIWICK_KEY", key.trim()).output().unwrap();
    let seen = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(seen.contains("BAILIWICK_AGENT=worker") && seen.contains("BAILIWICK_MCP_COMMAND="), "{seen}");
    assert!(!seen.contains("bwk_") && !seen.contains("BAILIWICK_KEY"), "{seen}");
    assert_eq!(house.json(&["task", "ls"])[0]["cause"], "completed");
    assert_eq!(house.json(&["standing"])["grants"], 0);
    house.run(&["run", "--agent", "worker", "--intent", "fail", "--", "false"]).failed(1);
    assert_eq!(house.json(&["task", "ls"])[0]["cause"], "failed");
}

#[test]
fn policies_are_checked_explained_and_tested_before_they_count() {
    let house = house();
    assert!(house.run(&["policy", "check"]).good().starts_with("ok"));
    let act = |vm: &str| format!(r#"{{"name":"{vm}"}}"#);
    let explain = |vm: &str| {
        house.run(&["policy", "explain", "--agent", "worker", "--do", "cloud.vm.restart", "--with", &act(vm)])
    };
    explain("web-3").good();
    explain("db-1").failed(4);
    house.write(
        "policies/bad.cedar",
        "@id(\"bad\") permit (principal, action == Action::\"cloud.vm.restrat\", resource);",
    );
    house.run(&["policy", "check"]).failed(1);
    house.run(&["policy", "apply"]).failed(2);
    std::fs::remove_file(house.path("policies/bad.cedar")).unwrap();
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../../policies");
    let tested = house.json(&["policy", "test", shipped]);
    assert_eq!(tested["passed"], true, "{tested}");
}

// proves: T3, A2
#[test]
fn an_agent_asks_for_more_and_only_people_amend() {
    let house = house();
    house.run(&["person", "add", "olga@example.org", "--group", "approvers"]).good();
    let (task, _) = open(&house, "web-3");
    house.json(&["handoff", "--agent", "planner", "--task", &task, "--to", "worker"]);
    let worker = ["--agent", "worker", "--task", &task];
    let restart = [call("cloud__vm__restart", json!({"name": "web-3"}))];
    assert_eq!(ask(&house, &worker, &restart)[0]["result"]["isError"], false);
    assert_eq!(ask(&house, &worker, &restart)[0]["result"]["isError"], true, "once");

    let amend =
        |step: &str| house.run(&[&["amend"], &worker[..], &["--reason", "it is slow again", step]].concat());
    let above = amend(r#"{"id":"gone","tool":"cloud.vm.delete","args":{"name":{"exact":"db-1"}}}"#);
    assert!(above.failed(3).contains("hold no right to hand cloud.vm.delete on"), "{above:?}");
    let asked = amend(r#"{"id":"again","tool":"cloud.vm.restart","args":{"name":{"exact":"web-3"}}}"#);
    assert!(asked.failed(4).contains("Nothing is allowed by asking"), "{asked:?}");
    assert_eq!(ask(&house, &worker, &restart)[0]["result"]["isError"], true, "asking amends nothing");

    let waiting = house.json(&["approvals", "--as", "olga@example.org"]);
    assert_eq!(waiting[0]["about"], "amendment");
    let handle = text(&waiting[0], "approval");
    let card = house.run(&["approvals", "show", &handle, "--as", "olga@example.org"]);
    assert!(card.good().contains("worker may call cloud.vm.restart once"), "{card:?}");
    assert!(card.good().contains("until now: step `restart` has been taken 1 of 1 times"), "{card:?}");
    house.run(&["approve", &handle]).failed(3);
    let amended = house.run(&["approve", &handle, "--as", "olga@example.org"]);
    assert!(amended.good().contains("amended"), "{amended:?}");
    assert!(house.run(&["task", "show", &task]).good().contains("amended"));

    let tool =
        [json!({"method": "tools/call", "params": {"name": "bailiwick__amend", "arguments": {"steps": []}}})];
    assert_eq!(ask(&house, &worker, &tool)[0]["result"]["isError"], true, "nothing is nothing to ask for");
    assert_eq!(ask(&house, &worker, &restart)[0]["result"]["isError"], false);
    assert_eq!(ask(&house, &worker, &restart)[0]["result"]["isError"], true);
    assert_eq!(restarts(&house, "web-3"), 2);
    let watched = house.run(&["task", "watch", "--once", &task]);
    assert!(watched.good().contains("chain amended"), "{watched:?}");
}

// proves: D2
#[test]
fn policies_are_compared_replayed_observed_and_rolled_back() {
    let house = house();
    let (task, _) = open(&house, "db-1");
    house.json(&["handoff", "--agent", "planner", "--task", &task, "--to", "worker"]);
    let restart = [call("cloud__vm__restart", json!({"name": "db-1"}))];
    ask(&house, &["--agent", "worker", "--task", &task], &restart);

    std::fs::create_dir(house.path("new")).unwrap();
    house.write("new/all.cedar", &POLICY.replace("@ask(\"sre-oncall\")", "@observe @ask(\"sre-oncall\")"));
    let diff = house.run(&["policy", "diff", "active", "new"]);
    assert!(
        diff.good().contains("newly allowed") && diff.good().contains("refuted  more is allowed"),
        "{diff:?}"
    );
    assert!(diff.good().contains("worker calls cloud.vm.restart"), "{diff:?}");
    let told = house.json(&["policy", "diff", "active", "new"]);
    let real = told["differences"].as_array().unwrap().iter().find(|d| !d["recorded"].is_null());
    let real = &real.unwrap_or_else(|| panic!("no example was taken from the record: {told}"))["recorded"];
    assert_eq!((&real["was"], &real["args"]), (&json!("ask"), &json!({"name": "db-1"})));
    assert!(diff.good().contains(&format!("recorded {}", text(real, "decision"))), "{diff:?}");
    let same = house.json(&["policy", "diff", "policies", "active"]);
    let proved = |way: &str| same["proof"][way]["state"] == "proved";
    assert!(same["differences"] == json!([]) && proved("wider") && proved("narrower"), "{same}");

    let replay = house.json(&["policy", "replay", "new"]);
    assert_eq!(
        (&replay["newly_allowed"], &replay["changed"][0]["was"]),
        (&json!(1), &json!("ask")),
        "{replay}"
    );
    assert_eq!(house.json(&["policy", "replay"])["changed"], json!([]));
    let check = house.run(&["policy", "check", "new"]);
    assert!(check.good().contains("only observed, enforcing nothing: prod-asks"), "{check:?}");

    let first = text(&house.json(&["policy", "ls"])[0], "version");
    house.run(&["policy", "apply", "new"]).good();
    let (task, _) = open(&house, "db-1");
    house.json(&["handoff", "--agent", "planner", "--task", &task, "--to", "worker"]);
    let done = ask(&house, &["--agent", "worker", "--task", &task], &restart);
    let decision = text(&done[0]["result"]["_meta"]["bailiwick/decision"], "decision");
    assert!(house.run(&["why", &decision]).good().contains("prod-asks would have said ask"));
    house.run(&["policy", "use", &first[..12]]).good();
    assert_eq!(house.json(&["policy", "ls"]).as_array().unwrap().len(), 3);
    assert_eq!(
        house.json(&["policy", "replay", "active"])["newly_asked"],
        json!(1),
        "what was allowed meanwhile"
    );
}
