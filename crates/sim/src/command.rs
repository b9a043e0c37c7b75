//! The command line of the simulator.

use std::ops::Range;
use std::process::ExitCode;

use crate::faults::FaultSet;
use crate::runner::Summary;
use crate::{Options, Planted, Report, canary_table, minimise, runner};

const USAGE: &str = "usage: sim [--seed N | --seeds A..B] [--jobs N] [--trace] [--hashes] [--steps N] [--planted BUG]
           [--without FAULT,...] [--nodes N] [--clients N] [--submissions N]
       sim --canaries [--jobs N]";
/// Failures that are made small before they are printed: each takes dozens of runs.
const MINIMISED_MAX: u64 = 5;

#[derive(Debug, PartialEq)]
struct Arguments {
    seeds: Range<u64>,
    jobs: usize,
    hashes: bool,
    canaries: bool,
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
    crate::keep_panics();
    let good = if arguments.canaries { canary_table::print(arguments.jobs) } else { run_seeds(arguments) };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_seeds(arguments: Arguments) -> bool {
    let Arguments { seeds, jobs, hashes, options, .. } = arguments;
    let alone = seeds.end - seeds.start == 1;
    let mut summary = Summary::begin();
    let mut hashed = std::collections::BTreeMap::new();
    runner::run_all(seeds, options, jobs, |report| {
        summary.add(&report);
        hashed.insert(report.seed, report.trace_hash);
        print(&report, options, alone, summary.failed <= MINIMISED_MAX);
    });
    if hashes {
        hashed.iter().for_each(|(seed, hash)| println!("seed {seed}: trace {hash:016x}"));
    }
    println!("{summary}");
    summary.failed == 0
}

fn print(report: &Report, options: Options, alone: bool, minimised: bool) {
    let seed = report.seed;
    if options.keep_lines {
        print!("{}", report.lines);
    }
    if alone {
        println!("seed {seed}: trace {:016x}, faults: {}, {:?}", report.trace_hash, report.faults, report.counters);
    }
    let Some(failure) = &report.failure else { return };
    println!("seed {seed}: {failure}");
    if minimised {
        let (least, failure) = minimise::minimise(report, options);
        println!("  the least that shows it: {failure}");
        println!("  see it again: cargo run -p sim -- --seed {seed}{least} --trace");
    } else {
        println!("  see it again: cargo run -p sim -- --seed {seed}{options} --trace");
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments { seeds: 1..2, jobs: 1, hashes: false, canaries: false, options: Options::default() };
    let options = &mut arguments.options;
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--seed" => {
                let seed = number(&value()?)?;
                arguments.seeds = seed..seed + 1;
            }
            "--seeds" => arguments.seeds = range(&value()?)?,
            "--jobs" => arguments.jobs = number(&value()?)?.clamp(1, 256) as usize,
            "--hashes" => arguments.hashes = true,
            "--canaries" => arguments.canaries = true,
            "--steps" => options.steps_max = number(&value()?)?,
            "--trace" => options.keep_lines = true,
            "--planted" => options.planted = Some(planted(&value()?)?),
            "--without" => options.without = value()?.parse::<FaultSet>()?,
            "--nodes" => options.nodes_max = number(&value()?)?,
            "--clients" => options.clients_max = number(&value()?)?,
            "--submissions" => options.submissions_max = number(&value()?)?,
            _ => return Err(format!("what is {word}?")),
        }
    }
    if arguments.canaries && !cfg!(feature = "canary") {
        return Err("--canaries needs --features canary".to_owned());
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

fn range(text: &str) -> Result<Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or_else(|| format!("{text:?} is not a range as 1..200"))?;
    let (from, to) = (number(from)?, number(to)?);
    if from < to { Ok(from..to) } else { Err(format!("{text:?} is empty")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Arguments, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn what_is_printed_to_see_a_failure_again_is_understood() {
        let options = Options {
            without: "loss,partition".parse().unwrap(),
            planted: Some(Planted::TornTailAccepted),
            nodes_max: 2,
            clients_max: 1,
            submissions_max: 4,
            ..Options::default()
        };
        let arguments = parsed(&format!("--seed 7{options}")).unwrap();
        assert_eq!((arguments.seeds, arguments.options), (7..8, options));
        assert_eq!(Options::default().to_string(), "");
    }

    #[test]
    fn wrong_words_are_refused_by_name() {
        for (line, words) in [
            ("--seed x", "\"x\" is not a number"),
            ("--seeds 5..5", "\"5..5\" is empty"),
            ("--without rain", "no fault \"rain\""),
            ("--nodes", "--nodes needs a value"),
            ("--fast", "what is --fast?"),
        ] {
            let problem = parsed(line).unwrap_err();
            assert!(problem.contains(words), "{problem}");
        }
    }
}
