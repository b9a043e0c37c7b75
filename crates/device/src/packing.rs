//! Texts of a request, laid end to end: no padding to compute and no mask to apply.
//!
//! All but attention works on tokens whatever text they are of, so a batch is one matrix of all its tokens.
//! Attention stays within a text; texts of equal length stand side by side and run as one.

/// Texts of one length that stand side by side in a [`Packed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    pub texts: usize,
    /// Tokens of each text.
    pub tokens: usize,
}

/// The tokens of several texts, shortest text first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packed {
    pub ids: Vec<i64>,
    /// The place of each token in its text.
    pub positions: Vec<i64>,
    pub runs: Vec<Run>,
    /// For each text in packed order its place in the request.
    pub places: Vec<usize>,
}

impl Packed {
    /// Packs texts, given as token ids.
    pub fn new(texts: &[Vec<u32>]) -> Self {
        let mut packed = Self { places: (0..texts.len()).collect(), ..Self::default() };
        packed.places.sort_by_key(|place| texts[*place].len());
        for place in &packed.places {
            let text = &texts[*place];
            packed.ids.extend(text.iter().map(|id| i64::from(*id)));
            packed.positions.extend((0i64..).take(text.len()));
            match packed.runs.last_mut() {
                Some(run) if run.tokens == text.len() => run.texts += 1,
                _ => packed.runs.push(Run { texts: 1, tokens: text.len() }),
            }
        }
        packed
    }

    /// Tokens of each text, in packed order.
    pub fn lengths(&self) -> Vec<u32> {
        self.runs.iter().flat_map(|run| std::iter::repeat_n(run.tokens as u32, run.texts)).collect()
    }

    /// Puts one result per text, given in packed order, into the order of the request.
    pub fn restore<T>(&self, results: Vec<T>) -> Vec<T> {
        let mut placed: Vec<(usize, T)> = self.places.iter().copied().zip(results).collect();
        placed.sort_by_key(|(place, _)| *place);
        placed.into_iter().map(|(_, result)| result).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_text_comes_back_in_its_place(texts in prop::collection::vec(prop::collection::vec(any::<u32>(), 1..20), 0..40)) {
            let packed = Packed::new(&texts);
            let mut rest = packed.ids.as_slice();
            let mut unpacked = Vec::new();
            for run in &packed.runs {
                for _ in 0..run.texts {
                    let (text, after) = rest.split_at(run.tokens);
                    unpacked.push(text.iter().map(|id| u32::try_from(*id).unwrap()).collect::<Vec<_>>());
                    rest = after;
                }
            }
            prop_assert!(rest.is_empty());
            let lengths: Vec<usize> = packed.restore(packed.lengths()).into_iter().map(|tokens| tokens as usize).collect();
            prop_assert_eq!(lengths, texts.iter().map(Vec::len).collect::<Vec<_>>());
            prop_assert_eq!(packed.restore(unpacked), texts);
        }

        #[test]
        fn runs_differ_in_length_and_positions_start_anew(texts in prop::collection::vec(prop::collection::vec(any::<u32>(), 1..9), 0..40)) {
            let packed = Packed::new(&texts);
            prop_assert!(packed.runs.is_sorted_by(|a, b| a.tokens < b.tokens));
            prop_assert_eq!(packed.positions.iter().filter(|place| **place == 0).count(), texts.len());
            prop_assert_eq!(packed.positions.len(), packed.ids.len());
        }
    }
}
