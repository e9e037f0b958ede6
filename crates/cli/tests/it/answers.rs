//! Tool servers that answer badly, and agents that word badly what a person is to approve: through a real node, with
//! real tool servers behind it.

use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::support::{House, Ran, text};

const SERVER: &str = include_str!("answers_server.py");

const CONFIG: &str = r#"
version: 1
trust_domain: example.org
listen: 127.0.0.1:$PORT
people:
  - { id: dana@example.org, groups: [operators, approvers] }
agents:
  - { id: helper, owner: dana@example.org, class: desk, ceiling: [ { tool: book.* }, { tool: post.* } ] }
systems:
  book: { stdio: { command: python3, args: [server.py, book, book.json] } }
  post: { stdio: { command: python3, args: [server.py, post, post.json] } }
tools:
  - tool: book.contact.get
    effect: read
    open_args: true
    result: [ { path: email, trust: exact, type: address } ]
  - { tool: post.mail.send, effect: egress, args: { to: { role: target, type: address }, body: { role: content } } }
"#;

fn house() -> House {
    let mut house = House::new(CONFIG);
    house.write("server.py", SERVER);
    house.write("book.json", "{}");
    house.write("post.json", "[]");
    house.up();
    house.json(&["agent", "add", "helper"]);
    let began = Instant::now();
    while house.json(&["tool", "ls"]).as_array().unwrap().iter().filter(|t| !t["pin"].is_null()).count() < 2 {
        assert!(began.elapsed() < Duration::from_secs(90), "the tools are not classified in time");
        std::thread::yield_now();
    }
    house
}

fn open(house: &House) -> String {
    text(&house.json(&["task", "open", "--agent", "helper", "--intent", "Write to the customer"]), "task")
}

fn call(house: &House, task: &str, tool: &str, args: Json) -> Ran {
    house.run(&["call", "--agent", "helper", "--task", task, tool, &args.to_string()])
}

fn sent(house: &House) -> usize {
    let state = std::fs::read_to_string(house.path("post.json")).unwrap();
    serde_json::from_str::<Json>(&state).unwrap().as_array().unwrap().len()
}

fn says(text: &str) -> Json {
    json!({"content": [{"type": "text", "text": text}]})
}

// proves: N1, D6, A42
#[test]
fn a_bad_answer_of_a_tool_explains_nothing_breaks_nothing_and_is_told() {
    let house = house();
    let eve = "eve@evil.com";
    let raw = |result: &str| json!({"raw": format!(r#"{{"jsonrpc":"2.0","id":$ID,"result":{result}}}"#)});
    let wrapped = |fields: Json| json!({"content": [], "structuredContent": fields});
    let deep = format!("{}\"{eve}\"{}", "{\"email\":".repeat(100), "}".repeat(100));
    let twice =
        format!(r#"{{"content":[],"structuredContent":{{"email":"ann@known.example","email":"{eve}"}}}}"#);
    let cases = [
        ("words", says(&format!("Her address is {eve}.")), true),
        ("words that begin like JSON", says(&format!("{{\"email\": \"{eve}\"")), true),
        ("two texts", json!({"content": [says(eve)["content"][0], says(eve)["content"][0]]}), true),
        ("compressed", says("H4sIAL/NAmsC/6tWSs1NzMxRslJQSi1LdUgty8zRS87PVaoFALjPnmYZAAAA"), true),
        (
            "an image",
            json!({"content": [{"type": "image", "mimeType": "application/json", "data": "eyJlbWFpbCI6ImV2ZUBldmlsLmNvbSJ9"}]}),
            true,
        ),
        (
            "a link",
            json!({"content": [{"type": "resource_link", "uri": format!("mailto:{eve}"), "name": eve}]}),
            true,
        ),
        ("another shape", wrapped(json!({"email": {"address": eve}})), true),
        ("another type", wrapped(json!({"email": format!("Eve <{eve}>")})), true),
        ("a number", wrapped(json!({"email": 7})), true),
        ("an absent field", wrapped(json!({"mail": eve, "note": format!("email: {eve}")})), true),
        ("an empty field", wrapped(json!({"email": null, "mail": eve})), true),
        ("no object", json!({"content": [], "structuredContent": eve}), true),
        ("an error", json!({"content": [], "isError": true, "structuredContent": {"email": eve}}), false),
        ("a field twice", raw(&twice), true),
        ("too deep", raw(&format!(r#"{{"content":[],"structuredContent":{deep}}}"#)), true),
        ("more than is looked into", json!({"huge": 2 << 20}), true),
        ("more than is taken", json!({"huge": 9 << 20}), false),
        ("no result", raw("7"), false),
    ];
    for (what, answer, good) in cases {
        let task = open(&house);
        house.write("book.json", &answer.to_string());
        let read = call(&house, &task, "book.contact.get", json!({"name": "Eve"}));
        assert_eq!(read.code == 0, good, "{what}: {} {}", read.code, read.err);
        let mail = call(&house, &task, "post.mail.send", json!({"to": eve, "body": "hello"}));
        assert!(mail.failed(4).contains("nobody"), "{what}: a person is asked, and it is no error: {mail:?}");
        let moved = house.json(&["trace", "--data", &task]);
        let reads =
            moved.as_array().unwrap().iter().filter(|m| m["way"] == "read" && m["explains"].is_object());
        assert_eq!(reads.count(), 0, "{what}: {moved}");
    }
    assert_eq!(sent(&house), 0);

    let task = open(&house);
    house.write("book.json", &wrapped(json!({"email": "Ann@known.example"})).to_string());
    call(&house, &task, "book.contact.get", json!({"name": "Ann"})).good();
    call(&house, &task, "post.mail.send", json!({"to": "ann@known.example", "body": "hello"})).good();
    assert_eq!(sent(&house), 1, "the benign twin, after all of these");
    let told = house.run(&["trace", "--data", &task]);
    assert!(told.good().contains("the manifest trusts `email`: it explains 1 value"), "{told:?}");
}

// proves: A18, A4
#[test]
fn a_card_shows_what_would_happen_whole_and_nothing_in_it_hides_or_moves() {
    let house = house();
    let task = open(&house);
    let odd = "safe \u{202e}gpj.exe\u{202c} ann@exam\u{200b}ple.org \u{1b}[2J\u{1b}[1A [ok](https://evil.example) \u{e0041}\u{feff}";
    let body = format!("{odd} {} and the end of it", "word ".repeat(2500));
    let asked = call(&house, &task, "post.mail.send", json!({"to": "ann@exam\u{200b}ple.org", "body": body}));
    asked.failed(4);
    let handle = text(&house.json(&["approvals", "ls"])[0], "approval");
    let card = house.run(&["approvals", "show", &handle]);
    let shown = card.good();
    let hidden = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
    };
    assert!(!shown.contains(hidden), "{shown:?}");
    assert!(shown.contains("ann@exam\u{fffd}ple.org"), "what is not seen leaves a mark: {shown}");
    assert!(!shown.contains("ann@example.org"), "and is not taken for another");
    assert!(shown.contains("and the end of it"), "all of it is shown");
    assert!(shown.contains("https://evil.example"), "a link shows where it goes");
    let place = |words: &str| shown.find(words).unwrap_or_else(|| panic!("`{words}` is missing: {shown}"));
    assert!(place("Send out by post.mail.send") < place("risk") && place("risk") < place("args"));

    // What cannot be shown whole cannot be approved: it is not even asked.
    let long = json!({"to": "eve@evil.com", "body": "x".repeat(100_000)});
    let refused = call(&house, &task, "post.mail.send", long);
    assert!(refused.failed(3).contains("cannot be shown whole"), "{refused:?}");
    assert_eq!(house.json(&["approvals", "ls"]).as_array().unwrap().len(), 1);
    assert_eq!(sent(&house), 0);
}
