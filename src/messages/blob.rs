//! Blobs in pieces: the same words at the control socket and between peers.

use magpie_core::ids::ContentId;
use magpie_core::payload::BlobRef;
use serde::{Deserialize, Serialize};

/// Times that a client begins one blob anew because the node forgot what it had of it.
pub const PUT_BEGINNINGS_MAX: u32 = 8;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlobRequest {
    Stat {
        cid: ContentId,
    },
    Get {
        cid: ContentId,
        offset: u64,
        bytes_max: u32,
    },
    /// The piece at `offset` of a blob that is being put; it is stored, and fsynced, with the last piece.
    Put {
        blob: BlobRef,
        offset: u64,
        #[serde(with = "serde_bytes")]
        piece: Vec<u8>,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlobReply {
    Stat {
        blob: Option<BlobRef>,
    },
    Piece {
        #[serde(with = "serde_bytes")]
        piece: Vec<u8>,
    },
    /// Where the next piece starts; the blob's length when it is stored.
    Put {
        next: u64,
    },
    Missing {
        cid: ContentId,
    },
}
