//! Sessions of the protocol before 2026-07-28: so many, each its opener's, none for ever.
//!
//! A session is what its client said at its beginning, and that is all that most of its requests need. The SDK's own, a task
//! with channels that take 80 KB, is made for those that need more, and only then ([`SessionStore`] gives it the beginning).

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use data_encoding::HEXLOWER;
use http::header::HeaderMap;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use http_body_util::combinators::BoxBody;
use magpie_core::limits::HTTP_SESSIONS_MAX;
use rmcp::model::{InitializeRequestParams, RequestId};
use rmcp::transport::streamable_http_server::SessionManager as _;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::session::{SessionState, SessionStore, SessionStoreError};
use serde::Deserialize;
use tokio::sync::{OnceCell, watch};

use super::refused::Refused;
use crate::mcp::handler::BoxFuture;
use crate::mcp::principal::Principal;
use crate::mcp::server::running::RunningCalls;

pub const SESSION_ID: &str = "mcp-session-id";
pub const PROTOCOL_VERSION: &str = "mcp-protocol-version";
/// A session that nobody used for so long ends.
const IDLE: Duration = Duration::from_secs(300);
/// What opens a session, which is kept for as long as it lasts.
pub const BEGINNING_BYTES_MAX: usize = 64 * 1024;
/// How often it is looked for those.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// What a client said when it opened its session, and what was agreed on.
#[derive(Debug)]
pub struct Begun {
    pub client: InitializeRequestParams,
    version: String,
}

#[derive(Deserialize)]
struct Asked {
    params: InitializeRequestParams,
}

#[derive(Deserialize)]
struct Agreed {
    result: AgreedVersion,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AgreedVersion {
    protocol_version: String,
}

impl Begun {
    /// None, if the answer is not that a session begins.
    pub fn of(request: &[u8], answer: &[u8]) -> Option<Self> {
        let Asked { params } = serde_json::from_slice(request).ok()?;
        let Agreed { result } = serde_json::from_slice(answer).ok()?;
        Some(Self { client: params, version: result.protocol_version })
    }

    /// Whether a request is of the version that was agreed on, as one that names none is.
    pub fn is_spoken_in(&self, headers: &HeaderMap) -> bool {
        let mut versions = headers.get_all(PROTOCOL_VERSION).iter();
        versions.next().is_none_or(|version| version.as_bytes() == self.version.as_bytes()) && versions.next().is_none()
    }
}

/// The session that a request is in.
#[derive(Debug, Clone)]
pub struct Session {
    id: Arc<str>,
    pub begun: Arc<Begun>,
    /// Set once the SDK has made one of its own: what comes to that before its beginning was said to it ends it.
    pub made: Arc<OnceCell<()>>,
}

pub struct Sessions {
    local: Arc<LocalSessionManager>,
    table: Arc<Table>,
}

/// All sessions, by their ids.
#[derive(Default)]
struct Table(Mutex<BTreeMap<Arc<str>, Opened>>);

#[derive(Debug)]
struct Opened {
    principal: Arc<str>,
    begun: Arc<Begun>,
    made: Arc<OnceCell<()>>,
    used: Instant,
    /// Streams on which it is told things now.
    streams: usize,
    /// As many as its principal may have.
    calls: RunningCalls,
}

impl Opened {
    fn is_over(&self, now: Instant) -> bool {
        self.streams == 0 && self.calls.is_empty() && now.saturating_duration_since(self.used) > IDLE
    }
}

impl Table {
    fn opened(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Opened>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among a session's calls.
pub struct UnderWay {
    table: Arc<Table>,
    session: Arc<str>,
    number: u64,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(opened) = self.table.opened().get_mut(&self.session) {
            opened.calls.end(self.number);
            opened.used = Instant::now();
        }
    }
}

/// A stream of a session: while it is open, the session is used.
struct OpenStream {
    body: BoxBody<Bytes, Infallible>,
    table: Arc<Table>,
    session: Arc<str>,
}

impl Body for OpenStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        if let Some(opened) = self.table.opened().get_mut(&self.session) {
            opened.streams = opened.streams.saturating_sub(1);
            opened.used = Instant::now();
        }
    }
}

impl Default for Sessions {
    fn default() -> Self {
        let mut local = LocalSessionManager::default();
        // They end with their entries of the table.
        local.session_config.keep_alive = None;
        Self { local: Arc::new(local), table: Arc::default() }
    }
}

impl Sessions {
    pub fn local(&self) -> Arc<LocalSessionManager> {
        self.local.clone()
    }

    /// What the SDK's sessions begin with.
    pub fn store(&self) -> Arc<dyn SessionStore> {
        Arc::new(Beginnings(self.table.clone()))
    }

    /// The session that a request names.
    ///
    /// # Errors
    /// 404 for a session that another opened, as for one that there is not.
    pub fn check(&self, headers: &HeaderMap, principal: &Principal) -> Result<Option<Session>, Refused> {
        let Some(id) = headers.get(SESSION_ID) else { return Ok(None) };
        let (mut opened, now) = (self.table.opened(), Instant::now());
        let found = id.to_str().ok().and_then(|id| opened.get_key_value(id)).map(|(id, _)| id.clone());
        let session = found.and_then(|id| Some((opened.get_mut(&id)?, id)));
        match session.filter(|(opened, _)| opened.principal == principal.name && !opened.is_over(now)) {
            Some((opened, id)) => {
                opened.used = now;
                Ok(Some(Session { id, begun: opened.begun.clone(), made: opened.made.clone() }))
            }
            None => Err(Refused::unknown_session()),
        }
    }

    /// Opens one, and gives its id.
    pub async fn open(&self, begun: Begun, principal: &Principal) -> Arc<str> {
        self.make_room().await;
        let id: Arc<str> = HEXLOWER.encode(&rand::random::<[u8; 16]>()).into();
        let (principal, begun) = (principal.name.clone(), Arc::new(begun));
        let (made, calls) = (Arc::default(), RunningCalls::default());
        let opened = Opened { principal, begun, made, used: Instant::now(), streams: 0, calls };
        self.table.opened().insert(id.clone(), opened);
        id
    }

    /// Whether the SDK has made one of its own.
    pub async fn is_made(&self, session: &Session) -> bool {
        self.local.sessions.read().await.contains_key(&*session.id)
    }

    /// Takes a call in, and gives what has no sender any more once it is cancelled. Nothing, if the session has ended.
    pub fn begin_call(&self, session: &Session, request: RequestId) -> Option<(UnderWay, watch::Receiver<()>)> {
        let (number, cancelled) = self.table.opened().get_mut(&session.id)?.calls.begin(request);
        Some((UnderWay { table: self.table.clone(), session: session.id.clone(), number }, cancelled))
    }

    /// Cancels the calls of that id.
    pub fn cancel(&self, session: &Session, request: &RequestId) {
        if let Some(opened) = self.table.opened().get_mut(&session.id) {
            opened.calls.cancel(request);
        }
    }

    /// The stream of a session, which uses it.
    pub fn stream(&self, session: &Session, body: BoxBody<Bytes, Infallible>) -> BoxBody<Bytes, Infallible> {
        if let Some(opened) = self.table.opened().get_mut(&session.id) {
            opened.streams += 1;
        }
        OpenStream { body, table: self.table.clone(), session: session.id.clone() }.boxed()
    }

    /// Ends the session that was longest not used, if there are too many: of whoever has the most.
    async fn make_room(&self) {
        if self.table.opened().len() < HTTP_SESSIONS_MAX {
            return;
        }
        self.end_idle(Instant::now()).await;
        let victim = {
            let opened = self.table.opened();
            if opened.len() < HTTP_SESSIONS_MAX { None } else { victim(&opened) }
        };
        if let Some(id) = victim {
            self.table.opened().remove(&id);
            self.close(&id).await;
        }
    }

    /// Ends sessions that nobody uses any more, for as long as it is awaited.
    pub async fn tend(&self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            self.end_idle(Instant::now()).await;
        }
    }

    async fn end_idle(&self, now: Instant) {
        self.table.opened().retain(|_, opened| !opened.is_over(now));
        let made: Vec<Arc<str>> = self.local.sessions.read().await.keys().cloned().collect();
        for id in made {
            let is_over = !self.table.opened().contains_key(&id);
            if is_over {
                self.close(&id).await;
            }
        }
    }

    async fn close(&self, id: &Arc<str>) {
        // One that ended by itself meanwhile is closed as well.
        let _ = self.local.close_session(id).await;
    }
}

/// The table, as the SDK asks it.
struct Beginnings(Arc<Table>);

impl SessionStore for Beginnings {
    fn load<'a, 'b, 'c>(&'a self, id: &'b str) -> BoxFuture<'c, Result<Option<SessionState>, SessionStoreError>>
    where
        'a: 'c,
        'b: 'c,
    {
        let state = self.0.opened().get(id).map(|opened| SessionState::new(opened.begun.client.clone()));
        Box::pin(std::future::ready(Ok(state)))
    }

    /// It is in the table before the SDK makes one.
    fn store<'a, 'b, 'c, 'd>(&'a self, _: &'b str, _: &'c SessionState) -> BoxFuture<'d, Result<(), SessionStoreError>>
    where
        'a: 'd,
        'b: 'd,
        'c: 'd,
    {
        Box::pin(std::future::ready(Ok(())))
    }

    fn delete<'a, 'b, 'c>(&'a self, id: &'b str) -> BoxFuture<'c, Result<(), SessionStoreError>>
    where
        'a: 'c,
        'b: 'c,
    {
        self.0.opened().remove(id);
        Box::pin(std::future::ready(Ok(())))
    }
}

fn victim(opened: &BTreeMap<Arc<str>, Opened>) -> Option<Arc<str>> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for session in opened.values() {
        *counts.entry(&session.principal).or_default() += 1;
    }
    let (most, _) = counts.into_iter().max_by_key(|(_, count)| *count)?;
    let theirs = opened.iter().filter(|(_, session)| &*session.principal == most);
    theirs.min_by_key(|(_, session)| session.used).map(|(id, _)| id.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::catalog::Scope;

    const OPENS: &[u8] =
        br#"{"params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"a","version":"1"}}}"#;
    const AGREES: &[u8] = br#"{"result":{"protocolVersion":"2025-11-25"}}"#;

    fn begun() -> Begun {
        Begun::of(OPENS, AGREES).unwrap()
    }

    fn header(id: &str) -> HeaderMap {
        HeaderMap::from_iter([(http::HeaderName::from_static(SESSION_ID), id.parse().unwrap())])
    }

    #[tokio::test]
    async fn a_session_is_its_openers_alone() {
        let (ann, bob) = (Principal::new("ann", Scope::Read), Principal::new("bob", Scope::Admin));
        let sessions = Sessions::default();
        let one = sessions.open(begun(), &ann).await;
        let session = sessions.check(&header(&one), &ann).unwrap().unwrap();
        assert_eq!((&session.id, &*session.begun.client.client_info.name), (&one, "a"));
        let (others, none) = (sessions.check(&header(&one), &bob), sessions.check(&header("two"), &ann));
        let (others, none) = (others.unwrap_err(), none.unwrap_err());
        assert_eq!((others.status, &others), (404, &none), "they cannot be told apart");
        assert!(sessions.check(&HeaderMap::new(), &bob).unwrap().is_none());
    }

    #[test]
    fn an_answer_that_is_an_error_begins_nothing() {
        assert!(Begun::of(OPENS, br#"{"error":{"code":1,"message":"no"}}"#).is_none());
        assert!(Begun::of(b"{}", AGREES).is_none());
        let version = |text: &'static str| (http::HeaderName::from_static(PROTOCOL_VERSION), text.parse().unwrap());
        assert!(begun().is_spoken_in(&HeaderMap::new()));
        assert!(begun().is_spoken_in(&HeaderMap::from_iter([version("2025-11-25")])));
        assert!(!begun().is_spoken_in(&HeaderMap::from_iter([version("2025-06-18")])));
    }

    #[test]
    fn who_has_the_most_sessions_gives_the_one_that_was_longest_not_used() {
        let (began, begun) = (Instant::now(), Arc::new(begun()));
        let session = |principal: &str, seconds| Opened {
            principal: principal.into(),
            begun: begun.clone(),
            made: Arc::default(),
            used: began + Duration::from_secs(seconds),
            streams: 0,
            calls: RunningCalls::default(),
        };
        let mut opened: BTreeMap<Arc<str>, Opened> =
            (0..5).map(|n| (format!("many-{n}").into(), session("many", 10 - n))).collect();
        opened.insert("few-0".into(), session("few", 0));
        assert_eq!(victim(&opened).as_deref(), Some("many-4"));
    }

    #[tokio::test]
    async fn there_are_no_more_than_so_many_and_those_that_nobody_used_go() {
        let (ann, sessions) = (Principal::new("ann", Scope::Read), Sessions::default());
        let first = sessions.open(begun(), &ann).await;
        for _ in 0..HTTP_SESSIONS_MAX {
            sessions.open(begun(), &ann).await;
        }
        assert_eq!(sessions.table.opened().len(), HTTP_SESSIONS_MAX);
        assert_eq!(sessions.check(&header(&first), &ann).unwrap_err().status, 404);
        sessions.end_idle(Instant::now() + IDLE / 2).await;
        assert_eq!(sessions.table.opened().len(), HTTP_SESSIONS_MAX);
        sessions.end_idle(Instant::now() + IDLE * 2).await;
        assert_eq!(sessions.table.opened().len(), 0);
    }

    #[tokio::test]
    async fn a_session_with_a_stream_or_a_call_is_used() {
        let (ann, sessions) = (Principal::new("ann", Scope::Read), Sessions::default());
        let id = sessions.open(begun(), &ann).await;
        let session = sessions.check(&header(&id), &ann).unwrap().unwrap();
        let later = Instant::now() + IDLE * 2;
        let stream = sessions.stream(&session, http_body_util::Empty::new().boxed());
        let (under_way, _) = sessions.begin_call(&session, RequestId::Number(1)).unwrap();
        sessions.end_idle(later).await;
        drop(stream);
        sessions.end_idle(later).await;
        assert_eq!(sessions.table.opened().len(), 1);
        drop(under_way);
        sessions.end_idle(later).await;
        assert_eq!(sessions.table.opened().len(), 0);
    }

    #[tokio::test]
    async fn a_call_is_cancelled_by_its_id_and_by_the_end_of_its_session() {
        let (ann, sessions) = (Principal::new("ann", Scope::Read), Sessions::default());
        let id = sessions.open(begun(), &ann).await;
        let session = sessions.check(&header(&id), &ann).unwrap().unwrap();
        let begin = |n| sessions.begin_call(&session, RequestId::Number(n)).unwrap();
        let ((_one, first), (_two, second)) = (begin(1), begin(2));
        sessions.cancel(&session, &RequestId::Number(1));
        assert_eq!((first.has_changed().is_err(), second.has_changed().is_err()), (true, false));
        sessions.store().delete(&id).await.unwrap();
        assert!(second.has_changed().is_err());
    }
}
