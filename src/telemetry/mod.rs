//! What a process says of itself while it runs: lines on standard error, filtered by `MAGPIE_LOG`, and the newest of
//! them kept for those who ask.

mod recent;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, fmt};

pub use recent::recent;

/// Directives as of `tracing_subscriber::EnvFilter`; unset, `info` with the network's chatter left out, and what rmcp takes for
/// errors: a client that stopped waiting.
const DEFAULT: &str = "info,libp2p=warn,rmcp=warn,rmcp::service=off,quinn=warn";

/// Starts logging to standard error, once per process.
pub fn init() {
    let filter = EnvFilter::try_from_env("MAGPIE_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT));
    let is_terminal = rustix::termios::isatty(std::io::stderr());
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(is_terminal);
    let subscriber = tracing_subscriber::registry().with(filter).with(lines).with(recent::Keeper);
    let started = tracing::subscriber::set_global_default(subscriber);
    // A second start in one process (tests) keeps the first.
    drop(started);
}
