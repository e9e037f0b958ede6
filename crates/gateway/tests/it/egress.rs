//! HTTP APIs behind the gateway, over real TLS: what is judged is what is sent, and the key is never seen.

#[path = "../support/api.rs"]
pub(crate) mod api;

use crate::support::{LONG, NameDoor, Scripted, listen, tool};
use api::{Reaction, Seen, TestApi, json as answer_json};
use bailiwick_api::OutcomeStatus;
use bailiwick_core::SystemId;
use bailiwick_core::constraint::Constraint;
use bailiwick_gateway::egress::address::Guard;
use bailiwick_gateway::egress::spec::{ActionSpec, AnswerSpec, ApiSpec, ArgSpec, BodyForm, Key, Kind, Place};
use bailiwick_gateway::{Egress, GatewayConfig, Secret};
use serde_json::{Value as Json, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::timeout;

pub(crate) const KEY: &str = "sk_test_Zq8vN2rT6mKx4WcPb7Ld";

fn arg(place: Place, kind: Kind) -> ArgSpec {
    ArgSpec { kind, ..ArgSpec::new(place) }
}

fn action(name: &str, request: &str, body: BodyForm, args: Vec<(&str, ArgSpec)>) -> ActionSpec {
    ActionSpec {
        tool: tool(&format!("crm.{name}")),
        request: request.into(),
        body,
        args: args.into_iter().map(|(name, arg)| (name.to_owned(), arg)).collect(),
        answer: AnswerSpec::default(),
    }
}

/// The rules that most stories here are about.
fn rules() -> Vec<ActionSpec> {
    let id = || ArgSpec { required: true, ..arg(Place::Path, Kind::Integer) };
    let mut read = action(
        "customer.read",
        "GET /customers/{id}",
        BodyForm::None,
        vec![("id", id()), ("view", arg(Place::Query("view".into()), Kind::Word))],
    );
    read.answer = AnswerSpec { keep: vec!["id".into(), "name".into(), "orders.total".into()], ..read.answer };
    let short = ArgSpec { must: Constraint::Length(40), ..arg(Place::Body("/note/text".into()), Kind::Text) };
    vec![
        read,
        action(
            "search",
            "GET /search?scope=all",
            BodyForm::None,
            vec![("q", arg(Place::Query("q".into()), Kind::Text))],
        ),
        action(
            "note.create",
            "POST /customers/{id}/notes",
            BodyForm::Json,
            vec![
                ("id", id()),
                ("text", short),
                ("tags", ArgSpec { list: true, ..arg(Place::Body("/tags".into()), Kind::Word) }),
                ("once", arg(Place::Header("Idempotency-Key".into()), Kind::Word)),
            ],
        ),
        action(
            "file.read",
            "GET /files/{path...}",
            BodyForm::None,
            vec![("path", arg(Place::Path, Kind::Text))],
        ),
        action(
            "mail.send",
            "POST /mail",
            BodyForm::Form,
            vec![
                ("to", arg(Place::Body("to".into()), Kind::Text)),
                ("text", arg(Place::Body("text".into()), Kind::Text)),
            ],
        ),
        action("any.read", "GET /any/{what}", BodyForm::None, vec![("what", arg(Place::Path, Kind::Text))]),
        action("customer.delete", "DELETE /customers/{id}", BodyForm::None, vec![("id", id())]),
    ]
}

pub(crate) struct World {
    pub(crate) point: Arc<Scripted>,
    pub(crate) api: TestApi,
    pub(crate) url: String,
    pub(crate) client: reqwest::Client,
}

impl World {
    pub(crate) async fn new(answer: impl Fn(&Seen) -> Reaction + Send + Sync + 'static) -> World {
        Self::with(answer, |spec| spec, Guard::system()).await
    }

    pub(crate) async fn with(
        answer: impl Fn(&Seen) -> Reaction + Send + Sync + 'static,
        change: impl FnOnce(ApiSpec) -> ApiSpec,
        guard: Guard,
    ) -> World {
        let api = TestApi::start(listen().await.0, answer);
        let mut spec = ApiSpec::new(SystemId::parse("crm").unwrap(), api.url("/v2"));
        spec.keys = vec![Key::Header("Authorization".into(), Secret::new(format!("Bearer {KEY}")))];
        spec.roots = Some(api.ca.clone().into_bytes());
        spec.actions = rules();
        let point = Arc::new(Scripted::default());
        let (listener, port) = listen().await;
        let url = format!("http://127.0.0.1:{port}");
        let mut config = GatewayConfig::at(&url);
        config.live_poll = Duration::from_millis(20);
        let egress = Egress::guarded(point.clone(), NameDoor, vec![change(spec)], config, guard).unwrap();
        egress.observe().await.unwrap();
        tokio::spawn(async move { axum::serve(listener, bailiwick_gateway::egress::router(egress)).await });
        World { point, api, url, client: patient() }
    }

    pub(crate) fn ask(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        self.client
            .request(method, format!("{}/egress/crm{path}", self.url))
            .header("authorization", "Test clerk")
    }

    pub(crate) async fn get(&self, path: &str) -> Got {
        got(self.ask("GET", path)).await
    }
}

/// A client that follows nothing.
fn patient() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

/// An answer, and every byte of it.
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: String,
}

impl Got {
    pub(crate) fn json(&self) -> Json {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }
    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
    pub(crate) fn all(&self) -> String {
        format!("{} {:?} {}", self.status, self.headers, self.body)
    }
}

pub(crate) async fn got(request: reqwest::RequestBuilder) -> Got {
    let response = timeout(LONG, request.send()).await.expect("no answer in time").unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Got { status, headers, body: response.text().await.unwrap() }
}

pub(crate) fn customer(seen: &Seen) -> Reaction {
    let name = seen.header("authorization");
    answer_json(&format!(
        r#"{{"id":7,"name":"Ann","ssn":"078-05-1120","orders":[{{"total":3,"card":"4111"}}],"you":"{name}"}}"#
    ))
}

// proves: X3, INV9, INV14
#[tokio::test]
async fn a_request_becomes_a_decided_call_and_the_key_joins_it_on_the_way_out() {
    let world = World::new(customer).await;
    let got = world.get("/customers/7?view=short").await;
    assert_eq!((got.status, got.json()), (200, json!({"id": 7, "name": "Ann", "orders": [{"total": 3}]})));
    assert!(got.header("bailiwick-decision").starts_with("dec-"));
    let call = world.point.last_call();
    assert_eq!(
        (call.tool, call.args.canonical()),
        (tool("crm.customer.read"), r#"{"id":7,"view":"short"}"#.into())
    );
    assert!(call.definition.is_some());
    let seen = &world.api.seen()[0];
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("GET", "/v2/customers/7?view=short"));
    assert_eq!(seen.header("authorization"), format!("Bearer {KEY}"));
    let (_, outcome) = world.point.reported(1).await.remove(0);
    assert_eq!(outcome.status, OutcomeStatus::Done);
    assert_eq!(outcome.result.unwrap().canonical(), r#"{"id":7,"name":"Ann","orders":[{"total":3}]}"#);
    assert!(!got.all().contains(KEY));
}

// proves: INV9
#[tokio::test]
async fn what_is_sent_is_written_from_what_was_judged() {
    let world = World::new(|_| answer_json("{}")).await;
    let body = r#"{"tags": ["a","b"],  "note":{"text":"caf\u00e9 \/ 1"}}"#;
    let request =
        world.ask("POST", "/customers/7/notes").header("content-type", "application/json; charset=utf-8");
    let request = request.header("idempotency-key", "k-1").header("x-stray", "stray").header("cookie", "c=1");
    assert_eq!(got(request.body(body)).await.status, 200);
    let args = world.point.last_call().args;
    assert_eq!(args.canonical(), r#"{"id":7,"once":"k-1","tags":["a","b"],"text":"café / 1"}"#);
    let seen = &world.api.seen()[0];
    assert_eq!(seen.body, r#"{"note":{"text":"café / 1"},"tags":["a","b"]}"#);
    assert_eq!(seen.header("idempotency-key"), "k-1");
    assert!(seen.header("x-stray").is_empty() && seen.header("cookie").is_empty());

    got(world.get_search("q=a%20b%26c&scope=all")).await;
    assert_eq!(world.api.seen()[1].target, "/v2/search?scope=all&q=a%20b%26c");
    let form = world.ask("POST", "/mail").header("content-type", "application/x-www-form-urlencoded");
    got(form.body("text=x+%2B+y&to=bob%40example.com")).await;
    assert_eq!(world.point.last_call().args.canonical(), r#"{"text":"x + y","to":"bob@example.com"}"#);
    assert_eq!(world.api.seen()[2].body, "text=x%20%2B%20y&to=bob%40example.com");
    got(world.ask("GET", "/files/a/b%20c/d.txt")).await;
    assert_eq!(world.point.last_call().args.canonical(), r#"{"path":"a/b c/d.txt"}"#);
    assert_eq!(world.api.seen()[3].target, "/v2/files/a/b%20c/d.txt");
}

impl World {
    fn get_search(&self, query: &str) -> reqwest::RequestBuilder {
        self.ask("GET", &format!("/search?{query}"))
    }
}

// proves: X3, INV6
#[tokio::test]
async fn what_no_rule_takes_is_refused_by_the_control_plane_and_never_sent() {
    let world = World::new(customer).await;
    world.point.deny.lock().unwrap().push(tool("crm.unlisted"));
    let post = |path: &str, kind: &str, body: &str| {
        world.ask("POST", path).header("content-type", kind).body(body.to_owned())
    };
    let (json_type, notes) = ("application/json", "/customers/7/notes");
    let cases = [
        world.ask("GET", ""),
        world.ask("GET", "/customers"),
        world.ask("GET", "/customers/7/"),
        world.ask("GET", "/customers/seven"),
        world.ask("GET", "/customers/07"),
        world.ask("PUT", "/customers/7"),
        world.ask("HEAD", "/customers/7"),
        world.ask("OPTIONS", "/customers/7"),
        world.ask("TRACE", "/customers/7"),
        world.ask("GET", "/customers/7?view=a%20b"),
        world.ask("GET", "/customers/7?view=a&view=b"),
        world.ask("GET", "/customers/7?view"),
        world.ask("GET", "/customers/7?%zz=1"),
        world.ask("GET", "/search?scope=mine&q=1"),
        world.ask("GET", "/customers/7").header("x-http-method-override", "DELETE"),
        world.ask("GET", "/customers/7").header("X-Original-URL", "/admin"),
        world.ask("GET", "/customers/7").header("upgrade", "websocket"),
        world.ask("GET", "/customers/7").body("surprise"),
        post(notes, "text/plain", "{}"),
        post(notes, json_type, "{\"note\":{\"text\":\"a\"},\"note\":{\"text\":\"b\"}}"),
        post(notes, json_type, "[]"),
        post(notes, json_type, "{\"note\":{\"text\":7}}"),
        post(notes, json_type, "{\"tags\":[\"a b\"]}"),
        post(notes, json_type, "{} {}"),
        post(notes, json_type, &format!("{{\"note\":{{\"text\":\"{}\"}}}}", "x".repeat(41))),
        post(notes, "application/json; charset=utf-16", "{}"),
        post(notes, json_type, "{}").header("content-encoding", "gzip"),
        post(notes, json_type, "{}").header("content-type", "text/plain"),
    ];
    let count = cases.len();
    for case in cases {
        let shown = format!("{case:?}");
        let got = got(case).await;
        assert_eq!(got.status, 403, "{shown}: {}", got.body);
        if !got.body.is_empty() {
            assert!(got.json()["decision"].is_string() && got.code().starts_with("egress."), "{}", got.body);
        }
        assert_eq!(world.point.last_call().tool, tool("crm.unlisted"), "{shown}");
    }
    assert_eq!(world.point.decided.lock().unwrap().len(), count);
    assert!(world.api.seen().is_empty(), "{:?}", world.api.seen());
}

// proves: A26, D1, X1
#[tokio::test]
async fn one_request_is_one_act_and_no_second_one_rides_in_it() {
    let world = World::new(|_| answer_json("{}")).await;
    world.point.deny.lock().unwrap().extend([tool("crm.unlisted"), tool("crm.customer.delete")]);
    let post = |path: &str, kind: &str, body: &str| {
        world.ask("POST", path).header("content-type", kind).body(body.to_owned())
    };
    let (json_type, notes) = ("application/json", "/customers/7/notes");
    let part = "--x\r\nContent-Disposition: form-data; name=\"to\"\r\n\r\nbob@example.com\r\n--x--\r\n";
    let riders = [
        // Another method than the request line's.
        world.ask("GET", "/customers/7").header("x-http-method-override", "DELETE"),
        world.ask("GET", "/customers/7").header("X-HTTP-Method", "DELETE"),
        post(notes, json_type, "{}").header("x-method-override", "DELETE"),
        world.ask("GET", "/customers/7").header("x-rewrite-url", "/customers/8"),
        // A list of acts, of which one is allowed, where a rule knows one.
        post(notes, json_type, r#"[{"note":{"text":"a"}},{"note":{"text":"b"}}]"#),
        post(notes, json_type, r#"[{"query":"{me}"},{"query":"mutation{deleteAll}"}]"#),
        post(notes, json_type, "{\"note\":{\"text\":\"a\"}}\n{\"note\":{\"text\":\"b\"}}"),
        // A form of a form.
        post("/mail", "multipart/form-data; boundary=x", part),
        post("/mail", "multipart/mixed; boundary=x", part),
        post("/mail", "application/x-www-form-urlencoded", "to=bob%40example.com&to=eve%40evil.com"),
    ];
    for rider in riders {
        let shown = format!("{rider:?}");
        let refused = got(rider).await;
        assert!(refused.status >= 400, "{shown}: {}", refused.status);
    }
    // What only looks like another method is an argument that nobody declared; it is not sent either.
    assert!(world.get("/customers/7?_method=DELETE").await.status >= 400);
    assert!(world.api.seen().is_empty(), "{:?}", world.api.seen());

    let fine = post(notes, json_type, r#"{"note":{"text":"a"}}"#).header("x-stray-method", "DELETE");
    assert_eq!(got(fine).await.status, 200);
    let seen = world.api.seen();
    assert_eq!(
        (seen.len(), seen[0].method.as_str(), seen[0].body.as_str()),
        (1, "POST", r#"{"note":{"text":"a"}}"#)
    );
    assert!(seen[0].header("x-stray-method").is_empty());
}

// proves: INV6
#[tokio::test]
async fn an_argument_that_nobody_declared_reaches_the_judge_and_not_the_api() {
    let world = World::new(customer).await;
    let body = r#"{"note":{"text":"a","admin":true},"x":{"y":[1]}}"#;
    let request =
        world.ask("POST", "/customers/7/notes").header("content-type", "application/json").body(body);
    // This point allows everything; even so there is no way to write what no rule knows.
    let refused = got(request).await;
    assert_eq!((refused.status, refused.code().as_str()), (502, "egress.argument"));
    let args = world.point.last_call().args;
    assert_eq!(args.canonical(), r#"{"/note/admin":true,"/x/y":[1],"id":7,"text":"a"}"#);
    let refused = world.get("/customers/7?expand=all").await;
    assert_eq!(refused.code(), "egress.argument");
    assert_eq!(world.point.last_call().args.canonical(), r#"{"?expand":"all","id":7}"#);
    assert!(world.api.seen().is_empty());
}

// proves: X3
#[tokio::test]
async fn a_denial_a_question_and_a_fault_are_told_apart_and_nothing_is_sent() {
    let world = World::new(customer).await;
    world.point.deny.lock().unwrap().push(tool("crm.customer.delete"));
    let denied = got(world.ask("DELETE", "/customers/7")).await;
    assert_eq!((denied.status, denied.header("content-type")), (403, "application/problem+json"));
    assert_eq!(denied.json()["detail"], "Refused: the task does not foresee it.");
    assert_eq!((denied.json()["effect"].as_str(), denied.json()["step"].as_i64()), (Some("deny"), Some(6)));

    world.point.ask.lock().unwrap().push(tool("crm.customer.read"));
    let asked = world.get("/customers/7").await;
    assert_eq!((asked.status, asked.header("bailiwick-approval")), (428, "apr-1"));
    assert_eq!(asked.json()["effect"], "ask");
    assert_eq!(world.get("/customers/7").await.status, 428);
    assert!(world.api.seen().is_empty());
    world.point.approved.store(true, Ordering::SeqCst);
    assert_eq!(world.get("/customers/7").await.status, 200);
    assert_eq!(world.point.last_call().approval.unwrap().as_str(), "apr-1");
    assert_eq!(world.get("/customers/8").await.status, 428);
    assert_eq!(got(world.ask("GET", "/customers/8").header("bailiwick-approval", "apr-1")).await.status, 200);

    world.point.down.store(true, Ordering::SeqCst);
    assert_eq!(world.get("/customers/7").await.status, 503);
    assert_eq!(world.api.seen().len(), 2);
}

#[tokio::test]
async fn without_proof_nothing_is_answered_and_with_it_the_apis_are_named() {
    let world = World::new(customer).await;
    let stranger = world.client.get(format!("{}/egress/crm/customers/7", world.url));
    assert_eq!(got(stranger).await.status, 401);
    let listed =
        got(world.client.get(format!("{}/egress", world.url)).header("authorization", "Test clerk")).await;
    assert_eq!(listed.json(), json!({"systems": [{"system": "crm", "url": world.api.url("/v2")}]}));
    let elsewhere =
        world.client.get(format!("{}/egress/nope/x", world.url)).header("authorization", "Test clerk");
    let elsewhere = got(elsewhere).await;
    assert_eq!((elsewhere.status, elsewhere.code().as_str()), (403, "egress.no_api"));
    assert_eq!(world.point.last_call().tool, tool("http.unlisted"));
    let spelled = world.client.get(format!("{}/egress/%63rm/customers/7", world.url));
    assert_eq!(got(spelled.header("authorization", "Test clerk")).await.status, 400);
    assert!(world.api.seen().is_empty());
}
