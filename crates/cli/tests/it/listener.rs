//! The gateway's own listener for databases, spoken to without `run`: which tokens begin a session, what a question does,
//! what a cancellation reaches, and what a stop leaves.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{SystemTime, UNIX_EPOCH};

use bailiwick_token::subject::assert_agent;
use bailiwick_token::{Claims, Confirmation, KeyAlgorithm, Mint, SigningKey, SpiffeId, dpop, random_id};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value as Json;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, NoTls};

use crate::databases::{CONFIG, Kept, shop, shop_with};
use crate::shop::Shop;
use crate::support::text;

/// What is signed for a session with the scope of all these tests.
const DOOR: &str = "/postgres/shop/read_orders";
/// More rows than anybody waits for.
const ENDLESS: &str = "SELECT count(*) FROM orders a, orders b, orders c, orders d";

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn key_in(shop: &Shop, file: &str) -> SigningKey {
    SigningKey::from_pkcs8(&std::fs::read(shop.house.path("bailiwick-data/keys").join(file)).unwrap())
        .unwrap()
}

/// An agent that holds its key itself, as one without `run` does.
struct Agent {
    id: SpiffeId,
    key: SigningKey,
    server: String,
    databases: u16,
}

impl Agent {
    fn of(shop: &Shop, name: &str) -> Agent {
        Agent {
            id: SpiffeId::parse(&format!("spiffe://example.org/agent/{name}")).unwrap(),
            key: key_in(shop, &format!("agents/{name}.p8")),
            server: format!("http://127.0.0.1:{}", shop.house.port),
            databases: shop.databases,
        }
    }

    async fn token(&self, task: &str) -> String {
        let url = format!("{}/oauth/token", self.server);
        let assertion = assert_agent(&self.key, &self.id, &url, now(), &random_id().unwrap()).unwrap();
        let proof = dpop::prove(&self.key, "POST", &url, None, None, now(), &random_id().unwrap()).unwrap();
        let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        let body = format!(
            "grant_type=client_credentials&client_assertion_type={kind}&client_assertion={assertion}&task={task}"
        );
        let form = "application/x-www-form-urlencoded";
        let asked = http().post(&url).header("DPoP", proof).header("Content-Type", form).body(body);
        let answer = asked.send().await.unwrap().text().await.unwrap();
        let answer: Json = serde_json::from_str(&answer).unwrap();
        text(&answer, "access_token")
    }

    /// A proof by this agent's key, for this method and path, of this age.
    fn proof(&self, token: &str, method: &str, path: &str, age: u64) -> String {
        let url = format!("{}{path}", self.server);
        dpop::prove(&self.key, method, &url, Some(token), None, now() - age, &random_id().unwrap()).unwrap()
    }

    fn password(&self, token: &str) -> String {
        format!("{token} {}", self.proof(token, "CONNECT", DOOR, 0))
    }

    async fn enter(&self, token: &str) -> Result<Session, Refused> {
        enter(self.databases, &self.password(token)).await
    }

    /// Shows another token for a session; gives the HTTP status.
    async fn renew(&self, session: &str, token: &str) -> u16 {
        let path = format!("/postgres/sessions/{session}");
        let proof = self.proof(token, "POST", &path, 0);
        let asked = http().post(format!("{}{path}", self.server)).header("DPoP", proof);
        asked.header("Authorization", format!("DPoP {token}")).send().await.unwrap().status().as_u16()
    }
}

fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// A session by a driver.
struct Session {
    client: Client,
    name: String,
    /// Resolves when the session is over.
    over: tokio::task::JoinHandle<Result<(), tokio_postgres::Error>>,
}

/// What a client reads of a refusal.
#[derive(Debug, PartialEq)]
struct Refused {
    state: String,
    message: String,
    detail: String,
}

impl From<tokio_postgres::Error> for Refused {
    fn from(error: tokio_postgres::Error) -> Self {
        let db = error.as_db_error().unwrap_or_else(|| panic!("{error:?}"));
        Refused {
            state: db.code().code().to_owned(),
            message: db.message().to_owned(),
            detail: db.detail().unwrap_or_default().to_owned(),
        }
    }
}

async fn enter(databases: u16, password: &str) -> Result<Session, Refused> {
    let (client, mut connection) = tokio_postgres::Config::new()
        .host("127.0.0.1")
        .port(databases)
        .user("read_orders")
        .dbname("shop")
        .password(password)
        .options("-c bailiwick.customer=1")
        .ssl_mode(SslMode::Disable)
        .connect(NoTls)
        .await?;
    let name = connection.parameter("bailiwick_session").unwrap().to_owned();
    let over = tokio::spawn(async move {
        std::future::poll_fn(|context| {
            loop {
                match connection.poll_message(context) {
                    std::task::Poll::Ready(Some(Ok(_))) => {}
                    std::task::Poll::Ready(Some(Err(error))) => return std::task::Poll::Ready(Err(error)),
                    std::task::Poll::Ready(None) => return std::task::Poll::Ready(Ok(())),
                    std::task::Poll::Pending => return std::task::Poll::Pending,
                }
            }
        })
        .await
    });
    Ok(Session { client, name, over })
}

impl Session {
    async fn count(&self, sql: &str) -> Result<i64, Refused> {
        Ok(self.client.query_one(sql, &[]).await?.get(0))
    }

    /// Waits for the end, and gives its reason.
    async fn ended(self) -> Refused {
        self.over.await.unwrap().unwrap_err().into()
    }
}

/// The same token with other claims, signed by whoever signs tokens here.
fn forged(shop: &Shop, token: &str, change: impl FnOnce(&mut Claims)) -> String {
    signed(key_in(shop, "token.p8"), token, change)
}

fn signed(key: SigningKey, token: &str, change: impl FnOnce(&mut Claims)) -> String {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let mut claims: Claims = serde_json::from_slice(&payload).unwrap();
    change(&mut claims);
    Mint::new(claims.iss.clone(), key).mint(&claims, claims.exp).unwrap()
}

const NOW_ON: &str = "SELECT count(*) FROM orders";

// proves: X1, A12, INV6, INV14
#[tokio::test(flavor = "multi_thread")]
async fn a_session_begins_with_a_token_for_here_and_a_proof_of_its_own_and_with_nothing_less() {
    let shop = shop();
    let task = shop.task();
    let reporter = Agent::of(&shop, "reporter");
    let token = reporter.token(&task).await;
    let session = reporter.enter(&token).await.unwrap();
    assert_eq!(session.count(NOW_ON).await.unwrap(), 500);
    let same = forged(&shop, &token, |_| ());
    assert!(
        reporter.enter(&same).await.is_ok(),
        "what is signed here counts, so the cases below are about claims"
    );
    drop(session);
    shop.soon("both logins gone", |s| s.logins() == "0");

    let stranger = SigningKey::generate(KeyAlgorithm::Ed25519).unwrap();
    let strange = Confirmation::Jkt(stranger.public().jkt());
    let moved = |claims: &mut Claims, by: i64| {
        for time in [&mut claims.iat, &mut claims.nbf, &mut claims.exp] {
            *time = time.checked_add_signed(by).unwrap();
        }
    };
    let bad = [
        ("token.expired", forged(&shop, &token, |c| moved(c, -400))),
        ("token.not_yet_valid", forged(&shop, &token, |c| moved(c, 400))),
        ("token.audience", forged(&shop, &token, |c| c.aud = "https://elsewhere.example/mcp".into())),
        ("token.tenant", forged(&shop, &token, |c| c.tenant = "globex".into())),
        ("token.issuer", forged(&shop, &token, |c| c.iss = "https://elsewhere.example".into())),
        ("token.holder", forged(&shop, &token, |c| c.cnf = strange)),
        ("token.key_unknown", signed(stranger, &token, |_| ())),
    ];
    for (code, bad) in &bad {
        let refused = reporter.enter(bad).await.err().unwrap();
        assert_eq!((refused.state.as_str(), refused.detail.as_str()), ("28P01", *code), "{refused:?}");
    }

    // The proof: there, fresh, used once, and for this door, this token and this key.
    let shown = reporter.password(&token);
    assert!(enter(shop.databases, &shown).await.is_ok());
    let another = reporter.token(&task).await;
    shop.house.run(&["agent", "add", "clerk", "--may", "shop.read_orders*"]).good();
    let clerk = Agent::of(&shop, "clerk");
    let with = |proof: String| format!("{token} {proof}");
    let bad = [
        ("", token.clone()),
        ("", format!("Bearer {token}")),
        ("dpop.replay", shown),
        ("dpop.stale", with(reporter.proof(&token, "CONNECT", DOOR, 300))),
        ("dpop.method", with(reporter.proof(&token, "POST", DOOR, 0))),
        ("dpop.url", with(reporter.proof(&token, "CONNECT", "/postgres/shop/change_orders", 0))),
        ("dpop.url", with(reporter.proof(&token, "CONNECT", "/mcp", 0))),
        ("dpop.access_token", with(reporter.proof(&another, "CONNECT", DOOR, 0))),
        ("token.holder", with(clerk.proof(&token, "CONNECT", DOOR, 0))),
    ];
    for (code, password) in &bad {
        let refused = enter(shop.databases, password).await.err().unwrap();
        assert!(refused.state == "28P01" && refused.detail.starts_with(code), "{code}: {refused:?}");
        assert!(!refused.message.contains(&token), "{refused:?}");
    }
    assert!(reporter.enter(&another).await.is_ok());
    shop.soon("every login gone", |s| s.logins() == "0");
}

// proves: X1, R2, INV2, H3
#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_the_session_of_its_own_grant_while_that_lives() {
    let shop = shop();
    let (task, other) = (shop.task(), shop.task());
    shop.house.run(&["agent", "add", "clerk", "--may", "shop.read_orders*"]).good();
    let (reporter, clerk) = (Agent::of(&shop, "reporter"), Agent::of(&shop, "clerk"));
    let (token, others) = (reporter.token(&task).await, reporter.token(&other).await);
    let payload = |token: &str| {
        let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
        serde_json::from_slice::<Claims>(&payload).unwrap()
    };
    let (mine, theirs) = (payload(&token), payload(&others));
    let jkt = Confirmation::Jkt(clerk.key.public().jkt());
    let bad = [
        (&reporter, forged(&shop, &token, |c| c.txn = theirs.txn.clone())),
        (&reporter, forged(&shop, &token, |c| c.grant = theirs.grant.clone())),
        (&reporter, forged(&shop, &token, |c| c.act.sub = clerk.id.clone())),
        // Another agent's key, whoever it says it is.
        (&clerk, forged(&shop, &token, |c| c.cnf = jkt)),
        (&clerk, forged(&shop, &token, |c| (c.cnf, c.act.sub) = (jkt, clerk.id.clone()))),
    ];
    for (at, (agent, bad)) in bad.iter().enumerate() {
        let refused = agent.enter(bad).await.err().unwrap_or_else(|| panic!("case {at} was let in"));
        assert!(refused.state == "42501" || refused.state == "57000", "{at}: {refused:?}");
    }
    assert_eq!(shop.logins(), "0");
    let (one, two) = (reporter.enter(&token).await.unwrap(), reporter.enter(&others).await.unwrap());
    assert_ne!(mine.grant, theirs.grant);

    // Its task ends: the session is cut, and the token, good for minutes yet, opens no other.
    shop.house.run(&["task", "end", &task]).good();
    let ended = one.ended().await;
    assert_eq!(ended.state, "57P01", "{ended:?}");
    let refused = reporter.enter(&token).await.err().unwrap();
    assert_eq!(refused.state, "42501", "{refused:?}");
    assert_eq!(two.count(NOW_ON).await.unwrap(), 500, "the other task's session goes on");
    assert!(reporter.enter(&others).await.is_ok());
    shop.soon("one login", |s| s.logins() == "1");
}

// proves: X1, INV2, INV11
#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_with_its_token_unless_the_same_holder_shows_another() {
    let shop = shop();
    let (task, other) = (shop.task(), shop.task());
    let reporter = Agent::of(&shop, "reporter");
    let token = reporter.token(&task).await;
    let brief = forged(&shop, &token, |c| c.exp = now() + 4);
    let (left, kept) = (reporter.enter(&brief).await.unwrap(), reporter.enter(&brief).await.unwrap());
    let others = reporter.token(&other).await;
    assert_eq!(reporter.renew(&kept.name, &others).await, 404, "a token of another task renews nothing");
    assert_eq!(reporter.renew("no-such-session", &token).await, 404);
    assert_eq!(reporter.renew(&kept.name, &token).await, 200);
    assert_eq!(left.count(NOW_ON).await.unwrap(), 500);
    let ended = left.ended().await;
    assert!(ended.state == "57P01" && ended.message.contains("token has expired"), "{ended:?}");
    assert_eq!(kept.count(NOW_ON).await.unwrap(), 500, "the other one had the same token to begin with");
    shop.soon("one login", |s| s.logins() == "1");
}

const ASKS: &str = r#"
@id("reads-ask") @ask("approvers") @reason("Reading orders needs a yes.")
forbid (principal, action == Action::"shop.read_orders.select", resource);
"#;

// proves: A2, A4, INV3
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_asks_goes_through_once_when_a_person_has_said_yes_to_it() {
    let config = CONFIG.replace("targets:", "policies: [defaults, policies]\ntargets:");
    let shop = shop_with(&config, Some(ASKS));
    shop.house.run(&["person", "add", "omar@example.org", "--group", "approvers"]).good();
    let as_omar = |args: &[&str]| shop.house.run(&[args, &["--as", "omar@example.org"]].concat());
    let reporter = Agent::of(&shop, "reporter");
    let task = shop.task();
    let token = reporter.token(&task).await;
    let session = reporter.enter(&token).await.unwrap();
    let (least, most) = ("SELECT min(id)::int8 FROM orders", "SELECT max(id)::int8 FROM orders");
    let asked = |refused: Refused| {
        assert_eq!(refused.state, "42501", "{refused:?}");
        let handle = refused.detail.strip_prefix("approval.waiting (").and_then(|d| d.strip_suffix(')'));
        handle.unwrap_or_else(|| panic!("{refused:?}")).to_owned()
    };
    let waits = asked(session.count(least).await.unwrap_err());
    assert_eq!(
        asked(session.count(least).await.unwrap_err()),
        waits,
        "one question, however often it is tried"
    );
    let other = asked(session.count(most).await.unwrap_err());
    assert_ne!(other, waits, "another statement is another question");
    let card = as_omar(&["approvals", "show", &waits]);
    assert!(card.good().contains("min(id)") && card.out.contains("public.orders"), "{card:?}");

    // Whoever opened the task may not answer.
    shop.house.run(&["approve", &waits]).failed(3);
    assert_eq!(asked(session.count(least).await.unwrap_err()), waits);
    as_omar(&["approve", &waits]).good();
    assert_eq!(asked(session.count(most).await.unwrap_err()), other, "the yes was not for this one");
    let again = shop.task();
    let elsewhere = reporter.enter(&reporter.token(&again).await).await.unwrap();
    assert_ne!(asked(elsewhere.count(least).await.unwrap_err()), waits, "nor for another task");
    // It counts in whichever session of the grant the statement comes again.
    let later = reporter.enter(&token).await.unwrap();
    assert_eq!(later.count(least).await.unwrap(), 2);
    assert_ne!(asked(session.count(least).await.unwrap_err()), waits, "and it served once");
    drop(later);

    // A no is told with its reason, and nothing of it runs.
    as_omar(&["deny", &other, "--reason", "not these numbers"]).good();
    let no = session.count(most).await.unwrap_err();
    assert!(no.message.contains("not these numbers"), "{no:?}");
    let log = shop.cluster.log();
    let ran = |what| log.lines().any(|line| line.contains("execute") && line.contains(what));
    assert!(ran("min(id)") && !ran("max(id)"), "{log}");
    shop.house.run(&["task", "end", &task]).good();
    session.ended().await;
}

/// The protocol itself, on either side of the gateway.
struct Raw<S> {
    stream: S,
    /// What cancels its statement: number and secret.
    key: Vec<u8>,
}

impl<S: Read + Write> Raw<S> {
    fn begin(mut stream: S, parameters: &[(&str, &str)], password: &str) -> Raw<S> {
        let mut body = 196_608_i32.to_be_bytes().to_vec();
        for (name, value) in parameters {
            body.extend([name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
        }
        body.push(0);
        stream.write_all(&[&length(&body)[..], &body].concat()).unwrap();
        let mut raw = Raw { stream, key: Vec::new() };
        loop {
            match raw.read() {
                (b'R', body) if body == 3_i32.to_be_bytes() => raw.say(b'p', password),
                (b'K', body) => raw.key = body,
                (b'Z', _) => return raw,
                (b'E', body) => panic!("{}", String::from_utf8_lossy(&body)),
                _ => {}
            }
        }
    }

    fn say(&mut self, tag: u8, text: &str) {
        let body = [text.as_bytes(), b"\0"].concat();
        self.stream.write_all(&[&[tag][..], &length(&body), &body].concat()).unwrap();
    }

    fn read(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head).unwrap();
        let length = u32::from_be_bytes(head[1..].try_into().unwrap());
        let mut body = vec![0; length as usize - 4];
        self.stream.read_exact(&mut body).unwrap();
        (head[0], body)
    }

    /// What comes of a statement, up to where the next one can be said: the rows, or the SQLSTATE of an error.
    fn outcome(&mut self) -> Result<usize, String> {
        let (mut rows, mut error) = (0, None);
        loop {
            match self.read() {
                (b'D', _) => rows += 1,
                (b'E', body) => {
                    let fatal = body.windows(6).any(|w| w == b"FATAL\0");
                    let code = body.split(|b| *b == 0).find(|field| field.first() == Some(&b'C'));
                    error = Some(String::from_utf8(code.unwrap()[1..].to_vec()).unwrap());
                    if fatal {
                        return Err(error.unwrap());
                    }
                }
                (b'Z', _) => return error.map_or(Ok(rows), Err),
                _ => {}
            }
        }
    }
}

fn length(body: &[u8]) -> [u8; 4] {
    i32::try_from(body.len() + 4).unwrap().to_be_bytes()
}

/// A session with the scope, by hand.
fn by_hand(shop: &Shop, password: &str) -> Raw<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", shop.databases)).unwrap();
    let parameters = [("user", "read_orders"), ("database", "shop"), ("options", "-c bailiwick.customer=1")];
    Raw::begin(stream, &parameters, password)
}

/// Asks the gateway to cancel, and waits until it has done what it does about that.
fn cancel(shop: &Shop, key: &[u8]) {
    let mut stream = TcpStream::connect(("127.0.0.1", shop.databases)).unwrap();
    let body = [&80_877_102_i32.to_be_bytes()[..], key].concat();
    stream.write_all(&[&length(&body)[..], &body].concat()).unwrap();
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.read_to_end(&mut Vec::new());
}

const RUNNING: &str = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND (usename LIKE 'bw\\_%' OR query = 'SELECT pg_sleep(3600)')";

// proves: X1, A66, I3
#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_reaches_the_session_whose_key_it_shows_and_nothing_else_anywhere() {
    let shop = shop();
    let reporter = Agent::of(&shop, "reporter");
    let token = reporter.token(&shop.task()).await;
    let mut mine = by_hand(&shop, &reporter.password(&token));
    let mut second = by_hand(&shop, &reporter.password(&token));
    // Somebody else's connection with the database, beside the gateway.
    let socket = shop.cluster.folder().join(format!(".s.PGSQL.{}", shop.cluster.port()));
    let parameters = [("user", "bailiwick"), ("database", "postgres")];
    let mut beside = Raw::begin(UnixStream::connect(socket).unwrap(), &parameters, "");
    mine.say(b'Q', ENDLESS);
    second.say(b'Q', ENDLESS);
    beside.say(b'Q', "SELECT pg_sleep(3600)");
    shop.soon("three statements running", |s| s.admin(RUNNING) == "3");

    let (number, secret) = mine.key.split_at(4);
    let backends =
        shop.admin("SELECT string_agg(pid::text, ' ') FROM pg_stat_activity WHERE usename LIKE 'bw\\_%'");
    let mut forged = vec![
        beside.key.clone(),
        [number, &second.key[4..]].concat(),
        [&second.key[..4], secret].concat(),
        [number, &[0; 4]].concat(),
        [&[0; 4], secret].concat(),
        vec![0; 8],
        vec![0xff; 8],
        Vec::new(),
        mine.key[..7].to_vec(),
        [&mine.key[..], &[0]].concat(),
    ];
    for backend in backends.split(' ') {
        let pid = backend.parse::<i32>().unwrap().to_be_bytes();
        forged.extend([[&pid[..], secret].concat(), [&pid[..], &[0; 4]].concat()]);
        assert_ne!(&pid, number, "the number of a session is not that of the database's process");
    }
    for key in &forged {
        cancel(&shop, key);
    }
    assert_eq!(shop.admin(RUNNING), "3", "nothing was cancelled");

    cancel(&shop, &mine.key.clone());
    assert_eq!(mine.outcome(), Err("57014".to_owned()));
    mine.say(b'Q', "SELECT id FROM orders LIMIT 3");
    assert_eq!(mine.outcome(), Ok(3), "the session goes on");
    assert_eq!(shop.admin(RUNNING), "2", "and the others were not touched");

    // A session that is over is not reached by its key, nor is what came after it.
    let old = mine.key.clone();
    drop(mine);
    shop.soon("its login gone", |s| s.logins() == "1");
    let mut third = by_hand(&shop, &reporter.password(&token));
    third.say(b'Q', ENDLESS);
    shop.soon("three statements running again", |s| s.admin(RUNNING) == "3");
    cancel(&shop, &old);
    assert_eq!(shop.admin(RUNNING), "3");
    for mut session in [second, third] {
        cancel(&shop, &session.key.clone());
        assert_eq!(session.outcome(), Err("57014".to_owned()));
    }
}

// proves: R1, R3, INV2, D6
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_tells_the_clients_and_leaves_no_login_behind() {
    let mut shop = shop();
    let task = shop.task();
    let reporter = Agent::of(&shop, "reporter");
    let token = reporter.token(&task).await;
    let mut kept = Kept::open(&shop, &task);
    kept.say("BEGIN;");
    kept.say("DECLARE c CURSOR FOR SELECT id FROM orders ORDER BY id;");
    kept.say("FETCH 1 FROM c;");
    kept.hear("2");
    let mut busy = by_hand(&shop, &reporter.password(&token));
    busy.say(b'Q', ENDLESS);
    shop.soon("a statement running", |s| s.admin(RUNNING) == "1");
    let silent = TcpStream::connect(("127.0.0.1", shop.databases)).unwrap();
    assert_eq!(shop.logins(), "2");

    assert_eq!(shop.house.down(), 0, "a stop that was asked for is no failure");
    assert_eq!(shop.logins(), "0", "what it had lent went with it");
    assert_eq!(shop.admin(RUNNING), "0");
    assert_eq!(busy.outcome(), Err("57P01".to_owned()));
    kept.say("FETCH 1 FROM c;");
    kept.hear("the gateway is stopping");
    drop(silent);

    // The task is open all the same: a new session begins when the node is back, and only that stands.
    shop.house.up();
    assert_eq!(shop.house.json(&["standing"])["leases"], 0);
    assert_eq!(shop.ask(&task, "SELECT count(*) FROM orders").good().trim(), "500");
    shop.soon("nothing standing", |s| s.house.json(&["standing"])["leases"] == 0);
    assert!(TcpStream::connect(("127.0.0.1", shop.databases)).is_ok());
}
