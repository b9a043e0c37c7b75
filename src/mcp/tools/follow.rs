//! Waiting for work that goes on elsewhere: in slices, so that a caller hears of it and may stop.

use std::future::Future;
use std::time::{Duration, Instant};

use crate::mcp::answer::ToolError;
use crate::mcp::handler::Call;

/// The longest wait of one call, and the wait of a tool that waits unless told otherwise.
pub const WAIT_MS_MAX: u64 = 25_000;
pub const WAIT_MS: u64 = 20_000;
/// A caller hears of the wait at least this often.
const SLICE_MS: u64 = 4_000;
/// What the node may take beyond the slice.
const PATIENCE_MS: u64 = 3_000;

/// Something that a home tells the state of, at once or when it ends.
pub trait Followed {
    fn is_done(&self) -> bool;

    /// Where it stands, for a progress message.
    fn in_words(&self) -> String;
}

/// Asks until what is followed is done, `wait_ms` have passed, or the caller has gone. `ask` is given how long the
/// node may wait, and how long to wait for the node.
///
/// # Errors
/// Those of `ask`; `cancelled` if the caller has gone. What is followed goes on all the same.
pub async fn follow<T, F>(call: &Call<'_>, wait_ms: u64, ask: impl Fn(u64, Duration) -> F) -> Result<T, ToolError>
where
    T: Followed,
    F: Future<Output = Result<T, ToolError>> + Send,
{
    follow_for(call, wait_ms.min(WAIT_MS_MAX), ask).await
}

/// The same for as long as the caller says, which must leave a call's own bound some time.
///
/// # Errors
/// As [`follow`].
pub async fn follow_for<T, F>(call: &Call<'_>, wait_ms: u64, ask: impl Fn(u64, Duration) -> F) -> Result<T, ToolError>
where
    T: Followed,
    F: Future<Output = Result<T, ToolError>> + Send,
{
    let began = Instant::now();
    loop {
        let waited_ms = began.elapsed().as_millis() as u64;
        let slice_ms = wait_ms.saturating_sub(waited_ms).min(SLICE_MS);
        let asked = ask(slice_ms, Duration::from_millis(slice_ms + PATIENCE_MS));
        let followed = tokio::select! {
            answer = asked => answer?,
            () = call.caller.cancelled() => {
                return Err(ToolError::new("cancelled", "the call was cancelled", "call again to go on waiting"));
            }
        };
        let waited_ms = began.elapsed().as_millis() as u64;
        if followed.is_done() || waited_ms >= wait_ms {
            return Ok(followed);
        }
        call.caller.progress(waited_ms, wait_ms, followed.in_words()).await;
    }
}

/// `wait_ms`, or the seeds' `timeout_s`, as milliseconds within the bound.
pub fn wait_ms(wait_ms: Option<u64>, timeout_s: Option<f64>) -> Option<u64> {
    let from_seconds =
        || timeout_s.filter(|seconds| seconds.is_finite()).map(|seconds| (seconds.max(0.0) * 1_000.0) as u64);
    wait_ms.or_else(from_seconds).map(|ms| ms.min(WAIT_MS_MAX))
}
