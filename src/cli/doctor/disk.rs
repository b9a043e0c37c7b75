//! Room on the disk, and what the node says of it.

use std::path::Path;

use magpie_core::queue::Disk;
use rustix::fs::statvfs;

use super::place::Place;
use super::{Check, Heard};
use crate::cli::human;

const NAME: &str = "disk";
/// Below this a home takes no new work (it sets 64 MiB aside), and below this it soon will not.
const FREE_BYTES_MIN: u64 = 64 * 1024 * 1024;
const FREE_BYTES_FEW: u64 = 1024 * 1024 * 1024;

pub(super) fn check(place: &Place, heard: Option<&Heard>) -> Check {
    if let Some(told) = heard.and_then(said) {
        return told;
    }
    let dir = place.data_dir.as_deref().and_then(|dir| dir.ancestors().find(|ancestor| ancestor.is_dir()));
    let Some(dir) = dir else {
        return Check::warning(NAME, "there is no directory to look at", "name it: --data-dir DIR");
    };
    match statvfs(dir) {
        Ok(volume) => free(dir, volume.f_bavail.saturating_mul(volume.f_frsize)),
        Err(error) => {
            Check::warning(NAME, format!("{}: {error}", dir.display()), "see what the system says of it (dmesg)")
        }
    }
}

fn free(dir: &Path, bytes: u64) -> Check {
    let found = format!("{} free on the volume of {}", human::bytes(bytes), dir.display());
    if bytes < FREE_BYTES_MIN {
        Check::fault(NAME, found, "free some space on its volume: a node takes no new work without 64 MiB of it")
    } else if bytes < FREE_BYTES_FEW {
        Check::warning(NAME, found, "free some space, or set `retention.bytes` lower")
    } else {
        Check::ok(NAME, found)
    }
}

/// What the node has met itself is worth more than what is counted here.
fn said(heard: &Heard) -> Option<Check> {
    let worker = &heard.status.worker;
    let remedy = "free some space on its volume, or make it writable again; the node goes on by itself";
    match &heard.status.queue.disk {
        Disk::Spares { why } => return Some(Check::fault(NAME, format!("the home takes no new work: {why}"), remedy)),
        Disk::Refuses { why } => return Some(Check::fault(NAME, format!("the home writes nothing: {why}"), remedy)),
        Disk::Takes => {}
    }
    if let Some(why) = &worker.spool_refuses {
        return Some(Check::fault(NAME, format!("outcomes wait in memory alone: {why}"), remedy));
    }
    let why = worker.no_room.as_ref()?;
    Some(Check::fault(NAME, format!("no task that needs room on the disk runs here: {why}"), remedy))
}
