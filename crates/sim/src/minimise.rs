//! From a seed that fails to the least that fails in the same way: fewer faults, nodes, clients, submissions.

use crate::faults::Fault;
use crate::{Failure, Options, Report, run_seed};

/// The smallest bounds that are tried first.
const NODES: [u64; 3] = [2, 3, 4];
const CLIENTS: [u64; 2] = [1, 2];
const SUBMISSIONS: [u64; 5] = [1, 2, 4, 8, 16];

/// What is left of `options` with the faults that the failure needs, and how that run fails.
pub fn minimise(report: &Report, options: Options) -> (Options, Failure) {
    let found = report.failure.clone().expect("a seed that failed is made smaller");
    let mut least = Least { seed: report.seed, options: Options { keep_lines: false, ..options }, failure: found };
    for fault in Fault::ALL.into_iter().filter(|fault| report.faults.has(*fault)) {
        least.try_with(|options| options.without = options.without.with(fault));
    }
    least.first_of(&NODES, |options, bound| options.nodes_max = bound);
    least.first_of(&CLIENTS, |options, bound| options.clients_max = bound);
    least.first_of(&SUBMISSIONS, |options, bound| options.submissions_max = bound);
    (Options { keep_lines: options.keep_lines, ..least.options }, least.failure)
}

struct Least {
    seed: u64,
    options: Options,
    failure: Failure,
}

impl Least {
    /// Keeps a change if the run still fails as it did. Returns whether it does.
    fn try_with(&mut self, change: impl FnOnce(&mut Options)) -> bool {
        let mut options = self.options;
        change(&mut options);
        let same = |failure: &Failure| failure.signature() == self.failure.signature();
        let Some(failure) = run_seed(self.seed, options).failure.filter(same) else { return false };
        (self.options, self.failure) = (options, failure);
        true
    }

    fn first_of(&mut self, bounds: &[u64], change: impl Fn(&mut Options, u64)) {
        let _ = bounds.iter().any(|bound| self.try_with(|options| change(options, *bound)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Planted;

    #[test]
    fn a_failing_seed_is_made_smaller_and_fails_as_before() {
        let options = Options { planted: Some(Planted::HeadBeforeFsync), ..Options::default() };
        let report = (1..100).map(|seed| run_seed(seed, options)).find(|report| report.failure.is_some());
        let report = report.unwrap();
        let (least, failure) = minimise(&report, options);
        assert_eq!(failure.signature(), report.failure.as_ref().unwrap().signature());
        assert!(report.faults.less(least.without).is_empty(), "a head before its fsync needs no fault: {least}");
        assert_eq!((least.nodes_max, least.clients_max), (2, 1));
        assert!(least.submissions_max <= 2, "one submission, or two, lead to a record: {least}");
        assert_eq!(run_seed(report.seed, least).failure, Some(failure));
    }
}
