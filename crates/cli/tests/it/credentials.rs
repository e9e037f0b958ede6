//! A credential's life, through the program's own face and a real PostgreSQL: it appears, works, and disappears.

use std::process::Stdio;

use serde_json::Value as Json;

use crate::shop::Shop;
use crate::support::Ran;

const CONFIG: &str = "
version: 1
trust_domain: example.org
listen: 127.0.0.1:$PORT
people:
  - { id: dana@example.org, groups: [operators, approvers] }
policies: [defaults, policies]
targets:
  shop:
    postgres:
      url: secret://file/admin.url
      scopes:
        read_orders:
          role: cap_read_orders
          database: postgres
          effect: read
          tables: { public.orders: { select: [id, customer_id, total] } }
          rows: { customer: { table: public.orders, column: customer_id } }
          ttl_s: 600
        read_people:
          role: cap_read_people
          database: postgres
          effect: read
          tables: { public.people: { select: true } }
          labels: { level: confidential, classes: [pii] }
";

const POLICY: &str = r#"
@id("personal-data-needs-a-proxy")
@reason("Personal data is read through our own proxy only.")
forbid (principal, action, resource is Target)
when { resource has data && resource.data like "*pii*" }
unless { resource has revocability && resource.revocability == "P" };
"#;

fn shop() -> Shop {
    let shop = Shop::new(CONFIG);
    std::fs::create_dir(shop.house.path("policies")).unwrap();
    shop.house.write("policies/pii.cedar", POLICY);
    shop.admin("CREATE TABLE people (name text)");
    let planned = shop.house.run(&["target", "setup", "shop"]);
    assert!(planned.good().contains("CREATE ROLE \"cap_read_orders\" NOLOGIN"));
    shop.house.run(&["target", "setup", "shop", "--apply"]).good();
    shop
}

impl Shop {
    fn lease(&self, task: &str, rest: &[&str]) -> Ran {
        self.house.run(&[&["lease", "--agent", "reporter", "--task", task], rest].concat())
    }

    /// Runs a statement with a credential that was told.
    fn with(&self, body: &Json, sql: &str) -> bool {
        let mut psql = std::process::Command::new("psql");
        psql.args(["-tAqc", sql]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        for (variable, name) in body["env"].as_object().unwrap() {
            let name = name.as_str().unwrap();
            let value = body["plain"][name].as_str().or(body["secret"][name].as_str()).unwrap();
            psql.env(variable, value);
        }
        psql.status().unwrap().success()
    }
}

// proves: X2, Z1, Z3, R1, R2, R5, R6, INV14
#[test]
fn a_login_appears_for_a_task_works_within_it_and_is_gone_with_it() {
    let mut shop = shop();
    shop.house.up();
    let standing = shop.house.json(&["standing"]);
    assert_eq!((&standing["leases"], &standing["debts"]), (&0.into(), &0.into()), "zero is shown as zero");
    assert_eq!(standing["targets"][0]["class"], "B");
    shop.house.run(&["agent", "add", "reporter", "--may", "shop.*"]).good();
    assert_eq!(shop.logins(), "0", "an agent without a task has nothing");
    let task = shop.task();

    // A command gets it in its environment, and afterwards it is gone.
    let asked =
        ["shop.read_orders", r#"{"customer": 1}"#, "--", "psql", "-tAqc", "SELECT count(*) FROM orders"];
    assert_eq!(shop.lease(&task, &asked).good().trim(), "500", "the rows of its customer and no others");
    let other = shop.lease(&task, &["shop.read_orders", r#"{"customer": 2}"#]);
    assert!(
        other.failed(4).contains("customer"),
        "a customer that nobody named is a person's to allow: {other:?}"
    );
    shop.soon("the login given back", |s| s.logins() == "0");
    shop.soon("the lease seen gone", |s| s.house.json(&["standing"])["leases"] == 0);

    // Told to an agent, used, and killed with the task.
    let ran = shop.lease(&task, &["shop.read_orders", r#"{"customer": 1, "ttl_s": 300}"#, "--json"]);
    let body = ran.json();
    let secret = body["secret"]["password"].as_str().unwrap().to_owned();
    assert!(shop.with(&body, "SELECT id, total FROM orders"));
    assert!(!shop.with(&body, "SELECT note FROM orders"));
    assert!(!shop.with(&body, "DELETE FROM orders"));
    assert_eq!(shop.house.json(&["standing"])["leases"], 1);
    assert!(shop.house.run(&["standing"]).good().contains(body["plain"]["user"].as_str().unwrap()));
    shop.house.run(&["kill", "task", &task, "--reason", "test"]).good();
    shop.soon("the login gone", |s| s.logins() == "0");
    assert!(!shop.with(&body, "SELECT id FROM orders"));
    shop.soon("nothing standing", |s| s.house.json(&["standing"])["leases"] == 0);

    // The receipt.
    shop.soon("the receipt", |s| s.house.json(&["receipt", &task])["receipt"].is_object());
    let receipt = shop.house.json(&["receipt", &task]);
    assert_eq!(receipt["receipt"]["systems"][0]["credentials"], 2);
    assert_eq!(receipt["agrees"], true);
    let looks = receipt["credentials"][0]["evidence"]["looks"].as_array().unwrap();
    assert!(looks.len() == 2 && looks[1]["query"].as_str().unwrap().contains("pg_roles"), "{looks:?}");
    assert!(shop.house.run(&["receipt", &task]).good().contains("nothing stands"));

    // The secret is nowhere: not in the store, not in the server's log.
    assert_eq!(shop.house.down(), 0);
    for file in std::fs::read_dir(shop.house.path("bailiwick-data")).unwrap().flatten() {
        let bytes = std::fs::read(file.path()).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&bytes).contains(&secret), "{:?}", file.path());
    }
    assert!(!shop.cluster.log().contains(&secret));
}

// proves: R3, Z1, D6
#[test]
fn a_node_that_was_killed_ends_what_is_over_when_it_comes_back() {
    let mut shop = shop();
    shop.house.up();
    shop.house.run(&["agent", "add", "reporter", "--may", "shop.*"]).good();
    let (over, open) = (shop.task(), shop.task());
    for task in [&over, &open] {
        shop.lease(task, &["shop.read_orders", r#"{"customer": 1}"#, "--json"]).good();
    }
    assert_eq!(shop.logins(), "2");
    // A login is given out before it is flushed, and these shall survive the crash.
    shop.admin("CHECKPOINT");
    // The target does not answer while the task ends, and the node dies before it does.
    shop.cluster.crash();
    shop.house.run(&["task", "end", &over]).good();
    shop.soon("the debt", |s| s.house.json(&["standing"])["targets"][0]["trouble"].is_string());
    let standing = shop.house.json(&["standing"]);
    assert_eq!(standing["leases"], 2, "{standing}");
    shop.house.kill();
    shop.cluster.run();
    assert_eq!(shop.logins(), "2", "what stood still stands");
    shop.house.up();
    shop.soon("one login", |s| s.logins() == "1");
    shop.soon("one lease", |s| s.house.json(&["standing"])["leases"] == 1);
    assert_eq!(shop.house.json(&["receipt", &open])["credentials"][0]["state"], "active");
}

// proves: Z2, D2
#[test]
fn a_policy_can_demand_how_credentials_for_a_class_of_data_can_be_revoked() {
    let mut shop = shop();
    shop.house.up();
    shop.house.run(&["agent", "add", "reporter", "--may", "shop.*"]).good();
    let task = shop.task();
    let refused = shop.lease(&task, &["shop.read_people"]);
    assert!(refused.failed(3).contains("our own proxy"), "{refused:?}");
    assert_eq!(shop.logins(), "0");
    shop.lease(&task, &["shop.read_orders", r#"{"customer": 1}"#]).good();
}
