//! Templates that are registered at the server: tasks opened by name, without the file.

use crate::support::{House, text};

const CONFIG: &str = "
version: 1
trust_domain: example.org
listen: 127.0.0.1:$PORT
people:
  - { id: dana@example.org, groups: [operators] }
agents:
  - { id: clerk, owner: dana@example.org, class: desk, ceiling: [ { tool: notes.* } ] }
tools:
  - { tool: notes.read, effect: read, args: { id: { role: selector, required: true } } }
  - { tool: notes.mail, effect: create, args: { to: { role: target, required: true }, text: { role: content } } }
";

const TEMPLATE: &str = "
template: tell
about: Read a note and tell somebody
agent: clerk
ttl: 10m
asks: 2
inputs:
  note: { type: record, of: note }
  to: { type: mail }
chain:
  steps:
    - { id: read, agent: clerk, act: call, tool: notes.read, args: { id: { input: note } } }
    - { id: mail, agent: clerk, act: call, tool: notes.mail, args: { to: { input: to }, text: any }, after: [read] }
";

fn house() -> House {
    let house = House::open(CONFIG);
    house.write("tell.yaml", TEMPLATE);
    house.run(&["person", "add", "omar@example.org", "--group", "desk"]).good();
    house.run(&["agent", "add", "clerk"]).good();
    house
}

/// Opens a task as somebody who is no operator.
fn open<'a>(template: &'a str, inputs: &[&'a str]) -> Vec<&'a str> {
    let mut words =
        vec!["--as", "omar@example.org", "task", "open", "--intent", "Tell Bob", "--template", template];
    inputs.iter().for_each(|input| words.extend(["--input", input]));
    words
}

const GOOD: [&str; 2] = ["note=7", "to=bob@example.org"];

// proves: T1, T2
#[test]
fn a_person_opens_a_task_by_name_and_inputs_and_the_record_says_which_version_it_was() {
    let house = house();
    house.run(&open("tell@1", &GOOD)).failed(1);
    let added = house.json(&["task", "template", "add", "tell.yaml"]);
    assert_eq!((text(&added, "template"), text(&added, "by")), ("tell@1".into(), "dana@example.org".into()));
    std::fs::remove_file(house.path("tell.yaml")).unwrap();
    let listed = house.run(&["--as", "omar@example.org", "task", "template", "list"]);
    assert!(listed.good().contains("tell@1") && listed.out.contains("to: "), "{listed:?}");
    let shown = house.run(&["--as", "omar@example.org", "task", "template", "show", "tell"]);
    assert!(shown.good().contains("notes.mail") && shown.out.contains("600 s at most"), "{shown:?}");

    for named in ["tell@1", "tell"] {
        let opened = house.json(&open(named, &GOOD));
        assert_eq!(opened["guarantees"], "declared");
        let task = text(&opened, "task");
        let detail = house.json(&["task", "show", &task]);
        assert_eq!(detail["summary"]["template"], "tell@1");
        assert_eq!(
            (&detail["inputs"]["note"], &detail["inputs"]["to"]),
            (&7.into(), &"bob@example.org".into())
        );
        assert!(house.run(&["task", "show", &task]).good().contains("template  tell@1"));
        let events = house.run(&["task", "watch", &task, "--once", "--json"]);
        assert!(
            events.good().contains(r#""template": "tell@1""#) && events.out.contains("bob@example.org"),
            "{events:?}"
        );
        let elsewhere = r#"{"to":"eve@evil.example"}"#;
        house.run(&["call", "--agent", "clerk", "--task", &task, "notes.mail", elsewhere]).failed(3);
        let trace = house.run(&["trace", "last"]);
        assert!(trace.good().contains("template tell@1"), "{trace:?}");
    }
    // Two minutes where the template says ten; not an hour.
    house.json(&[&open("tell@1", &GOOD)[..], &["--ttl", "2m"]].concat());
    let longer = house.run(&[&open("tell@1", &GOOD)[..], &["--ttl", "1h"]].concat());
    assert!(longer.failed(2).contains("tell@1"), "{longer:?}");
    let other = house.run(&[&open("tell@1", &GOOD)[..], &["--agent", "somebody"]].concat());
    assert!(other.failed(2).contains("begins with clerk"), "{other:?}");
}

// proves: T2, D6
#[test]
fn wrong_inputs_open_nothing_and_the_refusal_says_what_is_wanted() {
    let house = house();
    house.json(&["task", "template", "add", "tell.yaml"]);
    let before = house.json(&["task", "ls"]);
    for (inputs, says) in [
        (&["note=7"][..], "to"),
        (&["note=7", "to=nobody"][..], "ann@example.org"),
        (&["note=7", "to=bob@example.org", "cc=eve@evil.example"][..], "cc"),
        (&["note=7", "to=[\"bob@example.org\"]"][..], "to"),
    ] {
        let refused = house.run(&open("tell@1", inputs));
        assert!(refused.failed(2).contains(says), "{inputs:?}: {refused:?}");
    }
    for unknown in ["tell@2", "tell@4294967295", "tall", "tall@1"] {
        assert!(house.run(&open(unknown, &GOOD)).failed(1).contains("there is no template"), "{unknown}");
    }
    for odd in ["tell@0", "tell@01"] {
        assert_ne!(house.run(&open(odd, &GOOD)).code, 0, "{odd}");
    }
    assert_eq!(house.json(&["task", "ls"]), before);
    house.json(&open("tell@1", &GOOD));
    assert_ne!(house.json(&["task", "ls"]), before);
}

// proves: T2, D2
#[test]
fn versions_never_change_a_removed_one_opens_nothing_and_only_operators_do_either() {
    let mut house = house();
    let add = |house: &House, more: &[&str]| house.run(&[&["task", "template", "add"], more].concat());
    let omar = house.run(&["--as", "omar@example.org", "task", "template", "add", "tell.yaml"]);
    assert!(omar.failed(3).contains("operator"), "{omar:?}");
    add(&house, &["tell.yaml"]).good();
    add(&house, &["tell.yaml"]).good();
    let other = TEMPLATE.replace("ttl: 10m", "ttl: 20m");
    house.write("other.yaml", &other);

    // The same name for something else: a clash, unless it says that it comes next.
    assert!(add(&house, &["other.yaml"]).failed(1).contains("the next version of tell is 2"));
    assert!(add(&house, &["other.yaml", "--as-version", "1"]).failed(1).contains("never changes"));
    assert!(
        add(&house, &["other.yaml", "--as-version", "3"]).failed(1).contains("the next one of tell is 2")
    );
    let second = add(&house, &["other.yaml", "--as-version", "2", "--json"]).json();
    assert_eq!(second["template"], "tell@2");
    add(&house, &["other.yaml", "--name", "else"]).good();
    let first = house.json(&["task", "template", "show", "tell@1"]);
    assert_eq!((&first["says"]["ttl_s"], &second["says"]["ttl_s"]), (&600.into(), &1200.into()));

    // What could never be opened is not registered.
    for (odd, says) in [
        (TEMPLATE.replace("input: note", "input: nite"), "nite"),
        (TEMPLATE.replace("agent: clerk", "agent: nobody"), "nobody"),
        (TEMPLATE.replace("ttl: 10m", "ttl: 30d"), "seven days"),
        (TEMPLATE.replace("after: [read]", "after: [gone]"), "gone"),
        (TEMPLATE.replace("template: tell\n", ""), "name"),
    ] {
        house.write("odd.yaml", &odd.replace("template: tell", "template: odd"));
        let refused = add(&house, &["odd.yaml"]);
        assert!(refused.code != 0 && refused.err.contains(says), "{says}: {refused:?}");
    }
    house.run(&["task", "template", "show", "odd"]).failed(1);

    let running = text(&house.json(&open("tell@2", &GOOD)), "task");
    house.run(&["--as", "omar@example.org", "task", "template", "remove", "tell@2"]).failed(3);
    assert_ne!(house.run(&["task", "template", "remove", "tell"]).code, 0, "which version?");
    house.run(&["task", "template", "remove", "tell@9"]).failed(1);
    house.run(&["task", "template", "remove", "tell@2"]).good();
    let gone = house.run(&open("tell@2", &GOOD));
    assert!(gone.failed(1).contains("tell@2 was removed"), "{gone:?}");
    assert!(add(&house, &["other.yaml", "--as-version", "2"]).failed(1).contains("was removed"));
    assert_eq!(
        house.json(&["task", "show", &running])["summary"]["state"],
        "open",
        "what was opened goes on"
    );
    let newest = text(&house.json(&open("tell", &GOOD)), "task");
    assert_eq!(house.json(&["task", "show", &newest])["summary"]["template"], "tell@1");
    assert!(!house.run(&["task", "template", "list"]).good().contains("tell@2"));

    // All of it is in the log.
    assert_eq!(house.down(), 0);
    house.up();
    assert!(house.run(&["task", "template", "list", "--all"]).good().contains("tell@2"));
    house.run(&open("tell@2", &GOOD)).failed(1);
    house.run(&["task", "template", "remove", "tell@1"]).good();
    assert!(house.run(&open("tell", &GOOD)).failed(1).contains("was removed"));
    house.json(&open("else@1", &GOOD));
}

// proves: T1, P4
#[test]
fn nobody_gives_a_task_the_name_of_a_version_that_it_does_not_come_from() {
    let house = house();
    house.json(&["task", "template", "add", "tell.yaml"]);
    // The same words in a file of one's own, under the name of a version.
    let claimed = TEMPLATE.replace("template: tell", "template: tell@1");
    house.write("mine.yaml", &claimed);
    let file = |name: &str| {
        let words = [
            "task",
            "open",
            "-t",
            name,
            "--intent",
            "Tell Bob",
            "--var",
            "note=7",
            "--var",
            "to=bob@example.org",
        ];
        house.run(&words)
    };
    file("mine.yaml").good();
    for (from, to) in
        [("asks: 2", "asks: 9"), ("text: any }, after: [read]", "text: any }"), ("ttl: 10m", "ttl: 11m")]
    {
        house.write("mine.yaml", &claimed.replace(from, to));
        let refused = file("mine.yaml");
        assert!(refused.failed(2).contains("is not what tell@1 says"), "{to}: {refused:?}");
    }
    house.write("mine.yaml", &TEMPLATE.replace("template: tell", "template: tell@7"));
    file("mine.yaml").failed(1);
    house.write("mine.yaml", &TEMPLATE.replace("asks: 2", "asks: 9"));
    file("mine.yaml").good();
}
