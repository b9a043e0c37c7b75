//! Reading a body: only so much, and not for ever.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::refused::Refused;

const PATIENCE: Duration = Duration::from_secs(30);

/// The whole body.
///
/// # Errors
/// 413 if it has more than `bytes_max`, 408 if it does not come, 400 if it breaks off.
pub async fn read<B>(body: B, bytes_max: usize) -> Result<Bytes, Refused>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let read = tokio::time::timeout(PATIENCE, Limited::new(body, bytes_max).collect()).await;
    match read {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let message = format!("the body has more than {bytes_max} bytes");
            Err(Refused::new(
                413,
                "too_large",
                message,
                "send less at a time: upload files as blobs, or in several calls",
            ))
        }
        Ok(Err(error)) => {
            Err(Refused::new(400, "broken_off", format!("the body cannot be read: {error}"), "send it again"))
        }
        Err(_) => Err(Refused::new(408, "too_slow", "the body did not come in time", "send it again")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Full;

    #[tokio::test]
    async fn a_body_is_read_up_to_its_bound() {
        let full = || Full::new(Bytes::from_static(b"12345678"));
        assert_eq!(read(full(), 8).await.unwrap(), Bytes::from_static(b"12345678"));
        assert_eq!(read(full(), 7).await.unwrap_err().status, 413);
    }
}
