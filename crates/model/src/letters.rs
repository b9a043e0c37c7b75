//! What is on its way between the home and the workers.

use std::hash::{Hash, Hasher};

use magpie_core::lease::{
    CompleteAnswer, Completion, CreditOffer, Fence, Grant, Release, RenewAnswer, Renewal, outcome_digest,
};

/// A message under way on the link of one worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Letter {
    pub worker: usize,
    /// The life of the worker that sent it, or is answered. What a home sends of itself finds any life.
    pub life: u8,
    pub body: Body,
    /// A fault holds it back: time does not wait for it. It may arrive at any later time, or never.
    pub held_back: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    Offer(CreditOffer),
    Renew { sent_ms: u64, renewals: Vec<Renewal> },
    Complete { sent_ms: u64, completions: Vec<Completion> },
    Release(Vec<Release>),
    Grants(Vec<Grant>),
    Recall(Vec<Fence>),
    Stop(Vec<Fence>),
    RenewAnswers { sent_ms: u64, answers: Vec<(Fence, RenewAnswer)> },
    CompleteAnswers { sent_ms: u64, answers: Vec<(Fence, CompleteAnswer)> },
}

impl Body {
    /// Whether it goes to the home.
    pub fn is_request(&self) -> bool {
        match self {
            Self::Offer(_) | Self::Renew { .. } | Self::Complete { .. } | Self::Release(_) => true,
            Self::Grants(_)
            | Self::Recall(_)
            | Self::Stop(_)
            | Self::RenewAnswers { .. }
            | Self::CompleteAnswers { .. } => false,
        }
    }

    /// Whether it answers a request of one life of a worker.
    pub fn is_answer(&self) -> bool {
        matches!(self, Self::RenewAnswers { .. } | Self::CompleteAnswers { .. })
    }

    fn fingerprint(&self, hasher: &mut impl Hasher) {
        std::mem::discriminant(self).hash(hasher);
        match self {
            Self::Offer(offer) => offer.hash(hasher),
            Self::Renew { sent_ms, renewals } => (sent_ms, renewals).hash(hasher),
            Self::Complete { sent_ms, completions } => {
                sent_ms.hash(hasher);
                for completion in completions {
                    (completion.fence, completion.token, outcome_digest(&completion.outcome)).hash(hasher);
                }
            }
            Self::Release(releases) => releases.hash(hasher),
            Self::Grants(grants) => grants.iter().for_each(|grant| (grant.fence, grant.credit).hash(hasher)),
            Self::Recall(fences) | Self::Stop(fences) => fences.hash(hasher),
            Self::RenewAnswers { sent_ms, answers } => (sent_ms, answers).hash(hasher),
            Self::CompleteAnswers { sent_ms, answers } => (sent_ms, answers).hash(hasher),
        }
    }
}

impl Letter {
    pub fn fingerprint(&self, hasher: &mut impl Hasher) {
        (self.worker, self.life, self.held_back).hash(hasher);
        self.body.fingerprint(hasher);
    }
}
