//! What few of many have: a word for those who have it not.

use std::fmt;
use std::ops::{Deref, DerefMut};

use serde::{Deserialize, Serialize};

/// What is said of one that has nothing of it.
pub(super) trait Blank: Default + PartialEq + 'static {
    const BLANK: &'static Self;
}

/// Reads as a blank value until something of it is written: then it takes memory of its own.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Rare<T>(Option<Box<T>>);

impl<T: Blank> Rare<T> {
    pub fn is_blank(&self) -> bool {
        **self == *T::BLANK
    }
}

impl<T> Default for Rare<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Blank> Deref for Rare<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or(T::BLANK)
    }
}

impl<T: Blank> DerefMut for Rare<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }
}

impl<T: Blank + fmt::Debug> fmt::Debug for Rare<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: Blank> PartialEq for Rare<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Default, PartialEq)]
    struct Scars {
        ages: Vec<u8>,
    }

    impl Blank for Scars {
        const BLANK: &'static Self = &Self { ages: Vec::new() };
    }

    #[test]
    fn what_nobody_wrote_reads_as_blank_and_takes_a_word() {
        let mut scars = Rare::<Scars>::default();
        assert!(scars.is_blank() && scars.ages.is_empty());
        assert_eq!(size_of::<Rare<Scars>>(), size_of::<usize>());
        scars.ages.push(1);
        assert!(!scars.is_blank() && *scars == Scars { ages: vec![1] });
        scars.ages.clear();
        assert!(scars.is_blank() && scars == Rare::default(), "blank again, with memory of its own or not");
    }
}
