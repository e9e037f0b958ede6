//! What operators write, well and badly: every mistake names its line, and no secret is ever repeated.

use super::*;
use serde_json::{Value as Json, json};

const FULL: &str = r#"
version: 1
trust_domain: example.org
listen: 127.0.0.1:7788
external_url: https://bailiwick.example.org
data: ./state
store: embedded
mode: enforce
people:
  - { id: dana@example.org, groups: [operators, support] }
  - { id: "workflow:itsm", workload: true }
directory:
  own_domains: [example.org]
  known: [https://status.example.org]
agents:
  - id: support
    owner: dana@example.org
    class: support
    ceiling:
      - tool: tickets.get
      - tool: cloud.vm_*
        use: false
        args: { name: { one_of: [web-3, db-1] }, reason: any }
        limits: { uses: 5 }
        delegate: { to: [remediator], depth: 1 }
systems:
  tickets:
    stdio: { command: tickets-mcp, args: [--read-only], env: { LOG: info, TICKETS_TOKEN: secret://file/token } }
  cloud:
    http:
      url: https://cloud.internal/mcp
      headers: { authorization: Bearer secret://file/token }
      call_timeout_ms: 5000
  crm:
    api:
      url: https://crm.internal/v2
      headers: { authorization: Bearer secret://file/api-key, accept: application/json }
      query: { key: secret://file/api-key }
      networks: [10.0.0.0/8]
      call_timeout_ms: 5000
      actions:
        customer.read:
          request: GET /customers/{id}
          effect: read
          args: { id: { role: selector, type: integer }, view: { role: free, in: query, at: v, type: word } }
          answer: { keep: [id, name], drop: [name.last], bytes_max: 65536 }
          labels: { level: confidential, classes: [pii] }
        note.create:
          request: POST /customers/{id}/notes
          effect: create
          reversible: true
          body: json
          args:
            id: { role: selector, type: integer }
            text: { role: content, at: /note/text, must: { length: 200 }, required: true }
            tags: { role: data, type: word, list: true }
targets:
  web:
    ssh:
      host: web-1.internal
      port: 2222
      host_key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ
      authority: secret://file/authority
      host_token: secret://file/host-token
      relay: { listen: 127.0.0.1:7722, from: 10.0.0.5, agents_reach: { host: relay.internal, port: 7722 } }
      scopes:
        restart:
          user: deploy
          effect: update
          commands: ["systemctl restart {unit}", "systemctl status {unit}"]
          labels: { level: internal }
          ttl_s: 300
tools:
  - tool: cloud.vm_restart
    effect: update
    reversible: true
    args: { name: { role: selector, required: true } }
    resource: { type: Vm, from: name, known: { db-1: { env: prod } } }
    result: [ { path: state, trust: exact, when: { field: by, own_domain: true } } ]
    labels: { level: internal, classes: [pii] }
limits: { token_ttl_s: 60 }
"#;

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("token"), "s3cr3t\n").unwrap();
    std::fs::write(dir.path().join("api-key"), "s3cr3t-and-longer\n").unwrap();
    std::fs::write(dir.path().join("host-token"), "s3cr3t-and-longer-than-that\n").unwrap();
    std::fs::write(dir.path().join("authority"), bailiwick_broker::ssh::new_authority().unwrap().expose())
        .unwrap();
    dir
}

fn read(text: &str) -> Result<Config, ConfigError> {
    let dir = folder();
    Config::read(&dir.path().join(FILE_NAME), text, &Overrides::default(), Secrets::Fetch)
}

/// Code, line, and whole text of the refusal.
fn refused(text: &str) -> (&'static str, u64, String) {
    let error = read(text).err().unwrap_or_else(|| panic!("was accepted:\n{text}"));
    (error.code(), error.line.unwrap_or(0), error.to_string())
}

#[test]
fn a_full_configuration_is_read_and_paths_start_at_the_file() {
    let config = read(FULL).unwrap();
    assert_eq!(config.trust_domain, "example.org");
    assert_eq!(config.listen.port(), 7788);
    assert!(config.data.ends_with("state") && config.data.parent().is_some_and(Path::is_absolute));
    assert_eq!(
        (config.people.len(), config.agents.len(), config.systems.len(), config.tools.len()),
        (2, 1, 2, 4)
    );
    assert_eq!(config.targets.len(), 1);
    assert_eq!((config.apis.len(), config.apis[0].keys.len(), config.apis[0].headers.len()), (1, 2, 1));
    assert_eq!(config.token_ttl_secs, 60);
    let Transport::Http { headers, .. } = &config.systems[0].transport else { panic!("cloud is http") };
    assert_eq!(headers[0].1.expose(), "Bearer s3cr3t");
    assert!(!format!("{config:?}").contains("s3cr3t"));
    assert!(read("version: 1\n").is_ok());
}

#[test]
fn a_secret_is_fetched_only_where_it_is_needed() {
    let text = "version: 1\nsystems: { a: { http: { url: \"https://x/mcp\", headers: { authorization: secret://env/BAILIWICK_TEST_NONE } } } }\n";
    assert_eq!(refused(text).0, "config.secret_missing");
    let left = Config::read(Path::new(FILE_NAME), text, &Overrides::default(), Secrets::Leave).unwrap();
    assert_eq!(left.systems.len(), 1);
}

#[test]
fn an_unknown_key_names_its_line_and_what_was_meant() {
    let (code, line, text) = refused("version: 1\nlistn: 127.0.0.1:1\n");
    assert_eq!((code, line), ("config.unknown_key", 2));
    assert!(text.contains("`listn`") && text.contains("Did you mean `listen`?"), "{text}");
    assert!(text.contains("bailiwick.yaml:2:"), "{text}");
    let nested = FULL.replace("own_domains:", "own_domain:");
    let line = 1 + nested.lines().position(|l| l.contains("own_domain:")).unwrap() as u64;
    assert_eq!((refused(&nested).0, refused(&nested).1), ("config.unknown_key", line));
    let deep = FULL.replace("role: selector", "rolle: selector");
    assert!(refused(&deep).2.contains("Did you mean `role`?"));
}

#[test]
fn other_mistakes_name_their_line_too() {
    let cases = [
        ("trust_domain: x\n", "config.missing_key"),
        ("version: 2\n", "config.version"),
        ("version: 1\nversion: 1\n", "config.duplicate_key"),
        ("version: 1\nmode: observe\n", "config.malformed"),
        ("version: 1\nlisten: here\n", "config.malformed"),
        ("version: 1\ntrust_domain: Example.ORG\n", "config.malformed"),
        ("version: 1\npeople: [ { id: \"Dana B\" } ]\n", "config.malformed"),
        ("version: 1\nlimits: { token_ttl_s: 3600 }\n", "config.malformed"),
        ("version: 1\nexternal_url: \"ftp://x\"\n", "config.malformed"),
        ("version: 1\nsystems: { cloud: { ftp: {} } }\n", "config.malformed"),
        ("version: 1\n  people: [\n", "config.malformed"),
        ("version: 1\ntools: 7\n", "config.malformed"),
        ("version: 1\npolicies: nowhere\n", "config.unreadable"),
    ];
    for (text, code) in cases {
        assert_eq!(refused(text).0, code, "{text}");
    }
    assert_eq!(refused("version: 1\nlisten: here\n").1, 2);
}

// proves: INV14
#[test]
fn a_literal_secret_is_refused_with_its_line_and_never_repeated() {
    let secret = "sk-live-4242424242424242";
    let api = |name: &str, value: &str| {
        format!(
            "version: 1\nsystems:\n  crm:\n    api:\n      url: https://c.internal/\n      headers:\n        {name}: {value}\n"
        )
    };
    let cases = [
        api("Authorization", &format!("Bearer {secret}")),
        api("Accept", secret),
        format!(
            "version: 1\nsystems:\n  cloud:\n    http:\n      url: https://c.internal/mcp\n      headers:\n        authorization: Bearer {secret}\n"
        ),
        format!(
            "version: 1\nsystems:\n  cloud:\n    stdio:\n      command: x\n      env:\n        CLOUD_KEY: {secret}\n"
        ),
        format!(
            "version: 1\nsystems:\n  cloud:\n    stdio:\n      command: x\n      args:\n        - --key={secret}\n"
        ),
        format!("version: 1\nsystems:\n  cloud:\n    http:\n      url: https://me:{secret}@c.internal/mcp\n"),
        format!("version: 1\nstore:\n  postgres:\n    url: postgres://b:{secret}@db/x\n"),
    ];
    for text in cases {
        let (code, line, shown) = refused(&text);
        let at = 1 + text.lines().position(|l| l.contains(secret)).unwrap() as u64;
        assert_eq!((code, line), ("config.literal_secret", at), "{text}");
        assert!(!shown.contains(secret) && shown.contains("secret://env/"), "{shown}");
    }
    // In the wrong place it is another error, and is not repeated either.
    for text in [
        format!("version: 1\nstore: postgres://b:{secret}@db/x\n"),
        format!("version: 1\nmode: {secret}\n"),
        format!("version: {secret}\n"),
        format!("version: 1\nlisten: {secret}\n"),
    ] {
        assert!(!refused(&text).2.contains(secret), "{}", refused(&text).2);
    }
}

#[test]
fn the_environment_comes_before_the_file() {
    let dir = folder();
    let overrides = Overrides {
        listen: Some("127.0.0.1:9999".into()),
        external_url: Some("http://localhost:9999/".into()),
        data: Some("/var/lib/x".into()),
        trust_domain: Some("other.example".into()),
        store: Some("secret://file/token".into()),
        ledger_head: Some("/mnt/b/head".into()),
    };
    let config = Config::read(&dir.path().join(FILE_NAME), FULL, &overrides, Secrets::Fetch).unwrap();
    assert_eq!(config.listen.port(), 9999);
    assert_eq!(config.external_url.as_deref(), Some("http://localhost:9999"));
    assert_eq!((config.data.to_str(), config.trust_domain.as_str()), (Some("/var/lib/x"), "other.example"));
    assert!(matches!(config.store, Store::Postgres(_)));
    assert_eq!(config.head.as_deref(), Some(Path::new("/mnt/b/head")));
    let literal = Overrides { store: Some("postgres://u:p@h/d".into()), ..Overrides::default() };
    let error = Config::read(&dir.path().join(FILE_NAME), FULL, &literal, Secrets::Fetch).unwrap_err();
    assert_eq!(error.code(), "config.literal_secret");
}

#[test]
fn the_kept_head_is_a_file_beside_the_configuration_unless_the_path_is_whole() {
    let dir = folder();
    let load = |text: &str| {
        Config::read(&dir.path().join(FILE_NAME), text, &Overrides::default(), Secrets::Leave).unwrap().head
    };
    assert_eq!(load("version: 1\n"), None);
    assert_eq!(load("version: 1\nledger: { head: kept/head }\n"), Some(dir.path().join("kept/head")));
    assert_eq!(load("version: 1\nledger: { head: /mnt/b/head }\n"), Some("/mnt/b/head".into()));
}

#[test]
fn tools_and_policies_may_be_files_folders_and_patterns() {
    let dir = folder();
    let at = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    at("tools/cloud.yaml", "tool: cloud.a\neffect: read\n");
    at("tools/more.yaml", "- tool: cloud.b\n  effect: update\n- { tool: cloud.c, effect: delete }\n");
    at("policies/all.cedar", "permit (principal, action, resource);");
    at("policies/classes/ops.cedar", "// ops");
    let load =
        |text: &str| Config::read(&dir.path().join(FILE_NAME), text, &Overrides::default(), Secrets::Fetch);
    assert_eq!(load("version: 1\ntools: tools\n").unwrap().tools.len(), 3);
    assert_eq!(load("version: 1\ntools: tools/m*.yaml\n").unwrap().tools.len(), 2);
    let policies = load("version: 1\npolicies: policies\n").unwrap().policies.unwrap();
    assert_eq!(
        policies.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>(),
        ["all.cedar", "classes/ops.cedar"]
    );
    let both = load("version: 1\npolicies: [defaults, policies]\n").unwrap();
    let names: Vec<&str> = both.policies.iter().flatten().map(|(n, _)| n.as_str()).collect();
    assert!(names.iter().any(|n| n.starts_with("defaults/")) && names.contains(&"all.cedar"), "{names:?}");
    assert_eq!(both.policy_paths.len(), 1);
    at("tools/bad.yaml", "tool: cloud.d\nefect: read\n");
    let error = load("version: 1\ntools: tools\n").unwrap_err();
    assert_eq!((error.code(), error.line), ("config.unknown_key", Some(2)));
    assert!(error.to_string().contains("bad.yaml:2:"), "{error}");
}

fn schema() -> Json {
    serde_json::from_str(SCHEMA).unwrap()
}

fn as_json(yaml: &str) -> Json {
    serde_saphyr::from_str(yaml).unwrap()
}

#[test]
fn the_schema_takes_what_the_reader_takes_and_refuses_what_it_refuses() {
    let schema = jsonschema::validator_for(&schema()).unwrap();
    let check = |text: &str| {
        let (read, valid) = (read(text).is_ok(), schema.is_valid(&as_json(text)));
        assert_eq!(read, valid, "reader {read}, schema {valid}:\n{text}");
        valid
    };
    assert!(check(FULL) && check("version: 1\n") && check("version: 1\npolicies: [defaults]\n"));
    assert!(check(
        "version: 1\nagents: [ { id: a, owner: o, class: c, ceiling: [ { tool: x.y, args: { n: { all_of: [ { range: { min: 1 } }, { length: 3 } ] } } } ] } ]\n"
    ));
    for bad in [
        "version: 1\nlistn: x\n",
        "version: 2\n",
        "version: 1\nmode: observe\n",
        "version: 1\nlimits: { token_ttl_s: 3600 }\n",
        "version: 1\nsystems: { a: { http: { url: \"https://x/\", headers: { authorization: abc } } } }\n",
        "version: 1\nsystems: { a: { api: { url: \"https://x/\", query: { k: abc } } } }\n",
        "version: 1\nsystems: { a: { api: { url: \"https://x/\", actions: { b: { request: GET /x } } } } }\n",
        "version: 1\nsystems: { A: { http: { url: \"https://x/\" } } }\n",
        "version: 1\nagents: [ { id: a, owner: o } ]\n",
        "version: 1\ntools: [ { tool: a.b, effect: look } ]\n",
        "version: 1\npolicies: 7\n",
        "version: 1\nledger: head\n",
    ] {
        assert!(!check(bad), "{bad}");
    }
}

/// An example of every object of the schema, with the path to put it at; the reader's own list of known keys must
/// be the schema's list, in both directions.
#[test]
fn an_ssh_host_needs_an_authority_a_token_and_lines_that_can_be_stated() {
    let left = Config::read(Path::new(FILE_NAME), FULL, &Overrides::default(), Secrets::Leave).unwrap();
    assert!(left.tools.iter().any(|m| m.tool.as_str() == "web.restart" && m.args.contains_key("unit")));
    for (from, to, code) in [
        ("secret://file/host-token", "secret://file/token", "config.malformed"),
        ("secret://file/host-token", "a-literal-token-of-a-host-1234", "config.literal_secret"),
        ("secret://file/authority", "secret://file/token", "config.malformed"),
        ("restart {unit}", "restart ${unit}", "config.malformed"),
        ("user: deploy", "user: Deploy", "config.malformed"),
        ("from: 10.0.0.5", "from: nowhere", "config.malformed"),
        ("user: deploy", "sources: [10.0.0.0/8]\n          user: deploy", "config.malformed"),
        ("host: web-1.internal", "host: -oProxyCommand=x", "config.malformed"),
    ] {
        let (got, _, text) = refused(&FULL.replacen(from, to, 1));
        assert_eq!(got, code, "{from} -> {to}: {text}");
        assert!(
            !text.contains("s3cr3t") && !text.contains("literal-token") && !text.contains("OPENSSH"),
            "{text}"
        );
    }
}

#[test]
fn an_authority_is_read_from_its_file_and_a_missing_one_names_its_line() {
    let target = |tls: &str| {
        format!(
            "version: 1\ntargets:\n  shop:\n    postgres:\n      url: secret://file/url\n      tls: {tls}\n      scopes: {{}}\n"
        )
    };
    let folder = folder();
    let file = folder.path().join(FILE_NAME);
    std::fs::write(folder.path().join("ca.pem"), "-----BEGIN").unwrap();
    let read = |tls: &str| Config::read(&file, &target(tls), &Overrides::default(), Secrets::Leave);
    let missing = read("{ authority: none.pem }").unwrap_err();
    assert!(missing.to_string().contains("none.pem"), "{missing}");
    let broken = read("{ authority: ca.pem }").unwrap_err();
    assert!(broken.to_string().contains("authority"), "{broken}");
    assert!(read("{ name: db.internal }").is_ok(), "the system's roots");
}

#[test]
fn the_schema_knows_exactly_the_keys_that_the_reader_knows() {
    let agent = |inner: Json| json!({"version": 1, "agents": [inner]});
    let ceiling = |inner: Json| agent(json!({"id": "a", "owner": "o", "class": "c", "ceiling": [inner]}));
    let arg = |inner: Json| ceiling(json!({"tool": "x.y", "args": {"n": inner}}));
    let tool = |inner: Json| json!({"version": 1, "tools": [inner]});
    let manifest = |key: &str, inner: Json| tool(json!({"tool": "x.y", "effect": "read", key: inner}));
    let odd = || json!({"~": 0});
    let api = |inner: Json| json!({"version": 1, "systems": {"a": {"api": inner}}});
    let action = |key: &str, inner: Json| {
        api(
            json!({"url": "https://x/", "actions": {"a": {"request": "GET /x", "effect": "read", key: inner}}}),
        )
    };
    let target = |kind: &str, inner: Json| json!({"version": 1, "targets": {"t": {kind: inner}}});
    let cases = [
        ("", json!({"version": 1, "~": 0})),
        ("postgres", json!({"version": 1, "store": {"postgres": odd()}})),
        ("ledger", json!({"version": 1, "ledger": odd()})),
        ("person", json!({"version": 1, "people": [odd()]})),
        ("directory", json!({"version": 1, "directory": odd()})),
        ("agent", agent(odd())),
        ("capability", ceiling(odd())),
        ("delegate", ceiling(json!({"tool": "x.y", "delegate": odd()}))),
        ("budget", ceiling(json!({"tool": "x.y", "limits": odd()}))),
        ("range", arg(json!({"range": odd()}))),
        ("url", arg(json!({"url": odd()}))),
        ("each", arg(json!({"each": odd()}))),
        ("stdio", json!({"version": 1, "systems": {"a": {"stdio": odd()}}})),
        ("http", json!({"version": 1, "systems": {"a": {"http": odd()}}})),
        ("api", api(odd())),
        ("action", api(json!({"url": "https://x/", "actions": {"a": odd()}}))),
        ("api_arg", action("args", json!({"n": odd()}))),
        ("answer", action("answer", odd())),
        ("manifest", tool(odd())),
        ("arg", manifest("args", json!({"n": odd()}))),
        ("resource", manifest("resource", odd())),
        ("rule", manifest("result", json!([odd()]))),
        ("when", manifest("result", json!([{"path": "p", "trust": "exact", "when": odd()}]))),
        ("declassifier", manifest("declassifies", json!([odd()]))),
        ("label", manifest("labels", odd())),
        ("limits", json!({"version": 1, "limits": odd()})),
        ("postgres_target", target("postgres", odd())),
        ("postgres_scope", target("postgres", json!({"url": "${env:X}", "scopes": {"s": odd()}}))),
        ("redis_target", target("redis", odd())),
        ("target_tls", target("redis", json!({"nodes": [], "tls": odd()}))),
        ("ssh_target", target("ssh", odd())),
        ("ssh_relay", target("ssh", json!({"host": "h", "host_key": "k", "relay": odd()}))),
        ("ssh_scope", target("ssh", json!({"host": "h", "host_key": "k", "scopes": {"s": odd()}}))),
        ("postgres_gateway", json!({"version": 1, "postgres_gateway": odd()})),
    ];
    let schema = schema();
    let objects = schema["$defs"].as_object().unwrap().iter().filter(|(_, d)| d.get("properties").is_some());
    let mut named: BTreeSet<&str> = objects.map(|(name, _)| name.as_str()).collect();
    for (name, document) in &cases {
        named.remove(name);
        let place = if name.is_empty() { &schema } else { &schema["$defs"][name] };
        let published: BTreeSet<String> = place["properties"].as_object().unwrap().keys().cloned().collect();
        let shown = refused(&document.to_string()).2;
        let (_, list) = shown.split_once("Known here: ").unwrap_or_else(|| panic!("{name}: {shown}"));
        let known: BTreeSet<String> = list.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        assert_eq!(known, published, "{name}");
    }
    assert!(named.is_empty(), "no case for {named:?}");
}
