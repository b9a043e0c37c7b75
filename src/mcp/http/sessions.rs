//! Sessions of the protocol before 2026-07-28: so many, each its opener's, none for ever.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::header::HeaderMap;
use magpie_core::limits::HTTP_SESSIONS_MAX;
use rmcp::transport::streamable_http_server::SessionManager as _;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;

use super::refused::Refused;
use crate::mcp::principal::Principal;

pub const SESSION_ID: &str = "mcp-session-id";
/// A session that nobody used for so long ends.
const IDLE: Duration = Duration::from_secs(300);

pub struct Sessions {
    local: Arc<LocalSessionManager>,
    opened: Mutex<BTreeMap<Arc<str>, Opened>>,
}

#[derive(Debug, Clone)]
struct Opened {
    principal: Arc<str>,
    used: Instant,
}

impl Default for Sessions {
    fn default() -> Self {
        let mut local = LocalSessionManager::default();
        local.session_config.keep_alive = Some(IDLE);
        Self { local: Arc::new(local), opened: Mutex::default() }
    }
}

impl Sessions {
    pub fn local(&self) -> Arc<LocalSessionManager> {
        self.local.clone()
    }

    fn opened_ones(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Opened>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// # Errors
    /// 404 for a session that another opened, as for one that there is not.
    pub fn check(&self, headers: &HeaderMap, principal: &Principal) -> Result<(), Refused> {
        let Some(id) = headers.get(SESSION_ID) else { return Ok(()) };
        let mut opened = self.opened_ones();
        let session = id.to_str().ok().and_then(|id| opened.get_mut(id));
        match session.filter(|session| session.principal == principal.name) {
            Some(session) => {
                session.used = Instant::now();
                Ok(())
            }
            None => Err(Refused::new(404, "unknown_session", "there is no such session", "open one with initialize")),
        }
    }

    /// Ends the session that was longest not used, if there are too many: of whoever has the most.
    pub async fn make_room(&self) {
        if self.opened_ones().len() < HTTP_SESSIONS_MAX {
            return;
        }
        let live: Vec<Arc<str>> = self.local.sessions.read().await.keys().cloned().collect();
        let victim = {
            let mut opened = self.opened_ones();
            opened.retain(|id, _| live.contains(id));
            if opened.len() < HTTP_SESSIONS_MAX { None } else { victim(&opened) }
        };
        if let Some(id) = victim {
            self.opened_ones().remove(&id);
            // One that ended by itself meanwhile has made room as well.
            let _ = self.local.close_session(&id).await;
        }
    }

    /// Remembers whose session an answer opened.
    pub fn opened(&self, headers: &HeaderMap, principal: &Principal) {
        let Some(id) = headers.get(SESSION_ID).and_then(|id| id.to_str().ok()) else { return };
        let session = Opened { principal: principal.name.clone(), used: Instant::now() };
        self.opened_ones().insert(id.into(), session);
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

    fn header(id: &str) -> HeaderMap {
        HeaderMap::from_iter([(http::HeaderName::from_static(SESSION_ID), id.parse().unwrap())])
    }

    #[test]
    fn a_session_is_its_openers_alone() {
        let (ann, bob) = (Principal::new("ann", Scope::Read), Principal::new("bob", Scope::Admin));
        let sessions = Sessions::default();
        sessions.opened(&header("one"), &ann);
        assert!(sessions.check(&header("one"), &ann).is_ok());
        let (others, none) = (sessions.check(&header("one"), &bob), sessions.check(&header("two"), &ann));
        assert_eq!((others.as_ref().unwrap_err().status, &others), (404, &none), "they cannot be told apart");
        assert!(sessions.check(&HeaderMap::new(), &bob).is_ok());
    }

    #[test]
    fn who_has_the_most_sessions_gives_the_one_that_was_longest_not_used() {
        let began = Instant::now();
        let session = |principal: &str, seconds| Opened {
            principal: principal.into(),
            used: began + Duration::from_secs(seconds),
        };
        let mut opened: BTreeMap<Arc<str>, Opened> =
            (0..5).map(|n| (format!("many-{n}").into(), session("many", 10 - n))).collect();
        opened.insert("few-0".into(), session("few", 0));
        assert_eq!(victim(&opened).as_deref(), Some("many-4"));
    }

    #[tokio::test]
    async fn sessions_that_ended_leave_their_places() {
        let (ann, sessions) = (Principal::new("ann", Scope::Read), Sessions::default());
        for n in 0..HTTP_SESSIONS_MAX {
            sessions.opened(&header(&n.to_string()), &ann);
        }
        sessions.make_room().await;
        assert_eq!(sessions.opened_ones().len(), 0, "none of them is live");
    }
}
