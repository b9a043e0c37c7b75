//! What a tool is to the catalogue: types that have schemas, and a function between them.

use std::future::Future;
use std::pin::Pin;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::answer::ToolError;
use super::arguments;
use super::catalog::{Tool, schema};
use super::link::NodeLink;
use super::principal::Principal;
use super::surface::Surface;

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Builds one message, sends it to the node, turns its reply into a result.
pub trait Handler: Sync + 'static {
    type Input: DeserializeOwned + JsonSchema + Send + 'static;
    type Output: Serialize + JsonSchema + 'static;

    fn call<'a>(
        &'a self,
        input: Self::Input,
        call: &'a Call<'a>,
    ) -> impl Future<Output = Result<Self::Output, ToolError>> + Send + 'a;
}

/// One call under way: what a handler may reach.
pub struct Call<'a> {
    pub link: &'a NodeLink,
    pub surface: &'a Surface,
    pub principal: &'a Principal,
    pub caller: &'a dyn Caller,
}

/// Who called, while the call runs.
pub trait Caller: Send + Sync {
    /// For the audit line.
    fn name(&self) -> String;

    /// Ends when the caller does not want the answer any more.
    fn cancelled(&self) -> BoxFuture<'_, ()>;

    /// Tells a caller who asked for it how far the call is, in milliseconds of the longest wait.
    fn progress(&self, waited_ms: u64, wait_ms: u64, message: String) -> BoxFuture<'_, ()>;

    /// What the caller follows the call by, if it says so: 32 hexadecimal digits, as of a W3C `traceparent`.
    fn trace(&self) -> Option<String> {
        None
    }
}

/// A [`Handler`] of any types.
pub trait AnyHandler: Sync {
    fn input_schema(&self) -> Map<String, Value>;
    fn output_schema(&self) -> Map<String, Value>;

    /// Reads the arguments, runs, writes the output.
    fn run<'a>(
        &'a self,
        tool: &'a Tool,
        arguments: Map<String, Value>,
        call: &'a Call<'a>,
    ) -> BoxFuture<'a, Result<Value, ToolError>>;
}

impl<H: Handler> AnyHandler for H {
    fn input_schema(&self) -> Map<String, Value> {
        schema::input_of::<H::Input>()
    }

    fn output_schema(&self) -> Map<String, Value> {
        schema::output_of::<H::Output>()
    }

    fn run<'a>(
        &'a self,
        tool: &'a Tool,
        arguments: Map<String, Value>,
        call: &'a Call<'a>,
    ) -> BoxFuture<'a, Result<Value, ToolError>> {
        Box::pin(async move {
            let input = arguments::read(tool, arguments)?;
            let output = self.call(input, call).await?;
            serde_json::to_value(output).map_err(|error| ToolError::internal(&error))
        })
    }
}
