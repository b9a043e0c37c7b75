//! What one record of the ledger costs: `cargo bench --profile dist --bench log_commit [-- DIRECTORY]`; `RUN_MS=2000` by default
//! for each row.
//!
//! One appender waits for each batch to be durable before the next, so a row shows what a batch of that size reaches
//! alone; the last row appends without waiting, as a busy home does, and the writer groups what it finds. Prints one JSON
//! object a row.

use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use magpie::store::data_dir::DataDir;
use magpie::store::log::{LedgerLog, LogCallbacks, LogEntry, StoredEntry, Watermark};
use magpie_core::ids::{ContentId, LedgerId, LogIndex};
use magpie_core::task::Durability;
use rustix::time::{ClockId, clock_gettime};

const BODY_BYTES: usize = 232;
/// Records that the busy appender lets wait for the disk.
const IN_FLIGHT: u64 = 10_000;

fn main() -> anyhow::Result<()> {
    let run_ms = std::env::var("RUN_MS").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000);
    let run = Duration::from_millis(run_ms);
    let root = match std::env::args().nth(1).filter(|arg| !arg.starts_with('-')) {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    for (durability, batch) in
        [(Durability::Sync, 1), (Durability::Sync, 100), (Durability::Sync, 1_000), (Durability::Async, 100)]
    {
        let dir = DataDir::open(root.path().join(format!("{durability:?}{batch}")))?;
        let label = format!("{durability:?} {batch}").to_lowercase();
        appended(&dir, &label, |log, watermarks| wait_for_each(log, watermarks, durability, batch, run))?;
    }
    let dir = DataDir::open(root.path().join("busy"))?;
    appended(&dir, "sync 10, not waiting", |log, watermarks| keep_busy(log, watermarks, run))?;
    replayed(&dir)
}

/// Runs `load` over a new log and prints its row. The load gives the latency of each commit that it waited for.
fn appended(
    dir: &DataDir,
    label: &str,
    load: impl FnOnce(&LedgerLog, &Receiver<Watermark>) -> anyhow::Result<Vec<Duration>>,
) -> anyhow::Result<()> {
    let (sender, watermarks) = sync_channel(100_000);
    let callbacks = LogCallbacks {
        on_watermark: Box::new(move |watermark| sender.try_send(watermark).unwrap_or_default()),
        on_failure: Box::new(|failure| eprintln!("{failure}")),
        on_reserve: Box::new(|| {}),
        on_recovery: Box::new(|| {}),
    };
    let log = LedgerLog::open(dir, LedgerId([7; 16]))?.replay(callbacks, |_| anyhow::Ok(()))?;
    let (start, cpu) = (Instant::now(), cpu_time());
    let mut commits = load(&log, &watermarks)?;
    let (elapsed, cpu) = (start.elapsed(), cpu_time() - cpu);
    let records = (log.next_index().0 - 1) as f64;
    commits.sort_unstable();
    let p50 = commits.get(commits.len() / 2).map_or("null".into(), |p50| p50.as_micros().to_string());
    let (rate, cost) = (records / elapsed.as_secs_f64(), cpu.as_secs_f64() * 1e6 / records);
    println!(
        r#"{{"bench":"log_commit","batch":"{label}","record_bytes":{BODY_BYTES},"records_per_s":{rate:.0},"commit_p50_us":{p50},"cpu_us_per_record":{cost:.2}}}"#
    );
    Ok(log.close()?)
}

fn wait_for_each(
    log: &LedgerLog,
    watermarks: &Receiver<Watermark>,
    durability: Durability,
    batch: u64,
    run: Duration,
) -> anyhow::Result<Vec<Duration>> {
    let start = Instant::now();
    let mut commits = Vec::new();
    while start.elapsed() < run {
        let appended = Instant::now();
        let last = append(log, durability, batch)?;
        while watermarks.recv()?.written < last {}
        commits.push(appended.elapsed());
    }
    Ok(commits)
}

fn keep_busy(log: &LedgerLog, watermarks: &Receiver<Watermark>, run: Duration) -> anyhow::Result<Vec<Duration>> {
    let start = Instant::now();
    let (mut last, mut synced) = (LogIndex(0), LogIndex(0));
    while start.elapsed() < run {
        last = append(log, Durability::Sync, 10)?;
        while last.0 - synced.0 > IN_FLIGHT {
            synced = watermarks.recv()?.synced;
        }
    }
    while synced < last {
        synced = watermarks.recv()?.synced;
    }
    Ok(Vec::new())
}

fn append(log: &LedgerLog, durability: Durability, batch: u64) -> anyhow::Result<LogIndex> {
    let first = log.next_index().0;
    let entry = |index| LogEntry {
        index: LogIndex(index),
        durability,
        body: vec![index as u8; BODY_BYTES],
        event: ContentId([index as u8; 32]),
    };
    log.append((first..first + batch).map(entry).collect())?;
    Ok(LogIndex(first + batch - 1))
}

fn replayed(dir: &DataDir) -> anyhow::Result<()> {
    let start = Instant::now();
    let recovery = LedgerLog::open(dir, LedgerId([7; 16]))?;
    let opened = start.elapsed();
    let tip = recovery.tip();
    let callbacks = LogCallbacks {
        on_watermark: Box::new(|_| {}),
        on_failure: Box::new(|_| {}),
        on_reserve: Box::new(|| {}),
        on_recovery: Box::new(|| {}),
    };
    let mut bytes = 0;
    let visit = |entry: StoredEntry| {
        bytes += entry.body.len();
        anyhow::Ok(())
    };
    recovery.replay(callbacks, visit)?;
    let whole = start.elapsed();
    println!(
        r#"{{"bench":"log_commit","replayed":{},"bytes":{bytes},"checked_ms":{},"replayed_ms":{}}}"#,
        tip.0,
        opened.as_millis(),
        (whole - opened).as_millis()
    );
    Ok(())
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}
