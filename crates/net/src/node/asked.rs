//! What this node's owner asks of the network beside requests: whom to look for, whom to part with, and whom it knows.

use libp2p::Multiaddr;
use libp2p::swarm::DialError;
use magpie_core::ids::PeerId;
use tokio::sync::oneshot;

use super::Node;
use crate::book::{Contact, Source};
use crate::discovery::Suggestion;
use crate::identity;

/// What is asked.
#[derive(Debug)]
pub(crate) enum Question {
    /// Dials an address now, and from now on whenever nobody there is connected.
    Dial {
        address: Multiaddr,
    },
    /// Parts with a peer until it is asked for again.
    Disconnect {
        peer: PeerId,
    },
    /// Looks for peers in every way there is.
    Discover,
    Contacts {
        reply: oneshot::Sender<Vec<Contact>>,
    },
}

impl Node {
    pub(super) fn on_question(&mut self, question: Question) {
        match question {
            Question::Dial { address } => self.dial_on_request(address),
            Question::Disconnect { peer } => self.part_with(peer),
            Question::Discover => self.discover(),
            Question::Contacts { reply } => {
                // The asker may have given up.
                let _ = reply.send(self.book.contacts(self.now_ms()));
            }
        }
    }

    fn dial_on_request(&mut self, address: Multiaddr) {
        for peer in self.book.peers_at(&address) {
            self.rules.ask_for(peer);
        }
        self.on_suggestion(Suggestion::PeerFound { address, source: Source::Asked });
        self.dial_the_due();
    }

    fn part_with(&mut self, peer: PeerId) {
        self.rules.disconnect(peer);
        if let Err(why) = self.rules.admits(peer) {
            self.book.note_refusal(peer, &why.to_string());
        }
        self.send_away(peer, "its owner said so");
    }

    /// Those who wait for a back-off are dialled at once, and every way is asked that can be.
    fn discover(&mut self) {
        let now_ms = self.now_ms();
        self.rules.ask_for_all();
        self.book.dial_all_now(now_ms);
        self.look_again.notify_waiters();
        self.points.ask_at_once();
        self.questions.ask_at_once();
        let members: Vec<PeerId> = self.admitted().collect();
        members.into_iter().for_each(|member| self.ask_for_members(member));
        self.dial_the_due();
        self.visit_the_points();
        self.ask_the_table();
    }

    /// The peer at the end of a dial that is shut out, so that it is not dialled.
    pub(super) fn is_shut_out(&self, peer: Option<PeerId>) -> bool {
        peer.is_some_and(|peer| self.rules.admits(peer).is_err())
    }
}

pub(super) const OWN_ADDRESS: &str = "this is an address of this node itself";

/// Why a dial came to nothing, in the words of the system where it has some.
pub(super) fn dial_trouble(error: &DialError) -> String {
    match error {
        DialError::LocalPeerId { .. } => OWN_ADDRESS.to_owned(),
        DialError::WrongPeerId { obtained, address } => {
            let found = identity::from_libp2p(obtained).map_or_else(|| obtained.to_string(), |peer| peer.to_string());
            format!("another node answers at {address}: {found}")
        }
        DialError::Transport(failed) => {
            let each = failed.iter().map(|(address, error)| format!("{}: {}", bare(address), innermost(error)));
            each.collect::<Vec<_>>().join("; ")
        }
        DialError::NoAddresses
        | DialError::DialPeerConditionFalse(_)
        | DialError::Aborted
        | DialError::Denied { .. } => error.to_string(),
    }
}

fn bare(address: &Multiaddr) -> String {
    crate::book::split_peer(address.clone()).map_or_else(|| address.to_string(), |(address, _)| address.to_string())
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
