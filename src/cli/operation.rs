//! Operation ids: made once per command, and the same when it is asked again.

use magpie_core::ids::OperationId;

pub fn fresh() -> OperationId {
    OperationId(rand::random())
}
