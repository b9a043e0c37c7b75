//! What `nodectl` does.

pub mod spec_file;
