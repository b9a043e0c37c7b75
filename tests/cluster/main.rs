//! Nodes of one process, over real sockets: what a mesh does when nothing is mocked.

mod mesh;
mod single;
mod stealing;
mod supervision;
