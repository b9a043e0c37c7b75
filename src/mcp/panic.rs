//! A panic of one call ends that call and nothing else.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

/// What a future gives, or what it panicked with, in words.
pub async fn caught<F: Future>(future: F) -> Result<F::Output, String> {
    let mut future = pin!(future);
    poll_fn(move |context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Poll::Ready(Err(in_words(panic.as_ref()))),
    })
    .await
}

fn in_words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "it does not say why".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_before_or_after_a_wait_is_told() {
        assert_eq!(caught(async { 7 }).await, Ok(7));
        let early = caught(async { panic!("early") });
        assert_eq!(early.await, Err::<(), _>("early".to_owned()));
        let late = async {
            tokio::task::yield_now().await;
            panic!("late {}", 1)
        };
        assert_eq!(caught(late).await, Err::<(), _>("late 1".to_owned()));
    }
}
