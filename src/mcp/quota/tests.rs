use magpie_core::ids::LedgerTag;
use magpie_core::queue::HourOfUse;

use super::*;

const NOW_MS: u64 = 100 * HOUR_MS + 1_800_000;

fn quota(text: &str) -> Quota {
    Quota::parse(text).unwrap()
}

/// Used `spent`, so many hours before this one.
fn used(tasks: u64, hours: &[(u64, Spent)]) -> UsageView {
    let hour = |(ago, spent): &(u64, Spent)| HourOfUse { from: Wall((100 - ago) * HOUR_MS), spent: *spent };
    UsageView { ledger: LedgerTag([1; 5]), now: Wall(NOW_MS), tasks, hours: hours.iter().map(hour).collect() }
}

fn spent(cpu_s: u64, gpu_s: u64, bytes: u64) -> Spent {
    Spent { cpu_us: cpu_s * 1_000_000, gpu_us: gpu_s * 1_000_000, bytes }
}

fn refused(quota: &str, used: &UsageView, tasks: u64, bytes: u64) -> Option<ToolError> {
    judge(&self::quota(quota), used, &Asked { tasks, bytes }).err().map(ToolError::from)
}

#[test]
fn each_quota_refuses_in_words_that_say_what_is_used_allowed_and_when_it_is_free() {
    let use_of_an_hour = used(3, &[(2, spent(50, 7, 900))]);
    for (quota, tasks, bytes, said, retryable) in [
        (
            "tasks=3",
            1,
            0,
            "the quota tasks of this caller is 3 tasks; 3 tasks are not over, and this takes 1 more",
            true,
        ),
        ("cpu_s=50", 1, 0, "is 50.0 s of processor time; 50.0 s of processor time were used in the last 1d", true),
        ("gpu_s=7", 1, 0, "is 7.0 s of GPU time; 7.0 s of GPU time were used in the last 1d; enough", true),
        ("bytes=1000", 0, 101, "is 1000 bytes; 900 bytes were used in the last 1d, and this takes 101 more", true),
        ("bytes=900", 1, 0, "is 900 bytes; 900 bytes were used", true),
        ("tasks=3", 4, 0, "that is never free", false),
        ("bytes=100", 0, 101, "that is never free", false),
    ] {
        let error = refused(quota, &use_of_an_hour, tasks, bytes).unwrap_or_else(|| panic!("{quota} lets it through"));
        assert!(error.message.contains(said), "{quota}: {}", error.message);
        assert_eq!((error.code, error.retryable), ("quota_exceeded", retryable));
        assert_eq!(error.retry_after_ms.is_some(), retryable);
        assert!(error.fix.contains("whoever runs the node"), "{}", error.fix);
    }
    for (quota, tasks, bytes) in [
        ("tasks=4", 1, 0),
        ("cpu_s=51", 1, 0),
        ("gpu_s=8", 1, 0),
        ("bytes=1000", 0, 100),
        ("bytes=901", 1, 0),
        ("tasks=1,cpu_s=1,gpu_s=1", 0, 100),
    ] {
        assert_eq!(refused(quota, &use_of_an_hour, tasks, bytes), None, "{quota}");
    }
}

#[test]
fn a_window_passes_hour_by_hour_and_the_answer_says_when() {
    let hours = [(5, spent(30, 0, 0)), (3, spent(20, 0, 0)), (0, spent(10, 0, 0))];
    // What was used in an hour is free when its end has passed by the window.
    let leaves_in = |ago: u64, per: u64| (100 - ago + 1 + per) * HOUR_MS - NOW_MS;
    let free = |quota: &str, used: &UsageView| refused(quota, used, 1, 0).map(|error| error.retry_after_ms.unwrap());
    let all = used(0, &hours);
    assert_eq!(free("cpu_s=60,per=24h", &all), Some(leaves_in(5, 24)), "the oldest hour is enough");
    assert_eq!(free("cpu_s=25,per=24h", &all), Some(leaves_in(3, 24)), "the two oldest are");
    assert_eq!(free("cpu_s=5,per=24h", &all), Some(leaves_in(0, 24)));
    assert_eq!(free("cpu_s=30,per=4h", &all), Some(leaves_in(3, 4)), "the first has passed");
    assert_eq!(free("cpu_s=11,per=1h", &all), None);
    let later = UsageView { now: Wall(NOW_MS + leaves_in(5, 24)), ..all.clone() };
    assert_eq!(free("cpu_s=60,per=24h", &later), None, "at that time it is free");
    let before = UsageView { now: Wall(NOW_MS + leaves_in(5, 24) - 1), ..all };
    assert!(free("cpu_s=60,per=24h", &before).is_some(), "and not before");
}

#[test]
fn a_quota_is_read_as_it_is_written_and_refused_in_words() {
    let read = quota("tasks=10,cpu_s=3600,per=12h");
    assert_eq!((read.tasks, read.cpu_s, read.gpu_s, read.per), (Some(10), Some(3600), None, DurationMs(12 * HOUR_MS)));
    for (text, said) in [
        ("tasks", "no `=`"),
        ("tasks=many", "no whole number"),
        ("cores=4", "there is no quota \"cores\""),
        ("per=24h", "bounds nothing"),
        ("tasks=1,per=90m", "whole hours"),
        ("tasks=1,per=8d", "from 1h to 7d"),
        ("tasks=1,per=soon", "per: "),
    ] {
        let words = Quota::parse(text).unwrap_err();
        assert!(words.contains(said), "{text}: {words}");
    }
    let of_file: Quota = toml::from_str("tasks = 2\nper = \"7d\"").unwrap();
    assert_eq!((of_file.check(), of_file.tasks), (Ok(()), Some(2)));
    assert!(toml::from_str::<Quota>("cores = 2").is_err());
}

#[test]
fn what_is_shown_is_in_the_units_of_the_file() {
    let rows = rows(&quota("tasks=5,cpu_s=60,per=24h"), &used(2, &[(1, spent(30, 9, 9)), (30, spent(99, 0, 0))]));
    let shown: Vec<_> = rows.iter().map(|row| (row.quota, row.used, row.allowed, row.per.as_deref())).collect();
    assert_eq!(shown, [("tasks", 2.0, 5, None), ("cpu_s", 30.0, 60, Some("1d"))]);
}
