//! Serde of fixed byte arrays: hexadecimal where a person reads, bytes where a machine does. For `#[serde(with = "bytes")]`.

use std::fmt;

use data_encoding::HEXLOWER;
use serde::{Deserializer, Serializer, de};

pub fn serialize<S: Serializer, const N: usize>(bytes: &[u8; N], serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        serializer.serialize_str(&HEXLOWER.encode(bytes))
    } else {
        serializer.serialize_bytes(bytes)
    }
}

pub fn deserialize<'de, D: Deserializer<'de>, const N: usize>(deserializer: D) -> Result<[u8; N], D::Error> {
    // Any, because a deserializer that buffers (flatten, untagged) forgets whether a person reads.
    deserializer.deserialize_any(Visitor::<N>)
}

struct Visitor<const N: usize>;

impl<const N: usize> de::Visitor<'_> for Visitor<N> {
    type Value = [u8; N];

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{N} bytes")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<[u8; N], E> {
        let mut bytes = [0; N];
        let fits = text.len() == 2 * N && HEXLOWER.decode_mut(text.as_bytes(), &mut bytes).is_ok();
        fits.then_some(bytes).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<[u8; N], E> {
        bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Four(#[serde(with = "super")] [u8; 4]);

    proptest! {
        #[test]
        fn arrays_survive_text_and_binary(array: [u8; 4]) {
            let json = serde_json::to_string(&Four(array)).unwrap();
            prop_assert_eq!(json.len(), 10);
            prop_assert_eq!(serde_json::from_str::<Four>(&json).unwrap(), Four(array));
            let packed = rmp_serde::to_vec_named(&Four(array)).unwrap();
            prop_assert_eq!(packed.len(), 6);
            prop_assert_eq!(rmp_serde::from_slice::<Four>(&packed).unwrap(), Four(array));
        }
    }

    #[test]
    fn other_lengths_and_letters_are_refused() {
        for wrong in [r#""""#, r#""0102030""#, r#""010203""#, r#""0102030405""#, r#""0102030G""#, r#""0102030A""#] {
            assert!(serde_json::from_str::<Four>(wrong).is_err(), "{wrong}");
        }
        assert!(rmp_serde::from_slice::<Four>(&[0xc4, 3, 1, 2, 3]).is_err());
    }
}
