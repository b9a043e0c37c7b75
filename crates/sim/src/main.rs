//! `sim --seed 7`: one seed; `sim --seeds 1..200`: many. A failure prints the seed, the invariant and how to see it again.

use std::process::ExitCode;

fn main() -> ExitCode {
    magpie_sim::command::run(std::env::args().skip(1))
}
