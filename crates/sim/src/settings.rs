//! What the homes of a run are configured with: limits, of which some are held by one home for all, shares of grants,
//! and how long ended work is kept.

use std::collections::BTreeMap;

use magpie_core::ids::LedgerTag;
use magpie_core::limiter::{LimitKey, Rate};
use magpie_core::queue::{QueueSettings, RetentionPolicy};
use magpie_core::task::TaskKind;
use magpie_core::time::DurationMs;

use crate::rng::Rng;
use crate::workload::NAMESPACES;

/// Names of a concurrency key and of a rate key; both have a limit at every home.
pub const PLACES: &str = "places";
pub const STARTS: &str = "starts";

const NODES_KINDS: [TaskKind; 4] = [TaskKind::Noop, TaskKind::Sleep, TaskKind::Noop, TaskKind::Embed];
/// No node runs it.
pub const AGENTS_KIND: TaskKind = TaskKind::Tool;

#[derive(Debug, Clone)]
pub struct Settings {
    /// The home whose limits the others borrow from.
    pub limiter: LedgerTag,
    pub queue: QueueSettings,
    pub retention: RetentionPolicy,
    /// Workers that are no nodes. Where there are some, some tasks are only theirs.
    pub agents: u64,
}

impl Settings {
    /// From a source of its own, as the faults.
    pub fn draw(rng: &mut Rng, homes: &[LedgerTag]) -> Self {
        let mut rng = rng.split();
        let limiter = rng.pick(homes).copied().unwrap_or(LedgerTag([0; 5]));
        let (count, burst) = (rng.between(4, 20), rng.between(1, 4));
        let rate: Rate = format!("{count}/s burst {burst}").parse().expect("a drawn rate is within its bounds");
        let queue = QueueSettings {
            weights: BTreeMap::from([(NAMESPACES[1].to_owned(), rng.between(1, 5) as u32)]),
            concurrency: BTreeMap::from([(PLACES.to_owned(), rng.between(1, 3) as u32)]),
            rates: BTreeMap::from([(STARTS.to_owned(), rate)]),
            ..QueueSettings::default()
        };
        Self { limiter, queue, retention: retention(&mut rng), agents: rng.below(5).saturating_sub(2) }
    }

    /// A concurrency key of the task's own home, or of the one that holds it for all; often none.
    pub fn draw_concurrency_key(&self, rng: &mut Rng) -> Option<LimitKey> {
        rng.chance(200).then(|| self.draw_key(rng, PLACES))
    }

    pub fn draw_rate_key(&self, rng: &mut Rng) -> Option<LimitKey> {
        rng.chance(120).then(|| self.draw_key(rng, STARTS))
    }

    /// The kind of a task: that of agents now and then.
    pub fn draw_kind(&self, rng: &mut Rng) -> TaskKind {
        let drawn = NODES_KINDS[rng.below(NODES_KINDS.len() as u64) as usize];
        if self.agents > 0 && rng.chance(250) { AGENTS_KIND } else { drawn }
    }

    fn draw_key(&self, rng: &mut Rng, name: &str) -> LimitKey {
        LimitKey { name: name.to_owned(), home: rng.chance(750).then_some(self.limiter) }
    }
}

/// One run in three lets ended work go within seconds.
fn retention(rng: &mut Rng) -> RetentionPolicy {
    let (terminal, dead) = (DurationMs(rng.between(2_000, 12_000)), DurationMs(rng.between(2_000, 20_000)));
    if rng.chance(333) {
        RetentionPolicy { terminal, dead, ..RetentionPolicy::default() }
    } else {
        RetentionPolicy::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_draw_short_and_long_retention_and_every_limit_is_a_valid_one() {
        let homes = [LedgerTag([1; 5]), LedgerTag([2; 5])];
        let drawn: Vec<Settings> = (0..100).map(|seed| Settings::draw(&mut Rng::new(seed), &homes)).collect();
        assert!(drawn.iter().all(|settings| settings.queue.validate().is_ok()));
        let usual = drawn.iter().filter(|settings| settings.retention == RetentionPolicy::default()).count();
        assert!((50..80).contains(&usual), "{usual}");
        assert!(homes.iter().all(|home| drawn.iter().any(|settings| settings.limiter == *home)));
    }

    #[test]
    fn keys_are_of_the_own_home_and_of_the_one_that_holds_them_for_all() {
        let mut rng = Rng::new(5);
        let settings = Settings::draw(&mut rng, &[LedgerTag([1; 5])]);
        let keys: Vec<LimitKey> = (0..200).filter_map(|_| settings.draw_concurrency_key(&mut rng)).collect();
        let shared = keys.iter().filter(|key| key.home == Some(settings.limiter)).count();
        assert!(shared > keys.len() / 2 && shared < keys.len(), "{shared} of {}", keys.len());
    }
}
