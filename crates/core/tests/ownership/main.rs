//! A home and its workers, core against core under virtual time: what their messages may do to each other (2.3).

#![allow(clippy::unwrap_used, clippy::unwrap_in_result, reason = "a test may panic where it stands")]

#[cfg(test)]
mod anchors;
#[cfg(test)]
mod interleavings;
#[cfg(test)]
mod mesh;
#[cfg(test)]
mod scene;
