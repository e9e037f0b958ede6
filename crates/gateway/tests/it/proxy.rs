//! The proxy of a run, driven by hand: every byte of the way in is ours to choose.

use crate::egress::api::{self, Seen};
use crate::egress::{KEY, World, customer};
use crate::support::{LONG, tool};
use bailiwick_gateway::{Proof, Prover, Proxy, Secret};
use reqwest::{Certificate, Client, Url};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Proves by a name that the test's door believes.
struct Named {
    renewed: Arc<AtomicUsize>,
    good: bool,
}

impl Prover for Named {
    async fn prove(&self, _: &str, _: &str, _: Option<&str>) -> Result<Proof, String> {
        let name = if self.good { "Test clerk" } else { "Test No One" };
        Ok(Proof { authorization: Secret::new(name), dpop: Secret::new("-") })
    }
    async fn renew(&self) -> bool {
        self.renewed.fetch_add(1, Ordering::SeqCst);
        true
    }
}

async fn proxy(world: &World) -> Proxy<Named> {
    Proxy::start(&world.url, Named { renewed: Arc::default(), good: true }).await.unwrap()
}

/// A stock client that knows the proxy and its authority.
fn client(proxy: &Proxy<Named>) -> Client {
    let authority = Certificate::from_pem(proxy.authority_pem().as_bytes()).unwrap();
    let through = reqwest::Proxy::all(proxy.url()).unwrap();
    Client::builder().proxy(through).tls_certs_only([authority]).build().unwrap()
}

// proves: X3, INV14
#[tokio::test]
async fn a_stock_client_reaches_an_api_through_the_proxy_and_under_a_base_url() {
    let world = World::new(customer).await;
    let proxy = proxy(&world).await;
    let client = client(&proxy);
    let answer = client
        .get(world.api.url("/v2/customers/7?view=short"))
        .bearer_auth("placeholder")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let text = answer.text().await.unwrap();
    assert_eq!(text, r#"{"id":7,"name":"Ann","orders":[{"total":3}]}"#);
    assert_eq!(world.api.seen()[0].header("authorization"), format!("Bearer {KEY}"));

    let plain = Client::builder().no_proxy().build().unwrap();
    let based = plain.get(format!("{}/customers/7", proxy.base_url("crm"))).send().await.unwrap();
    assert_eq!(based.status(), 200);
    assert_eq!(world.api.seen()[1].target, "/v2/customers/7");
    let note = client
        .post(world.api.url("/v2/customers/7/notes"))
        .header("content-type", "application/json")
        .body(r#"{"note":{"text":"hi"}}"#)
        .send()
        .await
        .unwrap();
    assert_eq!(note.status(), 200);
    assert_eq!(world.api.seen()[2].body, r#"{"note":{"text":"hi"}}"#);
    assert_eq!(proxy.offered().await.unwrap()[0].system, "crm");
}

// proves: X3, INV6
#[tokio::test]
async fn a_host_that_nobody_named_is_refused_in_words_and_recorded() {
    let world = World::new(customer).await;
    let proxy = proxy(&world).await;
    let client = client(&proxy);
    for url in
        ["https://evil.example/steal?x=1", "http://169.254.169.254/latest/meta-data/", "https://127.0.0.1:1/"]
    {
        let answer = client.get(url).send().await.unwrap();
        assert_eq!(answer.status(), 403, "{url}");
        let said: serde_json::Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        assert_eq!((said["code"].as_str(), said["decision"].is_string()), (Some("egress.no_api"), true));
        assert_eq!(world.point.last_call().tool, tool("http.unlisted"));
    }
    assert!(world.api.seen().is_empty());
}

#[tokio::test]
async fn a_token_that_is_not_taken_is_renewed_once_and_then_told() {
    let world = World::new(customer).await;
    let renewed = Arc::new(AtomicUsize::new(0));
    let proxy = Proxy::start(&world.url, Named { renewed: renewed.clone(), good: false }).await.unwrap();
    let answer = client(&proxy).get(world.api.url("/v2/customers/7")).send().await.unwrap();
    assert_eq!(answer.status(), 403);
    assert!(answer.text().await.unwrap().contains("agent.no_token"));
    assert_eq!(renewed.load(Ordering::SeqCst), 1);
    assert!(world.api.seen().is_empty());
}

/// What the proxy says to these bytes.
async fn say(proxy: &Proxy<Named>, bytes: &str) -> String {
    let url = Url::parse(&proxy.url()).unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", url.port().unwrap())).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(LONG, stream.read_to_end(&mut answer)).await.expect("no end");
    String::from_utf8_lossy(&answer).into_owned()
}

fn authorization(proxy: &Proxy<Named>) -> String {
    use base64::Engine as _;
    let url = Url::parse(&proxy.url()).unwrap();
    let pair = format!("{}:{}", url.username(), url.password().unwrap());
    format!("Proxy-Authorization: Basic {}\r\n", base64::engine::general_purpose::STANDARD.encode(pair))
}

// proves: A50
#[tokio::test]
async fn only_the_run_itself_may_use_its_proxy() {
    let world = World::new(customer).await;
    let proxy = proxy(&world).await;
    let target = format!("localhost:{}", world.api.port);
    let wrong = "Proxy-Authorization: Basic cnVuOndyb25n\r\n";
    for auth in ["", wrong] {
        let connect = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{auth}\r\n");
        assert!(say(&proxy, &connect).await.starts_with("HTTP/1.1 407 "));
        let plain = format!("GET http://{target}/ HTTP/1.1\r\nHost: {target}\r\n{auth}\r\n");
        assert!(say(&proxy, &plain).await.starts_with("HTTP/1.1 407 "));
    }
    let port = Url::parse(&proxy.url()).unwrap().port().unwrap();
    let based = format!("GET /wrong/crm/customers/7 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n");
    assert!(say(&proxy, &based).await.starts_with("HTTP/1.1 403 "));
    let base = proxy.base_url("crm");
    let path = base.split_once(&format!(":{port}")).unwrap().1;
    let rebound = format!("GET {path}/customers/7 HTTP/1.1\r\nHost: evil.example:{port}\r\n\r\n");
    assert!(say(&proxy, &rebound).await.starts_with("HTTP/1.1 421 "));
    assert!(world.point.decided.lock().unwrap().is_empty());
}

// proves: INV9
#[tokio::test]
async fn a_request_that_two_readers_could_read_differently_goes_nowhere() {
    let world = World::new(customer).await;
    let proxy = proxy(&world).await;
    let auth = authorization(&proxy);
    let host = format!("localhost:{}", world.api.port);
    let get = |lines: &str| format!("GET http://{host}/v2/customers/7 HTTP/1.1\r\n{auth}{lines}\r\n");
    let bad = [
        get(&format!("Host: {host}\r\nHost: {host}\r\n")),
        get("Host: other.example\r\n"),
        get(&format!("Host: {host}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n")),
        get(&format!("Host: {host}\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n")),
        get(&format!("Host: {host}\r\nContent-Length: 5\r\nContent-Length: 5\r\n")),
        get(&format!("Host: {host}\r\nX: a\r\n b\r\n")),
        get(&format!("Host : {host}\r\n")),
        get(&format!("Host: {host}\nX: b\r\n")),
        format!("GET http://{host}@evil.example/ HTTP/1.1\r\n{auth}Host: {host}\r\n\r\n"),
        format!("GET https://{host}/v2/customers/7 HTTP/1.1\r\n{auth}Host: {host}\r\n\r\n"),
        format!("CONNECT {host} HTTP/1.1\r\n{auth}Host: evil.example:443\r\n\r\n"),
        format!("CONNECT localhost HTTP/1.1\r\n{auth}Host: localhost\r\n\r\n"),
        "GARBAGE\r\n\r\n".to_owned(),
        "\u{16}\u{3}\u{1}\r\n\r\n".to_owned(),
    ];
    for request in bad {
        let said = say(&proxy, &request).await;
        assert!(said.starts_with("HTTP/1.1 400 "), "{request:?}: {said}");
    }
    // A second request behind the first is never read.
    let twice = format!("{}{}", get(&format!("Host: {host}\r\n")), get(&format!("Host: {host}\r\n")));
    let said = say(&proxy, &twice).await;
    assert_eq!(said.matches("HTTP/1.1 ").count(), 1, "{said}");
    assert_eq!(world.point.decided.lock().unwrap().len(), 1);
    assert!(world.api.seen().is_empty(), "http is not the origin that was named");
}

/// Opens a tunnel to the API's host, says `name` in the handshake, sends these bytes, and gives what comes back.
async fn in_tunnel(
    proxy: &Proxy<Named>,
    world: &World,
    name: &'static str,
    bytes: &str,
) -> std::io::Result<String> {
    use rustls::pki_types::pem::PemObject as _;
    let url = Url::parse(&proxy.url()).unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", url.port().unwrap())).await?;
    let host = format!("localhost:{}", world.api.port);
    let connect = format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n{}\r\n", authorization(proxy));
    stream.write_all(connect.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_buf(&mut head).await?;
    }
    let mut roots = rustls::RootCertStore::empty();
    let authority =
        rustls::pki_types::CertificateDer::from_pem_slice(proxy.authority_pem().as_bytes()).unwrap();
    roots.add(authority).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(name.try_into().unwrap(), stream).await?;
    stream.write_all(bytes.as_bytes()).await?;
    let mut answer = Vec::new();
    let _ = timeout(LONG, stream.read_to_end(&mut answer)).await.expect("no end");
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

// proves: INV9
#[tokio::test]
async fn a_tunnel_is_for_one_host_whatever_is_said_inside() {
    let world = World::new(customer).await;
    let proxy = proxy(&world).await;
    let host = format!("localhost:{}", world.api.port);
    let get = |target: &str, host: &str| format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let good = in_tunnel(&proxy, &world, "localhost", &get("/v2/customers/7", &host)).await.unwrap();
    assert!(good.starts_with("HTTP/1.1 200 "), "{good}");
    for bad in [
        get("/v2/customers/7", "evil.example"),
        get("/v2/customers/7", "localhost"),
        get("https://evil.example/v2/customers/7", &host),
        get(&format!("http://{host}/v2/customers/7"), &host),
        format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
    ] {
        let said = in_tunnel(&proxy, &world, "localhost", &bad).await.unwrap();
        assert!(said.starts_with("HTTP/1.1 400 "), "{bad:?}: {said}");
    }
    assert!(in_tunnel(&proxy, &world, "evil.example", &get("/v2/customers/7", &host)).await.is_err());
    assert_eq!(world.api.seen().len(), 1);
}

// proves: INV9
#[tokio::test]
async fn what_a_path_hides_reaches_the_judge_as_it_was_written_and_is_refused() {
    let world = World::new(customer).await;
    world.point.deny.lock().unwrap().push(tool("crm.unlisted"));
    let proxy = proxy(&world).await;
    let port = Url::parse(&proxy.url()).unwrap().port().unwrap();
    let base = proxy.base_url("crm");
    let base = base.split_once(&format!(":{port}")).unwrap().1;
    let bad = [
        "/customers/../customers/7",
        "/customers/./7",
        "/customers/%2e%2e/x",
        "/customers/.%2e/x",
        "/customers//7",
        "/any/%2e",
        "/any/a%2fb",
        "/any/a%2Fb",
        "/any/a%5cb",
        "/any/a\\b",
        "/any/%252e%252e",
        "/any/a%00",
        "/any/%c0%ae",
        "/any/%zz",
        "/any/a;b",
        "/any/..;",
        "/any/%ef%bc%8e%ef%bc%8e",
        "/any/%u002e",
        "/any/a%0d%0ab",
        "/any/a%3fb",
        "/any/a%23b",
        "/files/a/../b",
        "/files/%2e%2e/etc",
        "/files/a//b",
        "/files/a/..%2fb",
        "/any/%20..%20",
    ];
    for path in bad {
        let request = format!("GET {base}{path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n");
        let said = say(&proxy, &request).await;
        assert!(said.starts_with("HTTP/1.1 403 "), "{path}: {said}");
        assert_eq!(world.point.last_call().tool, tool("crm.unlisted"), "{path}");
        assert_eq!(world.point.last_call().args.get("path").and_then(|p| p.as_text()), Some(path));
    }
    assert!(world.api.seen().is_empty());
    let good = format!("GET {base}/any/a.b%20c HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n");
    assert!(say(&proxy, &good).await.starts_with("HTTP/1.1 200 "));
    assert_eq!(world.api.seen()[0].target, "/v2/any/a.b%20c");
}

// proves: INV14
#[tokio::test]
async fn nothing_on_the_agents_side_ever_holds_the_key() {
    let echo = |seen: &Seen| api::json(&format!(r#"{{"sent":"{}"}}"#, seen.header("authorization")));
    let world = World::new(echo).await;
    let proxy = proxy(&world).await;
    let port = Url::parse(&proxy.url()).unwrap().port().unwrap();
    let base = proxy.base_url("crm");
    let base = base.split_once(&format!(":{port}")).unwrap().1;
    for path in ["/any/x", "/customers/7", "/nope", "/search?q=1", "/any/%2e"] {
        let said = say(&proxy, &format!("GET {base}{path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n")).await;
        assert!(said.len() > 50 && !said.contains(KEY), "{said}");
    }
    assert_eq!(world.api.seen().len(), 3);
}
