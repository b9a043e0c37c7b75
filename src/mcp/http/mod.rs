//! MCP over streamable HTTP: who may come in, which tools a path names, and the protocol behind.
//!
//! [`gate`] looks at where a request says it goes and comes from, `who` at its token, `route` at its path; then it
//! is the protocol's. Both of its eras are served: 2026-07-28 without state, 2025-11-25 in `sessions`.

mod body;
pub mod gate;
mod held;
pub mod jwt;
mod outline;
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
use http::{Method, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use magpie_core::limits;
use rmcp::ServerHandler;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use serde_json::json;

use body::Bodies;
use gate::Gate;
use jwt::JwtRules;
use outline::Outline;
use refused::Refused;
use route::Route;
use sessions::Sessions;
use tokens::TokensError;
use who::Who;

use super::catalog::{Catalog, Scope};
use super::dispatch::Dispatcher;
use super::link::{Door, NodeLink};
use super::principal::Principal;

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
}

/// A handler of the protocol.
pub trait HttpHandler: ServerHandler {}

impl<S: ServerHandler> HttpHandler for S {}

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
        let config = StreamableHttpServerConfig::default()
            .disable_allowed_hosts()
            .with_json_response(true)
            .with_max_request_body_bytes(limits::HTTP_BODY_BYTES_MAX);
        let service = StreamableHttpService::new(move || Ok(make()), sessions.local(), config);
        let bodies = Bodies::new(limits::HTTP_BODY_BYTES_MAX, limits::HTTP_BODIES_BYTES_MAX);
        let who = Who::new(rules.tokens.as_deref(), rules.jwt.clone())?;
        Ok(Self { gate: Gate::new(rules), who, catalog: Catalog::shared(), door, sessions, bodies, service })
    }

    /// Makes the calls of its callers that waited and were approved, for as long as it is awaited.
    pub async fn make_approved_calls(&self) {
        if self.who.keeps_tokens() {
            held::make_all(&self.who, self.door.clone()).await;
        }
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
        self.sessions.check(request.headers(), &principal)?;
        let (mut parts, body) = request.into_parts();
        let body = self.bodies.read(body).await?;
        let link = NodeLink::inside(self.door.clone(), principal.clone());
        let dispatcher = Arc::new(Dispatcher::new(&surface, link, principal.clone()));
        if parts.method == Method::POST {
            let outline = Outline::of(&body.bytes)?;
            if let Some(lacks) = outline.call().and_then(|(name, arguments)| dispatcher.lacks(name, arguments)) {
                return Err(Refused::low_scope(&lacks, &self.who, &host));
            }
            if outline.opens_session() {
                self.sessions.make_room().await;
            }
        }
        parts.extensions.insert(dispatcher);
        let response = Box::pin(self.service.handle(Request::from_parts(parts, Full::new(body.bytes.clone())))).await;
        self.sessions.opened(response.headers(), &principal);
        Ok(response)
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
    let body = Full::new(Bytes::from(document.to_string())).boxed();
    let response = Response::builder().status(status).header(CONTENT_TYPE, "application/json").body(body);
    response.expect("the status is one of ours and the header is fixed")
}

/// The dispatcher that a request was given.
pub fn dispatcher_of(extensions: &rmcp::model::Extensions) -> Option<&Arc<Dispatcher>> {
    extensions.get::<http::request::Parts>()?.extensions.get::<Arc<Dispatcher>>()
}

/// Who comes without a token, where none is asked for.
fn local() -> Principal {
    Principal::new("local:http", Scope::Submit)
}
