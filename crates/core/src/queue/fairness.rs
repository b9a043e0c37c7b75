//! Which namespace is served next: start-time fair queueing over grants (P. Goyal, H. Vin, H. Cheng, 1996).
//!
//! A grant moves its namespace's virtual time on by 1/weight, and the least virtual time is served next. Nobody saves
//! up: whoever had nothing that could be granted starts again at the time of those who were served meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::settings::QueueSettings;
use crate::limits;

/// Virtual time of one grant at weight 1. All grants of one generation fit: 2^32 of them.
const GRANT: u64 = 1 << 24;

/// Where a namespace stands on the home's virtual clock.
#[derive(Debug, Clone, Copy)]
struct Account {
    /// The virtual time at which its next grant starts.
    next: u64,
    /// The last round in which something of it could be granted.
    round: u64,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Fairness {
    /// The start of the latest grant, over all namespaces.
    now: u64,
    round: u64,
    accounts: BTreeMap<Arc<str>, Account>,
}

impl Fairness {
    pub fn begin_round(&mut self) {
        self.round += 1;
        if self.accounts.len() > limits::NAMESPACE_ACCOUNTS_MAX {
            self.forget();
        }
    }

    /// Something of `namespace` can be granted in this round.
    pub fn contend(&mut self, namespace: &Arc<str>) {
        let (now, round) = (self.now, self.round);
        let Some(account) = self.accounts.get_mut(namespace) else {
            self.accounts.insert(namespace.clone(), Account { next: now, round });
            return;
        };
        // Who waited its turn since the last round is owed what it is behind; who had nothing to grant is not.
        if account.round + 1 < round {
            account.next = account.next.max(now);
        }
        account.round = round;
    }

    /// The virtual time at which the next grant of `namespace` starts.
    pub fn next(&self, namespace: &str) -> u64 {
        self.accounts.get(namespace).map_or(self.now, |account| account.next)
    }

    /// Counts one grant.
    pub fn charge(&mut self, namespace: &str, settings: &QueueSettings) {
        let Some(account) = self.accounts.get_mut(namespace) else { return };
        self.now = self.now.max(account.next);
        account.next += GRANT / u64::from(settings.weight(namespace));
    }

    /// How many namespaces are remembered.
    #[cfg(test)]
    pub fn accounts(&self) -> usize {
        self.accounts.len()
    }

    /// Drops the accounts of those who contend no more: first those that are not ahead of the others, then all.
    fn forget(&mut self) {
        let (now, last) = (self.now, self.round - 1);
        self.accounts.retain(|_, account| account.round == last || account.next > now);
        if self.accounts.len() > limits::NAMESPACE_ACCOUNTS_MAX {
            self.accounts.retain(|_, account| account.round == last);
        }
    }
}
