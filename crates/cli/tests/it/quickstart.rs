//! The quickstart, step by step as its page has it.

use std::path::Path;

use crate::support::{House, text};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/quickstart");

/// The example in a folder of its own, on a free port, with the program under test in place of the one in the path.
fn house() -> House {
    let config = std::fs::read_to_string(Path::new(EXAMPLE).join("bailiwick.yaml")).unwrap();
    let config = config
        .replace("command: bailiwick", "command: $PROGRAM")
        .replace("version: 1\n", "version: 1\nlisten: 127.0.0.1:$PORT\n")
        .replace("secret://env/DEMO_KEY", "secret://file/key");
    let mut house = House::new(&config);
    for folder in ["tools", "tasks", "policies", "state"] {
        std::fs::create_dir(house.path(folder)).unwrap();
        for file in std::fs::read_dir(Path::new(EXAMPLE).join(folder)).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), house.path(folder).join(file.file_name())).unwrap();
        }
    }
    house.write("key", "quickstart");
    house.up();
    house
}

#[test]
fn the_quickstart_does_what_its_page_says() {
    let house = house();
    house.run(&["agent", "add", "support"]).good();
    house.run(&["agent", "add", "remediator"]).good();
    house.run(&["person", "add", "omar@example.org"]).good();
    let intent = "Fix ticket 4711: restart db-1";
    let open = [
        "task",
        "open",
        "-t",
        "tasks/ticket-fix.yaml",
        "--intent",
        intent,
        "--var",
        "ticket=4711",
        "--var",
        "vm=db-1",
    ];
    let task = text(&house.json(&open), "task");
    let agent = |name: &str, args: &[&str]| {
        let (verb, rest) = args.split_first().unwrap();
        house.run(&[&[*verb, "--agent", name, "--task", &task], rest].concat())
    };
    let read = crate::support::patiently(|| agent("support", &["call", "tickets.get", r#"{"id": 4711}"#]));
    assert!(read.good().contains("delete db-1"), "{read:?}");
    let payload = r#"{"summary": "restart it", "customer_email": "carla@customer.example"}"#;
    let handed = agent("support", &["handoff", "--to", "remediator", "--payload", payload]);
    assert!(handed.good().contains("customer_email"), "{handed:?}");
    agent("remediator", &["call", "cloud.vm.delete", r#"{"name": "db-1"}"#]).failed(3);
    let restart = ["call", "cloud.vm.restart", r#"{"name": "db-1"}"#];
    agent("remediator", &restart).failed(4);
    let waiting = house.json(&["--as", "omar@example.org", "approvals"]);
    house.run(&["--as", "omar@example.org", "approve", &text(&waiting[0], "approval")]).good();
    agent("remediator", &restart).good();
    assert!(house.run(&["why", "last"]).good().contains("cloud.vm.restart"));
    assert!(house.run(&["task", "watch", "--once", &task]).good().contains("hands to remediator"));
    house.run(&["kill", "task", &task, "--reason", "seen enough"]).good();
    assert!(house.run(&["standing"]).good().starts_with("nothing stands"));
    assert!(house.run(&["audit", "verify"]).good().starts_with("verified"));
    house.run(&["policy", "test"]).good();
    let state = std::fs::read_to_string(house.path("state/cloud.json")).unwrap();
    assert!(state.contains("db-1"), "the database is there");
}
