//! `nodectl status`.

use magpie_core::clock_alarm::ClockAlarm;
use magpie_core::ids::LedgerId;
use magpie_core::queue::{Disk, Refusal, Suspension};
use magpie_core::task::TaskState;

use super::args::Context;
use super::connection::{NodeLink, unexpected};
use super::exit::{CommandError, Exit};
use super::human;
use super::shapes::StatusDocument;
use super::table;
use crate::messages::device::DeviceView;
use crate::messages::node::{NodeReply, NodeRequest, NodeStatus};
use crate::messages::registry::PeerView;
use crate::messages::{Answer, Body};

pub async fn run(context: &Context) -> Result<Exit, CommandError> {
    let status = ask(&context.link).await?;
    context.document(&StatusDocument::of(&status), || text(&status, context.format.is_wide()))?;
    Ok(Exit::Ok)
}

/// What the node says of itself.
///
/// # Errors
/// Why it does not answer.
pub async fn ask(link: &NodeLink) -> Result<NodeStatus, CommandError> {
    match link.ask(Body::Node(NodeRequest::Status)).await? {
        Answer::Node(NodeReply::Status(status)) => Ok(*status),
        _ => Err(unexpected()),
    }
}

fn text(status: &NodeStatus, wide: bool) -> String {
    let mut text = table::details([
        ("node", status.peer_id.to_string()),
        ("version", status.version.clone()),
        ("up", human::duration(status.uptime_ms)),
        ("listens", status.listen.join(" ")),
        ("http", human::or_dash(status.http.as_ref())),
        ("ledger", status.ledger.to_string()),
        ("queue", queue(status)),
        ("worker", worker(status)),
        ("refused late", status.queue.fenced_total.to_string()),
    ]);
    if !status.peers.is_empty() {
        text += &format!("\n{}", peers(&status.peers, wide));
    }
    if !status.devices.is_empty() {
        text += &format!("\n{}", devices(&status.devices));
    }
    if let Some(alarm) = &status.queue.clock_alarm {
        text += &format!("\nclock alarm: {}\n", alarm_in_words(alarm));
    }
    if let Some(suspension) = &status.queue.suspended {
        text += &format!("\nsuspended: {}\n", suspended_in_words(status.ledger, suspension));
    }
    if let Some(home) = status.queue.handed_over_to {
        let ledger = status.ledger;
        let what = "this node takes no work until another ledger is imported";
        text += &format!("\nhanded over: ledger {ledger} was handed over to {home}; {what}\n");
    }
    if let Some(trouble) = disk_in_words(&status.queue.disk) {
        text += &format!("\ndisk: {trouble}\n");
    }
    if let Some(why) = &status.worker.spool_refuses {
        let waiting = status.worker.reporting;
        let what = "outcomes wait for their homes and are kept in memory alone";
        text += &format!("\nworker: {waiting} {what}: {}\n", table::printable(why));
    }
    if let Some(why) = &status.worker.no_room {
        text += &format!("\nworker: no task that needs room on the disk is taken: {}\n", table::printable(why));
    }
    for notice in &status.notices {
        text += &format!("\nnotice: {}\n", table::printable(notice));
    }
    text
}

fn suspended_in_words(ledger: LedgerId, suspension: &Suspension) -> String {
    let refusal = Refusal::HomeSuspended { ledger, since: suspension.since, position: suspension.position };
    format!("{refusal}; until then this home accepts, grants, commits and removes nothing")
}

fn disk_in_words(disk: &Disk) -> Option<String> {
    let (what, why) = match disk {
        Disk::Takes => return None,
        Disk::Spares { why } => ("no new work is taken, what was accepted goes on", why),
        Disk::Refuses { why } => ("nothing is written, the queue is shown as it was before", why),
    };
    Some(table::printable(&format!("{what}: {why}")))
}

fn alarm_in_words(alarm: &ClockAlarm) -> String {
    let way = if alarm.jumped_ms < 0 { "back" } else { "ahead" };
    let by = human::duration(alarm.jumped_ms.unsigned_abs());
    let peers = format!("{} of {} peers in reach differ", alarm.peers_differing, alarm.peers_reachable);
    format!("the wall clock jumped {by} {way}; deadlines and schedules wait until it can be believed ({peers})")
}

fn queue(status: &NodeStatus) -> String {
    let counts = &status.queue.counts;
    let some = TaskState::ALL.into_iter().filter(|state| counts.of(*state) > 0);
    let shown: Vec<String> = some.map(|state| format!("{} {state}", counts.of(state))).collect();
    if shown.is_empty() { "empty".to_owned() } else { shown.join(", ") }
}

fn worker(status: &NodeStatus) -> String {
    let worker = &status.worker;
    let free = format!("{} of {} slots free", worker.free.cpu, worker.slots.cpu);
    let did = format!("{} running, {} started, {} stolen", worker.running, worker.started, worker.stolen);
    let draining = if worker.draining { ", draining" } else { "" };
    format!("{free}, {did}{draining}")
}

/// Of `status` and `peer ls`.
pub fn peers(peers: &[PeerView], wide: bool) -> String {
    let rtt = |peer: &PeerView| peer.rtt_ms.map_or_else(|| "-".to_owned(), |rtt| format!("{rtt:.1}ms"));
    let heard = |peer: &PeerView| {
        peer.last_heard_ms_ago.map_or_else(|| "-".to_owned(), |ms| format!("{} ago", human::duration(ms)))
    };
    let way = |peer: &PeerView| match (peer.connected, peer.relayed) {
        (true, true) => "relay",
        (true, false) => "direct",
        (false, _) => "-",
    };
    if wide {
        let row = |peer: &PeerView| {
            [
                peer.peer_id.to_string(),
                peer.state.clone(),
                way(peer).to_owned(),
                rtt(peer),
                peer.slots_free.cpu.to_string(),
                heard(peer),
                human::or_dash(peer.version.as_ref()),
                human::or_dash(peer.ledger),
                peer.addresses.join(" "),
            ]
        };
        let header = ["PEER", "STATE", "WAY", "RTT", "FREE", "HEARD", "VERSION", "LEDGER", "ADDRESSES"];
        return table::rows(header, peers.iter().map(row));
    }
    let row = |peer: &PeerView| {
        [peer.peer_id.to_string(), peer.state.clone(), rtt(peer), peer.slots_free.cpu.to_string(), heard(peer)]
    };
    table::rows(["PEER", "STATE", "RTT", "FREE", "HEARD"], peers.iter().map(row))
}

/// Of `status` and `device ls`.
pub fn devices(devices: &[DeviceView]) -> String {
    let row = |device: &DeviceView| {
        [
            device.name.clone(),
            device.state.clone(),
            device.models.join(" "),
            device.queued.to_string(),
            device.texts.to_string(),
            human::duration(device.busy_ms),
            human::or_dash(device.why.as_ref()),
        ]
    };
    table::rows(["DEVICE", "STATE", "MODELS", "QUEUED", "TEXTS", "BUSY", "WHY"], devices.iter().map(row))
}
