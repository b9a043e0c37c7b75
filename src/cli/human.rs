//! Values as a person reads them.

use std::time::{SystemTime, UNIX_EPOCH};

use magpie_core::ids::PeerId;
use magpie_core::progress::Progress;
use magpie_core::time::Wall;

/// The wall clock of this machine.
pub fn now() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall(since.as_millis() as u64)
}

/// `350ms`, `1.2s`, `2m05s`, `3h12m`, `4d06h`.
pub fn duration(ms: u64) -> String {
    let (s, m, h, d) = (ms / 1_000, ms / 60_000, ms / 3_600_000, ms / 86_400_000);
    match () {
        () if ms < 1_000 => format!("{ms}ms"),
        () if s < 60 => format!("{s}.{}s", ms % 1_000 / 100),
        () if m < 60 => format!("{m}m{:02}s", s % 60),
        () if h < 24 => format!("{h}h{:02}m", m % 60),
        () => format!("{d}d{:02}h", h % 24),
    }
}

/// Measured time: `0.204 s`.
pub fn seconds(us: u64) -> String {
    format!("{}.{:03} s", us / 1_000_000, us % 1_000_000 / 1_000)
}

/// How long ago `at` was; `-` for never, `now` for what a clock of another machine puts into the future.
pub fn ago(at: Option<Wall>, now: Wall) -> String {
    match at.map(|at| now.0.checked_sub(at.0)) {
        None => "-".to_owned(),
        Some(None) => "now".to_owned(),
        Some(Some(ms)) => format!("{} ago", duration(ms)),
    }
}

/// How long until `at`; `-` for never, `now` for what is due.
pub fn ahead(at: Option<Wall>, now: Wall) -> String {
    match at.map(|at| at.0.checked_sub(now.0)) {
        None => "-".to_owned(),
        Some(None | Some(0)) => "now".to_owned(),
        Some(Some(ms)) => format!("in {}", duration(ms)),
    }
}

/// From `start` to `end`, or to now while it lasts.
pub fn took(start: Option<Wall>, end: Option<Wall>, now: Wall) -> String {
    start.map_or_else(|| "-".to_owned(), |start| duration(end.unwrap_or(now).0.saturating_sub(start.0)))
}

/// `512 B`, `1.5 KiB`, `3.0 GiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1_024 {
        return format!("{count} B");
    }
    let mut rest = count as f64 / 1_024.0;
    let mut unit = 0;
    while rest >= 1_024.0 && unit + 1 < UNITS.len() {
        rest /= 1_024.0;
        unit += 1;
    }
    format!("{rest:.1} {}", UNITS[unit])
}

/// `40 %, page 4`, or what of it was said.
pub fn progress(progress: &Progress) -> String {
    let fraction = progress.fraction.map(|fraction| format!("{:.0} %", fraction * 100.0));
    let message = Some(progress.message.clone()).filter(|message| !message.is_empty());
    let said: Vec<String> = fraction.into_iter().chain(message).collect();
    said.join(", ")
}

/// The end of a peer id, which tells peers apart; all begin alike.
pub fn short_peer(peer: &PeerId) -> String {
    const CHARS: usize = 8;
    let text = peer.to_string();
    text.get(text.len().saturating_sub(CHARS)..).unwrap_or(&text).to_owned()
}

/// `-` for nothing.
pub fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_figures_that_matter() {
        for (ms, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (1_250, "1.2s"),
            (125_000, "2m05s"),
            (11_520_000, "3h12m"),
            (367_200_000, "4d06h"),
        ] {
            assert_eq!(duration(ms), text);
        }
    }

    #[test]
    fn a_time_in_the_future_is_now() {
        assert_eq!(ago(Some(Wall(5_000)), Wall(7_000)), "2.0s ago");
        assert_eq!(ago(Some(Wall(9_000)), Wall(7_000)), "now");
        assert_eq!(ago(None, Wall(7_000)), "-");
        assert_eq!(ahead(Some(Wall(9_000)), Wall(7_000)), "in 2.0s");
        assert_eq!((ahead(Some(Wall(7_000)), Wall(7_000)), ahead(None, Wall(7_000))), ("now".into(), "-".into()));
        assert_eq!(took(Some(Wall(1_000)), None, Wall(1_300)), "300ms");
    }

    #[test]
    fn bytes_are_told_in_powers_of_1024() {
        for (count, text) in [(0, "0 B"), (1_023, "1023 B"), (1_536, "1.5 KiB"), (3 << 30, "3.0 GiB")] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn peers_are_told_apart_by_the_end_of_their_ids() {
        let (one, two) = (PeerId([1; 32]), PeerId([2; 32]));
        assert_ne!(short_peer(&one), short_peer(&two));
        assert!(one.to_string().ends_with(&short_peer(&one)));
    }
}
