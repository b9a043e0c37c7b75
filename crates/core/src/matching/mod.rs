//! What a node offers, what a task requires, and what stands between the two.

mod capabilities;
mod clause;
mod expression;
mod parse;
mod requirement;
mod shape;
mod size;

pub use capabilities::{Capabilities, CapabilitiesError, Gpu};
pub use requirement::{ParseRequirementError, Requirement};
pub use shape::Shape;
