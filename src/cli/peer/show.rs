//! What a person sees of peers beside their list.

use std::time::Duration;

use magpie_core::ids::PeerId;
use serde::Serialize;

use super::{ask, named};
use crate::cli::args::Context;
use crate::cli::connection::unexpected;
use crate::cli::deadline::Deadline;
use crate::cli::exit::{CommandError, Exit};
use crate::cli::shapes::{Items, PeerDocument};
use crate::cli::{human, table};
use crate::messages::peer::{ContactView, PeerReply, PeerRequest, RuleName, RuleView, WayView};
use crate::messages::registry::PeerView;

/// How often it is looked whether somebody was found.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Of `peer get`.
#[derive(Serialize)]
struct OnePeer<'a> {
    peer_id: PeerId,
    /// As `peer ls` shows it; null: it is no member just now.
    member: Option<PeerDocument<'a>>,
    clock_ahead_ms: Option<i64>,
    rule: Option<RuleName>,
    contacts: &'a [ContactView],
}

pub async fn get(context: &Context, typed: &str) -> Result<Exit, CommandError> {
    let peer = named::resolve(context, typed).await?;
    let PeerReply::Peer { member, contacts, rule } = ask(context, PeerRequest::Get { peer }).await? else {
        return Err(unexpected());
    };
    if member.is_none() && contacts.is_empty() && rule.is_none() {
        let what = format!("this node does not know {peer}; see `nodectl peer ls` and `nodectl peer discover`");
        return Err(CommandError::new(Exit::NotFound, what));
    }
    let member = member.as_deref();
    let document = OnePeer {
        peer_id: peer,
        member: member.map(PeerDocument::of),
        clock_ahead_ms: member.and_then(|member| member.clock_ahead_ms),
        rule,
        contacts: &contacts,
    };
    context.document(&document, || in_words(peer, member, &contacts, rule))?;
    Ok(Exit::Ok)
}

fn in_words(peer: PeerId, member: Option<&PeerView>, contacts: &[ContactView], rule: Option<RuleName>) -> String {
    let state = member.map_or("no member just now", |member| &member.state);
    let mut pairs = vec![("peer", peer.to_string()), ("state", state.to_owned())];
    if let Some(member) = member {
        pairs.extend([
            ("round trip", human::or_dash(member.rtt_ms.map(|rtt| format!("{rtt:.1}ms")))),
            ("heard", human::or_dash(member.last_heard_ms_ago.map(|ms| format!("{} ago", human::duration(ms))))),
            ("version", human::or_dash(member.version.as_ref())),
            ("ledger", human::or_dash(member.ledger)),
            ("free slots", member.slots_free.cpu.to_string()),
            ("clock", human::or_dash(member.clock_ahead_ms.map(clock))),
        ]);
    }
    pairs.extend(rule.map(|rule| ("own list", rule_in_words(rule).to_owned())));
    format!("{}\n{}", table::details(pairs), addresses(contacts))
}

fn clock(ahead_ms: i64) -> String {
    let way = if ahead_ms < 0 { "behind" } else { "ahead" };
    format!("{} {way} of this node's", human::duration(ahead_ms.unsigned_abs()))
}

fn rule_in_words(rule: RuleName) -> &'static str {
    match rule {
        RuleName::Allow => "allowed",
        RuleName::Deny => "denied",
    }
}

fn addresses(contacts: &[ContactView]) -> String {
    let rows = contacts.iter().flat_map(|contact| {
        contact.addresses.iter().map(|at| {
            [
                human::or_dash(contact.peer_id),
                at.address.clone(),
                at.sources.join(" "),
                standing(contact),
                human::or_dash(contact.trouble.as_ref()),
            ]
        })
    });
    table::rows(["PEER", "ADDRESS", "KNOWN FROM", "STATE", "TROUBLE"], rows)
}

fn standing(contact: &ContactView) -> String {
    match contact {
        contact if contact.admitted => "connected".to_owned(),
        contact if contact.own => "own".to_owned(),
        contact if contact.connected => "not admitted".to_owned(),
        contact => match contact.dialled_in_ms {
            Some(0) | None => "dialled".to_owned(),
            Some(ms) => format!("dialled in {}", human::duration(ms)),
        },
    }
}

/// Of `peer discover`.
#[derive(Serialize)]
struct Discovered<'a> {
    ways: &'a [WayView],
    contacts: &'a [ContactView],
}

pub async fn discover(context: &Context, timeout: Duration) -> Result<Exit, CommandError> {
    let (ways, contacts) = look(context, timeout).await?;
    context.document(&Discovered { ways: &ways, contacts: &contacts }, || {
        let row = |way: &WayView| {
            let on = if way.on { "asked" } else { "off" };
            [way.way.clone(), on.to_owned(), way.known.to_string()]
        };
        let known =
            format!("{}\n{}", table::rows(["WAY", "STATE", "KNOWN"], ways.iter().map(row)), addresses(&contacts));
        if contacts.is_empty() { format!("{known}nobody is known yet\n") } else { known }
    })?;
    Ok(Exit::Ok)
}

/// Asks once; where nobody is known, looks until somebody is.
async fn look(context: &Context, timeout: Duration) -> Result<(Vec<WayView>, Vec<ContactView>), CommandError> {
    let deadline = Deadline::after(timeout);
    let mut asked = PeerRequest::Discover;
    loop {
        match ask(context, asked).await? {
            PeerReply::Discovered { ways, contacts } if !contacts.is_empty() || deadline.has_passed() => {
                return Ok((ways, contacts));
            }
            PeerReply::Contacts(view) if view.contacts.is_empty() && !deadline.has_passed() => {
                asked = PeerRequest::Contacts;
            }
            // Somebody was found, or the time is over: who is known, by which way.
            PeerReply::Contacts(_) => asked = PeerRequest::Discover,
            PeerReply::Discovered { .. } => asked = PeerRequest::Contacts,
            _ => return Err(unexpected()),
        }
        tokio::time::sleep(deadline.cap(LOOK_EVERY)).await;
    }
}

pub async fn rules(context: &Context) -> Result<Exit, CommandError> {
    let PeerReply::Rules(rules) = ask(context, PeerRequest::Rules).await? else { return Err(unexpected()) };
    let row = |rule: &RuleView| [rule.peer_id.to_string(), rule_in_words(rule.rule).to_owned()];
    context
        .document(&Items { items: rules.iter().collect() }, || table::rows(["PEER", "RULE"], rules.iter().map(row)))?;
    Ok(Exit::Ok)
}
