//! What a process says of itself while it runs: lines on standard error, filtered by `MAGPIE_LOG`.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// Directives as of `tracing_subscriber::EnvFilter`; unset, `info` with the network's chatter left out.
const DEFAULT: &str = "info,libp2p=warn,rmcp=warn,quinn=warn";

/// Starts logging to standard error, once per process.
pub fn init() {
    let filter = EnvFilter::try_from_env("MAGPIE_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT));
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(rustix::termios::isatty(std::io::stderr()))
        .with_span_events(FmtSpan::NONE)
        .try_init();
    // A second start in one process (tests) keeps the first.
    drop(started);
}
