//! A plain `curl` and a plain Python program behind `bailiwick run`, in front of a real API over TLS.

#[path = "../../../gateway/tests/support/api.rs"]
#[expect(dead_code, reason = "the gateway's own tests use the rest of it")]
mod api;

use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::support::{House, free_port, text};
use api::{Reaction, Seen, TestApi};

const KEY: &str = "sk_live_9vKp3TzQ7mWc5RxN2bHd";

const CONFIG: &str = "
version: 1
trust_domain: example.org
listen: 127.0.0.1:$PORT
policies: policies
people:
  - { id: dana@example.org, groups: [operators, approvers] }
agents:
  - { id: clerk, owner: dana@example.org, class: desk, ceiling: [ { tool: crm.* } ] }
systems:
  crm:
    api:
      url: https://localhost:$API/v2
      ca: ca.pem
      headers: { Authorization: Bearer secret://file/key, X-Api-Version: '7' }
      actions:
        customer.read:
          request: GET /customers/{id}
          effect: read
          args: { id: { role: selector, type: integer } }
          answer: { keep: [id, name] }
          labels: { level: confidential, classes: [pii] }
        note.create:
          request: POST /customers/{id}/notes
          effect: create
          reversible: true
          args:
            id: { role: free, type: integer }
            text: { role: content, required: true, must: { length: 200 } }
        customer.delete:
          request: DELETE /customers/{id}
          effect: delete
          args: { id: { role: free, type: integer } }
        echo:
          request: GET /echo
          effect: read
";

const POLICY: &str = r#"
@id("open") @reason("Open inside the task.") permit (principal, action, resource);
@id("gone-asks") @ask("approvers") @initiator_may("true") @reason("A deletion needs a person.")
forbid (principal, action == Action::"crm.customer.delete", resource);
"#;

fn answer(seen: &Seen) -> Reaction {
    if seen.header("authorization") != format!("Bearer {KEY}") || seen.header("x-api-version") != "7" {
        return api::response("401 Unauthorized", "Content-Type: text/plain\r\n", "who are you?");
    }
    match (seen.method.as_str(), seen.target.as_str()) {
        ("GET", "/v2/customers/7") => api::json(r#"{"id":7,"name":"Ann","ssn":"078-05-1120"}"#),
        ("GET", "/v2/echo") => api::response("200 OK", "Content-Type: text/plain\r\n", &format!("{seen:?}")),
        ("POST", "/v2/customers/7/notes") => api::response("201 Created", "Location: /v2/notes/1\r\n", ""),
        ("DELETE", "/v2/customers/7") => api::response("204 No Content", "", ""),
        _ => api::response("404 Not Found", "", ""),
    }
}

struct World {
    house: House,
    api: TestApi,
    task: String,
    _runtime: tokio::runtime::Runtime,
}

impl World {
    fn new() -> World {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let port = free_port();
        let api = runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
            TestApi::start(listener, answer)
        });
        let mut house = House::new(&CONFIG.replace("$API", &port.to_string()));
        house.write("key", KEY);
        house.write("ca.pem", &api.ca);
        std::fs::create_dir(house.path("policies")).unwrap();
        house.write("policies/all.cedar", POLICY);
        // Everything that any part of the program would ever say.
        house.log = "trace";
        house.up();
        house.json(&["agent", "add", "clerk"]);
        let began = Instant::now();
        while house.json(&["tool", "ls"]).as_array().unwrap().iter().any(|t| t["pin"].is_null()) {
            assert!(began.elapsed() < Duration::from_secs(60), "the actions are not classified");
            std::thread::yield_now();
        }
        let opened = house.json(&["task", "open", "--agent", "clerk", "--intent", "Tidy up customer 7"]);
        World { task: text(&opened, "task"), house, api, _runtime: runtime }
    }

    /// Runs a command as the agent.
    fn run(&self, command: &[&str]) -> Output {
        let run = ["run", "--agent", "clerk", "--task", &self.task, "--"];
        self.house.command(&[&run[..], command].concat()).output().unwrap()
    }

    /// The status and body that `curl` gets, with these arguments more.
    fn curl(&self, path: &str, more: &[&str]) -> (String, String) {
        let url = self.api.url(path);
        let ran = self.run(&[&["curl", "-sS", "-w", "\n%{http_code}", &url], more].concat());
        let out = String::from_utf8(ran.stdout).unwrap();
        let (body, status) =
            out.rsplit_once('\n').unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&ran.stderr)));
        (status.to_owned(), body.to_owned())
    }
}

fn problem(body: &str) -> Json {
    serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {body}"))
}

// proves: X3, INV9, P4
#[test]
fn curl_works_unchanged_and_each_request_is_decided() {
    let world = World::new();
    let (status, body) = world.curl("/v2/customers/7", &[]);
    assert_eq!((status.as_str(), body.as_str()), ("200", r#"{"id":7,"name":"Ann"}"#));
    let note = [
        "-H",
        "Content-Type: application/json",
        "-H",
        "Authorization: Bearer mine",
        "-d",
        r#"{"text": "called"}"#,
    ];
    assert_eq!(world.curl("/v2/customers/7/notes", &note).0, "201");
    assert_eq!(world.api.seen()[1].body, r#"{"text":"called"}"#);

    let (status, body) = world.curl(
        "/v2/customers/7/notes",
        &["-H", "Content-Type: application/json", "-d", r#"{"text":"x","pinned":true}"#],
    );
    assert_eq!(
        (status.as_str(), problem(&body)["code"].as_str()),
        ("403", Some("capability.undeclared_argument"))
    );
    let (status, body) = world.curl("/v2/admin/keys", &[]);
    let said = problem(&body);
    assert_eq!((status.as_str(), said["code"].as_str()), ("403", Some("egress.no_rule")));
    assert!(said["detail"].as_str().unwrap().contains("`GET /v2/admin/keys` was refused"), "{body}");
    let why = world.house.json(&["why", said["decision"].as_str().unwrap()]);
    assert_eq!((&why["effect"], &why["tool"]), (&"deny".into(), &"crm.unlisted".into()));
    assert_eq!(world.curl("/v2/../v2/customers/7", &["--path-as-is"]).0, "403");
    assert_eq!(world.api.seen().len(), 2);

    let (status, body) = world.curl("/v2/customers/7", &["-X", "DELETE"]);
    assert_eq!((status.as_str(), problem(&body)["effect"].as_str()), ("428", Some("ask")), "{body}");
    let handle = problem(&body)["approval"].as_str().unwrap().to_owned();
    world.house.run(&["approve", &handle]).good();
    assert_eq!(world.curl("/v2/customers/7", &["-X", "DELETE"]).0, "204");
    assert_eq!(world.curl("/v2/customers/7", &["-X", "DELETE"]).0, "428");
    assert_eq!(world.api.seen().len(), 3);

    world.house.run(&["kill", "task", &world.task, "--reason", "enough"]).good();
    let (status, body) = world.curl("/v2/customers/7", &[]);
    assert_eq!(status, "403", "{body}");
    assert_eq!(world.api.seen().len(), 3);
}

const PYTHON: &str = r#"
import json, os, sys, urllib.error, urllib.request

def ask(method, url, body=None):
    request = urllib.request.Request(url, method=method, data=body and json.dumps(body).encode())
    if body:
        request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request) as answer:
            return [answer.status, answer.read().decode()]
    except urllib.error.HTTPError as error:
        return [error.code, error.read().decode()]

base = sys.argv[1]
print(json.dumps([
    ask("GET", base + "/customers/7"),
    ask("POST", base + "/customers/7/notes", {"text": "from Python"}),
    ask("GET", base + "/echo"),
    ask("PUT", base + "/customers/7", {"name": "Bob"}),
    ask("GET", "https://elsewhere.example/"),
    ask("GET", "http://169.254.169.254/latest/meta-data/"),
    ask("GET", os.environ["BAILIWICK_API_CRM"] + "/customers/7"),
]))
print(dict(os.environ), file=sys.stderr)
"#;

// proves: X3, INV14, A35, A50
#[test]
fn a_python_program_works_unchanged_and_the_key_is_nowhere() {
    let world = World::new();
    let script = world.house.write("agent.py", PYTHON);
    let ran = world.run(&["python3", script.to_str().unwrap(), &world.api.url("/v2")]);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let got: Json = serde_json::from_slice(&ran.stdout).unwrap();
    let status: Vec<_> = got.as_array().unwrap().iter().map(|g| g[0].as_u64().unwrap()).collect();
    // Python answers 428 and 403 as errors, with their bodies.
    assert_eq!(status, [200, 201, 200, 403, 403, 403, 200], "{got}");
    assert_eq!(got[0][1], json!(r#"{"id":7,"name":"Ann"}"#));
    assert!(got[2][1].as_str().unwrap().contains("[secret]"), "{got}");
    assert!(got[4][1].as_str().unwrap().contains("egress.no_api"));

    let sent = world.api.seen();
    assert!(sent.len() == 4 && sent.iter().all(|s| s.header("authorization") == format!("Bearer {KEY}")));
    let evidence = world.house.path("evidence");
    world.house.run(&["audit", "export", evidence.to_str().unwrap()]).good();
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    let said = world.house.said.lock().unwrap().join("\n");
    for (what, text) in [("output", &*out), ("errors and environment", &*err), ("log of the node", &said)] {
        assert!(!text.contains(KEY), "the key is in the {what}");
    }
    assert!(said.contains("crm.customer.read"), "the log was heard: {said}");
    assert!(err.contains("HTTPS_PROXY") && err.contains("SSL_CERT_FILE"));
    for folder in ["bailiwick-data", "evidence"] {
        assert_keyless(&world.house.path(folder));
    }
}

/// No file below holds the key.
fn assert_keyless(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            assert_keyless(&path);
        } else {
            let bytes = std::fs::read(&path).unwrap();
            let found = bytes.windows(KEY.len()).any(|window| window == KEY.as_bytes());
            assert!(!found, "the key is in {}", path.display());
        }
    }
}

// proves: I2, R1
#[test]
fn a_run_of_its_own_opens_a_task_and_ends_it() {
    let world = World::new();
    let url = world.api.url("/v2/customers/7");
    let run = ["run", "--agent", "clerk", "--intent", "look at customer 7", "--", "curl", "-sS", &url];
    assert!(world.house.run(&run).good().contains("Ann"));
    assert_eq!(world.house.json(&["task", "ls"])[0]["cause"], "completed");
    let failed = world.house.run(&[
        "run",
        "--agent",
        "clerk",
        "--intent",
        "fail",
        "--",
        "curl",
        "-sSf",
        &world.api.url("/v2/no"),
    ]);
    failed.failed(1);
    assert_eq!(world.house.json(&["task", "ls"])[0]["cause"], "failed");
}

// proves: D3, INV6
#[test]
fn a_changed_rule_is_in_force_with_the_configuration_that_states_it() {
    let mut world = World::new();
    assert_eq!(world.curl("/v2/customers/7", &[]).1, r#"{"id":7,"name":"Ann"}"#);
    let file = world.house.path("bailiwick.yaml");
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, config.replace("keep: [id, name]", "keep: [id]")).unwrap();
    world.house.down();
    world.house.up();
    let began = Instant::now();
    loop {
        let (status, body) = world.curl("/v2/customers/7", &[]);
        assert!(!body.contains("Ann"), "the old rule is gone at once: {body}");
        if status == "200" {
            assert_eq!(body, r#"{"id":7}"#);
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{body}");
    }
}
