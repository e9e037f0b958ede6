//! PostgreSQL: the suite, and what only PostgreSQL can get wrong.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bailiwick_broker::mark::Maker;
use bailiwick_broker::postgres::{Columns, Config, Postgres, ROUNDS, RowRule, Scope, Verbs};
use bailiwick_broker::{Broker, BrokerError, Credential, Secret};
use bailiwick_core::ToolId;
use bailiwick_core::lease::Step;
use bailiwick_core::tool::Effect;
use bailiwick_core::value::Value;
use bailiwick_stand::{Cluster, PgBouncer, Pooling};
use tokio_postgres::{Client, NoTls};

use crate::kit::{self, Session, Stage, end, soon};
use crate::mandates::ready;

mod smuggling;

/// A shop with a database of its own, on the server that all tests share.
struct Shop {
    cluster: Arc<Cluster>,
    database: String,
    role: String,
    broker: Postgres,
}

fn shared() -> Arc<Cluster> {
    static SHARED: OnceLock<Arc<Cluster>> = OnceLock::new();
    Arc::clone(SHARED.get_or_init(|| Arc::new(Cluster::start_with_passwords())))
}

const TABLES: &str = "
CREATE TABLE customers (id int PRIMARY KEY, name text, ssn text);
CREATE TABLE orders (id int PRIMARY KEY, customer_id int, total int, note text);
INSERT INTO customers VALUES (1, 'Ada', '111'), (2, 'Bob', '222');
INSERT INTO orders SELECT i, 1 + i % 2, i * 10, 'secret' FROM generate_series(1, 1000) i;
";

impl Shop {
    async fn new() -> Shop {
        Shop::on(shared(), vec![], |_| {}).await
    }

    async fn on(cluster: Arc<Cluster>, replicas: Vec<Secret>, change: impl FnOnce(&mut Scope)) -> Shop {
        Shop::reached(cluster, replicas, None, change).await
    }

    async fn reached(
        cluster: Arc<Cluster>,
        replicas: Vec<Secret>,
        agents_reach: Option<(String, u16)>,
        change: impl FnOnce(&mut Scope),
    ) -> Shop {
        let database = cluster.new_database().await;
        let admin = cluster.connect(&database).await;
        admin.batch_execute(TABLES).await.unwrap();
        let role = format!("cap_{database}_read_orders");
        let columns = |names: &[&str]| Columns::Some(names.iter().map(|n| (*n).to_owned()).collect());
        let mut scope = Scope {
            role: role.clone(),
            database: database.clone(),
            effect: Effect::Read,
            tables: [(
                "public.orders".to_owned(),
                Verbs { select: columns(&["id", "customer_id", "total"]), ..Verbs::default() },
            )]
            .into(),
            rows: [(
                "customer".to_owned(),
                RowRule { table: "public.orders".to_owned(), column: "customer_id".to_owned() },
            )]
            .into(),
            functions: Default::default(),
            labels: Default::default(),
            ttl_s: 3600,
        };
        change(&mut scope);
        let config = Config {
            system: "shop".parse().unwrap(),
            admin: Secret::new(cluster.url(&database)),
            replicas,
            agents_reach,
            scram_rounds: ROUNDS,
            tls: None,
            scopes: [("read_orders".to_owned(), scope)].into(),
        };
        // A maker for each shop: on the shared server, shops must not take each other's logins for their own.
        let mut seed = [0; 32];
        seed.iter_mut().zip(database.bytes().cycle()).for_each(|(to, from)| *to = from);
        let broker = Postgres::new(config, Maker::new(&seed)).unwrap();
        broker.set_up().await.unwrap();
        Shop { cluster, database, role, broker }
    }

    async fn admin(&self) -> Client {
        self.cluster.connect(&self.database).await
    }
}

async fn count(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

impl Stage for Shop {
    type Session = Agent;

    fn broker(&self) -> &dyn Broker {
        &self.broker
    }
    fn scope(&self) -> (ToolId, BTreeMap<String, Value>) {
        ("shop.read_orders".parse().unwrap(), [("customer".to_owned(), Value::Int(1))].into())
    }
    fn allowed(&self) -> Vec<&'static str> {
        vec![
            "SELECT id, total FROM orders",
            "SELECT sum(total) FROM orders",
            "SELECT 1 / (count(*) = 500)::int FROM orders",
            "SELECT 1 / (count(*) = 0)::int FROM orders WHERE customer_id <> 1",
        ]
    }
    fn denied(&self) -> Vec<&'static str> {
        vec![
            "SELECT note FROM orders",
            "SELECT * FROM orders",
            "SELECT ssn FROM customers",
            "INSERT INTO orders VALUES (2000, 1, 1, '')",
            "UPDATE orders SET total = 0",
            "DELETE FROM orders",
            "TRUNCATE orders",
            "CREATE TABLE mine (x int)",
            "INSERT INTO bailiwick.scope VALUES (session_user, 'customer', '2')",
            "UPDATE bailiwick.scope SET value = '2'",
            "SELECT 1 / (count(*) - 1) FROM bailiwick.scope",
            "COPY orders (id) TO PROGRAM 'cat'",
            "COPY orders (id) TO '/tmp/orders'",
            "SELECT pg_read_file('/etc/passwd')",
            "SET ROLE bailiwick",
            "SET SESSION AUTHORIZATION bailiwick",
            "CREATE ROLE other LOGIN",
            "CREATE EXTENSION dblink",
            "ALTER ROLE CURRENT_USER VALID UNTIL 'infinity'",
            "ALTER TABLE orders DISABLE ROW LEVEL SECURITY",
            "SELECT lo_export(1, '/tmp/x')",
        ]
    }
    async fn log_in(&self, credential: &Credential) -> Result<Agent, String> {
        let told = |name: &str| credential.plain[name].clone();
        let mut config = tokio_postgres::Config::new();
        config
            .host(told("host"))
            .port(told("port").parse().unwrap())
            .user(told("user"))
            .dbname(told("database"))
            .password(credential.secret["password"].expose());
        let (client, connection) = config.connect(NoTls).await.map_err(|e| format!("{e:?}"))?;
        tokio::spawn(connection);
        Ok(Agent(client))
    }
    async fn exists(&self, name: &str) -> bool {
        count(&self.admin().await, &format!("SELECT count(*) FROM pg_roles WHERE rolname = '{name}'")).await
            > 0
    }
    async fn plant_lookalike(&self, name: &str) {
        let sql = format!("CREATE ROLE {name} LOGIN; COMMENT ON ROLE {name} IS 'made by hand'");
        self.admin().await.batch_execute(&sql).await.unwrap();
    }
    async fn remove_lookalike(&self, name: &str) {
        self.admin().await.batch_execute(&format!("DROP ROLE {name}")).await.unwrap();
    }
    async fn logs(&self) -> String {
        self.cluster.log()
    }
}

struct Agent(Client);

impl Session for Agent {
    async fn run(&mut self, what: &str) -> Result<String, String> {
        self.0.batch_execute(what).await.map(|()| String::new()).map_err(|e| e.to_string())
    }
}

crate::conformance!(Shop::new().await);

impl Shop {
    async fn login(&self) -> (Agent, Credential, bailiwick_broker::Handle) {
        let (tool, args) = self.scope();
        let ready = ready(&self.broker, &tool, &args, 3_600_000).await.unwrap();
        let (created, handle) = ready.create(&self.broker).await.unwrap();
        let agent = self.log_in(&created.credential).await.unwrap();
        (agent, created.credential, handle)
    }
}

// proves: R2, A55, A56
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_took_the_capability_role_and_an_open_cursor_end_too() {
    let shop = Shop::new().await;
    let (mut agent, _, handle) = shop.login().await;
    assert!(handle.external.as_ref().unwrap().parse::<u32>().is_ok(), "its OID is on record: {handle:?}");
    agent.run(&format!("SET ROLE {}", shop.role)).await.unwrap();
    agent
        .run("BEGIN; DECLARE all_of_it CURSOR FOR SELECT id FROM orders; FETCH 10 FROM all_of_it")
        .await
        .unwrap();
    end(&shop.broker, &handle).await;
    assert!(agent.run("FETCH 10 FROM all_of_it").await.is_err());
}

// proves: R2, X2
#[tokio::test(flavor = "multi_thread")]
async fn deleting_the_scope_rows_blinds_a_live_session_before_it_is_ended() {
    let shop = Shop::new().await;
    let (mut agent, _, handle) = shop.login().await;
    agent.run("SELECT 1 / (count(*) = 500)::int FROM orders").await.unwrap();
    shop.broker.revoke(&handle, Step::Block).await.unwrap();
    shop.broker.revoke(&handle, Step::CutData).await.unwrap();
    assert!(agent.run("SELECT id FROM orders").await.is_err(), "its membership is gone");
    agent.run(&format!("SET ROLE {}", shop.role)).await.unwrap_err();
    end(&shop.broker, &handle).await;
}

// proves: Z3, A56
#[tokio::test(flavor = "multi_thread")]
async fn what_a_login_made_in_any_database_goes_with_it_unless_others_built_on_it() {
    let shop = Shop::new().await;
    let other = shop.cluster.new_database().await;
    let admin = shop.admin().await;
    let admin_there = shop.cluster.connect(&other).await;
    let (mut agent, credential, handle) = shop.login().await;
    // Somebody is careless and lets everybody create things.
    admin.batch_execute("GRANT CREATE ON SCHEMA public TO PUBLIC").await.unwrap();
    admin_there.batch_execute("GRANT CREATE ON SCHEMA public TO PUBLIC").await.unwrap();
    agent.run("CREATE TABLE backdoor AS SELECT id FROM orders; SELECT lo_create(0)").await.unwrap();
    agent
        .run("CREATE FUNCTION later() RETURNS int SECURITY DEFINER LANGUAGE sql AS 'SELECT 1'")
        .await
        .unwrap();
    let mut there = Credential {
        plain: credential.plain.clone(),
        secret: credential.secret.clone(),
        env: BTreeMap::new(),
    };
    there.plain.insert("database".to_owned(), other.clone());
    let mut elsewhere = shop.log_in(&there).await.unwrap();
    elsewhere.run("CREATE TABLE hidden (x int)").await.unwrap();
    admin_there.batch_execute("CREATE VIEW report AS SELECT x FROM hidden").await.unwrap();
    end(&shop.broker, &handle).await;
    assert_eq!(count(&admin, "SELECT count(*) FROM pg_class WHERE relname = 'backdoor'").await, 0);
    assert_eq!(count(&admin, "SELECT count(*) FROM pg_proc WHERE proname = 'later'").await, 0);
    assert_eq!(count(&admin, "SELECT count(*) FROM pg_largeobject_metadata").await, 0);
    let kept = "SELECT count(*) FROM pg_tables WHERE tablename = 'hidden' AND tableowner = 'bailiwick'";
    assert_eq!(count(&admin_there, kept).await, 1, "others built on it, so it stays, with us");
}

// proves: R2, Z3, A55
#[tokio::test(flavor = "multi_thread")]
async fn behind_a_pooler_nothing_outlives_the_end_neither_a_clients_session_nor_one_that_the_pooler_keeps() {
    for pooling in [Pooling::Session, Pooling::Transaction] {
        let pooler = PgBouncer::before(&shared(), pooling);
        let reach = Some(("127.0.0.1".to_owned(), pooler.port()));
        let shop = Shop::reached(shared(), vec![], reach, |_| {}).await;
        let admin = shop.admin().await;
        // One is in use to the end; the other's client has left, and the pooler keeps its session for the next one.
        let (mut agent, credential, used) = shop.login().await;
        let (mut left, _, kept) = shop.login().await;
        for agent in [&mut agent, &mut left] {
            agent.run("SELECT 1 / (count(*) = 500)::int FROM orders").await.unwrap();
            agent.run("SELECT note FROM orders").await.unwrap_err();
        }
        drop(left);
        let sessions = |name: &str| format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{name}'");
        for handle in [&used, &kept] {
            assert_eq!(count(&admin, &sessions(&handle.name)).await, 1, "{pooling:?}");
        }

        // As in a kill, both at once; then as one by one, on what is gone already.
        let ended = shop.broker.revoke_many(&[used.clone(), kept.clone()]).await.unwrap();
        assert!(ended.iter().all(|e| e.as_ref().unwrap().sessions_ended == 1), "{pooling:?} {ended:?}");
        end(&shop.broker, &used).await;
        end(&shop.broker, &kept).await;
        let held = tokio::time::timeout(std::time::Duration::from_secs(30), agent.run("SELECT 1")).await;
        assert!(held.is_ok_and(|ran| ran.is_err()), "{pooling:?}: the client's session is over");
        let again = tokio::time::timeout(std::time::Duration::from_secs(30), shop.log_in(&credential)).await;
        assert!(again.is_ok_and(|login| login.is_err()), "{pooling:?}: no new login");

        let (mut next, _, handle) = shop.login().await;
        next.run("SELECT id FROM orders").await.unwrap();
        end(&shop.broker, &handle).await;
        let held = tokio::time::timeout(std::time::Duration::from_secs(30), next.run("SELECT 1")).await;
        assert!(held.is_ok_and(|ran| ran.is_err()), "{pooling:?}: step by step too");
        assert!(!pooler.log().contains(credential.secret["password"].expose()));
    }
}

// proves: R2, R3
#[tokio::test(flavor = "multi_thread")]
async fn an_oid_that_is_somebody_elses_by_now_ends_no_session_of_theirs() {
    let shop = Shop::new().await;
    let (mut agent, _, handle) = shop.login().await;
    let (mut other, _, theirs) = shop.login().await;
    // As after a crash of the server that forgot this login and gave its OID to the next one.
    let mistaken = bailiwick_broker::Handle { external: theirs.external.clone(), ..handle.clone() };
    shop.broker.revoke(&mistaken, Step::EndSessions).await.unwrap();
    other.run("SELECT 1").await.unwrap();
    agent.run("SELECT 1").await.unwrap();
    assert!(!shop.broker.look(&mistaken).await.unwrap().gone, "and it is not called gone");

    shop.broker.revoke(&handle, Step::EndSessions).await.unwrap();
    assert!(agent.run("SELECT 1").await.is_err(), "its own is");
    other.run("SELECT 1").await.unwrap();
    end(&shop.broker, &handle).await;
    end(&shop.broker, &theirs).await;
}

// proves: R2, R3, R6
#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_a_crash_of_the_server_may_have_forgotten_is_ended_all_the_same() {
    let cluster = Arc::new(Cluster::start("fsync=on"));
    let shop = Shop::on(Arc::clone(&cluster), vec![], |_| {}).await;
    let (_agent, _, kept) = shop.login().await;
    shop.admin().await.batch_execute("CHECKPOINT").await.unwrap();
    let (_agent, _, fresh) = shop.login().await;
    cluster.crash();
    cluster.run();
    assert!(shop.exists(&kept.name).await, "what was flushed is there");
    // The first thing asked finds the old connections closed.
    let asked = || async { shop.broker.look(&kept).await.is_ok() };
    soon("it is asked again", asked).await;
    for handle in [&fresh, &kept] {
        soon("it is ended", || async { shop.broker.revoke(handle, Step::Block).await.is_ok() }).await;
        end(&shop.broker, handle).await;
        assert!(!shop.exists(&handle.name).await);
    }
    let (mut agent, _, next) = shop.login().await;
    agent.run("SELECT id FROM orders").await.unwrap();
    end(&shop.broker, &next).await;
}

// proves: R2, R3, R5, A55, A56
#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_end_whatever_they_are_doing_and_only_what_is_on_record_is_touched() {
    let shop = Shop::new().await;
    let admin = shop.admin().await;
    let (mut agents, mut handles) = (Vec::new(), Vec::new());
    for _ in 0..6 {
        let (agent, _, handle) = shop.login().await;
        agents.push(agent);
        handles.push(handle);
    }
    let never = ready(&shop.broker, &shop.scope().0, &shop.scope().1, 1000).await.unwrap().handle(None);
    admin.batch_execute("GRANT CREATE ON SCHEMA public TO PUBLIC").await.unwrap();
    // Two have gone quiet, three have a session, one of these owns something; one is not what is on record.
    drop(agents.drain(..2));
    agents[0].run("CREATE TABLE mine (x int)").await.unwrap();
    let used = "SELECT count(DISTINCT usename) FROM pg_stat_activity WHERE usename = ANY";
    soon("two of them have left", || async {
        let names: Vec<_> = handles.iter().map(|h| format!("'{}'", h.name)).collect();
        count(&admin, &format!("{used} (ARRAY[{}])", names.join(","))).await == 4
    })
    .await;
    let real = handles[5].clone();
    handles[5].external = Some("1".to_owned());
    handles.push(never);

    let ended = shop.broker.revoke_many(&handles).await.unwrap();
    let sessions: Vec<_> = ended.iter().map(|e| e.as_ref().map(|d| d.sessions_ended).ok()).collect();
    assert_eq!(sessions, [Some(0), Some(0), Some(1), Some(1), Some(1), None, None]);
    for agent in &mut agents[..3] {
        assert!(agent.run("SELECT 1").await.is_err(), "its session is over");
    }
    assert!(agents[3].run("SELECT 1").await.is_ok(), "what is not on record is not ended in bulk");
    assert_eq!(count(&admin, "SELECT count(*) FROM pg_class WHERE relname = 'mine'").await, 0);
    assert!(shop.exists(&real.name).await);

    let seen = shop.broker.look_many(&[handles[..5].to_vec(), vec![real.clone()]].concat()).await.unwrap();
    let gone: Vec<bool> = seen.iter().map(|s| s.as_ref().unwrap().gone).collect();
    assert_eq!(gone, [true, true, true, true, true, false]);
    let (many, one) = (seen[5].as_ref().unwrap(), shop.broker.look(&real).await.unwrap());
    assert_eq!(*many, one, "asked together or alone, a look says the same");
    assert_eq!(one.sessions, 1);
    end(&shop.broker, &real).await;
}

// proves: D6, Z4, X2
#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_can_do_more_than_its_scope_says_gives_out_nothing() {
    for (careless, code) in [
        ("GRANT SELECT ON customers TO {role}", "scope.wider"),
        ("GRANT SELECT (note) ON orders TO {role}", "scope.wider"),
        ("GRANT DELETE ON orders TO PUBLIC", "scope.wider"),
        ("GRANT CREATE ON SCHEMA public TO PUBLIC", "scope.wider"),
        ("GRANT pg_read_all_data TO {role}", "scope.wider"),
        ("ALTER ROLE {role} CREATEROLE", "scope.wider"),
        ("ALTER ROLE {role} LOGIN", "scope.wider"),
        (
            "CREATE FUNCTION purge() RETURNS void SECURITY DEFINER LANGUAGE sql AS 'DELETE FROM orders'",
            "scope.wider",
        ),
        ("ALTER TABLE orders DISABLE ROW LEVEL SECURITY", "scope.rows_unfiltered"),
        ("DROP POLICY \"bailiwick_{role}_customer\" ON orders", "scope.rows_unfiltered"),
        ("DROP OWNED BY {role}; DROP ROLE {role}", "scope.unprepared"),
    ] {
        let shop = Shop::new().await;
        shop.admin().await.batch_execute(&careless.replace("{role}", &shop.role)).await.unwrap();
        let (tool, args) = shop.scope();
        let refused = ready(&shop.broker, &tool, &args, 1000).await.err();
        assert_eq!(refused.map(|e| e.code()), Some(code), "{careless}");
        shop.admin()
            .await
            .batch_execute(&format!("DROP OWNED BY {0}; DROP ROLE IF EXISTS {0}", shop.role))
            .await
            .ok();
    }
}

// proves: D6, X2
#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_goes_around_the_row_rules_is_refused_and_an_invoker_view_is_not() {
    let view = |scope: &mut Scope| {
        let all = Verbs { select: Columns::All(true), ..Verbs::default() };
        scope.tables.insert("public.totals".to_owned(), all);
    };
    for (options, fine) in [("", false), ("WITH (security_invoker = true)", true)] {
        let cluster = shared();
        // The view must exist before the scope is set up, so it is made in a shop whose tables are remade.
        let shop = Shop::on(Arc::clone(&cluster), vec![], |_| {}).await;
        let create = format!("CREATE VIEW public.totals {options} AS SELECT id, total FROM public.orders");
        let admin = shop.admin().await;
        admin.batch_execute(&create).await.unwrap();
        admin.batch_execute(&format!("GRANT SELECT ON public.totals TO {}", shop.role)).await.unwrap();
        let mut scope = Scope {
            role: shop.role.clone(),
            database: shop.database.clone(),
            effect: Effect::Read,
            tables: [(
                "public.orders".to_owned(),
                Verbs {
                    select: Columns::Some(["id", "customer_id", "total"].map(str::to_owned).into()),
                    ..Verbs::default()
                },
            )]
            .into(),
            rows: [(
                "customer".to_owned(),
                RowRule { table: "public.orders".to_owned(), column: "customer_id".to_owned() },
            )]
            .into(),
            functions: Default::default(),
            labels: Default::default(),
            ttl_s: 60,
        };
        view(&mut scope);
        let config = Config {
            system: "shop".parse().unwrap(),
            admin: Secret::new(cluster.url(&shop.database)),
            replicas: vec![],
            agents_reach: None,
            scram_rounds: ROUNDS,
            tls: None,
            scopes: [("read_orders".to_owned(), scope)].into(),
        };
        let broker = Postgres::new(config, Maker::new(&[7; 32])).unwrap();
        let (tool, args) = shop.scope();
        let refused = ready(&broker, &tool, &args, 1000).await.err();
        let code = refused.as_ref().map(BrokerError::code);
        assert_eq!(code, (!fine).then_some("scope.view_bypasses_rows"), "{options} {refused:?}");
    }
}

// proves: R2, R3, A54
#[tokio::test(flavor = "multi_thread")]
async fn a_create_that_a_crash_left_on_its_way_does_not_arrive_later() {
    let shop = Shop::new().await;
    let (tool, args) = shop.scope();
    let ready = ready(&shop.broker, &tool, &args, 3_600_000).await.unwrap();
    let handle = ready.handle(None);
    // A dead process left this behind: our own connection, its create begun and not committed.
    let dead = shop.admin().await;
    let name = &handle.name;
    dead.batch_execute(&format!("SET application_name = '{name}'; BEGIN; CREATE ROLE {name} LOGIN"))
        .await
        .unwrap();
    end(&shop.broker, &handle).await;
    assert!(dead.batch_execute("COMMIT").await.is_err(), "its connection was ended first");
    assert!(!shop.exists(name).await);
}

// proves: Z3, A55
#[tokio::test(flavor = "multi_thread")]
async fn the_target_itself_refuses_logins_after_the_end_should_we_be_dead() {
    let shop = Shop::new().await;
    let (_, _, handle) = shop.login().await;
    let admin = shop.admin().await;
    let switch = format!(
        "SELECT count(*) FROM pg_roles WHERE rolname = '{}' AND rolvaliduntil BETWEEN now() + interval '60 minutes' AND now() + interval '61 minutes 1 second'",
        handle.name
    );
    assert_eq!(count(&admin, &switch).await, 1);
    end(&shop.broker, &handle).await;
}

// proves: R2, R6
#[tokio::test(flavor = "multi_thread")]
async fn a_session_on_a_replica_ends_as_well() {
    let primary = Arc::new(Cluster::start_with_passwords());
    let replica = Cluster::replica_of(&primary);
    let shop = Shop::on(Arc::clone(&primary), vec![Secret::new(replica.url("postgres"))], |_| {}).await;
    let (_, credential, handle) = shop.login().await;
    let mut there =
        Credential { plain: credential.plain.clone(), secret: credential.secret, env: BTreeMap::new() };
    there.plain.insert("host".to_owned(), replica.folder().display().to_string());
    there.plain.insert("port".to_owned(), replica.port().to_string());
    let arrived = || async { shop.log_in(&there).await.is_ok() };
    soon("the login on the replica", arrived).await;
    let mut session = shop.log_in(&there).await.unwrap();
    session.run("SELECT id FROM orders").await.unwrap();
    let gone = kit::end(&shop.broker, &handle);
    gone.await;
    assert!(session.run("SELECT 1").await.is_err());
}

// proves: X2, N4
#[tokio::test(flavor = "multi_thread")]
async fn sixty_ways_to_smuggle_a_write_leave_the_database_as_it_was() {
    let shop = Shop::new().await;
    let admin = shop.admin().await;
    let state = "SELECT (count(*) + sum(hashtext(t::text)::bigint))::bigint FROM (SELECT o::text FROM orders o UNION ALL SELECT c::text FROM customers c) t";
    let catalogue = "SELECT count(*) FROM pg_class WHERE relpersistence <> 't' UNION ALL SELECT count(*) FROM pg_proc UNION ALL SELECT count(*) FROM pg_roles WHERE rolname NOT LIKE 'bw\\_%' AND rolname NOT LIKE 'cap\\_%'";
    let before = (count(&admin, state).await, rows(&admin, catalogue).await);
    let (mut agent, _, handle) = shop.login().await;
    let corpus = include_str!("smuggling.sql");
    let statements: Vec<&str> = corpus.lines().filter(|l| !l.is_empty() && !l.starts_with("--")).collect();
    assert!(statements.len() >= 60, "{}", statements.len());
    for statement in statements {
        let _refused_or_without_effect = agent.run(statement).await;
        let _out_of_a_failed_transaction = agent.run("ROLLBACK").await;
        if agent.0.is_closed() {
            panic!("the session ended after {statement}");
        }
    }
    end(&shop.broker, &handle).await;
    assert_eq!((count(&admin, state).await, rows(&admin, catalogue).await), before);
}

async fn rows(client: &Client, sql: &str) -> Vec<i64> {
    client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

// proves: D6
#[tokio::test(flavor = "multi_thread")]
async fn odd_values_and_names_stay_inside_their_quotes() {
    let shop = Shop::new().await;
    let (tool, _) = shop.scope();
    let admin = shop.admin().await;
    for odd in
        ["1' OR '1'='1", "1'; DROP TABLE orders; --", "\\'; DROP TABLE orders; --", "％", "$$", "1\n2", "1/*"]
    {
        let args: BTreeMap<_, _> = [("customer".to_owned(), Value::from(odd))].into();
        let ready = ready(&shop.broker, &tool, &args, 60_000).await.unwrap();
        let (created, handle) = ready.create(&shop.broker).await.unwrap();
        let mut agent = shop.log_in(&created.credential).await.unwrap();
        agent.run("SELECT 1 / (count(*) = 0)::int FROM orders").await.unwrap();
        let kept = admin
            .query_one("SELECT value FROM bailiwick.scope WHERE login = $1", &[&handle.name])
            .await
            .unwrap();
        assert_eq!(kept.get::<_, &str>(0), odd);
        end(&shop.broker, &handle).await;
    }
    for bad in
        [Value::from(""), Value::from("\0"), Value::from("x".repeat(257)), Value::List(vec![]), Value::Null]
    {
        let args: BTreeMap<_, _> = [("customer".to_owned(), bad)].into();
        let spec = bailiwick_broker::Spec { args, ..a_spec(&shop).await };
        let refused = shop.broker.prepare(spec).await.unwrap_err();
        assert!(refused.code().starts_with("scope."), "{}", refused.code());
    }
}

async fn a_spec(shop: &Shop) -> bailiwick_broker::Spec {
    let (tool, args) = shop.scope();
    ready(&shop.broker, &tool, &args, 1000).await.unwrap().plan.spec
}
