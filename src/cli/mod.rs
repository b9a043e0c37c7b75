//! `nodectl`: one file per noun.

pub mod node_args;
pub mod spec_file;
