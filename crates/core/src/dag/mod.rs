//! Workflows: a document becomes a checked graph of steps, and a step whose needs are met becomes tasks.
//!
//! [`parse_workflow`] refuses with every problem at its place; [`bind`] fills in the `${...}` of one step;
//! [`Graph`] knows the order of the steps and draws it.

mod error;
mod graph;
mod reference;
mod render;
mod spec;
mod template;

pub use error::SpecError;
pub use graph::{Graph, GraphError, GraphNode};
pub use reference::{Reference, Root, Segment, TemplateError};
pub use render::GraphView;
pub use spec::{StepSpec, WorkflowSpec};
pub use template::{Template, TextTemplate};
