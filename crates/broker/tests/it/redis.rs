//! Redis: the suite, and what only Redis can get wrong.

use std::collections::BTreeMap;
use std::sync::Arc;

use bailiwick_broker::mark::Maker;
use bailiwick_broker::redis::{Config, Keys, Redis, Scope};
use bailiwick_broker::{Broker, Credential, Secret};
use bailiwick_core::ToolId;
use bailiwick_core::tool::Effect;
use bailiwick_core::value::Value;
use bailiwick_stand::RedisServer;
use bailiwick_stand::redis::PASSWORD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::kit::{Session, Stage, end};
use crate::mandates::ready;

/// Carts and prices.
struct Carts {
    server: Arc<RedisServer>,
    broker: Redis,
}

/// A connection that speaks in lines, as a person would.
struct Line(TcpStream);

impl Line {
    async fn open(port: u16, user: &str, password: &str) -> Result<Line, String> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(|e| e.to_string())?;
        let mut line = Line(stream);
        line.run(&format!("AUTH {user} {password}")).await?;
        Ok(line)
    }
}

impl Session for Line {
    async fn run(&mut self, what: &str) -> Result<String, String> {
        self.0.write_all(format!("{what}\r\n").as_bytes()).await.map_err(|e| e.to_string())?;
        let mut bytes = vec![0; 65536];
        let read = self.0.read(&mut bytes).await.map_err(|e| e.to_string())?;
        let answer = String::from_utf8_lossy(&bytes[..read]).into_owned();
        if read == 0 || answer.starts_with('-') { Err(answer) } else { Ok(answer) }
    }
}

impl Carts {
    async fn new() -> Carts {
        let server = Arc::new(RedisServer::start());
        let keys = |prefix: &str, arg: Option<&str>, write| Keys {
            prefix: prefix.to_owned(),
            arg: arg.map(str::to_owned),
            write,
        };
        let scope = Scope {
            effect: Effect::Update,
            keys: vec![keys("cart:", Some("customer"), true), keys("price:", None, false)],
            commands: ["get", "set", "del", "mget"].map(str::to_owned).into(),
            labels: Default::default(),
            ttl_s: 3600,
        };
        let config = Config {
            system: "carts".parse().unwrap(),
            nodes: vec![Secret::new(server.url())],
            agents_reach: None,
            tls: None,
            scopes: [("change_cart".to_owned(), scope)].into(),
        };
        let broker = Redis::new(config, Maker::new(&[9; 32])).unwrap();
        let carts = Carts { server, broker };
        let mut admin = carts.admin().await;
        admin.run("SET price:apple 3").await.unwrap();
        admin.run("SET cart:2:items pear").await.unwrap();
        carts
    }

    async fn admin(&self) -> Line {
        Line::open(self.server.port(), "default", PASSWORD).await.unwrap()
    }
}

impl Stage for Carts {
    type Session = Line;

    fn broker(&self) -> &dyn Broker {
        &self.broker
    }
    fn scope(&self) -> (ToolId, BTreeMap<String, Value>) {
        ("carts.change_cart".parse().unwrap(), [("customer".to_owned(), Value::Int(1))].into())
    }
    fn allowed(&self) -> Vec<&'static str> {
        vec![
            "SET cart:1:items apple",
            "GET cart:1:items",
            "GET price:apple",
            "DEL cart:1:items",
            "MGET cart:1:a price:apple",
        ]
    }
    fn denied(&self) -> Vec<&'static str> {
        vec![
            "GET cart:2:items",
            "GET cart:12:items",
            "GET cart:1",
            "SET price:apple 0",
            "MGET cart:1:a cart:2:items",
            "SCAN 0",
            "KEYS *",
            "RANDOMKEY",
            "DBSIZE",
            "EVAL 'return 1' 0",
            "CONFIG GET *",
            "ACL LIST",
            "ACL WHOAMI",
            "ACL SETUSER default nopass",
            "CLIENT LIST",
            "CLIENT SETNAME bw_xxxx",
            "FLUSHALL",
            "MONITOR",
            "SUBSCRIBE news",
            "PUBLISH news x",
            "SELECT 1",
            "RENAME cart:2:items cart:1:items",
            "COPY cart:2:items cart:1:items",
            "GETDEL cart:1:items",
            "SHUTDOWN",
            "REPLICAOF 127.0.0.1 1",
            "DEBUG SLEEP 1",
            "OBJECT FREQ cart:1:items",
        ]
    }
    async fn log_in(&self, credential: &Credential) -> Result<Line, String> {
        Line::open(
            credential.plain["port"].parse().unwrap(),
            &credential.plain["user"],
            credential.secret["password"].expose(),
        )
        .await
    }
    async fn exists(&self, name: &str) -> bool {
        self.admin().await.run("ACL USERS").await.unwrap().contains(name)
    }
    async fn plant_lookalike(&self, name: &str) {
        self.admin().await.run(&format!("ACL SETUSER {name} on >made-by-hand ~* +get")).await.unwrap();
    }
    async fn remove_lookalike(&self, name: &str) {
        self.admin().await.run(&format!("ACL DELUSER {name}")).await.unwrap();
    }
    async fn logs(&self) -> String {
        self.admin().await.run("ACL SAVE").await.unwrap();
        self.server.log()
    }
}

crate::conformance!(Carts::new().await);

// proves: R3, R6
#[tokio::test(flavor = "multi_thread")]
async fn a_user_that_was_saved_to_the_file_does_not_come_back_with_the_server() {
    let carts = Carts::new().await;
    let (tool, args) = carts.scope();
    let ready = ready(&carts.broker, &tool, &args, 60_000).await.unwrap();
    let (_, handle) = ready.create(&carts.broker).await.unwrap();
    carts.admin().await.run("ACL SAVE").await.unwrap();
    assert!(carts.server.log().contains(&handle.name), "somebody saved the users while it was there");
    end(&carts.broker, &handle).await;
    assert!(!carts.server.log().lines().any(|l| l.starts_with("user ") && l.contains(&handle.name)));
    carts.server.crash();
    carts.server.run();
    assert!(!carts.exists(&handle.name).await);
}

// proves: Z4, D6
#[test]
fn a_scope_that_reaches_beyond_its_keys_cannot_be_stated() {
    let keys = || vec![Keys { prefix: "a:".to_owned(), arg: None, write: false }];
    for (commands, keys, code) in [
        (vec!["scan"], keys(), "scope.command"),
        (vec!["get", "eval"], keys(), "scope.command"),
        (vec!["@all"], keys(), "scope.command"),
        (vec!["config|get"], keys(), "scope.command"),
        (vec!["GET"], keys(), "scope.command"),
        (vec!["get allkeys"], keys(), "scope.command"),
        (vec![], keys(), "scope.empty"),
        (vec!["get"], vec![], "scope.empty"),
        (vec!["get"], vec![Keys { prefix: String::new(), arg: None, write: false }], "scope.empty"),
    ] {
        let scope = Scope {
            effect: Effect::Read,
            commands: commands.iter().map(|c| (*c).to_owned()).collect(),
            keys,
            labels: Default::default(),
            ttl_s: 1,
        };
        let config = Config {
            system: "carts".parse().unwrap(),
            nodes: vec![Secret::new("redis://localhost".to_owned())],
            agents_reach: None,
            tls: None,
            scopes: [("s".to_owned(), scope)].into(),
        };
        let refused = Redis::new(config, Maker::new(&[1; 32])).err().map(|e| e.code());
        assert_eq!(refused, Some(code), "{commands:?}");
    }
}

// proves: D6
#[test]
fn a_server_beyond_this_machine_is_refused_while_nothing_is_encrypted() {
    for (url, fine) in [
        ("redis://u:p@127.0.0.1:1", true),
        ("redis://localhost", true),
        ("redis://10.0.0.1:6379", false),
        ("redis://db.example", false),
        ("redis://127.0.0.1.example", false),
    ] {
        let config = Config {
            system: "carts".parse().unwrap(),
            nodes: vec![Secret::new(url.to_owned())],
            agents_reach: None,
            tls: None,
            scopes: BTreeMap::new(),
        };
        let refused = Redis::new(config, Maker::new(&[1; 32])).err().map(|e| e.code());
        assert_eq!(refused, (!fine).then_some("connector.config"), "{url}");
    }
}

// proves: D6
#[tokio::test(flavor = "multi_thread")]
async fn a_value_with_a_wildcard_is_refused() {
    let carts = Carts::new().await;
    let (tool, args) = carts.scope();
    let spec = ready(&carts.broker, &tool, &args, 1000).await.unwrap().plan.spec;
    for odd in ["*", "1*", "?", "[12]", "1 ~*", "1\n", "", "a:b", "1\\"] {
        let args: BTreeMap<_, _> = [("customer".to_owned(), Value::from(odd))].into();
        let refused =
            carts.broker.prepare(bailiwick_broker::Spec { args, ..spec.clone() }).await.unwrap_err();
        assert_eq!(refused.code(), "scope.argument", "{odd:?}");
    }
}
