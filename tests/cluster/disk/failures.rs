use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::io::Errno;

use super::apart::apart;
use super::crash::{Survivors, every_one, fast_dir, seeded, write_out};
use super::fuse::Mounted;
use super::recorded::{Disk, Faults, Happened};
use super::run;
use super::tree::Io;

const OPERATIONS: u64 = 24;
/// Runs at a time: each waits most of its time, for the disk to be tried again.
const JOBS: usize = 8;

fn works_and_loses_nothing(faults: Faults, rng: &mut StdRng) -> Option<Vec<Happened>> {
    loses_nothing(faults, rng, |mounted| run::work(&mounted.root, OPERATIONS))
}

/// Works on a disk with these faults, which loses its power at the end or anywhere: what was acknowledged is there. Returns what happened.
fn loses_nothing(faults: Faults, rng: &mut StdRng, work: impl Fn(&Mounted)) -> Option<Vec<Happened>> {
    let disk = Disk::new();
    disk.set(faults);
    let mounted = Mounted::new(disk)?;
    work(&mounted);
    let happened = mounted.disk.happened();
    drop(mounted);
    let anywhere = rng.random_range(0..happened.len());
    for end in [anywhere, happened.len()] {
        after_power_loss(&happened[..end], rng);
    }
    Some(happened)
}

/// Finds all that was acknowledged before the disk lost its power.
fn after_power_loss(happened: &[Happened], rng: &mut StdRng) {
    let (mut survivors, mut said) = (Survivors::default(), Vec::new());
    for happened in happened {
        survivors.happen(happened, rng);
        if let Happened::Said(what) = happened {
            said.push(what.clone());
        }
    }
    let root = fast_dir();
    write_out(&survivors.after_power_loss(rng), root.path());
    run::check(&root.path().join("data"), &said);
}

fn ios(happened: &[Happened]) -> impl Iterator<Item = &Io> {
    happened.iter().filter_map(|happened| match happened {
        Happened::Done(io) | Happened::Failed(io) => Some(io),
        Happened::Said(_) => None,
    })
}

fn is_sync(io: &Io) -> bool {
    matches!(io, Io::Sync { .. } | Io::SyncDir { .. })
}

/// Works until the disk fails, is killed, and works on when it is mended.
fn starts_again_and_loses_nothing(faults: Faults, rng: &mut StdRng) -> Option<Vec<Happened>> {
    loses_nothing(faults, rng, |mounted| {
        run::work_until(&mounted.root, OPERATIONS, || mounted.disk.has_failed());
        mounted.disk.set(Faults::default());
        run::work(&mounted.root, OPERATIONS);
    })
}

fn spools(mounted: &Mounted) {
    run::spool(&mounted.root);
}

/// Works once per fault, on a disk of its own each, and names those that cost something.
fn all_work(faults: Vec<Faults>, rng: &mut StdRng, work_with: fn(Faults, &mut StdRng) -> Option<Vec<Happened>>) {
    let seeds: Vec<(Faults, u64)> = faults.into_iter().map(|faults| (faults, rng.random())).collect();
    let (left, failed) = (Mutex::new(seeds.into_iter()), Mutex::new(Vec::new()));
    let next = || left.lock().unwrap().next();
    let work = || {
        while let Some((faults, seed)) = next() {
            let mut rng = StdRng::seed_from_u64(seed);
            if catch_unwind(AssertUnwindSafe(|| work_with(faults, &mut rng))).is_err() {
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
        // All of them, one by one, or each sync and some of the others where a run has little time.
        let others = if every_one() { 1.0 } else { 0.1 };
        let mut faults = Vec::new();
        for (place, io) in (1..).zip(ios(&happened)) {
            if is_sync(io) || rng.random_bool(others) {
                let errno = if rng.random_bool(0.5) { Errno::IO } else { Errno::NOSPC };
                faults.push(Faults { at: Some((place, errno)), ..Faults::default() });
            }
        }
        println!("{} requests fail, one each time", faults.len());
        all_work(faults, &mut rng, works_and_loses_nothing);
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
        all_work(faults, &mut rng, works_and_loses_nothing);
    });
}

#[test]
fn a_checkpoint_that_fails_to_sync_costs_nothing_acknowledged_later() {
    apart("failures::a_checkpoint_that_fails_to_sync_costs_nothing_acknowledged_later", || {
        let mut rng = seeded("a failed checkpoint");
        let Some(happened) = loses_nothing(Faults::default(), &mut rng, spools) else { return };
        // A checkpoint first syncs what the write-ahead log has gathered.
        let mut gathered = 0;
        let place = ios(&happened).position(|io| {
            gathered += 1;
            is_sync(io) && std::mem::take(&mut gathered) > 1_000
        });
        let faults = Faults { at: Some((place.unwrap() as u64 + 1, Errno::IO)), ..Faults::default() };
        let happened = loses_nothing(faults, &mut rng, spools).unwrap();
        let failed = happened.iter().filter(|happened| matches!(happened, Happened::Failed(Io::Sync { .. }))).count();
        assert_eq!(failed, 1);
    });
}

#[test]
fn a_start_after_a_failed_sync_costs_nothing_acknowledged_after_it() {
    apart("failures::a_start_after_a_failed_sync_costs_nothing_acknowledged_after_it", || {
        let mut rng = seeded("starts after a failed sync");
        let Some(happened) = works_and_loses_nothing(Faults::default(), &mut rng) else { return };
        let each = if every_one() { 1.0 } else { 0.3 };
        let syncs = (1..).zip(ios(&happened)).filter(|(_, io)| is_sync(io));
        let faults = syncs.filter(|_| rng.random_bool(each));
        let faults = faults.map(|(place, _)| Faults { from: Some((place, Errno::IO)), ..Faults::default() });
        let faults: Vec<Faults> = faults.collect();
        all_work(faults, &mut rng, starts_again_and_loses_nothing);
    });
}
