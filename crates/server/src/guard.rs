//! What stands before every handler, in this order, each refusal before the next cost: the name the server was
//! called by, the page that calls, the caller's credentials, the form of the body, the body, and whether the
//! same was asked before.

use std::collections::BTreeMap;

use axum::RequestExt;
use axum::body::Bytes;
use axum::extract::{RawPathParams, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::Response;
use bailiwick_api::Caller;
use bailiwick_api::routes::{Route, Verb, Who};
use bailiwick_core::SystemId;
use bailiwick_core::agent::Person;

use crate::bind::Handler;
use crate::body::{self, Reply};
use crate::door::Knock;
use crate::once::{self, Known, Once};
use crate::refusal::Refusal;
use crate::sign_in;
use crate::state::ServerState;

/// A request as its handler sees it.
#[derive(Debug)]
pub(crate) struct Ask {
    /// The name in the path; empty where the path has none.
    pub(crate) id: String,
    /// The query.
    pub(crate) query: BTreeMap<String, String>,
    /// All headers.
    pub(crate) headers: HeaderMap,
    /// The body; empty where the route takes none.
    pub(crate) body: Bytes,
}

impl Ask {
    /// The name in the path as an id.
    pub(crate) fn id<T: std::str::FromStr<Err = bailiwick_core::ids::BadId>>(&self) -> Result<T, Refusal> {
        self.id.parse().map_err(|e: bailiwick_core::ids::BadId| e.into())
    }

    /// A number in the query.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, Refusal> {
        let read = |text: &String| {
            text.parse().map_err(|_| {
                Refusal::new(
                    400,
                    "query.malformed",
                    format!("`{name}` must be a whole number"),
                    "correct the query",
                )
            })
        };
        self.query.get(name).map(read).transpose()
    }
}

/// Serves one request to one route.
pub(crate) async fn serve(
    state: ServerState,
    route: &'static Route,
    handler: Handler,
    request: Request,
) -> Response {
    let id = request_id();
    let answered = guarded(&state, route, handler, request).await;
    let response = match answered {
        Ok(reply) => reply.into_response(),
        Err(refusal) => {
            let refusal = if route.who == Who::Agent { refusal.for_agent() } else { refusal };
            let problem = &refusal.problem;
            match problem.status {
                500.. => {
                    tracing::error!(route = route.name, request = %id, code = %problem.code, detail = %problem.detail, "failed")
                }
                _ => tracing::info!(route = route.name, request = %id, code = %problem.code, "refused"),
            }
            refusal.into_response(&id)
        }
    };
    named(response, &id)
}

async fn guarded(
    state: &ServerState,
    route: &'static Route,
    handler: Handler,
    mut request: Request,
) -> Result<Reply, Refusal> {
    check_place(state, request.uri().authority().map(|a| a.as_str()), request.headers())?;
    let id = path_id(&mut request).await?;
    let (parts, body) = request.into_parts();
    let asker = Asker::prove(state, route, &parts).await?;
    let query = query(&parts)?;
    let body = match route.takes {
        Some(form) => {
            let media = if form == "TokenForm" { FORM } else { JSON };
            body::check_media(&parts.headers, media)?;
            body::read(body).await?
        }
        None => Bytes::new(),
    };
    let path = parts.uri.path().to_owned();
    let ask = Ask { id, query, headers: parts.headers, body };
    match (asker, handler) {
        (Asker::Person(person), Handler::Person(handle)) if route.verb == Verb::Post => {
            at_most_once(state, route, &path, person, handle, ask).await
        }
        (Asker::Person(person), Handler::Person(handle)) => handle(state.clone(), *person, ask).await,
        (Asker::Agent(caller), Handler::Agent(handle)) => handle(state.clone(), *caller, ask).await,
        (Asker::Host(system), Handler::Host(handle)) => handle(state.clone(), system, ask).await,
        (Asker::Anyone, Handler::Anyone(handle)) => handle(state.clone(), ask).await,
        _ => {
            Err(Refusal::new(500, "route.unguarded", "this route is bound to a handler of another kind", ""))
        }
    }
}

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

/// Who asks, as proven for the route at hand.
enum Asker {
    Anyone,
    Person(Box<Person>),
    Agent(Box<Caller>),
    Host(SystemId),
}

impl Asker {
    async fn prove(state: &ServerState, route: &Route, parts: &Parts) -> Result<Asker, Refusal> {
        match route.who {
            Who::Anyone | Who::Client => Ok(Asker::Anyone),
            Who::Person | Who::Opener | Who::Operator => {
                let person = sign_in::person(&state.engine, &parts.headers, route.who)?;
                Ok(Asker::Person(Box::new(person)))
            }
            Who::Host => sign_in::host(state, &parts.headers).map(Asker::Host),
            Who::Agent => {
                let knock = Knock { method: &parts.method, path: parts.uri.path(), headers: &parts.headers };
                let caller = state.door.admit(knock).await.map_err(Refusal::door)?;
                if caller.tenant != *state.engine.tenant() {
                    return Err(Refusal::door(crate::door::Shut {
                        code: "token.tenant",
                        error: Some("invalid_token"),
                        reason: "the token is not one of this control plane".to_owned(),
                        nonce: None,
                    }));
                }
                Ok(Asker::Agent(Box::new(caller)))
            }
        }
    }
}

/// A person's POST, done at most once for each `Idempotency-Key`.
async fn at_most_once(
    state: &ServerState,
    route: &Route,
    path: &str,
    person: Box<Person>,
    handle: fn(ServerState, Person, Ask) -> crate::bind::Replying,
    ask: Ask,
) -> Result<Reply, Refusal> {
    let engine = &state.engine;
    let claim = Once::claim(engine, &person, route.name, path, &ask.headers, &ask.body).await?;
    match claim {
        None => handle(state.clone(), *person, ask).await,
        Some(Known::Done(reply)) => Ok(reply),
        Some(Known::Fresh(once)) => {
            let answer = handle(state.clone(), *person, ask).await;
            let kept = match once::written(&answer) {
                Some(bytes) => once.keep(engine, bytes).await,
                None => Ok(()),
            };
            if let Err(trouble) = kept {
                tracing::error!(code = %trouble.problem.code, "an answer could not be kept for its Idempotency-Key");
            }
            answer
        }
    }
}

/// The name the server was called by, and the page that calls (threats A24, A48).
fn check_place(state: &ServerState, authority: Option<&str>, headers: &HeaderMap) -> Result<(), Refusal> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().and_then(|h| h.to_str().ok()).map(str::to_ascii_lowercase);
    let known = host.as_ref().is_some_and(|host| state.hosts.contains(host));
    let agrees = authority.is_none_or(|a| Some(a.to_ascii_lowercase()) == host);
    if !known || !agrees || hosts.next().is_some() {
        return Err(Refusal::new(
            421,
            "host.unknown",
            "the server is not called by this name",
            "use the server's own URL, or add the name where it is started",
        ));
    }
    // A length and a chunked body together are two readings of one request; bodies here are small and have a
    // length, so chunked ones are not taken at all.
    if headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(Refusal::new(
            411,
            "body.length",
            "the body has no Content-Length",
            "send one, and no chunks",
        ));
    }
    let foreign = headers.get_all(header::ORIGIN).iter().any(|origin| {
        let origin = origin.to_str().unwrap_or("").to_ascii_lowercase();
        !state.origins.contains(&origin)
    });
    if foreign {
        return Err(Refusal::new(
            403,
            "origin.foreign",
            "a page of another origin may not ask",
            "ask from this server's own pages",
        ));
    }
    Ok(())
}

async fn path_id(request: &mut Request) -> Result<String, Refusal> {
    let params = request.extract_parts::<RawPathParams>().await;
    let params = params
        .map_err(|_| Refusal::new(400, "path.malformed", "the path is not valid UTF-8", "correct it"))?;
    Ok(params.iter().next().map(|(_, value)| value.to_owned()).unwrap_or_default())
}

fn query(parts: &Parts) -> Result<BTreeMap<String, String>, Refusal> {
    body::form(parts.uri.query().unwrap_or("").as_bytes()).ok_or_else(|| {
        Refusal::new(
            400,
            "query.malformed",
            "the query has a broken escape or a name twice",
            "correct the query",
        )
    })
}

/// For paths that are no route.
pub(crate) async fn no_such_route(State(state): State<ServerState>, request: Request) -> Response {
    stray(&state, &request, Refusal::new(404, "route.unknown", "there is no such route", "see /openapi.json"))
}

/// For routes that do not have the method.
pub(crate) async fn wrong_method(State(state): State<ServerState>, request: Request) -> Response {
    stray(
        &state,
        &request,
        Refusal::new(405, "route.method", "this route has no such method", "see /openapi.json"),
    )
}

fn stray(state: &ServerState, request: &Request, refusal: Refusal) -> Response {
    let id = request_id();
    let place = check_place(state, request.uri().authority().map(|a| a.as_str()), request.headers());
    named(place.err().unwrap_or(refusal).into_response(&id), &id)
}

fn request_id() -> String {
    bailiwick_token::random_id().unwrap_or_else(|_| "unnamed".to_owned())
}

fn named(mut response: Response, id: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(id) {
        response.headers_mut().insert(HeaderName::from_static("x-request-id"), value);
    }
    response
}
