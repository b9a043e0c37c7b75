//! Many seeds, on several threads, and what they came to together.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Instant;
use std::{fs, thread};

use crate::{Options, Report, run_seed};

/// Reports that wait to be heard.
const REPORTS_WAITING_MAX: usize = 64;
/// What the kernel counts CPU time in, whatever its own clock is.
const TICKS_PER_SECOND: f64 = 100.0;

/// Runs every seed, `jobs` at a time, and lets `hear` have each report as it comes.
pub fn run_all(seeds: Range<u64>, options: Options, jobs: usize, mut hear: impl FnMut(Report)) {
    let next = AtomicU64::new(seeds.start);
    let (sender, reports) = mpsc::sync_channel(REPORTS_WAITING_MAX);
    thread::scope(|scope| {
        for _ in 0..jobs {
            let (next, sender) = (&next, sender.clone());
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || sender.send(run_seed(seed, options)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        reports.iter().for_each(&mut hear);
    });
}

/// The sum of many reports.
#[derive(Debug)]
pub struct Summary {
    pub seeds: u64,
    pub failed: u64,
    events: u64,
    executions: u64,
    crashes: u64,
    cuts: u64,
    healed_ms_max: u64,
    began: Instant,
    cpu_began_s: Option<f64>,
}

impl Summary {
    pub fn begin() -> Self {
        let (seeds, failed, events, executions, crashes, cuts, healed_ms_max) = (0, 0, 0, 0, 0, 0, 0);
        let (began, cpu_began_s) = (Instant::now(), cpu_seconds());
        Self { seeds, failed, events, executions, crashes, cuts, healed_ms_max, began, cpu_began_s }
    }

    pub fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.failed += u64::from(report.failure.is_some());
        self.events += report.counters.events;
        self.executions += report.counters.executions;
        self.crashes += report.counters.crashes;
        self.cuts += report.counters.cuts;
        self.healed_ms_max = self.healed_ms_max.max(report.counters.healed_ms);
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seeds, failed, events, executions, crashes, cuts, .. } = self;
        let healed_s = self.healed_ms_max as f64 / 1_000.0;
        write!(
            formatter,
            "{seeds} seeds, {failed} failed, {events} events, {executions} executions, {crashes} crashes, {cuts} cuts, "
        )?;
        write!(formatter, "healed within {healed_s:.1} s, ")?;
        match cpu_seconds().zip(self.cpu_began_s).map(|(now, began)| (now - began).max(1.0 / TICKS_PER_SECOND)) {
            Some(cpu_s) => write!(formatter, "{cpu_s:.1} CPU s, {:.1} seeds/CPU s", *seeds as f64 / cpu_s),
            None => write!(formatter, "{:.1} s; CPU time is not known here", self.began.elapsed().as_secs_f64()),
        }
    }
}

/// CPU time of all threads of this process so far, where the system tells.
fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name, in brackets, and may hold spaces.
    let (_, fields) = stat.rsplit_once(')')?;
    let times = fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<f64>().ok());
    times.sum::<Option<f64>>().map(|ticks| ticks / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_is_run_once_whoever_runs_it() {
        let mut ran = Vec::new();
        let options = Options { steps_max: 200, ..Options::default() };
        run_all(3..11, options, 3, |report| ran.push((report.seed, report.trace_hash)));
        ran.sort_unstable();
        let alone: Vec<_> = (3..11).map(|seed| (seed, run_seed(seed, options).trace_hash)).collect();
        assert_eq!(ran, alone);
    }

    #[test]
    fn a_summary_says_how_many_and_how_fast() {
        let mut summary = Summary::begin();
        summary.add(&run_seed(1, Options { steps_max: 50, ..Options::default() }));
        let words = summary.to_string();
        assert!(words.starts_with("1 seeds, 0 failed, 50 events, "), "{words}");
    }
}
