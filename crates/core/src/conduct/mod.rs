//! How peers behave: what one may send per second, what it did wrong, and how long it is kept out.
//!
//! An offence is what no honest node of any version does. Points for it wear off; who has too many is banned, each
//! time for longer. An honest peer that is merely fast is slowed or refused, and scores nothing.

mod pace;

use std::collections::BTreeMap;

use crate::ids::PeerId;
use crate::limits;

pub use pace::Pace;

/// What a peer did that no honest one does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Offence {
    /// Bytes that are no frame, or no message, of any version.
    Malformed,
    /// A frame that announces more bytes than a frame may have.
    Oversize,
    /// It passed on what its signer never signed.
    WrongSignature,
    /// Far more than an honest peer ever sends.
    Flood,
}

impl Offence {
    /// What it counts, of [`limits::OFFENCE_POINTS_MAX`].
    fn points(self) -> u64 {
        match self {
            Self::Malformed => 10,
            Self::Oversize => 20,
            Self::WrongSignature => 25,
            Self::Flood => 1,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed frames",
            Self::Oversize => "oversize frames",
            Self::WrongSignature => "wrong signatures",
            Self::Flood => "flooding",
        }
    }
}

/// A peer that is kept out for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ban {
    pub until_ms: u64,
    /// How often it was banned, this time included.
    pub times: u32,
    /// The offence that was one too many.
    pub offence: Offence,
}

#[derive(Debug, Clone, Copy, Default)]
struct Record {
    points: u64,
    /// When the points were last counted.
    counted_ms: u64,
    bans: u32,
    /// The last one, which may be over.
    ban: Option<Ban>,
}

impl Record {
    fn points_at(&self, now_ms: u64) -> u64 {
        self.points.saturating_sub(now_ms.saturating_sub(self.counted_ms) / limits::OFFENCE_POINT_WEARS_OFF_MS)
    }

    fn ban_at(&self, now_ms: u64) -> Option<Ban> {
        self.ban.filter(|ban| ban.until_ms > now_ms)
    }

    /// What goes first when there are too many: nobody who is banned while others are not, then who did least and longest
    /// ago.
    fn weight(&self, now_ms: u64) -> (u64, u64, u64) {
        (self.ban_at(now_ms).map_or(0, |ban| ban.until_ms), self.points_at(now_ms), self.counted_ms)
    }
}

/// What is known against peers, of at most [`limits::OFFENDERS_MAX`].
#[derive(Debug, Clone, Default)]
pub struct Conduct {
    records: BTreeMap<PeerId, Record>,
}

impl Conduct {
    /// Notes an offence at `now_ms`, of any clock that only grows; tells the ban if that was one too many. What a banned
    /// peer still does counts for nothing: it was on its way.
    pub fn note(&mut self, peer: PeerId, offence: Offence, now_ms: u64) -> Option<Ban> {
        self.make_room(&peer, now_ms);
        let record = self.records.entry(peer).or_default();
        if record.ban_at(now_ms).is_some() {
            return None;
        }
        let calm_since_ms = record.ban.map_or(0, |ban| ban.until_ms).max(record.counted_ms);
        if now_ms.saturating_sub(calm_since_ms) >= limits::BAN_FORGOTTEN_MS {
            record.bans = 0;
        }
        (record.points, record.counted_ms) = (record.points_at(now_ms) + offence.points(), now_ms);
        if record.points < limits::OFFENCE_POINTS_MAX {
            return None;
        }
        let for_ms = limits::BAN_FIRST_MS.saturating_mul(1 << record.bans.min(32)).min(limits::BAN_MS_MAX);
        record.bans = record.bans.saturating_add(1);
        record.points = 0;
        record.ban = Some(Ban { until_ms: now_ms.saturating_add(for_ms), times: record.bans, offence });
        record.ban
    }

    /// The ban that holds for `peer` at `now_ms`.
    pub fn ban_of(&self, peer: &PeerId, now_ms: u64) -> Option<Ban> {
        self.records.get(peer).and_then(|record| record.ban_at(now_ms))
    }

    /// All bans that hold at `now_ms`, by peer.
    pub fn bans(&self, now_ms: u64) -> impl Iterator<Item = (PeerId, Ban)> {
        self.records.iter().filter_map(move |(peer, record)| Some((*peer, record.ban_at(now_ms)?)))
    }

    fn make_room(&mut self, for_peer: &PeerId, now_ms: u64) {
        if self.records.len() < limits::OFFENDERS_MAX || self.records.contains_key(for_peer) {
            return;
        }
        let lightest = self.records.iter().min_by_key(|(_, record)| record.weight(now_ms)).map(|(peer, _)| *peer);
        lightest.and_then(|peer| self.records.remove(&peer));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EVE: PeerId = PeerId([7; 32]);
    const OFFENCES: [Offence; 4] = [Offence::Malformed, Offence::Oversize, Offence::WrongSignature, Offence::Flood];

    /// Offends until the ban comes.
    fn banned(conduct: &mut Conduct, peer: PeerId, now_ms: u64) -> Ban {
        (0..1_000).find_map(|_| conduct.note(peer, Offence::Malformed, now_ms)).expect("it is banned in the end")
    }

    #[test]
    fn ten_malformed_frames_in_a_row_are_a_ban_and_one_now_and_then_never_is() {
        let mut conduct = Conduct::default();
        let noted: Vec<_> = (0..10).map(|_| conduct.note(EVE, Offence::Malformed, 5).is_some()).collect();
        assert_eq!(noted, [[false; 9].as_slice(), &[true]].concat());
        let mut conduct = Conduct::default();
        let now_and_then = (0..1_000).map(|n| n * 10 * limits::OFFENCE_POINT_WEARS_OFF_MS);
        assert!(now_and_then.map(|now_ms| conduct.note(EVE, Offence::Malformed, now_ms)).all(|ban| ban.is_none()));
    }

    #[test]
    fn each_ban_is_twice_the_last_until_the_longest_and_a_calm_day_forgives() {
        let (mut conduct, mut now_ms) = (Conduct::default(), 0);
        let mut lengths = Vec::new();
        for times in 1..=12 {
            let ban = banned(&mut conduct, EVE, now_ms);
            assert_eq!((ban.times, conduct.ban_of(&EVE, ban.until_ms - 1)), (times, Some(ban)));
            assert_eq!(conduct.ban_of(&EVE, ban.until_ms), None);
            lengths.push(ban.until_ms - now_ms);
            now_ms = ban.until_ms;
        }
        assert_eq!(lengths[..3], [limits::BAN_FIRST_MS, 2 * limits::BAN_FIRST_MS, 4 * limits::BAN_FIRST_MS]);
        assert_eq!(lengths[11], limits::BAN_MS_MAX);
        assert_eq!(banned(&mut conduct, EVE, now_ms + limits::BAN_FORGOTTEN_MS).times, 1);
    }

    #[test]
    fn a_crowd_of_offenders_frees_nobody_who_is_banned() {
        let mut conduct = Conduct::default();
        let ban = banned(&mut conduct, EVE, 0);
        for n in 0..2 * limits::OFFENDERS_MAX as u64 {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&n.to_be_bytes());
            conduct.note(PeerId(id), Offence::Oversize, 1);
        }
        assert_eq!(conduct.records.len(), limits::OFFENDERS_MAX);
        assert_eq!(conduct.bans(1).collect::<Vec<_>>(), [(EVE, ban)]);
    }

    proptest! {
        /// However it goes about it, a peer is banned no earlier than its points say, for no longer than the longest.
        #[test]
        fn bans_are_earned_and_bounded(steps in prop::collection::vec((0usize..4, 0u64..3_000), 1..300)) {
            let (mut conduct, mut now_ms, mut points) = (Conduct::default(), 0, 0);
            for (which, pause_ms) in steps {
                now_ms += pause_ms;
                let held = conduct.ban_of(&EVE, now_ms).is_some();
                let noted = conduct.note(EVE, OFFENCES[which], now_ms);
                if held {
                    prop_assert_eq!(noted, None);
                    continue;
                }
                points += OFFENCES[which].points();
                if let Some(ban) = noted {
                    prop_assert!(points >= limits::OFFENCE_POINTS_MAX);
                    prop_assert!(ban.until_ms > now_ms && ban.until_ms - now_ms <= limits::BAN_MS_MAX);
                    points = 0;
                }
            }
        }
    }
}
