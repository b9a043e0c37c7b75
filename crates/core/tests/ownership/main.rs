//! A home and its workers, core against core under virtual time: what their messages may do to each other (2.3).

mod anchors;
mod interleavings;
mod mesh;
mod scene;
