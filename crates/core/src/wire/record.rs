//! Stored records: what a later build must read, and an earlier one must not misread.

use serde::{Deserialize, Serialize};

use super::body::{excerpt, read_body};
use super::{DecodeError, EncodeError, RECORD_VERSION};

/// Stored bytes that are not a record this build can read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeRecordError {
    #[error(
        "the record has version {presented}, this build reads up to {RECORD_VERSION}: start the version that wrote it, \
         or a later one"
    )]
    Newer { presented: u8 },
    #[error("the record is damaged: {0}")]
    Damaged(#[from] DecodeError),
}

/// Writes a record: version, body.
///
/// # Errors
/// `Unencodable` for what has no MessagePack form.
pub fn encode_record<T: Serialize + ?Sized>(record: &T) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = vec![RECORD_VERSION];
    rmp_serde::encode::write_named(&mut bytes, record).map_err(|error| EncodeError::Unencodable(excerpt(&error)))?;
    Ok(bytes)
}

/// Reads a record to its last byte.
///
/// # Errors
/// `Newer` for one of a later build, `Damaged` for all else.
pub fn decode_record<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, DecodeRecordError> {
    match bytes.split_first() {
        Some((&RECORD_VERSION, body)) => Ok(read_body(body, usize::MAX)?),
        Some((&presented, _)) if presented > RECORD_VERSION => Err(DecodeRecordError::Newer { presented }),
        Some((&presented, _)) => Err(DecodeError::Version { presented }.into()),
        None => Err(DecodeError::Empty.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    use crate::task::{TaskKind, TaskSpec};

    #[test]
    fn a_newer_record_is_refused_in_words() {
        let mut bytes = encode_record(&TaskSpec::new(TaskKind::Noop)).unwrap();
        bytes[0] = RECORD_VERSION + 1;
        let error = decode_record::<TaskSpec>(&bytes).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the record has version 2, this build reads up to 1: start the version that wrote it, or a later one"
        );
    }

    #[test]
    fn a_damaged_record_is_not_called_newer() {
        let bytes = encode_record(&TaskSpec::new(TaskKind::Noop)).unwrap();
        let unversioned = [&[0], &bytes[1..]].concat();
        for damaged in [&[][..], &unversioned, &bytes[..bytes.len() - 1], &[bytes.as_slice(), &[0]].concat()] {
            assert!(matches!(decode_record::<TaskSpec>(damaged), Err(DecodeRecordError::Damaged(_))), "{damaged:02x?}");
        }
    }

    proptest! {
        #[test]
        fn a_record_survives_storage(namespace in ".{0,100}", run in proptest::collection::vec(".{0,20}", 0..20)) {
            let spec = TaskSpec { namespace, run, ..TaskSpec::new(TaskKind::Process) };
            prop_assert_eq!(decode_record(&encode_record(&spec).unwrap()), Ok(spec));
        }

        #[test]
        fn random_records_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_record::<TaskSpec>(&bytes);
        }
    }
}
