//! Reading bodies: each only so long, all together only so much, and none for ever.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::refused::Refused;

const PATIENCE: Duration = Duration::from_secs(30);
/// What one place stands for.
const PLACE_BYTES: u64 = 1_024;

/// Room for the bodies of requests that are under way.
pub struct Bodies {
    bytes_max: u64,
    places: Semaphore,
}

/// A body with its room, which it gives back at its end.
#[derive(Debug)]
pub struct Held<'a> {
    pub bytes: Bytes,
    _room: SemaphorePermit<'a>,
}

impl Bodies {
    /// Room for `together_bytes_max`, in which one body has at most `bytes_max`.
    pub fn new(bytes_max: usize, together_bytes_max: usize) -> Self {
        Self { bytes_max: bytes_max as u64, places: Semaphore::new(together_bytes_max / PLACE_BYTES as usize) }
    }

    /// The whole body.
    ///
    /// # Errors
    /// 413 if it is too long, 503 if there is no room, 408 if it does not come, 400 if it breaks off.
    pub async fn read<B>(&self, body: B) -> Result<Held<'_>, Refused>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let bytes = body.size_hint().upper().unwrap_or(self.bytes_max);
        if bytes > self.bytes_max {
            return Err(self.too_large());
        }
        let places = self.places.acquire_many(bytes.div_ceil(PLACE_BYTES) as u32);
        let Ok(Ok(room)) = tokio::time::timeout(PATIENCE, places).await else {
            let message = "there is no room for the bodies of more requests";
            return Err(Refused::new(503, "overloaded", message, "send it again later, or send less at a time"));
        };
        match tokio::time::timeout(PATIENCE, Limited::new(body, self.bytes_max as usize).collect()).await {
            Ok(Ok(collected)) => Ok(Held { bytes: collected.to_bytes(), _room: room }),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(self.too_large()),
            Ok(Err(error)) => {
                Err(Refused::new(400, "broken_off", format!("the body cannot be read: {error}"), "send it again"))
            }
            Err(_) => Err(Refused::new(408, "too_slow", "the body did not come in time", "send it again")),
        }
    }

    fn too_large(&self) -> Refused {
        let message = format!("the body has more than {} bytes", self.bytes_max);
        Refused::new(413, "too_large", message, "send less at a time: upload files as blobs, or in several calls")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body::Frame;
    use http_body_util::Full;
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    /// A body that does not tell its length: so many pieces, then nothing, or its end.
    struct Untold {
        pieces: u32,
        ends: bool,
    }

    impl Body for Untold {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.pieces {
                0 if self.ends => Poll::Ready(None),
                0 => Poll::Pending,
                _ => {
                    self.pieces -= 1;
                    Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; 1_000])))))
                }
            }
        }
    }

    fn full(len: usize) -> Full<Bytes> {
        Full::new(Bytes::from(vec![b'x'; len]))
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_its_bound_whether_it_tells_its_length_or_not() {
        let bodies = Bodies::new(2_048, 4_096);
        assert_eq!(bodies.read(full(2_048)).await.unwrap().bytes.len(), 2_048);
        assert_eq!(bodies.read(full(2_049)).await.unwrap_err().status, 413);
        assert_eq!(bodies.read(Untold { pieces: 2, ends: true }).await.unwrap().bytes.len(), 2_000);
        assert_eq!(bodies.read(Untold { pieces: 3, ends: true }).await.unwrap_err().status, 413);
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_together_take_no_more_than_their_room_and_give_it_back() {
        let bodies = Bodies::new(2_048, 4_096);
        let (first, second) = (bodies.read(full(2_048)).await.unwrap(), bodies.read(full(2_000)).await.unwrap());
        assert_eq!(bodies.read(full(1)).await.unwrap_err().status, 503);
        drop(first);
        assert!(bodies.read(full(2_048)).await.is_ok());
        drop(second);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_not_waited_for() {
        let bodies = Bodies::new(2_048, 4_096);
        assert_eq!(bodies.read(Untold { pieces: 1, ends: false }).await.unwrap_err().status, 408);
        assert!(bodies.read(full(2_048)).await.is_ok());
    }
}
