//! What a tool call costs more when it goes through the gateway: token and proof checked, decided, recorded
//! durably, forwarded, and its outcome recorded: durably before the answer if the tool has an effect, with the next
//! record if it only looks.
//!
//! One load generator sends the same bytes to a tool server directly, through nginx, through nginx that asks
//! another server for every request (`auth_request`, answered by a constant, or by a server that first appends a record
//! durably), and through the product.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Bytes;
use axum::http::{StatusCode, header::CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use bailiwick_core::Value;
use bailiwick_core::ids::SystemId;
use bailiwick_engine::{Engine, TokenAsk};
use bailiwick_gateway::{Gateway, GatewayConfig, TokenDoor, Transport, UpstreamSpec};
use bailiwick_store::{Location, Store};
use bailiwick_token::{Jwks, KeyAlgorithm, SigningKey, Verifier};

use super::decision::take;
use super::rounds::{Figures, median, rotate};
use super::{Effort, Goal, Line, durable, scene, tokens};

/// Calls in one figure.
const CALLS: usize = 150;
/// Longest wait for anything to start.
const START: Duration = Duration::from_secs(10);

/// Measures and compares, in a folder that is the caller's to remove. Without nginx there is nothing to compare
/// with, and no line.
pub(crate) fn measure(effort: Effort, folder: &Path) -> anyhow::Result<Vec<Line>> {
    let tool = Served::start(listener()?, tool_server())?;
    let house = Product::start(folder, tool.address)?;
    let clerk = Clerk::start(folder)?;
    let Some(nginx) = Nginx::start(folder, tool.address, clerk.address)? else { return Ok(vec![]) };
    let (token, key) = (&house.token, &house.key);
    let wire = |to: SocketAddr, path: &str, tool: &str| Wire::open(to, path, &house.url, tool);
    let mut direct = wire(tool.address, "/mcp", "restart")?;
    let mut plain = wire(nginx.address, "/plain", "restart")?;
    let mut asked = wire(nginx.address, "/asked", "restart")?;
    let mut recorded = wire(nginx.address, "/recorded", "restart")?;
    let mut guarded = wire(house.served.address, "/mcp", "restart")?;
    let mut looking = wire(house.served.address, "/mcp", "look")?;
    let mut troubles = Vec::new();
    let mut note = |result: anyhow::Result<f64>| result.unwrap_or_else(|e| (troubles.push(e), 0.0).1);
    let note = std::cell::RefCell::new(&mut note);
    let figures = rotate(
        effort.rounds,
        &mut [
            &mut || (note.borrow_mut())(direct.burst(token, key)),
            &mut || (note.borrow_mut())(plain.burst(token, key)),
            &mut || (note.borrow_mut())(asked.burst(token, key)),
            &mut || (note.borrow_mut())(recorded.burst(token, key)),
            &mut || (note.borrow_mut())(guarded.burst(token, key)),
            &mut || (note.borrow_mut())(looking.burst(token, key)),
        ],
    );
    if let Some(trouble) = troubles.into_iter().next() {
        return Err(trouble);
    }
    let [direct, plain, asked, recorded, guarded, looking] = take(figures)?;
    let added = |through: &Figures| Figures(through.0.iter().zip(&direct.0).map(|(t, d)| t - d).collect());
    let (plain, asked, recorded) = (added(&plain), added(&asked), added(&recorded));
    let line = |id: &str, what: &str, through: &Figures| {
        let through = added(through);
        Line::new(id, what, "µs")
            .product(through.median() / 1e3)
            .floor("added by nginx", plain.median() / 1e3)
            .peer("added by nginx with auth_request", asked.median() / 1e3)
            .goal(through.over(&asked), Goal::AtMost(3.0), "x what auth_request adds")
    };
    let beside_a_record = |id: &str, what: &str, through: &Figures| {
        let through = added(through);
        Line::new(id, what, "µs")
            .product(through.median() / 1e3)
            .peer("added by nginx with auth_request and one append", recorded.median() / 1e3)
            .goal(through.over(&recorded), Goal::AtMost(1.0), "x what auth_request and one append add")
    };
    Ok(vec![
        Line::new("mcp.direct", "MCP tool call, direct, median", "µs").product(direct.median() / 1e3),
        line("mcp.added", "added by the gateway, a tool with an effect", &guarded),
        beside_a_record("mcp.added.append", "the same beside a record", &guarded),
        line("mcp.added.reading", "added by the gateway, a tool that only reads", &looking),
        beside_a_record("mcp.added.reading.append", "the same beside a record", &looking),
    ])
}

/// A socket on a free port of the range that the system does not hand out by itself.
fn listener() -> anyhow::Result<TcpListener> {
    let first = 20_000 + (std::process::id() % 5_000) as u16;
    let free = (0..2_000).find_map(|n| TcpListener::bind(("127.0.0.1", first + n)).ok());
    let listener = free.ok_or_else(|| anyhow::anyhow!("no free port on 127.0.0.1"))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Routes served on a runtime of their own, until dropped.
struct Served {
    address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

impl Served {
    fn start(listener: TcpListener, routes: Router) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        Self::on(runtime, listener, routes)
    }

    fn on(runtime: tokio::runtime::Runtime, listener: TcpListener, routes: Router) -> anyhow::Result<Self> {
        Self::by(runtime, listener, async move |listener| axum::serve(listener, routes).await)
    }

    fn by<F>(
        runtime: tokio::runtime::Runtime,
        listener: TcpListener,
        serve: impl FnOnce(tokio::net::TcpListener) -> F,
    ) -> anyhow::Result<Self>
    where
        F: Future<Output = std::io::Result<()>> + Send + 'static,
    {
        let address = listener.local_addr()?;
        let listener = runtime.block_on(async { tokio::net::TcpListener::from_std(listener) })?;
        runtime.spawn(serve(listener));
        Ok(Served { address, _runtime: runtime })
    }
}

/// A tool server that does next to nothing, and a server that always says yes.
fn tool_server() -> Router {
    Router::new().route("/mcp", any(answer)).route("/yes", get(|| async { StatusCode::NO_CONTENT }))
}

async fn answer(body: Bytes) -> Response {
    let message = Value::parse(&body).unwrap_or(Value::Null);
    let Some(id) = message.get("id") else { return StatusCode::ACCEPTED.into_response() };
    let result = match message.get("method").and_then(Value::as_text).unwrap_or_default() {
        "server/discover" => {
            r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"ttlMs":0,"cacheScope":"public"}"#.to_owned()
        }
        "tools/list" => {
            r#"{"resultType":"complete","ttlMs":0,"cacheScope":"public","tools":[{"name":"restart","inputSchema":{"type":"object"}},{"name":"look","inputSchema":{"type":"object"}}]}"#.to_owned()
        }
        "tools/call" => {
            let name = message.get("params").and_then(|p| p.get("arguments")).and_then(|a| a.get("name"));
            let text = Value::from(format!("restarted {}", name.and_then(Value::as_text).unwrap_or("nothing")));
            format!(r#"{{"resultType":"complete","content":[{{"type":"text","text":{text}}}]}}"#)
        }
        _ => {
            let error = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32601,"message":"unknown"}}}}"#);
            return (StatusCode::NOT_FOUND, [(CONTENT_TYPE, "application/json")], error).into_response();
        }
    };
    let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

/// A server that says yes once a record of a decision's size is durable: the least that anything which keeps a record of
/// what it allows must do.
struct Clerk {
    address: SocketAddr,
    _served: Served,
}

impl Clerk {
    fn start(folder: &Path) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let (store, size) = runtime.block_on(async {
            let engine = durable::engine(&folder.join("size.db"), durable::AUDIENCE).await?;
            let store = Store::open(Location::Sqlite(folder.join("clerk.db"))).await?;
            anyhow::Ok((store, durable::event_bytes(&engine).await?))
        })?;
        let serial = Arc::new(AtomicU64::new(0));
        let yes = get(move || {
            let (store, stream) =
                (store.clone(), format!("clerk-{}", serial.fetch_add(1, Ordering::Relaxed)));
            async move {
                match store.append_at(durable::bare_append(&stream, 0, size)).await {
                    Ok(_) => StatusCode::NO_CONTENT,
                    Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
                }
            }
        });
        let served = Served::on(runtime, listener()?, Router::new().route("/yes", yes))?;
        Ok(Clerk { address: served.address, _served: served })
    }
}

/// The product in front of the tool server, with one open task.
struct Product {
    served: Served,
    url: String,
    key: SigningKey,
    token: String,
}

impl Product {
    fn start(folder: &Path, tool: SocketAddr) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let listener = listener()?;
        let url = format!("http://{}", listener.local_addr()?);
        let key = SigningKey::generate(KeyAlgorithm::Ed25519)?;
        let (routes, token) = runtime.block_on(Self::furnish(folder, &url, tool, &key))?;
        let serve = |listener| bailiwick_server::serve(listener, routes, std::future::pending());
        Ok(Product { served: Served::by(runtime, listener, serve)?, url, key, token })
    }

    async fn furnish(
        folder: &Path,
        url: &str,
        tool: SocketAddr,
        key: &SigningKey,
    ) -> anyhow::Result<(Router, String)> {
        let config = GatewayConfig::at(url);
        let engine = durable::engine(&folder.join("gateway.db"), &config.resource()).await?;
        let instance = key.public().jkt().to_string();
        let worker = scene::agents()?.swap_remove(0);
        let worker = bailiwick_core::agent::Agent { keys: [instance.clone()].into(), ..worker };
        let (by, agent) = (scene::dana()?, worker.id.clone());
        engine.set_agent(&by, worker).await?;
        let (issuer, audience) = engine.token_names();
        let verifier = Verifier::new(issuer, audience, &Jwks::new([engine.token_key().clone()]));
        let transport = Transport::Http { url: format!("http://{tool}/mcp"), headers: vec![] };
        let system = SystemId::parse("cloud").map_err(|e| anyhow::anyhow!("{e}"))?;
        let upstreams = vec![UpstreamSpec::new(system, transport)];
        let gateway =
            Gateway::start(Arc::new(engine.clone()), TokenDoor::new(url, verifier), upstreams, config)?;
        classify(&engine).await?;
        let (_, grant) = durable::open(&engine).await?;
        let issued = engine.issue_token(&TokenAsk { agent, instance, grant, proof: None }).await?;
        Ok((bailiwick_gateway::router(gateway), issued.token))
    }
}

/// Pins the tools to what the server offers, as an operator would.
async fn classify(engine: &Engine) -> anyhow::Result<()> {
    let (offered, start) = ([scene::restart()?, scene::look()?], Instant::now());
    let unseen = |tool| engine.registry().tool(tool).is_none_or(|t| t.seen.is_none());
    while offered.iter().any(unseen) {
        anyhow::ensure!(start.elapsed() < START, "the gateway did not find the tools");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for manifest in scene::manifests()?.into_iter().filter(|m| offered.contains(&m.tool)) {
        engine.classify(&scene::dana()?, manifest, None).await?;
    }
    Ok(())
}

/// nginx as a process of its own, on a configuration of its own; ended with this value.
struct Nginx {
    process: Child,
    address: SocketAddr,
}

impl Nginx {
    /// `None` where it is not installed.
    fn start(folder: &Path, tool: SocketAddr, clerk: SocketAddr) -> anyhow::Result<Option<Self>> {
        let listener = listener()?;
        let address = listener.local_addr()?;
        let folder = folder.join("nginx");
        std::fs::create_dir_all(&folder)?;
        let config = folder.join("nginx.conf");
        std::fs::write(&config, nginx_config(&folder, address, tool, clerk)?)?;
        drop(listener);
        let spawned = Command::new("nginx")
            .env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()))
            .arg("-p")
            .arg(&folder)
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let process = match spawned {
            Ok(process) => process,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let (nginx, start) = (Nginx { process, address }, Instant::now());
        while TcpStream::connect(address).is_err() {
            anyhow::ensure!(start.elapsed() < START, "nginx does not listen on {address}");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Some(nginx))
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _gone_anyhow = self.process.kill();
        let _reaped = self.process.wait();
    }
}

fn nginx_config(
    folder: &Path,
    here: SocketAddr,
    tool: SocketAddr,
    clerk: SocketAddr,
) -> anyhow::Result<String> {
    let mut out = format!(
        "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log;\nevents {{}}\nhttp {{\naccess_log off;\n",
        at = folder.display()
    );
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        writeln!(out, "{kind}_temp_path {}/{kind};", folder.display())?;
    }
    write!(
        out,
        r#"keepalive_requests 1000000000;
upstream tool {{ server {tool}; keepalive 64; keepalive_requests 1000000000; }}
upstream clerk {{ server {clerk}; keepalive 64; keepalive_requests 1000000000; }}
proxy_http_version 1.1;
proxy_set_header Connection "";
server {{
  listen {here};
  location = /plain {{ proxy_pass http://tool/mcp; }}
  location = /asked {{ auth_request /yes; proxy_pass http://tool/mcp; }}
  location = /recorded {{ auth_request /recorded-yes; proxy_pass http://tool/mcp; }}
  location = /yes {{
    internal;
    proxy_pass_request_body off;
    proxy_set_header Connection "";
    proxy_set_header Content-Length "";
    proxy_pass http://tool/yes;
  }}
  location = /recorded-yes {{
    internal;
    proxy_pass_request_body off;
    proxy_set_header Connection "";
    proxy_set_header Content-Length "";
    proxy_pass http://clerk/yes;
  }}
}}
}}
"#
    )?;
    Ok(out)
}

/// One connection that is kept, and one caller on it.
struct Wire {
    stream: TcpStream,
    path: String,
    url: String,
    tool: String,
    got: Vec<u8>,
}

impl Wire {
    fn open(to: SocketAddr, path: &str, url: &str, tool: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(START))?;
        Ok(Wire {
            stream,
            path: path.to_owned(),
            url: url.to_owned(),
            tool: tool.to_owned(),
            got: Vec::new(),
        })
    }

    /// The median of some calls, in nanoseconds. The proofs are made before, because that is the caller's cost.
    fn burst(&mut self, token: &str, key: &SigningKey) -> anyhow::Result<f64> {
        let requests = (0..CALLS).map(|_| self.request(token, key)).collect::<anyhow::Result<Vec<_>>>()?;
        let mut took = Vec::with_capacity(CALLS);
        for request in requests {
            let start = Instant::now();
            self.stream.write_all(request.as_bytes())?;
            let body = self.answer()?;
            took.push(start.elapsed().as_nanos() as f64);
            anyhow::ensure!(body.contains("restarted web-3"), "{} answered {body}", self.path);
        }
        Ok(median(took))
    }

    fn request(&self, token: &str, key: &SigningKey) -> anyhow::Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let proof = tokens::proof(key, &format!("{}/mcp", self.url), token, now)?;
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"cloud__{}","arguments":{},"_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{{}}}}}}}}"#,
            self.tool,
            scene::args()
        );
        let host = self.url.trim_start_matches("http://");
        Ok(format!(
            "POST {} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\naccept: application/json, text/event-stream\r\nmcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\nmcp-name: cloud__{}\r\nauthorization: DPoP {token}\r\ndpop: {proof}\r\ncontent-length: {}\r\n\r\n{body}",
            self.path,
            self.tool,
            body.len()
        ))
    }

    /// One answer with a stated length; its body.
    fn answer(&mut self) -> anyhow::Result<String> {
        self.got.clear();
        let mut chunk = [0; 8192];
        loop {
            if let Some((from, length)) = framed(&self.got)
                && self.got.len() >= from + length
            {
                return Ok(String::from_utf8_lossy(&self.got[from..from + length]).into_owned());
            }
            let read = self.stream.read(&mut chunk)?;
            anyhow::ensure!(read > 0, "{} hung up after {:?}", self.path, String::from_utf8_lossy(&self.got));
            self.got.extend_from_slice(&chunk[..read]);
        }
    }
}

/// Where the body begins and how long it is, once the head is complete.
fn framed(got: &[u8]) -> Option<(usize, usize)> {
    let end = got.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&got[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"))?;
    Some((end, length.trim().parse().ok()?))
}
