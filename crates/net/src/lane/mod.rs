//! The fast path: one long-lived stream per peer and direction, on which requests and replies are multiplexed by id.
//!
//! A substream per request costs tens of microseconds; a frame on a lane costs two. Who opened a lane asks on it, who
//! accepted it answers. Frames are short, so that nothing urgent waits behind something long: a longer request goes
//! by request-response, a longer reply goes in parts that take turns with other replies.

mod ask;
pub(crate) mod behaviour;
mod frame;
mod serve;

pub(crate) use ask::{Lane, NotSent, run as ask};
pub(crate) use serve::{Place, Server, run as serve};

#[cfg(test)]
mod tests;

use std::io;
use std::time::Duration;

use futures::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::limits;

/// The version of the frames, which the first frame of a lane names.
const LANE_VERSION: u8 = 2;

/// Where more waits than one frame, lets everything else that is ready in this thread go on before it is written: what that adds
/// to this lane and to the others of the connection goes out with it, in one system call and to one wake-up of the peer. A frame that is
/// alone goes at once.
async fn gather<T>(waiting: &mpsc::Receiver<T>) {
    if !waiting.is_empty() {
        tokio::task::yield_now().await;
    }
}

/// Writes all of `buffer` and empties it, or fails within [`limits::LANE_WRITE_MS`]: a peer that reads no more must
/// not hold a lane for ever.
async fn write_out<T: AsyncWrite + Unpin>(io: &mut T, buffer: &mut Vec<u8>) -> io::Result<()> {
    let written = async {
        io.write_all(buffer).await?;
        io.flush().await
    };
    let limit = Duration::from_millis(limits::LANE_WRITE_MS);
    tokio::time::timeout(limit, written).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    buffer.clear();
    Ok(())
}
