//! A panic in an executor ends its attempt, not the node.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;

use super::{AttemptError, BoxFuture};

/// Runs `work`; a panic in it becomes an error with the code `panic`. `work` is not polled again after it.
pub(super) async fn caught<T>(mut work: BoxFuture<'_, Result<T, AttemptError>>) -> Result<T, AttemptError> {
    poll_fn(move |context| {
        catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context)))
            .unwrap_or_else(|panic| Poll::Ready(Err(error_of(&*panic))))
    })
    .await
}

fn error_of(panic: &(dyn Any + Send)) -> AttemptError {
    let said = panic.downcast_ref::<&str>().copied();
    let said = said.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message");
    AttemptError::retryable("panic", format!("the executor panicked: {said}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_error_with_its_message() {
        let work: BoxFuture<'_, Result<(), _>> = Box::pin(async {
            tokio::task::yield_now().await;
            panic!("row {} is gone", 7)
        });
        let error = caught(work).await.unwrap_err();
        assert_eq!(error.to_string(), "panic: the executor panicked: row 7 is gone");
        assert!(error.retryable);
    }
}
