//! Workflows: a document becomes a checked graph of steps, and a step whose needs are met becomes tasks.
//!
//! [`parse_workflow`] refuses with every problem at its place; [`bind_window`] fills in the `${...}` of one step;
//! [`Graph`] knows the order of the steps and draws it.

mod bind;
mod body;
mod check;
mod child;
mod condition;
mod door;
mod error;
mod fields;
mod graph;
mod parse;
mod policy;
mod reference;
mod render;
mod resolve;
mod schedule;
mod spec;
mod template;

pub use bind::{
    BindError, BoundStep, BoundTask, ItemWindow, Place, Scope, StepEnd, bind_compensation, bind_window, outputs,
};
pub use body::is_relative;
pub use check::is_name;
pub use child::child;
pub use condition::{Condition, ConditionError};
pub use door::{check_another_input, check_bound, check_task, check_workflow};
pub use error::SpecError;
pub use graph::{Graph, GraphError, GraphNode};
pub use parse::{parse_task, parse_workflow};
pub use policy::{Join, JoinVerdict, OnFail};
pub use reference::{Reference, Root, Segment, TemplateError};
pub use render::GraphView;
pub use resolve::ResolveError;
pub use schedule::{Overlap, ScheduleError, ScheduleSpec};
pub use spec::{CompensateSpec, ReadSteps, StepSpec, WorkflowSpec};
pub use template::{Template, TextTemplate};
