//! `noop`: answers its input.

use magpie_core::payload::Payload;
use magpie_core::task::TaskSpec;

/// The input, `null` where there is none.
pub(super) fn run(spec: &TaskSpec) -> Payload {
    spec.input.clone()
}
