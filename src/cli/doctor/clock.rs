//! This machine's clock beside those of its peers, which they tell with each heartbeat.

use magpie_core::limits::CLOCK_JUMP_MS;

use super::{Check, Heard};
use crate::cli::human;
use crate::messages::registry::PeerView;

const NAME: &str = "clock";

pub(super) fn check(heard: &Heard) -> Check {
    if let Some(alarm) = heard.status.queue.clock_alarm {
        let by = human::duration(alarm.jumped_ms.unsigned_abs());
        let way = if alarm.jumped_ms < 0 { "back" } else { "ahead" };
        let remedy =
            "set the clock right (`timedatectl set-ntp true`); deadlines and schedules wait until it is believed";
        return Check::fault(NAME, format!("the wall clock jumped {by} {way}"), remedy);
    }
    beside(&heard.status.peers)
}

/// Where most peers agree with each other and not with this machine, it is this machine's clock; else it is theirs.
fn beside(peers: &[PeerView]) -> Check {
    let told = peers.iter().filter(|peer| peer.state == "alive");
    let told: Vec<(&PeerView, i64)> = told.filter_map(|peer| Some((peer, peer.clock_ahead_ms?))).collect();
    let far = |ahead_ms: i64| ahead_ms.unsigned_abs() > CLOCK_JUMP_MS;
    let differing: Vec<&(&PeerView, i64)> = told.iter().filter(|(_, ahead_ms)| far(*ahead_ms)).collect();
    let Some((peer, ahead_ms)) = differing.first().copied() else {
        return Check::ok(NAME, format!("agrees with {} peers to within a minute", told.len()));
    };
    let by = human::duration(ahead_ms.unsigned_abs());
    if told.len() >= 2 && differing.len() * 2 > told.len() {
        let way = if *ahead_ms > 0 { "behind" } else { "ahead of" };
        let found = format!("this machine's clock is {by} {way} those of {} of {} peers", differing.len(), told.len());
        return Check::fault(
            NAME,
            found,
            "set it right: `timedatectl set-ntp true`, or `date -s`; NTP needs UDP port 123",
        );
    }
    let way = if *ahead_ms > 0 { "ahead of" } else { "behind" };
    let found = format!(
        "the clock of {} is {by} {way} this machine's ({} of {} peers differ)",
        peer.peer_id,
        differing.len(),
        told.len()
    );
    let remedy = "compare both with a clock on the wall, and set the wrong one right: `timedatectl set-ntp true`";
    Check::fault(NAME, found, remedy)
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;
    use magpie_core::ids::PeerId;

    fn peers(ahead_ms: &[Option<i64>]) -> Vec<PeerView> {
        let peer = |(seed, ahead_ms): (usize, &Option<i64>)| PeerView {
            peer_id: PeerId([seed as u8; 32]),
            state: "alive".to_owned(),
            connected: true,
            relayed: false,
            rtt_ms: None,
            ledger: None,
            version: None,
            slots_free: Default::default(),
            worker: None,
            capabilities: None,
            addresses: Vec::new(),
            last_heard_ms_ago: None,
            clock_ahead_ms: *ahead_ms,
            banned_for_ms: None,
        };
        ahead_ms.iter().enumerate().map(peer).collect()
    }

    #[test]
    fn the_clock_that_is_alone_is_the_wrong_one() {
        let hour = 3_600_000;
        for (told, verdict, words) in [
            (&[][..], Verdict::Ok, "agrees with 0 peers"),
            (&[Some(900), Some(-59_000), None], Verdict::Ok, "agrees with 2 peers"),
            (
                &[Some(hour), Some(hour + 5), Some(0)],
                Verdict::Fault,
                "this machine's clock is 1h00m behind those of 2 of 3",
            ),
            (&[Some(-hour), Some(-hour)], Verdict::Fault, "this machine's clock is 1h00m ahead of those of 2 of 2"),
            (&[Some(hour), Some(0), Some(0)], Verdict::Fault, "is 1h00m ahead of this machine's (1 of 3 peers differ)"),
            (&[Some(-hour)], Verdict::Fault, "is 1h00m behind this machine's (1 of 1 peers differ)"),
        ] {
            let check = beside(&peers(told));
            assert_eq!(check.verdict, verdict, "{told:?}");
            assert!(check.found.contains(words), "{told:?}: {}", check.found);
        }
    }
}
