//! Limits on what runs at a time and how often it starts: concurrency keys and rate keys.
//!
//! A limit is held by one home. Other homes borrow permits of it in batches: [`Lender`] is the limiter home's side of
//! one key, [`Borrower`] the other home's. Never are more permits usable than the limit says, over all homes, whatever
//! is lost, doubled or restarted.

mod borrower;
mod key;
mod lender;
mod protocol;
mod rate;
mod supply;
#[cfg(test)]
mod tests;

pub use borrower::{Borrower, Borrowing, Demand};
pub use key::{LimitKey, LimitKind, ParseLimitKeyError};
pub use lender::{AskError, Lender, Lent, LoanFacts, Standing};
pub use protocol::{PermitAnswer, PermitAsk};
pub use rate::{ParseRateError, Rate, RateMark};
pub use supply::Supply;
