//! Tools whose machinery this node does not have: they are listed, and say why and what to do.

use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::mcp::answer::ToolError;
use crate::mcp::handler::{Call, Handler};

/// Arguments of the seeds go by [`also`](crate::mcp::catalog::ToolEntry::also): nothing reads them.
pub struct Unavailable<I> {
    why: &'static str,
    fix: &'static str,
    input: PhantomData<fn(I)>,
}

/// Of a tool that would change something.
#[derive(Deserialize, JsonSchema)]
pub struct OnlyKey {
    #[serde(rename = "idempotency_key")]
    _idempotency_key: Option<String>,
}

/// There is none.
#[derive(Serialize, JsonSchema)]
pub struct NoOutput {}

impl<I> Unavailable<I> {
    pub const fn new(why: &'static str, fix: &'static str) -> Self {
        Self { why, fix, input: PhantomData }
    }
}

impl<I: DeserializeOwned + JsonSchema + Send + 'static> Handler for Unavailable<I> {
    type Input = I;
    type Output = NoOutput;

    async fn call(&self, _: I, _: &Call<'_>) -> Result<NoOutput, ToolError> {
        Err(ToolError::new("unavailable_here", self.why, self.fix))
    }
}
