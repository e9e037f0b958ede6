//! TLS to targets: who is believed, and that nothing is said to anybody else.

use std::collections::BTreeMap;

use bailiwick_broker::mark::Maker;
use bailiwick_broker::postgres::{self, Columns, Postgres, ROUNDS, Verbs};
use bailiwick_broker::redis::{self, Redis};
use bailiwick_broker::{Broker, BrokerError, Secret, Tls};
use bailiwick_core::ToolId;
use bailiwick_core::tool::Effect;
use bailiwick_stand::{Authority, Cluster, RedisServer};

use crate::kit::end;
use crate::mandates::ready;

const NAME: &str = "db.example";
const PASSWORD: &str = "administrator-of-the-stand";

fn believing(authority: &Authority, name: Option<&str>) -> Tls {
    Tls { authority: Some(authority.pem().as_bytes().to_vec()), name: name.map(str::to_owned) }
}

fn shop(url: String, tls: Option<Tls>) -> Result<Postgres, BrokerError> {
    Postgres::new(config(url, tls), Maker::new(&[3; 32]))
}

fn config(url: String, tls: Option<Tls>) -> postgres::Config {
    let select = Verbs { select: Columns::All(true), ..Verbs::default() };
    let scope = postgres::Scope {
        role: "cap_things".to_owned(),
        database: "postgres".to_owned(),
        effect: Effect::Read,
        tables: [("public.things".to_owned(), select)].into(),
        rows: BTreeMap::new(),
        functions: Default::default(),
        labels: Default::default(),
        ttl_s: 3600,
    };
    postgres::Config {
        system: "shop".parse().unwrap(),
        admin: Secret::new(url),
        replicas: vec![],
        agents_reach: None,
        scram_rounds: ROUNDS,
        tls,
        scopes: [("read".to_owned(), scope)].into(),
    }
}

fn carts(url: String, tls: Option<Tls>) -> Result<Redis, BrokerError> {
    let scope = redis::Scope {
        effect: Effect::Read,
        keys: vec![redis::Keys { prefix: "cart:".to_owned(), arg: None, write: false }],
        commands: ["get".to_owned()].into(),
        labels: Default::default(),
        ttl_s: 3600,
    };
    let config = redis::Config {
        system: "carts".parse().unwrap(),
        nodes: vec![Secret::new(url)],
        agents_reach: None,
        tls,
        scopes: [("read".to_owned(), scope)].into(),
    };
    Redis::new(config, Maker::new(&[3; 32]))
}

/// A server with its administrator and a table.
async fn furnished(cluster: &Cluster) -> String {
    let admin = cluster.connect("postgres").await;
    let sql = format!("CREATE TABLE things (x int); ALTER ROLE bailiwick PASSWORD '{PASSWORD}'");
    admin.batch_execute(&sql).await.unwrap();
    at(cluster, "127.0.0.1")
}

fn at(cluster: &Cluster, host: &str) -> String {
    format!("host={host} port={} user=bailiwick password={PASSWORD} dbname=postgres", cluster.port())
}

/// Asked for a credential, and for what stands there, it says no with this code.
async fn refuses(broker: &dyn Broker, scope: &str, code: &str, says: &str) {
    let tool: ToolId = scope.parse().unwrap();
    let refused = ready(broker, &tool, &BTreeMap::new(), 60_000).await.err().unwrap();
    assert_eq!(refused.code(), code, "{refused}");
    assert!(refused.to_string().contains(says), "{refused}");
    assert!(!refused.to_string().contains(PASSWORD));
    assert_eq!(broker.sweep().await.unwrap_err().code(), code);
}

// proves: X2, Z1
#[tokio::test(flavor = "multi_thread")]
async fn a_database_elsewhere_is_believed_only_with_a_certificate_in_force_that_names_it() {
    let (authority, other) = (Authority::new(), Authority::new());
    let cluster = Cluster::start_with_certificate(&authority.sign(NAME));
    let url = furnished(&cluster).await;

    let broker = shop(url.clone(), Some(believing(&authority, Some(NAME)))).unwrap();
    broker.set_up().await.unwrap();
    let ready = ready(&broker, &"shop.read".parse().unwrap(), &BTreeMap::new(), 60_000).await.unwrap();
    let (created, handle) = ready.create(&broker).await.unwrap();
    assert_eq!(created.credential.plain["sslmode"], "verify-ca");
    assert_eq!(created.credential.env["PGSSLMODE"], "sslmode");
    let admin = cluster.connect("postgres").await;
    let private = "SELECT count(*) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) \
                   WHERE a.client_port > 0 AND NOT s.ssl";
    assert_eq!(admin.query_one(private, &[]).await.unwrap().get::<_, i64>(0), 0);
    end(&broker, &handle).await;

    let before = cluster.log().matches("connection authenticated").count();
    for (tls, says) in [
        (believing(&other, Some(NAME)), "not from an authority that is trusted"),
        (believing(&authority, None), "names another server"),
        (believing(&authority, Some("db.example.org")), "names another server"),
        (Tls::default(), "not from an authority that is trusted"),
    ] {
        refuses(&shop(url.clone(), Some(tls)).unwrap(), "shop.read", "target.distrusted", says).await;
    }
    // Stated in the address alone, TLS is verified too.
    let asked = shop(format!("{url} sslmode=require"), None).unwrap();
    refuses(&asked, "shop.read", "target.distrusted", "not from an authority that is trusted").await;
    assert_eq!(cluster.log().matches("connection authenticated").count(), before, "nobody logged in");
    assert!(!cluster.log().split("ALTER ROLE bailiwick PASSWORD").skip(2).any(|l| l.contains(PASSWORD)));
    let left =
        admin.query_one("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'bw\\_%'", &[]).await.unwrap();
    assert_eq!(left.get::<_, i64>(0), 0, "nothing stands");
}

// proves: X2, Z1
#[tokio::test(flavor = "multi_thread")]
async fn a_database_with_an_expired_certificate_or_with_none_is_told_nothing() {
    let authority = Authority::new();
    let expired = Cluster::start_with_certificate(&authority.sign_expired(NAME));
    let url = furnished(&expired).await;
    let tls = || Some(believing(&authority, Some(NAME)));
    refuses(&shop(url, tls()).unwrap(), "shop.read", "target.distrusted", "has expired").await;
    let plain = Cluster::start_with_passwords();
    let url = furnished(&plain).await;
    refuses(&shop(url, tls()).unwrap(), "shop.read", "target.no_tls", "speaks no TLS").await;
}

// proves: X2, Z1
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_elsewhere_is_believed_only_with_a_certificate_in_force_that_names_it() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = RedisServer::start_with_certificate(&authority.sign(NAME));
    let broker = carts(server.url(), Some(believing(&authority, Some(NAME)))).unwrap();
    let ready = ready(&broker, &"carts.read".parse().unwrap(), &BTreeMap::new(), 60_000).await.unwrap();
    let (_, handle) = ready.create(&broker).await.unwrap();
    end(&broker, &handle).await;
    for (tls, says) in [
        (Some(believing(&other, Some(NAME))), "not from an authority that is trusted"),
        (Some(believing(&authority, None)), "names another server"),
        (None, "not from an authority that is trusted"),
    ] {
        refuses(&carts(server.url(), tls).unwrap(), "carts.read", "target.distrusted", says).await;
    }
    let expired = RedisServer::start_with_certificate(&authority.sign_expired(NAME));
    let tls = || Some(believing(&authority, Some(NAME)));
    refuses(&carts(expired.url(), tls()).unwrap(), "carts.read", "target.distrusted", "has expired").await;
    let plain = RedisServer::start();
    let url = plain.url().replace("redis://", "rediss://");
    // It waits for the end of a line that does not come.
    refuses(&carts(url, tls()).unwrap(), "carts.read", "target.unreachable", "did not answer").await;
    for log in [server.log(), expired.log(), plain.log()] {
        let said = log.lines().filter(|line| !line.starts_with("user default")).collect::<String>();
        assert!(!said.contains(PASSWORD));
    }
}

// proves: D6
#[test]
fn a_server_beyond_this_machine_needs_tls_however_its_address_is_written() {
    let authority = Authority::new();
    for (url, here) in [
        ("host=localhost", true),
        ("host=/tmp", true),
        ("host=127.0.0.1 hostaddr=127.0.0.1", true),
        ("host=localhost hostaddr=10.0.0.1", false),
        ("hostaddr=10.0.0.1", false),
        ("host=127.0.0.1,10.0.0.1", false),
        ("host=db.example", false),
        ("host=db.example sslmode=prefer", false),
        ("host=db.example sslmode=disable", false),
    ] {
        let plain = shop(url.to_owned(), None).err().map(|e| e.code());
        assert_eq!(plain, (!here).then_some("connector.config"), "{url}");
        let private = shop(url.to_owned(), Some(believing(&authority, None))).unwrap();
        assert!(private.proxied().is_ok(), "{url}: our gateway's way is private too");
    }
    // A server on this machine, and another way to it for agents.
    for (to, tls, fits) in [
        ("127.0.0.1", None, true),
        ("db.example", None, false),
        ("db.example", Some(believing(&authority, None)), true),
    ] {
        let mut config = config("host=localhost".to_owned(), tls);
        config.agents_reach = Some((to.to_owned(), 5432));
        let broker = Postgres::new(config, Maker::new(&[3; 32])).unwrap();
        let carried = broker.proxied().err().map(|e| e.code());
        assert_eq!(carried, (!fits).then_some("connector.config"), "{to}");
    }
    let none = Tls { authority: Some(b"nothing".to_vec()), name: None };
    assert_eq!(
        shop("host=db.example".to_owned(), Some(none)).err().map(|e| e.code()),
        Some("connector.config")
    );
    let half = carts("redis://localhost".to_owned(), Some(believing(&authority, None)));
    assert_eq!(
        half.err().map(|e| e.code()),
        Some("connector.config"),
        "tls is stated, and the address is plain"
    );
}
