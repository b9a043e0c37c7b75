//! MCP over streamable HTTP: who may come in, which tools a path names, and the protocol behind.
//!
//! [`gate`] looks at where a request says it goes and comes from, `who` at its token, `route` at its path; then it
//! is the protocol's. Both of its eras are served: 2026-07-28 without state, 2025-11-25 in `sessions`. A call of a tool that
//! needs nothing else of the protocol is `direct`.

mod body;
mod direct;
pub mod gate;
mod held;
pub mod jwt;
pub mod refused;
mod route;
mod sessions;
pub mod tokens;
mod who;

use std::convert::Infallible;
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use magpie_core::limits;
use rmcp::ServerHandler;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use serde_json::json;
use tokio::sync::watch;

use body::Bodies;
use gate::Gate;
use jwt::JwtRules;
use refused::Refused;
use route::Route;
use sessions::{BEGINNING_BYTES_MAX, Begun, Session, Sessions};
use tokens::TokensError;
use who::Who;

use super::catalog::{Catalog, Scope};
use super::dispatch::Dispatcher;
use super::link::{Door, NodeLink};
use super::principal::Principal;
use super::server::direct::Direct;
use super::server::outline::Outline;

/// What leaves.
pub type Answered = Response<BoxBody<Bytes, Infallible>>;

/// Who may come in, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpRules {
    /// Names under which this server is called, beside loopback; what cannot be read counts as none.
    pub hosts: Vec<String>,
    /// Web pages that may call it; what cannot be read counts as none.
    pub origins: Vec<String>,
    /// The file of the tokens; without one, and without an issuer, whoever reaches this server submits and reads.
    pub tokens: Option<PathBuf>,
    /// Whose signed tokens are believed.
    pub jwt: Option<JwtRules>,
}

/// Serves requests with the protocol's handler `S`, which finds a [`Dispatcher`] among each request's extensions.
pub struct HttpServer<S> {
    gate: Gate,
    who: Who,
    catalog: &'static Catalog,
    door: Arc<dyn Door>,
    sessions: Sessions,
    bodies: Bodies,
    service: StreamableHttpService<S, LocalSessionManager>,
    /// The same without sessions: it opens them, and answers what only looks.
    sessionless: StreamableHttpService<S, LocalSessionManager>,
}

/// A handler of the protocol.
pub trait HttpHandler: ServerHandler {
    /// Whether its tools are the dispatcher's, and a session nothing to it but a place to tell of what changed.
    const ONLY_DISPATCHES: bool;
}

impl<S: HttpHandler> HttpServer<S> {
    /// `make` makes the handler of a session, or of a request that is in none.
    ///
    /// # Errors
    /// If what says who may come in cannot be used.
    pub fn new(
        make: impl Fn() -> S + Send + Sync + 'static,
        door: Arc<dyn Door>,
        rules: &HttpRules,
    ) -> Result<Self, TokensError> {
        let sessions = Sessions::default();
        // Host and Origin are looked at by the gate, on every path.
        let mut config = StreamableHttpServerConfig::default()
            .disable_allowed_hosts()
            .with_json_response(true)
            .with_max_request_body_bytes(limits::HTTP_BODY_BYTES_MAX);
        let make = Arc::new(move || Ok(make()));
        let (made, without) = (make.clone(), config.clone().with_legacy_session_mode(false));
        let sessionless = StreamableHttpService::new(move || made(), sessions.local(), without);
        config.session_store = Some(sessions.store());
        let service = StreamableHttpService::new(move || make(), sessions.local(), config);
        let bodies = Bodies::new(limits::HTTP_BODY_BYTES_MAX, limits::HTTP_BODIES_BYTES_MAX);
        let who = Who::new(rules.tokens.as_deref(), rules.jwt.clone())?;
        let (gate, catalog) = (Gate::new(rules), Catalog::shared());
        Ok(Self { gate, who, catalog, door, sessions, bodies, service, sessionless })
    }

    /// Ends sessions that nobody uses any more, and makes the calls of its callers that waited and were approved, for as long
    /// as it is awaited.
    pub async fn tend(&self) {
        let approved = async {
            if self.who.keeps_tokens() {
                held::make_all(&self.who, self.door.clone()).await;
            }
        };
        tokio::join!(self.sessions.tend(), approved);
    }

    /// Ends all sessions and streams, for good.
    pub fn end(&self) {
        self.service.config.cancellation_token.cancel();
    }

    /// Answers one request, in words if it is refused.
    pub async fn answer<B>(&self, request: Request<B>) -> Answered
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        self.let_in(request).await.unwrap_or_else(Refused::into_response)
    }

    async fn let_in<B>(&self, request: Request<B>) -> Result<Answered, Refused>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let host = self.gate.check(request.uri(), request.headers())?;
        let surface = match Route::of(request.uri().path())? {
            Route::Metadata => return self.metadata(&host),
            Route::Surface { name, read_only } => name.surface(self.catalog, read_only),
        };
        let principal = self.who.comes(request.headers(), &host).await?;
        refuse_old_transport(request.method(), request.headers())?;
        let session = self.sessions.check(request.headers(), &principal)?;
        let (parts, body) = request.into_parts();
        let body = self.bodies.read(body).await?;
        let link = NodeLink::inside(self.door.clone(), principal.clone());
        let asked = Asked { dispatcher: Arc::new(Dispatcher::new(&surface, link, principal)), parts, session };
        if asked.parts.method != Method::POST {
            return Ok(asked.of_the_protocol(self, &self.service, body.bytes.clone()).await);
        }
        let outline = Outline::of(&body.bytes).map_err(Refused::unreadable)?;
        if let Some(call) = outline.call()
            && let Some(lacks) = asked.dispatcher.lacks(&call.name, &call.arguments)
        {
            return Err(Refused::low_scope(&lacks, &self.who, &host));
        }
        Ok(self.said(asked, outline, body.bytes.clone()).await)
    }

    /// Answers a message that may be said.
    async fn said(&self, asked: Asked, outline: Outline, body: Bytes) -> Answered {
        if outline.opens_session() {
            return self.opened(asked, body).await;
        }
        let mut service = &self.service;
        if let Some(session) = &asked.session {
            if let Some(cancelled) = outline.cancels() {
                self.sessions.cancel(session, cancelled);
            }
            let is_spoken = session.begun.is_spoken_in(&asked.parts.headers);
            if outline.is_notification() && is_spoken && !self.sessions.is_made(session).await {
                return accepted();
            }
            if S::ONLY_DISPATCHES && outline.only_looks() {
                service = &self.sessionless;
            }
        }
        let begun = asked.session.as_ref().map(|session| &*session.begun);
        if S::ONLY_DISPATCHES
            && let Some(direct) = direct::call_of(&asked.parts.headers, outline, begun)
        {
            return self.called(asked, direct).await;
        }
        asked.of_the_protocol(self, service, body).await
    }

    async fn called(&self, asked: Asked, direct: Direct) -> Answered {
        let Some(session) = &asked.session else {
            // Whoever leaves drops this, and that cancels the call.
            let (_leaves, cancelled) = watch::channel(());
            return direct::answer(direct, asked.dispatcher, cancelled, ()).await;
        };
        match self.sessions.begin_call(session, direct.id.clone()) {
            Some((under_way, cancelled)) => direct::answer(direct, asked.dispatcher, cancelled, under_way).await,
            None => Refused::unknown_session().into_response(),
        }
    }

    /// Opens a session, if the protocol has nothing against it.
    async fn opened(&self, asked: Asked, body: Bytes) -> Answered {
        if body.len() > BEGINNING_BYTES_MAX {
            let message = format!("what opens a session has more than {BEGINNING_BYTES_MAX} bytes");
            return Refused::new(413, "too_large", message, "say less of the client").into_response();
        }
        let principal = asked.dispatcher.principal.clone();
        let answer = asked.of_the_protocol(self, &self.sessionless, body.clone()).await;
        let (mut head, answer) = answer.into_parts();
        let answer = answer.collect().await.map_or_else(|never| match never {}, |answer| answer.to_bytes());
        if let Some(begun) = Begun::of(&body, &answer) {
            let id = self.sessions.open(begun, &principal).await;
            let id = HeaderValue::from_str(&id).expect("it is hexadecimal");
            head.headers.insert(sessions::SESSION_ID, id);
        }
        Response::from_parts(head, Full::new(answer).boxed())
    }

    /// What a client that was refused reads (RFC 9728).
    fn metadata(&self, host: &str) -> Result<Answered, Refused> {
        if !self.who.asks_for_tokens() {
            return Err(Refused::new(404, "no_tokens", "this server asks for no token", "call it without one"));
        }
        let mut document = json!({
            "resource": format!("http://{host}/mcp"),
            "bearer_methods_supported": ["header"],
            "scopes_supported": Scope::ALL.map(Scope::name),
        });
        if let Some(jwt) = self.who.issuer() {
            document["resource"] = jwt.audience().into();
            document["authorization_servers"] = json!([jwt.issuer()]);
        }
        Ok(json_response(200, &document))
    }
}

/// A request that was let in.
struct Asked {
    dispatcher: Arc<Dispatcher>,
    parts: Parts,
    session: Option<Session>,
}

impl Asked {
    async fn of_the_protocol<S: HttpHandler>(
        self,
        server: &HttpServer<S>,
        service: &StreamableHttpService<S, LocalSessionManager>,
        body: Bytes,
    ) -> Answered {
        let Self { dispatcher, mut parts, session } = self;
        let is_stream = parts.method == Method::GET;
        parts.extensions.insert(dispatcher);
        if let Some(session) = &session {
            parts.extensions.insert(session.begun.clone());
            let needs_it = std::ptr::eq(service, &server.service) && parts.method != Method::DELETE;
            if needs_it && !session.made.initialized() {
                let (made, parts, service) = (session.made.clone(), parts.clone(), service.clone());
                // A beginning that is left in the middle cannot be begun again: who asked may go, and it goes on.
                let making = tokio::spawn(async move {
                    made.get_or_try_init(|| begin_of_the_protocol(parts, service)).await.is_ok()
                });
                // If it cannot be made, the request itself is told why.
                let _ = making.await;
            }
        }
        let answer = Box::pin(service.handle(Request::from_parts(parts, Full::new(body.clone())))).await;
        let answer = refused::in_words(answer, &body).await;
        match session.filter(|_| is_stream && answer.status().is_success()) {
            Some(session) => answer.map(|body| server.sessions.stream(&session, body)),
            None => answer,
        }
    }
}

/// Has the SDK make its session by a request that asks for nothing. The SDK says the beginning to a session once others can find
/// it, and a session that hears something else first ends: two requests at once, as a client's stream and its first question
/// are, must not make it.
async fn begin_of_the_protocol<S: HttpHandler>(
    mut parts: Parts,
    service: StreamableHttpService<S, LocalSessionManager>,
) -> Result<(), ()> {
    parts.method = Method::POST;
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    parts.headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
    let ping = Bytes::from_static(br#"{"jsonrpc":"2.0","id":"begin","method":"ping"}"#);
    let answer = Box::pin(service.handle(Request::from_parts(parts, Full::new(ping)))).await;
    let is_made = answer.status().is_success();
    let _ = answer.into_body().collect().await;
    if is_made { Ok(()) } else { Err(()) }
}

/// A client of the transport of 2024-11-05 asks for a stream first, without a session.
fn refuse_old_transport(method: &Method, headers: &HeaderMap) -> Result<(), Refused> {
    let asks_for_stream =
        headers.get_all(ACCEPT).iter().any(|accept| accept.as_bytes().starts_with(b"text/event-stream"));
    if method != Method::GET || !asks_for_stream || headers.contains_key(sessions::SESSION_ID) {
        return Ok(());
    }
    Err(Refused::old_transport(405))
}

/// An answer of one document.
fn json_response(status: u16, document: &serde_json::Value) -> Answered {
    json_text(status, document.to_string().into())
}

fn json_text(status: u16, text: Vec<u8>) -> Answered {
    let body = Full::new(Bytes::from(text)).boxed();
    let response = Response::builder().status(status).header(CONTENT_TYPE, "application/json").body(body);
    response.expect("the status is one of ours and the header is fixed")
}

/// A notification was taken.
fn accepted() -> Answered {
    let response = Response::builder().status(202).body(Empty::new().boxed());
    response.expect("the status is one of ours")
}

/// The dispatcher that a request was given.
pub fn dispatcher_of(extensions: &rmcp::model::Extensions) -> Option<&Arc<Dispatcher>> {
    extensions.get::<Parts>()?.extensions.get::<Arc<Dispatcher>>()
}

/// What the session of a request began with.
pub(super) fn begun_of(extensions: &rmcp::model::Extensions) -> Option<&Arc<Begun>> {
    extensions.get::<Parts>()?.extensions.get::<Arc<Begun>>()
}

/// Who comes without a token, where none is asked for.
fn local() -> Principal {
    Principal::new("local:http", Scope::Submit)
}
