//! What a step waits for, and what its failure means.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// How many of the steps that a step needs must succeed before it starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Join {
    #[default]
    All,
    Any,
    /// At least this many.
    Count(u32),
}

/// What follows from the failure of a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFail {
    /// The workflow fails at once: what runs is cancelled, what did not start is skipped.
    #[default]
    FailFast,
    /// To those that need it, the step ended well, with `null` for an output; the workflow does not fail by it.
    Continue,
    /// What needs the step is skipped, other branches go on; the workflow fails when all is over.
    SkipChildren,
    /// As `fail_fast`; then what succeeded is undone, the last first.
    Compensate,
}

impl OnFail {
    pub const ALL: [Self; 4] = [Self::FailFast, Self::Continue, Self::SkipChildren, Self::Compensate];

    pub fn name(self) -> &'static str {
        match self {
            Self::FailFast => "fail_fast",
            Self::Continue => "continue",
            Self::SkipChildren => "skip_children",
            Self::Compensate => "compensate",
        }
    }

    /// Whether the first failed item of a `for_each` decides, instead of the last one's end.
    pub fn stops_at_once(self) -> bool {
        match self {
            Self::FailFast | Self::Compensate => true,
            Self::Continue | Self::SkipChildren => false,
        }
    }
}

/// How a join stands while some of the needed steps are over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinVerdict {
    Waits,
    Starts,
    /// It cannot be met any more.
    Never,
}

impl Join {
    /// Of `needs` steps, `met` succeeded and `open` are not over.
    pub fn verdict(self, needs: u32, met: u32, open: u32) -> JoinVerdict {
        let wanted = match self {
            Self::All => needs,
            Self::Any => needs.min(1),
            Self::Count(count) => count.min(needs),
        };
        if met >= wanted {
            JoinVerdict::Starts
        } else if met + open < wanted {
            JoinVerdict::Never
        } else {
            JoinVerdict::Waits
        }
    }
}

impl fmt::Display for Join {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => formatter.write_str("all"),
            Self::Any => formatter.write_str("any"),
            Self::Count(count) => count.fmt(formatter),
        }
    }
}

impl Serialize for Join {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All | Self::Any => serializer.collect_str(self),
            Self::Count(count) => serializer.serialize_u32(*count),
        }
    }
}

impl<'de> Deserialize<'de> for Join {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Join;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("all, any or a number of steps")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Join, E> {
                match text {
                    "all" => Ok(Join::All),
                    "any" => Ok(Join::Any),
                    other => Err(E::unknown_variant(other, &["all", "any"])),
                }
            }

            fn visit_u64<E: de::Error>(self, count: u64) -> Result<Join, E> {
                let out_of_range = || E::invalid_value(de::Unexpected::Unsigned(count), &self);
                u32::try_from(count).map(Join::Count).map_err(|_| out_of_range())
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn joins_read_words_and_numbers_in_both_encodings() {
        for (join, json) in [(Join::All, "\"all\""), (Join::Any, "\"any\""), (Join::Count(3), "3")] {
            assert_eq!(serde_json::to_string(&join).unwrap(), json);
            assert_eq!(serde_json::from_str::<Join>(json).unwrap(), join);
            let packed = rmp_serde::to_vec(&join).unwrap();
            assert_eq!(rmp_serde::from_slice::<Join>(&packed).unwrap(), join);
        }
        for wrong in ["\"one\"", "-1", "1.5", "null", "[]", "5000000000"] {
            assert!(serde_json::from_str::<Join>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn policies_have_one_name_each() {
        for policy in OnFail::ALL {
            assert_eq!(serde_json::to_value(policy).unwrap(), policy.name());
        }
    }

    proptest! {
        #[test]
        fn a_join_is_decided_once_and_at_the_latest_when_all_is_over(
            ends in prop::collection::vec(any::<bool>(), 0..8), join in 0u32..5,
        ) {
            let needs = ends.len() as u32;
            let join = match join { 0 => Join::All, 1 => Join::Any, count => Join::Count(count) };
            let mut decided = None;
            for over in 0..=ends.len() {
                let met = ends[..over].iter().filter(|good| **good).count() as u32;
                let verdict = join.verdict(needs, met, needs - over as u32);
                match decided {
                    None if verdict != JoinVerdict::Waits => decided = Some(verdict),
                    None => {}
                    Some(before) => prop_assert_eq!(verdict, before),
                }
            }
            prop_assert!(decided.is_some());
        }
    }
}
