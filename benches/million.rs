//! One million queued tasks of 256 bytes input at one home: memory, and a restart with its replay.
//!
//! `cargo bench --profile dist --bench million`; `TASKS=1000000` by default. Bars: at most 1.0 GiB resident, at most 20 CPU seconds.
//! Prints one JSON object.

use std::sync::Arc;
use std::time::Duration;

use magpie::store::data_dir::DataDir;
use magpie::store::log::{LedgerLog, LogCallbacks};
use magpie_core::ids::{LedgerId, OperationId, PeerId};
use magpie_core::payload::{JsonText, Payload};
use magpie_core::queue::{
    Caller, Effect, Event, Ledger, LedgerIdentity, LedgerReply, LedgerRequest, Replay, ReplyTo, SubmitItem, Watermark,
};
use magpie_core::task::{TaskKind, TaskSpec};
use magpie_core::time::Now;
use rustix::time::{ClockId, clock_gettime};

/// A node's.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const BATCH: u32 = 1_000;
const INPUT_BYTES: usize = 256;

fn main() -> anyhow::Result<()> {
    let tasks: u32 = std::env::var("TASKS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let root = tempfile::tempdir()?;
    let before = resident_mib()?;
    let (dir, cpu) = (DataDir::open(root.path())?, cpu_time());
    let (mut ledger, log) = opened(&dir)?;
    for batch in 0..tasks / BATCH {
        submit(&mut ledger, batch);
        append_all(&mut ledger, &log)?;
    }
    let resident = resident_mib()?;
    log.close()?;
    let submitted_cpu_s = seconds_since(cpu);
    drop(ledger);
    drop(dir);
    let (dir, cpu) = (DataDir::open(root.path())?, cpu_time());
    let (ledger, log) = opened(&dir)?;
    let bytes = std::fs::metadata(root.path().join("ledger.db"))?.len() / 1024 / 1024;
    let (replay_cpu_s, replayed_mib) = (seconds_since(cpu), resident_mib()?);
    let ready = ledger.backlog().iter().map(|shape| shape.ready).sum::<u64>();
    anyhow::ensure!(ready == u64::from(tasks), "{ready} tasks are ready after the restart");
    println!(
        r#"{{"bench":"million","tasks":{tasks},"input_bytes":{INPUT_BYTES},"before_mib":{before},"resident_mib":{resident},"submit_cpu_s":{submitted_cpu_s:.1},"log_mib":{bytes},"replay_cpu_s":{replay_cpu_s:.1},"resident_after_replay_mib":{replayed_mib}}}"#
    );
    Ok(log.close()?)
}

fn opened(dir: &DataDir) -> anyhow::Result<(Ledger, LedgerLog)> {
    let recovery = LedgerLog::open(dir, LedgerId([7; 16]))?;
    let mut replay = Replay::new(LedgerIdentity { ledger: recovery.ledger(), home: PeerId([1; 32]), secret: [2; 32] });
    let callbacks = LogCallbacks {
        on_watermark: Box::new(|_| {}),
        on_failure: Box::new(|_| {}),
        on_reserve: Box::new(|| {}),
        on_recovery: Box::new(|| {}),
    };
    let log = recovery.replay(callbacks, |entry| replay.apply(entry.index, &entry.body, entry.event))?;
    let mut ledger = replay.open(now());
    append_all(&mut ledger, &log)?;
    Ok((ledger, log))
}

fn submit(ledger: &mut Ledger, batch: u32) {
    let spec = |n: u32| {
        let text = format!("{batch:08}{n:08}{}", "x".repeat(INPUT_BYTES - 18));
        let input = Payload::Inline(JsonText::of(&serde_json::Value::from(text)));
        SubmitItem { spec: Arc::new(TaskSpec { input, ..TaskSpec::new(TaskKind::Noop) }), count: 1 }
    };
    let mut operation = [0; 16];
    operation[..4].copy_from_slice(&batch.to_be_bytes());
    let request = LedgerRequest::Submit { operation: OperationId(operation), items: (0..BATCH).map(spec).collect() };
    let caller = Caller { peer: PeerId([1; 32]), owner: "bench".into() };
    ledger.handle(now(), Event::Request { caller, request, reply: ReplyTo(1) });
}

fn append_all(ledger: &mut Ledger, log: &LedgerLog) -> anyhow::Result<()> {
    let entries = ledger.take_entries();
    let last = entries.last().map(|entry| entry.index).unwrap_or_default();
    while log.room().entries < entries.len() || log.room().bytes < 2 * 1024 * 1024 {
        std::thread::sleep(Duration::from_millis(1));
    }
    log.append(entries)?;
    ledger.handle(now(), Event::Durable(Watermark { written: last, synced: last }));
    let refused = ledger.take_effects().into_iter().find_map(|effect| match effect {
        Effect::Reply { reply: LedgerReply::Refused(refusal), .. } => Some(refusal),
        _ => None,
    });
    refused.map_or(Ok(()), |refusal| Err(refusal.into()))
}

fn now() -> Now {
    let ms = |clock| {
        let time = clock_gettime(clock);
        time.tv_sec.unsigned_abs() * 1_000 + time.tv_nsec.unsigned_abs() / 1_000_000
    };
    Now { mono_ms: ms(ClockId::Monotonic), wall_ms: ms(ClockId::Realtime) }
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

fn seconds_since(start: Duration) -> f64 {
    (cpu_time() - start).as_secs_f64()
}

/// What the process holds of the machine's memory.
fn resident_mib() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    Ok(kib.unwrap_or_default() / 1024)
}
