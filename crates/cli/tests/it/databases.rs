//! Sessions with a real PostgreSQL through the gateway, by plain psql: what is allowed, what is refused, what is left.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use bailiwick_stand::{Authority, Cluster};
use base64::Engine as _;

use crate::shop::Shop;
use crate::support::{Ran, text};

pub(crate) const CONFIG: &str = "
version: 1
trust_domain: example.org
listen: 127.0.0.1:$PORT
people:
  - { id: dana@example.org, groups: [operators, approvers] }
agents:
  - id: metered
    owner: dana@example.org
    class: desk
    ceiling: [ { tool: shop.read_orders }, { tool: shop.read_orders.select, limits: { rows: 5 } } ]
postgres_gateway: { listen: 127.0.0.1:$DATABASES, certificate: gateway.crt, key: gateway.key }
targets:
  shop:
    postgres:
      url: secret://file/admin.url
      through: gateway
      scopes:
        read_orders:
          role: cap_read_orders
          database: postgres
          effect: read
          tables: { public.orders: { select: [id, customer_id, total] } }
          rows: { customer: { table: public.orders, column: customer_id } }
          labels: { level: confidential }
          ttl_s: 600
        change_orders:
          role: cap_change_orders
          database: postgres
          effect: delete
          tables: { public.orders: { select: true, insert: true, update: [total], delete: true } }
          ttl_s: 600
";

const TASK: &str = "
template: correct
agent: clerk
chain:
  steps:
    - { id: open, agent: clerk, act: call, tool: shop.change_orders, max: 9 }
    - id: correct
      agent: clerk
      act: call
      tool: shop.change_orders.update
      args: { tables: { exact: [public.orders] }, selectors: { exact: [13] }, columns: any, values: any, sql: any }
";

fn pem(label: &str, der: &[u8]) -> String {
    let coded = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{coded}\n-----END {label}-----\n")
}

/// A shop whose node is up, with the reporter registered.
pub(crate) fn shop() -> Shop {
    shop_with(CONFIG, None)
}

/// The same with this configuration, and one more policy.
pub(crate) fn shop_with(config: &str, policy: Option<&str>) -> Shop {
    furnished(Shop::new(config), policy)
}

fn furnished(mut shop: Shop, policy: Option<&str>) -> Shop {
    let house = &mut shop.house;
    if let Some(policy) = policy {
        std::fs::create_dir(house.path("policies")).unwrap();
        house.write("policies/more.cedar", policy);
    }
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    house.write("gateway.crt", &pem("CERTIFICATE", made.cert.der()));
    house.write("gateway.key", &pem("PRIVATE KEY", &made.signing_key.serialize_der()));
    house.write("task.yaml", TASK);
    house.log = "warn";
    shop.admin("CREATE TABLE customers (id int, name text)");
    shop.house.run(&["target", "setup", "shop", "--apply"]).good();
    shop.house.up();
    shop.house.run(&["agent", "add", "reporter", "--may", "shop.read_orders*"]).good();
    shop
}

impl Shop {
    /// Everything in the database but the rows that narrow logins which come and go.
    fn dump(&self) -> String {
        let dumped = std::process::Command::new("pg_dump")
            .args(["--exclude-table-data=bailiwick.scope", "-d", &self.cluster.url("postgres")])
            .output()
            .unwrap();
        assert!(dumped.status.success(), "{}", String::from_utf8_lossy(&dumped.stderr));
        let dump = String::from_utf8(dumped.stdout).unwrap();
        // Newer versions write a random word into each dump.
        dump.lines().filter(|l| !l.contains("restrict ")).collect::<Vec<_>>().join("\n")
    }

    /// psql as an agent, behind `run`.
    pub(crate) fn behind(
        &self,
        agent: &str,
        task: &str,
        scope: &str,
        words: &[&str],
    ) -> std::process::Command {
        let run = ["run", "--agent", agent, "--task", task, "--", "psql", "-XAt", "-U", scope];
        let mut command = self.house.command(&[&run, words].concat());
        command.env("PGOPTIONS", "-c bailiwick.customer=1");
        command
    }

    /// Runs one statement as the reporter.
    pub(crate) fn ask(&self, task: &str, sql: &str) -> Ran {
        self.ask_as("reporter", task, sql)
    }

    pub(crate) fn ask_as(&self, agent: &str, task: &str, sql: &str) -> Ran {
        let asked = self.behind(agent, task, "read_orders", &["-c", sql]).output().unwrap();
        Ran {
            code: asked.status.code().unwrap_or(-1),
            out: String::from_utf8(asked.stdout).unwrap(),
            err: String::from_utf8(asked.stderr).unwrap(),
        }
    }
}

/// A shop whose database lets nobody in without TLS, and which believes this authority.
fn behind_tls(believed: &Authority, cluster: Cluster) -> Shop {
    let tls = "secret://file/admin.url\n      tls: { authority: ca.pem, name: db.example }";
    let shop = Shop::on(cluster, &CONFIG.replace("secret://file/admin.url", tls));
    shop.admin("ALTER ROLE bailiwick PASSWORD 'administrator'");
    let url = format!(
        "host=127.0.0.1 port={} user=bailiwick password=administrator dbname=postgres",
        shop.cluster.port()
    );
    shop.house.write("admin.url", &url);
    shop.house.write("ca.pem", believed.pem());
    shop
}

// proves: X2, X3, Z1
#[test]
fn sessions_with_a_database_that_insists_on_tls_go_over_it_and_only_to_whom_is_believed() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = || Cluster::start_with_certificate(&authority.sign("db.example"));
    let shop = furnished(behind_tls(&authority, server()), None);
    let task = shop.task();
    assert_eq!(shop.ask(&task, "SELECT count(*) FROM orders").good().trim(), "500");
    shop.soon("the end of the login", |shop| shop.logins() == "0");
    let privately = |shop: &Shop, user: &str| {
        let log = shop.cluster.log();
        log.lines()
            .filter(|l| l.contains(&format!("authorized: user={user}")) && l.contains("SSL enabled"))
            .count()
    };
    assert_eq!(privately(&shop, "bw_"), 1, "{}", shop.cluster.log());

    let deceived = behind_tls(&other, server());
    let refused = deceived.house.run(&["target", "setup", "shop", "--apply"]);
    assert!(
        refused.code != 0 && refused.err.contains("not from an authority that is trusted"),
        "{}",
        refused.err
    );
    assert!(privately(&shop, "bailiwick") > 0 && privately(&deceived, "bailiwick") == 0, "nobody logged in");
}

// proves: X1, X2, X3, D1, P2, N3, INV7, INV14, R1, Z1
#[test]
fn psql_works_unchanged_within_its_scope_and_each_statement_is_on_record() {
    let shop = shop();
    let task = shop.task();
    assert_eq!(
        shop.ask(&task, "SELECT count(*), min(id) FROM orders").good().trim(),
        "500|2",
        "its customer's rows"
    );
    let why = shop.house.run(&["why", "last"]);
    assert!(why.good().contains("shop.read_orders.select") && why.out.contains("public.orders"), "{why:?}");

    for (sql, code) in [
        ("SELECT note FROM orders", "sql.column"),
        ("SELECT id FROM customers", "sql.table"),
        ("DELETE FROM orders", "sql.table"),
        ("SELECT id FROM orders; SELECT 2", "sql.several"),
        ("SELECT set_config('role', 'bailiwick', false)", "sql.function"),
        ("COPY orders TO STDOUT", "sql.kind"),
    ] {
        let refused = shop.ask(&task, sql);
        assert!(refused.failed(1).contains(code), "{sql}: {refused:?}");
        let why = shop.house.run(&["why", "last"]);
        assert!(why.good().contains("shop.unlisted"), "{sql}: {why:?}");
    }
    let log = shop.cluster.log();
    assert!(
        log.contains("FROM public.orders") && !log.contains("FROM customers"),
        "only what was let through arrives"
    );
    assert!(!log.contains("statement: SELECT count(*), min"), "and by the extended protocol alone");

    // The agent cannot have the login itself.
    let leased = shop.house.run(&[
        "lease",
        "--agent",
        "reporter",
        "--task",
        &task,
        "shop.read_orders",
        r#"{"customer": 1}"#,
    ]);
    assert!(leased.err.contains("through the gateway"), "{leased:?}");
    assert_eq!(shop.house.json(&["standing"])["targets"][0]["class"], "P");

    shop.house.run(&["task", "end", &task]).good();
    shop.soon("nothing standing", |s| s.house.json(&["standing"])["leases"] == 0);
    assert_eq!(shop.logins(), "0");
    assert_ne!(shop.ask(&task, "SELECT 1").code, 0);
}

// proves: T3, N1, D4, INV7
#[test]
fn a_change_is_the_one_that_the_chain_declares_or_it_waits() {
    let shop = shop();
    shop.house.run(&["agent", "add", "clerk", "--may", "shop.change_orders*"]).good();
    let task = text(
        &shop.house.json(&["task", "open", "--template", "task.yaml", "--intent", "Correct order 13"]),
        "task",
    );
    let change = |sql: &str| {
        let asked = shop
            .behind("clerk", &task, "change_orders", &["-c", sql])
            .env_remove("PGOPTIONS")
            .output()
            .unwrap();
        (asked.status.success(), String::from_utf8_lossy(&asked.stderr).into_owned())
    };
    let (done, said) = change("UPDATE orders SET total = 0 WHERE id = 14");
    assert!(!done && said.contains("chain."), "{said}");
    assert!(!change("DELETE FROM orders WHERE id = 13").0);
    let (done, said) = change("UPDATE orders SET total = 0 WHERE id = 13");
    assert!(done, "{said}");
    assert_eq!(shop.admin("SELECT count(*), sum(total) FROM orders"), "1000|500487");
}

// proves: X1, INV9, A56
#[test]
fn no_known_way_to_smuggle_a_write_changes_a_byte() {
    let shop = shop();
    let task = shop.task();
    let corpus = include_str!("../../../broker/tests/it/smuggling.sql");
    let before = shop.dump();
    // One psql for all of them: each line is one message, whatever it holds.
    let lines: Vec<&str> = corpus.lines().skip(1).filter(|line| !line.trim().is_empty()).collect();
    let mut words = vec!["-v", "ON_ERROR_STOP=0"];
    words.extend(lines.iter().flat_map(|line| ["-c", *line]));
    let asked = shop.behind("reporter", &task, "read_orders", &words).output().unwrap();
    let said = String::from_utf8_lossy(&asked.stderr);
    assert!(lines.len() > 70 && said.matches("ERROR:").count() >= lines.len() - 2, "{said}");
    assert_eq!(shop.dump(), before);
}

/// A run that only keeps its surroundings, and the URL of a scope in them.
struct Surroundings {
    child: Child,
    hold: Option<ChildStdin>,
    url: String,
}

impl Surroundings {
    fn of(shop: &Shop, task: &str) -> Surroundings {
        let script = "echo $BAILIWICK_DATABASE_SHOP_READ_ORDERS; cat";
        let run = ["run", "--agent", "reporter", "--task", task, "--", "sh", "-c", script];
        let mut child = shop
            .house
            .command(&run)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        let url = format!("{}&options=-c%20bailiwick.customer%3D1", url.trim());
        Surroundings { hold: child.stdin.take(), child, url }
    }
}

impl Drop for Surroundings {
    fn drop(&mut self) {
        drop(self.hold.take());
        let _ = self.child.wait();
    }
}

// proves: X1, D1, INV9, INV10
#[tokio::test(flavor = "multi_thread")]
async fn a_driver_speaks_the_extended_protocol_through_it() {
    let shop = shop();
    let task = shop.task();
    let run = Surroundings::of(&shop, &task);
    let (mut client, connection) = tokio_postgres::connect(&run.url, tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);

    // Binary parameters and results; a prepared statement that runs twice is decided twice.
    let by_id = client.prepare("SELECT id, total FROM orders WHERE id = $1").await.unwrap();
    for (id, found) in [(10_i32, 1), (11, 0)] {
        assert_eq!(client.query(&by_id, &[&id]).await.unwrap().len(), found, "its customer's rows only");
    }
    let why = shop.house.run(&["why", "last"]);
    assert!(
        why.good().contains("\"selectors\":[11]"),
        "values given with a statement are judged too: {why:?}"
    );

    // Refused in the middle: the connection goes on, the transaction does not.
    let refused = client.query("SELECT note FROM orders", &[]).await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "42501");
    let within = client.transaction().await.unwrap();
    within.query("SELECT 1", &[]).await.unwrap();
    assert!(within.query("SELECT name FROM customers", &[]).await.is_err());
    let after = within.query("SELECT 1", &[]).await.unwrap_err();
    assert_eq!(after.code().unwrap().code(), "25P02", "the transaction has failed, as for any error");
    within.rollback().await.unwrap();

    // A portal in parts, and a result larger than one part.
    let within = client.transaction().await.unwrap();
    let portal = within.bind("SELECT id FROM orders ORDER BY id", &[]).await.unwrap();
    for wanted in [300, 200, 0] {
        assert_eq!(within.query_portal(&portal, 300).await.unwrap().len(), wanted);
    }
    within.commit().await.unwrap();
    let all = client.query("SELECT a.id FROM orders a, orders b WHERE b.id < 9", &[]).await.unwrap();
    assert_eq!(all.len(), 2000);
    let many =
        client.query("SELECT a.id, b.id, c.id FROM orders a, orders b, orders c", &[]).await.unwrap_err();
    assert_eq!(many.code().unwrap().code(), "54000", "a result without end is withheld");
    assert_eq!(client.query("SELECT 7", &[]).await.unwrap().len(), 1);

    // Two statements in one message; then the task ends under the connection.
    let several = client.simple_query("SELECT 1; SELECT 2").await.unwrap_err();
    assert!(several.as_db_error().unwrap().message().contains("one statement at a time"), "{several:?}");
    shop.house.run(&["task", "end", &task]).good();
    assert!(connection.await.unwrap().is_err(), "the connection is closed with a reason");
}

// proves: INV10
#[test]
fn rows_are_metered_into_the_budget_of_the_grant() {
    let shop = shop();
    shop.house.run(&["agent", "add", "metered"]).good();
    let task = text(
        &shop.house.json(&["task", "open", "--agent", "metered", "--intent", "Look", "--var", "customer=1"]),
        "task",
    );
    let look = || shop.ask_as("metered", &task, "SELECT id FROM orders LIMIT 3");
    assert_eq!(look().good().lines().count(), 3);
    // How many rows there are is known only once they are there.
    assert_eq!(look().good().lines().count(), 3);
    assert!(look().failed(1).contains("rows"), "five were granted, six were read");
}

/// A psql that is kept open, and what it prints.
pub(crate) struct Kept {
    child: Child,
    say: Option<ChildStdin>,
    heard: Receiver<String>,
}

impl Kept {
    pub(crate) fn open(shop: &Shop, task: &str) -> Kept {
        let mut child = shop
            .behind("reporter", task, "read_orders", &[])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (tell, heard) = channel();
        let streams: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for stream in streams {
            let tell = tell.clone();
            std::thread::spawn(move || {
                BufReader::new(stream).lines().map_while(Result::ok).for_each(|line| _ = tell.send(line));
            });
        }
        Kept { say: child.stdin.take(), child, heard }
    }

    pub(crate) fn say(&mut self, line: &str) {
        let _ = writeln!(self.say.as_mut().unwrap(), "{line}");
    }

    pub(crate) fn hear(&self, what: &str) {
        loop {
            let line =
                self.heard.recv_timeout(Duration::from_secs(30)).unwrap_or_else(|_| panic!("no {what}"));
            if line.contains(what) {
                return;
            }
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        drop(self.say.take());
        let _ = self.child.wait();
    }
}

// proves: R2, R3, INV2, A55
#[test]
fn a_live_session_and_its_open_cursor_are_cut_when_the_task_ends() {
    let shop = shop();
    let task = shop.task();
    let mut kept = Kept::open(&shop, &task);
    kept.say("BEGIN;");
    kept.say("DECLARE c CURSOR FOR SELECT id FROM orders ORDER BY id;");
    kept.say("FETCH 1 FROM c;");
    kept.hear("2");
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'bw\\_%'";
    assert_eq!(shop.admin(sessions), "1");
    shop.house.run(&["task", "end", &task]).good();
    shop.soon("the session gone", |s| s.admin(sessions) == "0");
    kept.say("FETCH 1 FROM c;");
    kept.hear("FATAL");
    shop.soon("nothing standing", |s| s.house.json(&["standing"])["leases"] == 0);
}

// proves: A66, INV6, I3
#[test]
fn strangers_and_nonsense_are_turned_away_and_hurt_nobody() {
    let shop = shop();
    let task = shop.task();
    let startup = |more: &[u8]| {
        let body =
            [&196_608_i32.to_be_bytes()[..], b"user\0read_orders\0database\0shop\0", more, b"\0"].concat();
        [&i32::try_from(body.len() + 4).unwrap().to_be_bytes()[..], &body].concat()
    };
    let password = |text: &str| {
        let length = i32::try_from(text.len() + 5).unwrap().to_be_bytes();
        [b"p", &length[..], text.as_bytes(), b"\0"].concat()
    };
    let attempts: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0; 64],
        vec![0xff; 64],
        [&i32::MAX.to_be_bytes()[..], &[0; 100]].concat(),
        startup(b"replication\0true\0"),
        startup(b"search_path\0public\0"),
        startup(b"options\0-c role=bailiwick\0"),
        [startup(b""), password("no token")].concat(),
        [startup(b""), password("")].concat(),
        [startup(b""), password("eyJhbGciOiJub25lIn0.e30. eyJhbGciOiJub25lIn0.e30.")].concat(),
        [startup(b""), b"p\x7f\xff\xff\xff".to_vec()].concat(),
        [startup(b""), b"Q\0\0\0\x0dSELECT 1\0".to_vec()].concat(),
    ];
    for bytes in attempts {
        let mut stream = TcpStream::connect(("127.0.0.1", shop.databases)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let welcomed = answer.windows(9).any(|w| w == b"R\0\0\0\x08\0\0\0\0");
        assert!(!welcomed, "{bytes:?}");
    }
    for (mode, said) in
        [("require", "a task token"), ("disable", "a task token"), ("verify-full", "certificate")]
    {
        let at = format!(
            "host=127.0.0.1 port={} dbname=shop user=read_orders password=x sslmode={mode}",
            shop.databases
        );
        let asked = std::process::Command::new("psql").args([&at, "-c", "SELECT 1"]).output().unwrap();
        let words = String::from_utf8_lossy(&asked.stderr);
        assert!(!asked.status.success() && words.contains(said), "{mode}: {words}");
    }
    assert_eq!(shop.logins(), "0");
    assert_eq!(shop.ask(&task, "SELECT 1").good().trim(), "1");
}
