//! The command line of the simulator.

use std::process::ExitCode;
use std::time::Instant;

use crate::{Options, Planted, Report, run_seed};

const USAGE: &str = "usage: sim [--seed N | --seeds A..B] [--steps N] [--trace] [--planted BUG]";

struct Arguments {
    seeds: std::ops::Range<u64>,
    options: Options,
}

/// Runs the seeds that `words` name and says how they went.
pub fn run(words: impl Iterator<Item = String>) -> ExitCode {
    let arguments = match parse(words) {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("sim: {problem}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    // A panic of the core is a failure of its seed, printed with it.
    std::panic::set_hook(Box::new(|_| {}));
    let began = Instant::now();
    let (mut failed, mut events, mut executions, mut crashes) = (0, 0, 0, 0);
    let count = arguments.seeds.end - arguments.seeds.start;
    for seed in arguments.seeds {
        let report = run_seed(seed, arguments.options);
        events += report.counters.events;
        executions += report.counters.executions;
        crashes += report.counters.crashes;
        failed += u64::from(report.failure.is_some());
        print(&report, arguments.options, count == 1);
    }
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{count} seeds, {failed} failed, {events} events, {executions} executions, {crashes} crashes, {seconds:.1} s, {:.1} seeds/s",
        count as f64 / seconds
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print(report: &Report, options: Options, alone: bool) {
    if options.keep_lines {
        print!("{}", report.lines);
    }
    if alone {
        println!("seed {}: trace {:016x}, {:?}", report.seed, report.trace_hash, report.counters);
    }
    if let Some(failure) = &report.failure {
        let planted = options.planted.map(|planted| format!(" --planted {planted}")).unwrap_or_default();
        println!("seed {}: {failure}", report.seed);
        println!("  see it again: cargo run -p magpie-sim -- --seed {} --trace{planted}", report.seed);
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments { seeds: 1..2, options: Options::default() };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--seed" => {
                let seed = number(&value()?)?;
                arguments.seeds = seed..seed + 1;
            }
            "--seeds" => arguments.seeds = range(&value()?)?,
            "--steps" => arguments.options.steps_max = number(&value()?)?,
            "--trace" => arguments.options.keep_lines = true,
            "--planted" => arguments.options.planted = Some(planted(&value()?)?),
            _ => return Err(format!("what is {word}?")),
        }
    }
    Ok(arguments)
}

fn planted(text: &str) -> Result<Planted, String> {
    let planted: Planted = text.parse()?;
    if planted.is_built() { Ok(planted) } else { Err(format!("{planted} needs --features canary")) }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text:?} is not a number"))
}

fn range(text: &str) -> Result<std::ops::Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or_else(|| format!("{text:?} is not a range as 1..200"))?;
    let (from, to) = (number(from)?, number(to)?);
    if from < to { Ok(from..to) } else { Err(format!("{text:?} is empty")) }
}
