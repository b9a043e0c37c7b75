//! What the scheduler does for a ledger. All values stand inline here.

use magpie_core::payload::{JsonText, Payload};
use magpie_core::queue::Values;
use magpie_core::task::TaskError;

pub struct Inline;

impl Values for Inline {
    fn text_of(&self, payload: &Payload) -> Result<String, String> {
        match payload {
            Payload::Inline(text) => Ok(text.as_str().to_owned()),
            Payload::Blob(blob) => Err(format!("blob {} is missing", blob.cid)),
        }
    }

    fn place(&self, value: JsonText) -> Result<Payload, TaskError> {
        Ok(Payload::Inline(value))
    }
}
