//! `nodectl clock verify`.

use magpie_core::ids::LogIndex;
use serde::Serialize;

use crate::cli::args::Context;
use crate::cli::connection::unexpected;
use crate::cli::exit::{CommandError, Exit};
use crate::cli::table;
use crate::messages::clock::{ChainPiece, ClockAudit, ClockReply, ClockRequest, Link, PeerClock};
use crate::messages::{Answer, Body};

/// How often a chain that is cut off while it is checked is begun anew.
const BEGINNINGS_MAX: u32 = 8;

/// Of `clock verify`.
#[derive(Serialize)]
struct Verified<'a> {
    sound: bool,
    #[serde(flatten)]
    audit: &'a ClockAudit,
    chain: ChainDocument,
}

/// This node's own chain beside its log.
#[derive(Serialize)]
struct ChainDocument {
    /// The first record that is kept: what was before it is taken at its word.
    first: LogIndex,
    last: Option<LogIndex>,
    records: u64,
    broken: Option<String>,
}

pub async fn run(context: &Context) -> Result<Exit, CommandError> {
    let ClockReply::Audited(audit) = ask(context, ClockRequest::Audit).await? else { return Err(unexpected()) };
    let chain = check_chain(context, &audit).await?;
    let problems = problems(&audit, &chain);
    let verified = Verified { sound: problems.is_empty(), audit: &audit, chain };
    context.document(&verified, || text(&verified, &problems))?;
    Ok(if verified.sound { Exit::Ok } else { Exit::Failed })
}

async fn ask(context: &Context, request: ClockRequest) -> Result<ClockReply, CommandError> {
    match context.link.ask(Body::Clock(request)).await? {
        Answer::Clock(reply) => Ok(reply),
        _ => Err(unexpected()),
    }
}

/// Follows the chain piece by piece to the published head, which must lie on it; what came since is not waited for.
async fn check_chain(context: &Context, audit: &ClockAudit) -> Result<ChainDocument, CommandError> {
    let head = audit.own.map(|signed| Link { index: LogIndex(signed.head.count), event: signed.head.event });
    let mut beginnings = 0;
    let mut chain = ChainDocument { first: LogIndex(1), last: None, records: 0, broken: None };
    let mut after = None;
    loop {
        // A piece ends at the head, so that its event can be compared.
        let ClockReply::ChainChecked(piece) =
            ask(context, ClockRequest::CheckChain { after, upto: head.map(|head| head.index) }).await?
        else {
            return Err(unexpected());
        };
        let ChainPiece { first, reached, records, broken } = piece;
        if after.is_some() && reached.is_none() && beginnings < BEGINNINGS_MAX {
            beginnings += 1;
            (chain.records, after) = (0, None);
            continue;
        }
        chain.first = first;
        chain.records += records;
        chain.last = reached.map(|link| link.index);
        chain.broken = broken.or_else(|| differs(head, reached));
        if chain.broken.is_none() && records == 0 && head.map(|head| head.index) > chain.last {
            chain.broken = Some("the log ends before the head that was published".to_owned());
        }
        let is_at_the_head = head.is_some_and(|head| chain.last >= Some(head.index));
        if chain.broken.is_some() || records == 0 || is_at_the_head {
            return Ok(chain);
        }
        after = reached;
    }
}

/// Whether the log has another event than the one that was signed.
fn differs(head: Option<Link>, reached: Option<Link>) -> Option<String> {
    let (head, reached) = (head?, reached?);
    let differs = head.index == reached.index && head.event != reached.event;
    differs.then(|| {
        format!("the published head names event {} of record {}, the log has {}", head.event, head.index, reached.event)
    })
}

fn problems(audit: &ClockAudit, chain: &ChainDocument) -> Vec<String> {
    let mut problems: Vec<String> = audit
        .refused
        .iter()
        .map(|fault| format!("a head of ledger {} does not belong in it: {}", fault.ledger, fault.why))
        .collect();
    if !audit.root_holds {
        problems.push(format!("the heads do not have the root {}", audit.merkle_root));
    }
    problems.extend(chain.broken.iter().map(|why| format!("this node's own chain: {why}")));
    for peer in &audit.peers {
        let forked = peer.forked.iter().map(|ledger| {
            format!("{} holds another event of ledger {ledger} than this node: its home signed both", peer.peer_id)
        });
        let refused =
            peer.refused.iter().map(|fault| format!("{} shows a head that is none: {}", peer.peer_id, fault.why));
        problems.extend(forked.chain(refused));
    }
    problems
}

fn text(verified: &Verified<'_>, problems: &[String]) -> String {
    let Verified { audit, chain, .. } = verified;
    let kept =
        if chain.first > LogIndex(1) { format!(" (those before {} are not kept)", chain.first) } else { String::new() };
    let details = table::details([
        ("merkle root", audit.merkle_root.clone()),
        ("heads", format!("{} signed, {} refused", audit.heads, audit.refused.len())),
        ("own chain", format!("{} records followed{kept}", chain.records)),
    ]);
    let peers = if audit.peers.is_empty() { String::new() } else { format!("\n{}", peers(&audit.peers)) };
    let ends: Vec<String> = problems.iter().map(|problem| format!("WRONG: {}\n", table::printable(problem))).collect();
    let end = if ends.is_empty() { "nothing is wrong\n".to_owned() } else { ends.concat() };
    format!("{details}{peers}\n{end}")
}

fn peers(peers: &[PeerClock]) -> String {
    let row = |peer: &PeerClock| {
        let state = peer.ordering.clone().unwrap_or_else(|| "no answer".to_owned());
        let why = peer.unanswered.clone().unwrap_or_default();
        [
            peer.peer_id.to_string(),
            state,
            peer.behind.to_string(),
            peer.ahead.to_string(),
            peer.forked.len().to_string(),
            why,
        ]
    };
    table::rows(["PEER", "THIS CLOCK IS", "IT LACKS", "IT HAS MORE", "FORKED", "WHY"], peers.iter().map(row))
}
