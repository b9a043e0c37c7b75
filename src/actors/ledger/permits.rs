//! Permits between homes: the ledger's questions to the home of a limit, and what it lends to others.

use magpie_core::ids::LedgerTag;
use magpie_core::limiter::{PermitAnswer, PermitAsk};
use magpie_core::queue::{LedgerReply, LedgerRequest, Refusal};
use ractor::ActorRef;

use super::super::peers::Peers;
use crate::messages::ledger::LedgerMsg;
use crate::messages::{Answer, Body};

/// Asks the home of a limit; the answer is cast back.
pub fn ask(peers: &Peers, me: &ActorRef<LedgerMsg>, home: LedgerTag, ask: PermitAsk) {
    let me = me.clone();
    let Some(peer) = peers.home_of(home) else {
        let answer = Err(Refusal::Unavailable { what: format!("no node is known that serves the home {home}") });
        let _ = me.cast(LedgerMsg::PermitsAnswered { home, ask, answer });
        return;
    };
    let body = Body::Ledger(LedgerRequest::AskPermits(ask.clone()));
    peers.tell(peer, body, move |answer| {
        let answer = answer.and_then(permits_of);
        let _ = me.cast(LedgerMsg::PermitsAnswered { home, ask, answer });
    });
}

fn permits_of(answer: Answer) -> Result<PermitAnswer, Refusal> {
    match answer {
        Answer::Ledger(LedgerReply::Permits(answer)) => Ok(*answer),
        Answer::Ledger(LedgerReply::Refused(refusal)) | Answer::Refused(refusal) => Err(refusal),
        _ => Err(Refusal::Unavailable { what: "the home of the limit answered something else".to_owned() }),
    }
}

/// Tells a home what it was lent. Lost, it hears of it with its next question.
pub fn lend(peers: &Peers, home: LedgerTag, answer: PermitAnswer) {
    if let Some(peer) = peers.home_of(home) {
        peers.tell(peer, Body::Ledger(LedgerRequest::TakePermits(answer)), |answer| {
            if let Err(refusal) = answer {
                tracing::debug!(%refusal, "permits may not have arrived");
            }
        });
    }
}
