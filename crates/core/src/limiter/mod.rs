//! Limits on what runs at a time and how often it starts: concurrency keys and rate keys.

mod key;
mod rate;

pub use key::{LimitKey, LimitKind, ParseLimitKeyError};
pub use rate::{ParseRateError, Rate, RateMark};
