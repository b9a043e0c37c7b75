//! What the end of a command means for its attempt.

use std::io;

use magpie_core::retry::EXIT_STATUS;
use magpie_core::task::TaskSpec;
use rustix::io::Errno;
use rustix::process::Signal;

use super::ProcessConfig;
use super::capture::last_line;
use super::child::Ending;
use crate::executor::{AttemptError, StopReason};

/// Whether the command did its work.
pub fn judge(ending: &Ending, spec: &TaskSpec, process: &ProcessConfig, log: &str) -> Result<(), AttemptError> {
    match *ending {
        Ending::Exited { status: 0 } => Ok(()),
        Ending::Exited { status } => {
            let said = last_line(log).map(|line| format!(": {line}")).unwrap_or_default();
            let message = format!("exit status {status}{said}{}", memory_hint(log, process));
            let retryable = !spec.retry.permanent_exit.contains(&status);
            Err(AttemptError { retryable, ..AttemptError::permanent(EXIT_STATUS, message) })
        }
        Ending::Signalled { signal } => {
            let message = format!("killed by {}{}", signal_name(signal), limit_hint(signal, process));
            Err(AttemptError::retryable("signal", message))
        }
        Ending::NotStarted { errno } => Err(not_started(&io::Error::from_raw_os_error(errno), &spec.run, process)),
        Ending::LeaseEnded => {
            let reason = StopReason::LeaseEnded;
            Err(AttemptError::retryable(reason.name(), reason.in_words()))
        }
        Ending::ShimLost => Err(AttemptError::retryable("shim_lost", "the process that watches over it was killed")),
    }
}

/// The output is too large, as it was printed or as JSON: it would be again.
pub fn too_large(bytes_max: u64) -> AttemptError {
    let message = format!(
        "its output is larger than {bytes_max} bytes: write less, or raise process.output_bytes_max in the \
         node's configuration"
    );
    AttemptError::permanent("output_too_large", message)
}

/// The shim, or the command below it, could not be started.
pub fn not_started(error: &io::Error, run: &[String], process: &ProcessConfig) -> AttemptError {
    let name = run.first().map_or("", String::as_str);
    let message = format!("cannot start {name:?}: {error}");
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT) => AttemptError::permanent("command_not_found", message),
        Some(Errno::ACCESS | Errno::PERM | Errno::NOEXEC | Errno::TOOBIG | Errno::ISDIR | Errno::NOTDIR) => {
            AttemptError::permanent("cannot_start", message)
        }
        Some(Errno::NOMEM) => AttemptError::retryable("cannot_start", format!("{message}{}", memory_limit(process))),
        _ => AttemptError::retryable("cannot_start", message),
    }
}

fn memory_limit(process: &ProcessConfig) -> String {
    match process.memory_bytes_max {
        0 => String::new(),
        bytes => format!(" (process.memory_bytes_max of the node is {bytes})"),
    }
}

/// A command that asks for more than its address space is told so by the system and says so itself.
fn memory_hint(log: &str, process: &ProcessConfig) -> String {
    const SAYINGS: [&str; 6] =
        ["MemoryError", "memory exhausted", "annot allocate memory", "ut of memory", "bad_alloc", "memory allocation"];
    let told = SAYINGS.iter().any(|saying| log.contains(saying));
    if told { memory_limit(process) } else { String::new() }
}

fn limit_hint(signal: i32, process: &ProcessConfig) -> String {
    match Signal::from_named_raw(signal) {
        Some(Signal::XCPU) => format!(" (process.cpu_ms_max of the node is {})", process.cpu_ms_max),
        Some(Signal::SEGV | Signal::ABORT | Signal::KILL | Signal::BUS) => memory_limit(process),
        _ => String::new(),
    }
}

fn signal_name(signal: i32) -> String {
    match Signal::from_named_raw(signal) {
        Some(named) => {
            format!("signal {signal} ({})", format!("{named:?}").replace("Signal::", "SIG").trim_matches('"'))
        }
        None => format!("signal {signal}"),
    }
}

#[cfg(test)]
mod tests {
    use magpie_core::task::TaskKind;

    use super::*;

    const CONFIG: fn() -> ProcessConfig = || ProcessConfig { memory_bytes_max: 1_024, ..ProcessConfig::default() };

    fn error(ending: Ending, log: &str) -> AttemptError {
        let mut spec = TaskSpec::new(TaskKind::Process);
        spec.run = vec!["count".to_owned()];
        spec.retry.permanent_exit = vec![65];
        judge(&ending, &spec, &CONFIG(), log).unwrap_err()
    }

    #[test]
    fn an_exit_status_is_retried_unless_the_task_calls_it_permanent() {
        let failed = error(Ending::Exited { status: 3 }, "reading\nno such row\n");
        assert_eq!(failed.to_string(), "exit_status: exit status 3: no such row");
        assert!(failed.retryable);
        let failed = error(Ending::Exited { status: 65 }, "");
        assert_eq!((failed.error.message.as_str(), failed.retryable), ("exit status 65", false));
    }

    #[test]
    fn a_command_out_of_memory_is_told_its_limit() {
        let limit = "(process.memory_bytes_max of the node is 1024)";
        for failed in [
            error(Ending::Exited { status: 1 }, "MemoryError"),
            error(Ending::Signalled { signal: 9 }, ""),
            error(Ending::NotStarted { errno: Errno::NOMEM.raw_os_error() }, ""),
        ] {
            assert!(failed.retryable && failed.error.message.ends_with(limit), "{failed}");
        }
    }

    #[test]
    fn a_signal_has_a_name_and_is_retried() {
        let failed = error(Ending::Signalled { signal: 15 }, "");
        assert_eq!(failed.to_string(), "signal: killed by signal 15 (SIGTERM)");
        assert!(failed.retryable);
        assert_eq!(signal_name(40), "signal 40");
    }

    #[test]
    fn what_cannot_be_executed_is_not_tried_again() {
        for (errno, code) in [(Errno::NOENT, "command_not_found"), (Errno::ACCESS, "cannot_start")] {
            let failed = error(Ending::NotStarted { errno: errno.raw_os_error() }, "");
            assert_eq!((failed.error.code.as_str(), failed.retryable), (code, false));
            assert!(failed.error.message.contains("\"count\""), "{failed}");
        }
        assert!(error(Ending::NotStarted { errno: Errno::AGAIN.raw_os_error() }, "").retryable);
    }
}
