//! `nodectl`: one file per noun.

mod actor;
mod args;
mod blob;
mod clock;
mod completions;
mod connection;
mod deadline;
mod dev;
mod device;
mod dlq;
mod doctor;
mod exit;
mod home;
mod home_arg;
mod human;
mod id_prefix;
pub mod node_args;
mod operation;
mod output;
mod peer;
mod pid_file;
mod queue;
mod run;
mod schedule;
mod shapes;
pub mod spec_file;
mod status;
mod submission;
mod table;
mod task;
mod upload;
mod wait;
mod worker;
mod workflow;

pub use args::NodectlArgs;
