//! Exit codes, streams and words: what scripts and people rely on.

use crate::support::{House, free_port, run_in};

const KEY: &str = "bwk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

#[test]
fn nobody_listening_is_six_and_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let server = format!("http://127.0.0.1:{}", free_port());
    let ran = run_in(folder.path(), &["status", "--server", &server], &[("BAILIWICK_KEY", KEY)]);
    assert!(ran.failed(6).contains("bailiwick up"), "{ran:?}");
    let machine =
        run_in(folder.path(), &["status", "--server", &server, "--json"], &[("BAILIWICK_KEY", KEY)]);
    let error: serde_json::Value = serde_json::from_str(machine.failed(6)).unwrap();
    assert_eq!((&error["error"]["code"], &error["error"]["exit"]), (&"server.unreachable".into(), &6.into()));
    assert!(machine.out.is_empty(), "no data, nothing on standard output");
}

#[test]
fn no_key_is_five_and_a_wrong_key_is_five() {
    let folder = tempfile::tempdir().unwrap();
    assert!(run_in(folder.path(), &["status"], &[]).failed(5).contains("BAILIWICK_KEY"));
    run_in(folder.path(), &["status"], &[("BAILIWICK_KEY", "hunter2")]).failed(5);
    let house = House::open("version: 1\nlisten: 127.0.0.1:$PORT\n");
    let server = format!("http://127.0.0.1:{}", house.port);
    let ran = run_in(folder.path(), &["status", "--server", &server], &[("BAILIWICK_KEY", KEY)]);
    assert!(!ran.failed(5).contains(KEY), "{ran:?}");
}

#[test]
fn wrong_usage_is_two() {
    let folder = tempfile::tempdir().unwrap();
    for args in
        [&["frobnicate"][..], &["task", "open"], &["agent", "add", "Not A Name"], &["status", "--colour"]]
    {
        run_in(folder.path(), args, &[]).failed(2);
    }
    std::fs::write(folder.path().join("bailiwick.yaml"), "version: 1\nlistn: here\n").unwrap();
    let said = run_in(folder.path(), &["config", "check"], &[]);
    assert!(said.failed(2).contains("bailiwick.yaml:2:") && said.err.contains("`listen`"), "{said:?}");
}

// proves: INV14
#[test]
fn a_literal_secret_stops_the_start_and_is_not_repeated() {
    let secret = "sk-live-4242424242424242";
    let house = House::new(&format!(
        "version: 1\nsystems:\n  cloud:\n    http:\n      url: https://cloud.internal/mcp\n      headers: {{ authorization: Bearer {secret} }}\n"
    ));
    for args in [&["up"][..], &["config", "check"]] {
        let ran = house.run(args);
        assert!(ran.failed(2).contains("bailiwick.yaml:6:") && !ran.err.contains(secret), "{ran:?}");
    }
}

#[test]
fn colour_and_motion_are_for_terminals() {
    let folder = tempfile::tempdir().unwrap();
    for args in [&["status"][..], &["config", "check"], &["--help"], &["version"]] {
        let ran = run_in(folder.path(), args, &[]);
        assert!(!ran.out.contains('\u{1b}') && !ran.err.contains('\u{1b}'), "{ran:?}");
    }
}

#[test]
fn data_comes_in_four_forms() {
    let folder = tempfile::tempdir().unwrap();
    let run = |form: &str| run_in(folder.path(), &["version", "-o", form], &[]);
    assert!(run("table").good().starts_with("bailiwick "));
    assert!(run("json").json()["version"].is_string());
    assert!(run("yaml").good().starts_with("version:"));
    assert_eq!(run("ndjson").good().lines().count(), 1);
}

#[test]
fn completions_and_the_schema_can_be_printed() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let ran = run_in(folder.path(), &["completion", shell], &[]);
        assert!(ran.good().contains("approvals") && !ran.out.contains("~shell"), "{shell}");
    }
    let schema = run_in(folder.path(), &["config", "schema"], &[]).json();
    assert_eq!(schema["title"], "bailiwick.yaml");
}

#[cfg(unix)]
#[test]
fn an_interrupt_is_one_hundred_and_thirty_and_a_locked_ledger_says_so() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    let house = House::open("version: 1\nlisten: 127.0.0.1:$PORT\n");
    let mut watching = house.command(&["approvals", "watch"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watching.stderr.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("waiting"));
    assert!(Command::new("kill").args(["-INT", &watching.id().to_string()]).status().unwrap().success());
    assert_eq!(watching.wait().unwrap().code(), Some(130));
    let second = house.run(&["up", "--listen", &format!("127.0.0.1:{}", free_port())]);
    assert!(second.failed(6).contains("locked") || second.err.contains("another"), "{second:?}");
    assert!(house.run(&["up"]).failed(1).contains("cannot listen"));
}
