//! Tools of mounted servers that a node has just told of. A call of one asks first what it is; many calls ask once a second.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::messages::mount::MountedTool;

/// How long what was told is taken for what is: a node itself hears of a change no sooner from the server.
const KNOWN_FOR: Duration = Duration::from_secs(1);
/// Beyond these, all are asked for again.
const KNOWN_MAX: usize = 64;

/// By server and tool.
#[derive(Default)]
pub struct KnownTools(Mutex<BTreeMap<(String, String), Known>>);

struct Known {
    at: Instant,
    tool: Arc<MountedTool>,
}

impl KnownTools {
    pub fn get(&self, server: &str, tool: &str, now: Instant) -> Option<Arc<MountedTool>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get(&(server.to_owned(), tool.to_owned()))?;
        (now.saturating_duration_since(known.at) < KNOWN_FOR).then(|| known.tool.clone())
    }

    pub fn keep(&self, tool: Arc<MountedTool>, now: Instant) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert((tool.server.clone(), tool.tool.clone()), Known { at: now, tool });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use magpie_core::payload::JsonText;

    fn tool(n: usize) -> Arc<MountedTool> {
        Arc::new(MountedTool {
            server: "shop".to_owned(),
            tool: n.to_string(),
            title: String::new(),
            description: String::new(),
            input_schema: JsonText::of(&serde_json::json!({})),
            output_schema: None,
            read_only: true,
            destructive: false,
            idempotent: true,
            open_world: false,
            scope: "read".to_owned(),
        })
    }

    #[test]
    fn what_was_told_is_known_for_a_while_and_so_much_of_it() {
        let (known, now) = (KnownTools::default(), Instant::now());
        known.keep(tool(0), now);
        assert!(known.get("shop", "0", now + KNOWN_FOR / 2).is_some());
        assert!(known.get("shop", "0", now + KNOWN_FOR).is_none());
        assert!(known.get("shop", "1", now).is_none() && known.get("mall", "0", now).is_none());
        (0..10 * KNOWN_MAX).for_each(|n| known.keep(tool(n), now));
        let kept = (0..10 * KNOWN_MAX).filter(|n| known.get("shop", &n.to_string(), now).is_some()).count();
        assert!((1..=KNOWN_MAX).contains(&kept), "{kept}");
    }
}
