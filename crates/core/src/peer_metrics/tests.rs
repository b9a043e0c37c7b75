use super::*;
use proptest::prelude::*;

const PEER: PeerId = PeerId([1; 32]);
const WINDOW_MS: u64 = limits::METRICS_WINDOW_MS;

fn peer(n: usize) -> PeerId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    PeerId(bytes)
}

fn view(table: &mut MetricsTable, now_ms: u64) -> MetricsView {
    table.views(now_ms, Some(PEER)).pop().unwrap()
}

fn answered(us: u64) -> Measured {
    Measured::Answered { round_trip_us: us }
}

#[test]
fn a_round_trip_moves_the_average_by_an_eighth() {
    let mut table = MetricsTable::default();
    table.handle(0, PEER, answered(800));
    table.handle(1, PEER, answered(1_600));
    let view = view(&mut table, 2);
    assert_eq!((view.last_us, view.average_us), (Some(1_600), Some(900)));
    assert_eq!((view.window.p50_us, view.window.p99_us), (Some(800), Some(1_600)));
}

#[test]
fn percentiles_are_those_of_the_newest_round_trips() {
    let mut table = MetricsTable::default();
    for us in 1..=limits::METRICS_SAMPLES_MAX as u64 + 100 {
        table.handle(0, PEER, answered(us));
    }
    let window = view(&mut table, 1).window;
    let newest = 101..=limits::METRICS_SAMPLES_MAX as u64 + 100;
    assert!(newest.contains(&window.p50_us.unwrap()) && newest.contains(&window.p99_us.unwrap()));
    assert_eq!(window.answered, limits::METRICS_SAMPLES_MAX as u64 + 100, "all are counted");
}

#[test]
fn a_loss_is_seen_at_once_and_forgotten_after_two_windows() {
    let mut table = MetricsTable::default();
    table.handle(0, PEER, Measured::Connected);
    (0..3).for_each(|n| table.handle(n, PEER, answered(100)));
    table.handle(3, PEER, Measured::Unanswered);
    assert_eq!(view(&mut table, 4).loss, 0.25);
    table.handle(WINDOW_MS, PEER, answered(100));
    assert_eq!(view(&mut table, WINDOW_MS + 1).loss, 0.2, "the window before counts, too");
    table.handle(2 * WINDOW_MS, PEER, answered(100));
    let later = view(&mut table, 2 * WINDOW_MS + 1);
    assert_eq!((later.loss, later.total.unanswered), (0.0, 1), "the history keeps it");
}

#[test]
fn who_is_away_half_of_the_time_is_half_as_reliable() {
    let mut table = MetricsTable::default();
    table.handle(0, PEER, Measured::Connected);
    table.handle(0, PEER, answered(100));
    assert_eq!(view(&mut table, 0).reliability, 1.0);
    table.handle(1_000, PEER, Measured::Disconnected);
    let away = view(&mut table, 2_000);
    assert_eq!((away.reliability, away.connected, away.total.connected_ms), (0.5, false, 1_000));
    let long_gone = view(&mut table, 1_000_000_000_000);
    assert!(long_gone.reliability < 0.01, "{long_gone:?}");
    assert_eq!(long_gone.history.len(), limits::METRICS_WINDOWS_MAX);
}

#[test]
fn a_transfer_has_bytes_and_a_speed() {
    let mut table = MetricsTable::default();
    table.handle(0, PEER, Measured::Sent { bytes: 1_000, took_us: 1_000_000 });
    table.handle(0, PEER, Measured::Received { bytes: 9_000, took_us: 1_000_000 });
    table.handle(0, PEER, Measured::Served);
    let view = view(&mut table, 1);
    assert_eq!(view.bytes_per_s, Some(2_000));
    assert_eq!((view.total.bytes_sent, view.total.bytes_received, view.total.served), (1_000, 9_000, 1));
}

#[test]
fn of_too_many_the_one_that_was_silent_longest_goes() {
    let mut table = MetricsTable::default();
    (0..=limits::PEERS_MAX).for_each(|n| table.handle(n as u64, peer(n), answered(1)));
    assert_eq!(table.peers.len(), limits::PEERS_MAX);
    assert!(table.views(0, Some(peer(0))).is_empty() && !table.views(0, Some(peer(1))).is_empty());
}

fn any_measured() -> impl Strategy<Value = Measured> {
    prop_oneof![
        (0..10_000_000u64).prop_map(answered),
        Just(Measured::Unanswered),
        (0..1_000_000u64, 0..1_000_000u64).prop_map(|(bytes, took_us)| Measured::Sent { bytes, took_us }),
        (0..1_000_000u64, 0..1_000_000u64).prop_map(|(bytes, took_us)| Measured::Received { bytes, took_us }),
        Just(Measured::Served),
        Just(Measured::Connected),
        Just(Measured::Disconnected),
    ]
}

proptest! {
    #[test]
    fn whatever_is_measured_stays_within_its_bounds(
        steps in prop::collection::vec((0..3 * WINDOW_MS, any_measured()), 0..200),
        silence_ms in 0..200 * WINDOW_MS,
    ) {
        let mut table = MetricsTable::default();
        let mut now_ms = 7;
        table.handle(now_ms, PEER, Measured::Served);
        for (pause_ms, measured) in steps {
            now_ms += pause_ms;
            table.handle(now_ms, PEER, measured);
        }
        now_ms += silence_ms;
        let view = view(&mut table, now_ms);
        prop_assert!((0.0..=1.0).contains(&view.reliability) && (0.0..=1.0).contains(&view.loss));
        prop_assert!(view.history.len() <= limits::METRICS_WINDOWS_MAX);
        prop_assert!(view.history.is_sorted_by(|one, next| one.began_ms_ago > next.began_ms_ago));
        for window in view.history.iter().chain([&view.window]) {
            prop_assert!(window.connected_ms <= window.lasted_ms && window.lasted_ms <= WINDOW_MS);
            prop_assert!(window.p50_us <= window.p99_us && window.p50_us.is_some() == (window.answered > 0));
        }
        prop_assert_eq!(view.total.lasted_ms, view.history.iter().map(|window| window.lasted_ms).sum::<u64>() + view.window.lasted_ms);
    }
}
