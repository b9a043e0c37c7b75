//! Operation ids, so that a message that is said twice changes nothing twice.

use magpie_core::ids::OperationId;
use sha2::{Digest, Sha256};

/// One of its own, or the one that belongs to a caller's key, a tool and what it was asked.
pub fn id(tool: &str, key: Option<&str>, asked: &str) -> OperationId {
    let Some(key) = key else { return OperationId(rand::random()) };
    let mut hash = Sha256::new();
    for part in [tool, key, asked] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    OperationId(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_gives_one_id_per_tool_and_request() {
        assert_eq!(id("t", Some("k"), "a"), id("t", Some("k"), "a"));
        for other in
            [id("u", Some("k"), "a"), id("t", Some("l"), "a"), id("t", Some("k"), "b"), id("tk", Some(""), "a")]
        {
            assert_ne!(id("t", Some("k"), "a"), other);
        }
        assert_ne!(id("t", None, "a"), id("t", None, "a"));
    }
}
