//! Where the values of workflows lie on a node: inline in the ledger, or among its blobs.

use magpie_core::limits;
use magpie_core::payload::{JsonText, Payload};
use magpie_core::queue::Values;
use magpie_core::task::TaskError;

use crate::store::blobs::Blobs;

pub struct InBlobs<'a>(pub &'a Blobs);

impl Values for InBlobs<'_> {
    fn text_of(&self, payload: &Payload) -> Result<String, String> {
        match payload {
            Payload::Inline(text) => Ok(text.as_str().to_owned()),
            Payload::Blob(blob) => {
                let bytes =
                    self.0.read(blob.cid, limits::BINDING_BYTES_MAX as u64).map_err(|error| error.to_string())?;
                let bytes = bytes.ok_or_else(|| format!("blob {} is missing", blob.cid))?;
                String::from_utf8(bytes).map_err(|error| error.to_string())
            }
        }
    }

    /// Inline up to 64 KiB, above that a blob, fsynced before anything names it.
    fn place(&self, value: JsonText) -> Result<Payload, TaskError> {
        if Payload::fits_inline(&value) {
            return Ok(Payload::Inline(value));
        }
        let stored = self.0.put(value.as_str().as_bytes());
        stored.map(Payload::Blob).map_err(|error| TaskError::new("disk", error.to_string()))
    }
}
