//! What each text of a batch took of what the whole batch took.

use magpie_core::task::Used;

/// What a batch took, and what it is split by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BatchUsed {
    pub used: Used,
    /// Tokens of each text; of a device process of an earlier version none.
    pub text_tokens: Vec<u32>,
}

impl BatchUsed {
    /// One share per text, by its tokens: together they are the whole, to the microsecond.
    pub fn shares(&self, texts: usize) -> Vec<Used> {
        let tokens: Vec<u64> = match self.text_tokens.len() == texts {
            true => self.text_tokens.iter().map(|tokens| u64::from(*tokens)).collect(),
            false => Vec::new(),
        };
        // Texts of no tokens, or of none that was told, are alike.
        let weights = if tokens.iter().all(|tokens| *tokens == 0) { vec![1; texts] } else { tokens };
        let cpu = split(self.used.cpu_us, &weights);
        let gpu = split(self.used.gpu_us, &weights);
        cpu.into_iter().zip(gpu).map(|(cpu_us, gpu_us)| Used { cpu_us, gpu_us }).collect()
    }
}

fn split(whole: Option<u64>, weights: &[u64]) -> Vec<Option<u64>> {
    let Some(whole) = whole else { return vec![None; weights.len()] };
    let all = u128::from(weights.iter().sum::<u64>().max(1));
    let (mut before, mut given) = (0, 0);
    let share = |weight: &u64| {
        before += u128::from(*weight);
        let upto = (u128::from(whole) * before / all) as u64;
        let share = upto - given;
        given = upto;
        Some(share)
    };
    weights.iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn used(cpu_us: u64) -> Used {
        Used { cpu_us: Some(cpu_us), gpu_us: None }
    }

    #[test]
    fn a_text_of_twice_the_tokens_takes_twice_as_much() {
        let batch = BatchUsed { used: used(300), text_tokens: vec![10, 20] };
        assert_eq!(batch.shares(2), [used(100), used(200)]);
        let gpu = Used { cpu_us: None, gpu_us: Some(9) };
        let batch = BatchUsed { used: gpu, text_tokens: vec![1, 2] };
        let shares: Vec<_> = batch.shares(2).into_iter().map(|share| (share.cpu_us, share.gpu_us)).collect();
        assert_eq!(shares, [(None, Some(3)), (None, Some(6))]);
    }

    #[test]
    fn what_was_not_measured_is_nobodys() {
        assert_eq!(BatchUsed::default().shares(2), [Used::default(); 2]);
        assert_eq!(BatchUsed { used: used(3), text_tokens: vec![0, 0, 0] }.shares(3), [used(1); 3]);
        assert_eq!(BatchUsed { used: used(4), text_tokens: vec![7] }.shares(2), [used(2); 2]);
    }

    proptest! {
        #[test]
        fn the_shares_are_the_whole(whole in any::<u64>(), text_tokens in prop::collection::vec(0u32..9_000, 1..65)) {
            let texts = text_tokens.len();
            let shares = BatchUsed { used: used(whole), text_tokens }.shares(texts);
            prop_assert_eq!(shares.len(), texts);
            prop_assert_eq!(shares.iter().map(|share| share.cpu_us.unwrap()).sum::<u64>(), whole);
        }
    }
}
