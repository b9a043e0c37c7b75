use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::io::Errno;

use super::apart::apart;
use super::crash::{Survivors, every_one, fast_dir, seeded, write_out};
use super::disk::{Disk, Faults, Happened};
use super::fuse::Mounted;
use super::run;
use super::tree::Io;

const OPERATIONS: u64 = 24;
/// Runs at a time: each waits most of its time, for the disk to be tried again.
const JOBS: usize = 8;

/// Works on a disk with these faults, which then loses its power: what was acknowledged is there. Returns what happened.
fn works_and_loses_nothing(faults: Faults, rng: &mut StdRng) -> Option<Vec<Happened>> {
    let disk = Disk::new();
    disk.set(faults);
    let mounted = Mounted::new(disk)?;
    run::work(&mounted.root, OPERATIONS);
    let happened = mounted.disk.happened();
    drop(mounted);
    let (mut survivors, mut said) = (Survivors::default(), Vec::new());
    for happened in &happened {
        survivors.happen(happened, rng);
        if let Happened::Said(what) = happened {
            said.push(what.clone());
        }
    }
    let root = fast_dir();
    write_out(&survivors.after_power_loss(rng), root.path());
    run::check(&root.path().join("data"), &said);
    Some(happened)
}

/// Works once per fault, on a disk of its own each, and names those that cost something.
fn all_work(faults: Vec<Faults>, rng: &mut StdRng) {
    let seeds: Vec<(Faults, u64)> = faults.into_iter().map(|faults| (faults, rng.random())).collect();
    let (left, failed) = (Mutex::new(seeds.into_iter()), Mutex::new(Vec::new()));
    let next = || left.lock().unwrap().next();
    let work = || {
        while let Some((faults, seed)) = next() {
            let mut rng = StdRng::seed_from_u64(seed);
            if catch_unwind(AssertUnwindSafe(|| works_and_loses_nothing(faults, &mut rng))).is_err() {
                failed.lock().unwrap().push(faults);
            }
        }
    };
    std::thread::scope(|scope| (0..JOBS).for_each(|_| drop(scope.spawn(work))));
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn each_request_that_fails_once_costs_nothing_acknowledged() {
    apart("failures::each_request_that_fails_once_costs_nothing_acknowledged", || {
        let mut rng = seeded("which requests fail");
        let Some(happened) = works_and_loses_nothing(Faults::default(), &mut rng) else { return };
        let ios = happened.iter().filter_map(|happened| match happened {
            Happened::Done(io) | Happened::Failed(io) => Some(io),
            Happened::Said(_) => None,
        });
        // All of them, one by one, or each sync and some of the others where a run has little time.
        let others = if every_one() { 1.0 } else { 0.1 };
        let is_sync = |io: &Io| matches!(io, Io::Sync { .. } | Io::SyncDir { .. });
        let mut faults = Vec::new();
        for (place, io) in (1..).zip(ios) {
            if is_sync(io) || rng.random_bool(others) {
                let errno = if rng.random_bool(0.5) { Errno::IO } else { Errno::NOSPC };
                faults.push(Faults { at: Some((place, errno)), ..Faults::default() });
            }
        }
        println!("{} requests fail, one each time", faults.len());
        all_work(faults, &mut rng);
    });
}

#[test]
fn a_disk_that_fails_now_and_then_costs_nothing_acknowledged() {
    apart("failures::a_disk_that_fails_now_and_then_costs_nothing_acknowledged", || {
        let mut rng = seeded("now and then");
        // The shortest is longer than what is done anew after a failure.
        let steps = [64, 101, 150];
        let failing = |errno| steps.map(|step| Faults { every: Some((step, errno)), ..Faults::default() });
        let faults = [failing(Errno::IO), failing(Errno::NOSPC)].concat();
        all_work(faults, &mut rng);
    });
}
