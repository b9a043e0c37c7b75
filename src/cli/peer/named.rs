//! Peers as a person types them: the whole id, or a beginning or end of it that tells it from the others.

use std::collections::BTreeSet;

use magpie_core::ids::PeerId;

use super::ask;
use crate::cli::args::Context;
use crate::cli::connection::unexpected;
use crate::cli::exit::{CommandError, Exit};
use crate::messages::peer::{PeerReply, PeerRequest};

/// Candidates that an ambiguous text is answered with.
const CANDIDATES_SHOWN: usize = 10;

/// The peer that `typed` is, or the one known peer that it begins or ends.
///
/// # Errors
/// Exit code 2 if it fits several, 3 if it fits none.
pub async fn resolve(context: &Context, typed: &str) -> Result<PeerId, CommandError> {
    if let Ok(peer) = typed.parse() {
        return Ok(peer);
    }
    let known = known(context).await?;
    pick(typed, &known)
}

fn pick(typed: &str, known: &BTreeSet<PeerId>) -> Result<PeerId, CommandError> {
    let fits = |peer: &&PeerId| {
        let text = peer.to_string();
        !typed.is_empty() && (text.starts_with(typed) || text.ends_with(typed))
    };
    let found: Vec<PeerId> = known.iter().filter(fits).copied().collect();
    match found.as_slice() {
        [peer] => Ok(*peer),
        [] => {
            let typed: String = typed.chars().take(80).collect();
            let what = format!("no peer that this node knows begins or ends with {typed:?}; see `nodectl peer ls`");
            Err(CommandError::new(Exit::NotFound, what))
        }
        several => {
            let shown: Vec<String> = several.iter().take(CANDIDATES_SHOWN).map(|peer| format!("  {peer}")).collect();
            let what = format!("{typed} fits several peers; type more of one of them:\n{}", shown.join("\n"));
            Err(CommandError::usage(what))
        }
    }
}

async fn known(context: &Context) -> Result<BTreeSet<PeerId>, CommandError> {
    let PeerReply::Contacts(view) = ask(context, PeerRequest::Contacts).await? else { return Err(unexpected()) };
    let PeerReply::Rules(rules) = ask(context, PeerRequest::Rules).await? else { return Err(unexpected()) };
    let members = super::list(context).await?.into_iter().map(|peer| peer.peer_id);
    let contacts = view.contacts.into_iter().filter_map(|contact| contact.peer_id);
    Ok(members.chain(contacts).chain(rules.into_iter().map(|rule| rule.peer_id)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_named_by_whatever_end_tells_it_from_the_others() {
        let peers: BTreeSet<PeerId> = (0..20).map(|seed| PeerId([seed; 32])).collect();
        let one = *peers.iter().nth(3).unwrap();
        let text = one.to_string();
        assert_eq!(pick(&text[text.len() - 8..], &peers).unwrap(), one);
        assert_eq!(pick(&text[..text.len() - 1], &peers).unwrap(), one);
        let several = pick("12D3KooW", &peers).unwrap_err();
        assert_eq!((several.exit, several.to_string().lines().count()), (Exit::Usage, 1 + CANDIDATES_SHOWN));
        for none in ["", "0", "nobody"] {
            assert_eq!(pick(none, &peers).unwrap_err().exit, Exit::NotFound, "{none}");
        }
    }
}
