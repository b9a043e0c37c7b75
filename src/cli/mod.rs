//! `nodectl`: one file per noun.

mod args;
mod connection;
mod deadline;
mod dev;
mod exit;
mod human;
mod id_prefix;
pub mod node_args;
mod operation;
mod output;
mod run;
mod shapes;
pub mod spec_file;
mod status;
mod submission;
mod table;
mod task;
mod upload;
mod wait;

pub use args::NodectlArgs;
