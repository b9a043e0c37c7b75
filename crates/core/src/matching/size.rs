//! Amounts of memory as people write them.

use std::fmt;

const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("B", 1),
];

/// Bytes, printed exactly in the largest unit that leaves no fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = UNITS.iter().find(|(_, bytes)| self.0 != 0 && self.0.is_multiple_of(*bytes));
        let (unit, bytes) = exact.unwrap_or(&("B", 1));
        write!(formatter, "{}{unit}", self.0 / bytes)
    }
}

impl Size {
    /// None: not a whole number with one of the units, or above 2^64 bytes.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let (_, bytes) = UNITS.iter().find(|(name, _)| *name == unit)?;
        number.parse::<u64>().ok()?.checked_mul(*bytes).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_read_as_people_write_them() {
        for (text, bytes, back) in [
            ("16GiB", 16 << 30, "16GiB"),
            ("16GB", 16_000_000_000, "16GB"),
            ("1024MiB", 1 << 30, "1GiB"),
            ("1025B", 1025, "1025B"),
            ("0KiB", 0, "0B"),
        ] {
            assert_eq!(Size::parse(text), Some(Size(bytes)));
            assert_eq!(Size(bytes).to_string(), back);
        }
        for wrong in ["", "16", "GiB", "16gib", "1.5GiB", "-1B", "16777216TiB"] {
            assert_eq!(Size::parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn every_size_survives_text(bytes: u64, shift in 0u32..64) {
            for bytes in [bytes, bytes >> shift << shift] {
                prop_assert_eq!(Size::parse(&Size(bytes).to_string()), Some(Size(bytes)));
            }
        }
    }
}
