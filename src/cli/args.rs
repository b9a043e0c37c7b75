//! The arguments of `nodectl`, and what all its commands share.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use magpie_core::time::DurationMs;
use magpie_core::{dag, limits};
use serde::Serialize;

use super::connection::NodeLink;
use super::exit::{CommandError, Exit};
use super::guest::GuestArgs;
use super::output::Format;
use super::watch::Watch;
use super::{
    actor, approval, audit, blob, clock, completions, debug_bundle, dev, device, dlq, doctor, events, home, key, peer,
    queue, run, schedule, status, task, token, tool, watch, worker, workflow,
};

pub(super) const GLOBAL: &str = "Global options";

/// Speaks to a Magpie node, and starts several on this machine.
///
/// Exit codes: 0 ok, 1 the task or workflow failed, 2 usage or bad input, 3 not found, 4 node unreachable, 5 timeout,
/// 6 refused, 130 Ctrl-C. Ids may be shortened to what tells them apart.
#[derive(Debug, Parser)]
#[command(name = "nodectl", version, max_term_width = 120)]
pub struct NodectlArgs {
    /// Control socket of the node (default: control.sock in the node's default data directory)
    #[arg(long, global = true, value_name = "PATH", help_heading = GLOBAL)]
    control: Option<PathBuf>,
    #[command(flatten)]
    guest: GuestArgs,
    /// What to print: table or wide for people, json or yaml for programs
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        default_value = "table",
        hide_possible_values = true,
        help_heading = GLOBAL
    )]
    output: Format,
    /// Look again every second, and print what has changed, until Ctrl-C: for commands that show or list something
    #[arg(long, global = true, help_heading = GLOBAL)]
    watch: bool,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Dev(dev::DevArgs),
    Run(run::RunArgs),
    /// Show the node, its peers, its queue and its devices
    Status,
    Doctor(doctor::DoctorArgs),
    DebugBundle(debug_bundle::DebugBundleArgs),
    Events(events::EventsArgs),
    /// Submit, watch and cancel tasks
    #[command(subcommand)]
    Task(task::TaskCommand),
    /// Submit, watch and draw workflows
    #[command(subcommand)]
    Workflow(workflow::WorkflowCommand),
    /// List, pause and remove what runs by the calendar
    #[command(subcommand)]
    Schedule(schedule::ScheduleCommand),
    /// Count the tasks of this home; hold them back, or cancel those that wait
    #[command(subcommand)]
    Queue(queue::QueueCommand),
    /// Look into dead tasks; run them again, or remove them
    #[command(subcommand)]
    Dlq(dlq::DlqCommand),
    /// List what waits for a person; approve or deny it
    #[command(subcommand)]
    Approval(approval::ApprovalCommand),
    /// List workers; drain this node's
    #[command(subcommand)]
    Worker(worker::WorkerCommand),
    /// List, explain and call the tools that agents have
    #[command(subcommand)]
    Tool(tool::ToolCommand),
    /// List the members of the mesh; find, connect, allow and deny peers
    #[command(subcommand)]
    Peer(peer::PeerCommand),
    /// Show the keys that this node holds and accepts
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Issue tickets, which admit one peer each, and take them back
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Decide which copy of a ledger goes on
    #[command(subcommand)]
    Home(home::HomeCommand),
    /// List the devices of this node
    #[command(subcommand)]
    Device(device::DeviceCommand),
    /// List, call and kill the actors of this node
    #[command(subcommand)]
    Actor(actor::ActorCommand),
    /// Show the Merkle clock
    #[command(subcommand)]
    Clock(clock::ClockCommand),
    Audit(audit::AuditArgs),
    /// Keep content in the node's blob store
    #[command(subcommand)]
    Blob(blob::BlobCommand),
    Completions(completions::CompletionsArgs),
}

/// What every command gets.
pub struct Context {
    pub link: Arc<NodeLink>,
    pub format: Format,
    watch: Option<Watch>,
    /// What goes on when this command is interrupted.
    goes_on: Mutex<Option<String>>,
}

impl Context {
    /// Prints one document, or the text that says the same to a person.
    ///
    /// # Errors
    /// If standard output cannot be written to.
    pub fn document(&self, document: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), CommandError> {
        match &self.watch {
            None => self.format.document(document, text),
            Some(watch) => watch.show(self.format, document, text),
        }
    }

    /// Remembers what to say on Ctrl-C: the id must not be lost with the command that waits for it.
    pub fn goes_on(&self, what: impl Into<String>) {
        *self.goes_on.lock().unwrap_or_else(PoisonError::into_inner) = Some(what.into());
    }

    fn interrupted(&self) -> CommandError {
        CommandError::new(Exit::Interrupted, "interrupted").with_rest(self.rest())
    }

    fn rest(&self) -> Option<String> {
        self.goes_on.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// An error that leaves work going on says so: a time out does already.
    fn explain(&self, error: CommandError) -> CommandError {
        if error.exit == Exit::Unreachable { error.with_rest(self.rest()) } else { error }
    }
}

/// `--wait` and `--timeout`.
#[derive(Debug, Clone, Copy, Args)]
pub struct WaitArgs {
    /// Wait for the end; the exit code tells the outcome
    #[arg(long)]
    pub wait: bool,
    /// Give up waiting, or reaching the node, after this long: 200ms, 5s, 10m, 1h
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub timeout: Option<Duration>,
}

/// A length of time as people write it.
pub fn duration(text: &str) -> Result<Duration, String> {
    let parsed: Result<DurationMs, _> = text.parse();
    parsed.map(|duration| Duration::from_millis(duration.0)).map_err(|error| error.to_string())
}

/// A namespace as tasks have it.
pub fn namespace(text: &str) -> Result<String, String> {
    let most = limits::NAME_BYTES_MAX;
    let wrong = || format!("{text:?} is no namespace: 1 to {most} lower-case letters, digits, - and _");
    if dag::is_name(text) { Ok(text.to_owned()) } else { Err(wrong()) }
}

/// `K=V`.
pub fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not K=V"))?;
    if key.is_empty() { Err(format!("{text:?} has no key")) } else { Ok((key.to_owned(), value.to_owned())) }
}

impl NodectlArgs {
    /// Runs the command to its end, and says on standard error why it did not do what it was asked.
    pub fn run(self) -> ExitCode {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return finish(Err(CommandError::new(Exit::Failed, error.to_string()))),
        };
        let ended = runtime.block_on(self.dispatch());
        // A read of standard input that is under way must not keep the process.
        runtime.shutdown_background();
        finish(ended)
    }

    async fn dispatch(self) -> Result<Exit, CommandError> {
        if self.watch && !self.command.is_look() {
            return Err(CommandError::usage(watch::NOT_A_LOOK));
        }
        match self.command {
            // It ends its nodes itself.
            Command::Dev(dev) => return dev.run().await,
            // It needs no node.
            Command::Completions(completions) => return completions.run(),
            // It works without one.
            Command::Doctor(doctor) => {
                self.guest.refuse("doctor looks at this machine: run it on the node's")?;
                return doctor.run(self.control, self.output).await;
            }
            _ => {}
        }
        if self.control.is_some() {
            self.guest.refuse("--control names another node: give one of them")?;
        }
        let link = match self.guest.at()? {
            Some(guest) => NodeLink::elsewhere(guest),
            None => NodeLink::new(self.control.map_or_else(default_socket, Ok)?),
        };
        let watch = self.watch.then(Watch::default);
        let context = Context { link: Arc::new(link), format: self.output, watch, goes_on: Mutex::default() };
        let work = async {
            match &context.watch {
                None => self.command.run(&context).await,
                Some(watch) => watch.run(self.command, &context).await,
            }
        };
        tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => Err(context.interrupted()),
            ended = work => ended.map_err(|error| context.explain(error)),
        }
    }
}

impl Command {
    /// Whether it shows something and changes nothing, so that it can be run again and again.
    pub(super) fn is_look(&self) -> bool {
        use {
            actor::ActorCommand, approval::ApprovalCommand, blob::BlobCommand, clock::ClockCommand,
            device::DeviceCommand, dlq::DlqCommand, home::HomeCommand, key::KeyCommand, peer::PeerCommand,
            queue::QueueCommand, schedule::ScheduleCommand, task::TaskCommand, worker::WorkerCommand,
            workflow::WorkflowCommand,
        };
        match self {
            Self::Status => true,
            Self::Task(task) => {
                matches!(task, TaskCommand::Ls(_) | TaskCommand::Get { .. } | TaskCommand::WhyPending { .. })
            }
            Self::Workflow(workflow) => matches!(workflow, WorkflowCommand::Ls(_) | WorkflowCommand::Get { .. }),
            Self::Schedule(schedule) => matches!(schedule, ScheduleCommand::Ls(_) | ScheduleCommand::Get { .. }),
            Self::Queue(queue) => matches!(queue, QueueCommand::Stats(_)),
            Self::Dlq(dlq) => matches!(dlq, DlqCommand::Ls(_) | DlqCommand::Show { .. }),
            Self::Approval(approval) => matches!(approval, ApprovalCommand::Ls(_)),
            Self::Worker(worker) => matches!(worker, WorkerCommand::Ls),
            Self::Peer(peer) => matches!(peer, PeerCommand::Ls | PeerCommand::Get { .. } | PeerCommand::Metrics { .. }),
            Self::Key(key) => matches!(key, KeyCommand::Show),
            Self::Home(home) => matches!(home, HomeCommand::Ls),
            Self::Device(device) => matches!(device, DeviceCommand::Ls),
            Self::Actor(actor) => matches!(actor, ActorCommand::Ls | ActorCommand::Tree),
            Self::Clock(clock) => matches!(clock, ClockCommand::Show),
            Self::Blob(blob) => matches!(blob, BlobCommand::Stat { .. }),
            Self::Dev(_)
            | Self::Run(_)
            | Self::Doctor(_)
            | Self::DebugBundle(_)
            | Self::Events(_)
            | Self::Tool(_)
            | Self::Token(_)
            | Self::Audit(_)
            | Self::Completions(_) => false,
        }
    }

    pub(super) async fn run(self, context: &Context) -> Result<Exit, CommandError> {
        match self {
            Self::Dev(dev) => dev.run().await,
            Self::Run(run) => run.run(context).await,
            Self::Status => status::run(context).await,
            Self::Doctor(doctor) => doctor.run(None, context.format).await,
            Self::DebugBundle(bundle) => bundle.run(context).await,
            Self::Events(events) => events.run(context).await,
            Self::Task(task) => task.run(context).await,
            Self::Workflow(workflow) => workflow.run(context).await,
            Self::Schedule(schedule) => schedule.run(context).await,
            Self::Queue(queue) => queue.run(context).await,
            Self::Dlq(dlq) => dlq.run(context).await,
            Self::Approval(approval) => approval.run(context).await,
            Self::Worker(worker) => worker.run(context).await,
            Self::Tool(tool) => tool.run(context).await,
            Self::Peer(peer) => peer.run(context).await,
            Self::Key(key) => key.run(context).await,
            Self::Token(token) => token.run(context).await,
            Self::Home(home) => home.run(context).await,
            Self::Device(device) => device.run(context).await,
            Self::Actor(actor) => actor.run(context).await,
            Self::Clock(clock) => clock.run(context).await,
            Self::Audit(audit) => audit.run(context).await,
            Self::Blob(blob) => blob.run(context).await,
            Self::Completions(completions) => completions.run(),
        }
    }
}

fn default_socket() -> Result<PathBuf, CommandError> {
    let dir = crate::config::default_data_dir()
        .map_err(|_| CommandError::usage("no control socket: set --control, XDG_DATA_HOME or HOME"))?;
    Ok(dir.join("control.sock"))
}

fn finish(ended: Result<Exit, CommandError>) -> ExitCode {
    match ended {
        Ok(exit) => exit.into(),
        Err(error) => {
            if !error.is_silent() {
                eprintln!("nodectl: {error}");
            }
            error.exit.into()
        }
    }
}
