//! Expressions against a search minute by minute, and the changes of four zones by name.

use std::collections::BTreeSet;

use jiff::civil::DateTime;
use proptest::prelude::*;

use super::*;

const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 86_400_000;
const ZONES: [&str; 6] =
    ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Asia/Kathmandu"];

fn cron(expression: &str, zone: &str) -> Cron {
    Cron::parse(expression, zone).unwrap_or_else(|error| panic!("{expression}: {error}"))
}

fn wall(text: &str) -> Wall {
    text.parse().unwrap()
}

/// The first `n` times after `from`, without their seconds.
fn times(expression: &str, zone: &str, from: &str, n: usize) -> Vec<String> {
    let cron = cron(expression, zone);
    let next = |wall: &Wall| cron.next_after(*wall);
    let walls = std::iter::successors(next(&wall(from)), next);
    walls.take(n).map(|wall| wall.to_string().replace(":00.000Z", "Z")).collect()
}

#[test]
fn fields_read_as_every_cron_reads_them() {
    for (expression, expected) in [
        ("* * * * *", ["2026-11-28T07:16Z", "2026-11-28T07:17Z"]),
        ("*/20 * * * *", ["2026-11-28T07:20Z", "2026-11-28T07:40Z"]),
        ("7/20 * * * *", ["2026-11-28T07:27Z", "2026-11-28T07:47Z"]),
        ("5,35 8-10/2 * * *", ["2026-11-28T08:05Z", "2026-11-28T08:35Z"]),
        ("0 4 * * mon-fri", ["2026-11-30T04:00Z", "2026-12-01T04:00Z"]),
        ("0 4 * * FRI-SUN", ["2026-11-29T04:00Z", "2026-12-04T04:00Z"]),
        ("0 0 * * 7", ["2026-11-29T00:00Z", "2026-12-06T00:00Z"]),
        ("0 0 29 2 *", ["2028-02-29T00:00Z", "2032-02-29T00:00Z"]),
        ("0 0 13 * fri", ["2026-12-04T00:00Z", "2026-12-11T00:00Z"]),
        ("0 0 31 jan,Apr,DEC *", ["2026-12-31T00:00Z", "2027-01-31T00:00Z"]),
        ("@hourly", ["2026-11-28T08:00Z", "2026-11-28T09:00Z"]),
        ("@Daily", ["2026-11-29T00:00Z", "2026-11-30T00:00Z"]),
        ("@weekly", ["2026-11-29T00:00Z", "2026-12-06T00:00Z"]),
        ("@monthly", ["2026-12-01T00:00Z", "2027-01-01T00:00Z"]),
        ("@yearly", ["2027-01-01T00:00Z", "2028-01-01T00:00Z"]),
    ] {
        assert_eq!(times(expression, "UTC", "2026-11-28T07:15:27Z", 2), expected, "{expression}");
    }
}

#[test]
fn a_leap_day_is_found_across_a_century_without_one() {
    assert_eq!(times("0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", 1), ["2104-02-29T00:00Z"]);
}

#[test]
fn what_names_no_times_is_refused_in_words() {
    for (expression, problem) in [
        ("", "\"\" has not five fields"),
        ("* * * *", "\"* * * *\" has not five fields"),
        ("0 0 * * * *", "\"0 0 * * * *\" has not five fields"),
        ("60 * * * *", "\"60\" is no value of the field (minute)"),
        ("* * 0 * *", "\"0\" is no value of the field (day of the month)"),
        ("* * * * 8", "\"8\" is no value of the field (day of the week)"),
        ("* * * foo *", "\"foo\" is no value of the field (month)"),
        ("5-1 * * * *", "\"5-1\" ends before it begins (minute)"),
        ("*/0 * * * *", "\"*/0\" has no step from 1 to the field's largest value (minute)"),
        ("*/+5 * * * *", "\"*/+5\" has no step from 1 to the field's largest value (minute)"),
        ("1,,2 * * * *", "\"\" is no value of the field (minute)"),
        ("0 0 30 2 *", "there is no such day in any year"),
        ("0 0 31 4,6 *", "there is no such day in any year"),
        ("@reboot", "\"@reboot\" has not five fields"),
    ] {
        let error = Cron::parse(expression, "UTC").unwrap_err();
        assert_eq!((error.part, error.problem.as_str()), (CronPart::Expression, problem), "{expression}");
    }
    for zone in ["Europe/Bärlin", "", "+02:00", "../etc/passwd", &"x".repeat(300)] {
        assert_eq!(Cron::parse("* * * * *", zone).unwrap_err().part, CronPart::TimeZone, "{zone}");
    }
}

#[test]
fn a_time_that_does_not_exist_runs_at_the_first_instant_after_the_gap() {
    for (zone, expression, from, expected) in [
        ("Europe/Berlin", "30 2 * * *", "2026-03-28T12:00:00Z", ["2026-03-29T01:00Z", "2026-03-30T00:30Z"]),
        ("America/New_York", "30 2 * * *", "2026-03-07T12:00:00Z", ["2026-03-08T07:00Z", "2026-03-09T06:30Z"]),
        ("Australia/Lord_Howe", "15 2 * * *", "2026-10-03T00:00:00Z", ["2026-10-03T15:30Z", "2026-10-04T15:15Z"]),
        // A zone that changes at midnight: the day begins at one.
        ("America/Santiago", "0 0 * * *", "2026-09-05T12:00:00Z", ["2026-09-06T04:00Z", "2026-09-07T03:00Z"]),
        // A zone that left out a whole day.
        ("Pacific/Apia", "0 9 30 12 *", "2011-12-29T00:00:00Z", ["2011-12-30T10:00Z", "2012-12-29T19:00Z"]),
    ] {
        assert_eq!(times(expression, zone, from, 2), expected, "{zone}");
    }
}

#[test]
fn all_the_minutes_of_a_gap_run_once_at_its_end() {
    let expected = ["2026-03-29T00:59Z", "2026-03-29T01:00Z", "2026-03-29T01:01Z"];
    assert_eq!(times("* * * * *", "Europe/Berlin", "2026-03-29T00:58:00Z", 3), expected);
    let expected = ["2026-03-29T01:00Z", "2026-03-30T00:00Z"];
    assert_eq!(times("*/10 2 * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", 2), expected);
}

#[test]
fn a_time_that_exists_twice_runs_the_first_time_only() {
    for (zone, expression, from, expected) in [
        ("Europe/Berlin", "30 2 * * *", "2026-10-24T12:00:00Z", ["2026-10-25T00:30Z", "2026-10-26T01:30Z"]),
        ("America/New_York", "30 1 * * *", "2026-10-31T12:00:00Z", ["2026-11-01T05:30Z", "2026-11-02T06:30Z"]),
        ("Australia/Lord_Howe", "45 1 * * *", "2026-04-04T00:00:00Z", ["2026-04-04T14:45Z", "2026-04-05T15:15Z"]),
        ("UTC", "30 2 * * *", "2026-10-24T12:00:00Z", ["2026-10-25T02:30Z", "2026-10-26T02:30Z"]),
    ] {
        assert_eq!(times(expression, zone, from, 2), expected, "{zone}");
    }
    // Asked in the second pass of the hour.
    assert_eq!(times("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", 1), ["2026-10-26T01:30Z"]);
}

#[test]
fn beyond_the_calendar_there_is_no_next_time() {
    assert_eq!(cron("0 0 1 1 *", "UTC").next_after(wall("9999-06-01T00:00:00Z")), None);
    assert_eq!(cron("* * * * *", "UTC").next_after(Wall(u64::MAX)), None);
}

/// The first minute after `from` that the fields name, found by walking through the zone's local minutes.
fn naive(cron: &Cron, from: Wall, minutes: u64) -> Option<Wall> {
    let local = |wall: u64| cron.zone.to_datetime(Timestamp::from_millisecond(wall as i64).unwrap());
    let named = |at: &DateTime| {
        cron.fields.has_date(at.date())
            && cron.fields.times_from((at.hour(), at.minute())).next() == Some((at.hour(), at.minute()))
    };
    let start = from.0 / MINUTE_MS * MINUTE_MS - DAY_MS;
    let mut seen = BTreeSet::from([local(start)]);
    for minute in 1..DAY_MS / MINUTE_MS + minutes {
        let wall = start + minute * MINUTE_MS;
        let now = local(wall);
        let mut skipped = Vec::new();
        let mut before = now;
        // What lies between this local minute and the newest one before it was left out by a change.
        while !seen.contains(&before) && seen.last().is_some_and(|newest| before > *newest) {
            skipped.push(before);
            before = before.checked_sub(jiff::Span::new().minutes(1)).ok()?;
        }
        let fires = skipped.iter().any(named);
        seen.extend(skipped);
        if fires && wall > from.0 {
            return Some(Wall(wall));
        }
    }
    None
}

fn field(least: u32, most: u32) -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just("*".to_owned()),
        2 => (least..=most).prop_map(|value| value.to_string()),
        1 => (least..=most, least..=most).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        1 => (least..=most, least..=most).prop_map(|(a, b)| format!("{a},{b}")),
        1 => (1..=most).prop_map(|step| format!("*/{step}")),
    ]
}

fn expression() -> impl Strategy<Value = String> {
    let fields = (field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 7));
    fields.prop_map(|(minute, hour, day, month, weekday)| format!("{minute} {hour} {day} {month} {weekday}"))
}

/// An instant within a day and a half of a change of the zone, or anywhere.
fn near_a_change(zone: &str, seed: u64) -> Wall {
    let anywhere = 946_684_800_000 + seed % (40 * 365 * DAY_MS);
    let zone = zone_named(zone).unwrap();
    let change = zone.following(Timestamp::from_millisecond(anywhere as i64).unwrap()).next();
    let ahead = change.map_or(anywhere, |change| change.timestamp().as_millisecond() as u64);
    Wall(if seed.is_multiple_of(4) { anywhere } else { ahead - DAY_MS * 3 / 2 + seed % (DAY_MS * 2) })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_next_time_is_that_of_a_search_minute_by_minute(
        expression in expression(), zone in 0..ZONES.len(), seed: u64,
    ) {
        let Ok(cron) = Cron::parse(&expression, ZONES[zone]) else { return Ok(()) };
        let from = near_a_change(ZONES[zone], seed);
        let horizon = 3 * DAY_MS / MINUTE_MS;
        let within = |wall: &Wall| wall.0 < from.0 / MINUTE_MS * MINUTE_MS + horizon * MINUTE_MS;
        prop_assert_eq!(cron.next_after(from).filter(within), naive(&cron, from, horizon), "{} after {}", expression, from);
    }

    #[test]
    fn times_go_strictly_forward_and_each_is_named_by_the_fields_or_ends_a_gap(
        expression in expression(), zone in 0..ZONES.len(), seed: u64,
    ) {
        let Ok(cron) = Cron::parse(&expression, ZONES[zone]) else { return Ok(()) };
        let mut last = near_a_change(ZONES[zone], seed);
        for _ in 0..50 {
            let Some(next) = cron.next_after(last) else { break };
            prop_assert!(next > last, "{expression}: {next} after {last}");
            prop_assert_eq!(next.0 % MINUTE_MS, 0);
            let at = cron.zone.to_datetime(Timestamp::from_millisecond(next.0 as i64).unwrap());
            let before = cron.zone.to_offset(Timestamp::from_millisecond(next.0 as i64 - 1).unwrap());
            let after = cron.zone.to_offset(Timestamp::from_millisecond(next.0 as i64).unwrap());
            let named = cron.fields.has_date(at.date()) && cron.fields.times_from((at.hour(), at.minute())).next() == Some((at.hour(), at.minute()));
            prop_assert!(named || after > before, "{expression}: {next}");
            last = next;
        }
    }

    #[test]
    fn random_text_is_an_expression_or_an_error_and_never_a_panic(text in "[-*/,@0-9a-z ]{0,24}", zone in "[A-Za-z/_+0-9]{0,16}") {
        if let Ok(cron) = Cron::parse(&text, &zone) {
            let _ = cron.next_after(Wall(1_795_230_000_000));
        }
        let _ = Cron::parse("* * * * *", &zone).map(|cron| cron.next_after(Wall(0)));
    }
}
