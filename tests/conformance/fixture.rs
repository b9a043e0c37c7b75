//! The protocol's handler: the suite's fixtures, and behind them the node's own tools.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use magpie::mcp::http::HttpHandler;
use magpie::mcp::server::McpServer;
use rmcp::model::*;
use rmcp::service::{RequestContext, SubscriptionContext, SubscriptionSink};
use rmcp::task_manager::TaskManager;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::json;

use crate::documents::DOCUMENTS;
use crate::{calls, input, jobs};

const TTL_MS: u64 = 60_000;

#[derive(Clone)]
pub struct Fixture {
    own: Arc<McpServer>,
    pub jobs: Arc<TaskManager>,
    pub states: Arc<RequestStateCodec>,
    subscribers: Arc<Subscribers>,
}

/// The SDK acknowledges a subscription before it hands it on: who is acknowledged may cause a change at once.
#[derive(Default)]
struct Subscribers {
    acknowledged: AtomicUsize,
    sinks: Mutex<Vec<SubscriptionSink>>,
}

impl Fixture {
    /// Those who subscribed, when all who may know that they did are among them.
    pub async fn subscribers(&self) -> Vec<SubscriptionSink> {
        let all = async {
            loop {
                let sinks = self.subscribers.sinks.lock().unwrap().clone();
                if sinks.len() >= self.subscribers.acknowledged.load(Ordering::SeqCst) {
                    return sinks;
                }
                tokio::task::yield_now().await;
            }
        };
        // One whose stream broke as it was acknowledged never comes.
        match tokio::time::timeout(Duration::from_millis(500), all).await {
            Ok(sinks) => sinks,
            Err(_) => self.subscribers.sinks.lock().unwrap().clone(),
        }
    }
}

impl Default for Fixture {
    fn default() -> Self {
        let states = RequestStateCodec::new(b"a key of a test, which keeps no secret at all".to_vec());
        let (jobs, subscribers) = (Arc::default(), Arc::default());
        Self { own: Arc::new(McpServer::http()), jobs, states: Arc::new(states), subscribers }
    }
}

impl HttpHandler for Fixture {
    const ONLY_DISPATCHES: bool = false;
}

impl ServerHandler for Fixture {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_logging()
            .enable_completions()
            .enable_prompts()
            .enable_prompts_list_changed()
            .enable_resources()
            .enable_resources_subscribe()
            .enable_tools()
            .enable_tool_list_changed()
            .enable_tasks()
            .build();
        let mut info = self.own.get_info();
        info.capabilities = capabilities;
        info
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let mut listed = self.own.list_tools(request, context).await?;
        listed.tools.extend(DOCUMENTS.tools.iter().cloned());
        Ok(listed)
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        DOCUMENTS.tools.iter().find(|tool| tool.name == name).cloned().or_else(|| self.own.get_tool(name))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let name = request.name.as_ref();
        if let Some(result) = DOCUMENTS.complete.get(name) {
            return Ok(result.clone().into());
        }
        if let Some(params) = DOCUMENTS.elicit.get(name) {
            return calls::elicit(&request, params.clone(), &context).await;
        }
        if let Some(rounds) = DOCUMENTS.input_required.get(name) {
            return input::tool(self, rounds, &request, &context);
        }
        if let Some(answered) = jobs::call(self, &request, &context).await {
            return answered;
        }
        if let Some(answered) = calls::call(self, &request, &context).await {
            return answered;
        }
        self.own.call_tool(request, context).await
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        Ok(ListResourcesResult::with_all_items(DOCUMENTS.resources.clone())
            .with_ttl_ms(TTL_MS)
            .with_cache_scope(CacheScope::Private))
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let listed = ListResourceTemplatesResult::with_all_items(DOCUMENTS.templates.clone());
        Ok(listed.with_ttl_ms(TTL_MS).with_cache_scope(CacheScope::Private))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let id = request.uri.strip_prefix("test://template/").and_then(|rest| rest.strip_suffix("/data"));
        let contents = match (DOCUMENTS.contents.get(&request.uri), id) {
            (Some(contents), _) => contents.clone(),
            (None, Some(id)) => {
                let data = json!({"id": id, "templateTest": true, "data": format!("Data for ID: {id}")});
                ResourceContents::text(data.to_string(), request.uri).with_mime_type("application/json")
            }
            (None, None) => {
                return Err(ErrorData::invalid_params("Resource not found", Some(json!({"uri": request.uri}))));
            }
        };
        let read = ReadResourceResult::new(vec![contents]).with_ttl_ms(TTL_MS).with_cache_scope(CacheScope::Private);
        Ok(read.into())
    }

    async fn subscribe(&self, _: SubscribeRequestParams, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn unsubscribe(&self, _: UnsubscribeRequestParams, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        Ok(())
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        self.subscribers.acknowledged.fetch_add(1, Ordering::SeqCst);
        Some(requested.clone())
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        self.subscribers.sinks.lock().unwrap().push(context.sink().clone());
        context.cancelled().await;
        Ok(())
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        Ok(ListPromptsResult::with_all_items(DOCUMENTS.prompts.clone())
            .with_ttl_ms(TTL_MS)
            .with_cache_scope(CacheScope::Private))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        if let Some(rounds) = DOCUMENTS.input_required.get(&request.name) {
            return input::prompt(rounds, &request);
        }
        let arguments: BTreeMap<_, _> = request.arguments.unwrap_or_default().into_iter().collect();
        let messages = DOCUMENTS.messages(&request.name, &arguments);
        let messages = messages.ok_or_else(|| ErrorData::invalid_params("there is no such prompt", None))?;
        Ok(GetPromptResult::new(messages).into())
    }

    async fn complete(
        &self,
        _: CompleteRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        Ok(CompleteResult::new(
            CompletionInfo::new(vec!["paris".to_owned()]).map_err(|why| ErrorData::internal_error(why, None))?,
        ))
    }

    async fn set_level(&self, _: SetLevelRequestParams, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn get_task(
        &self,
        request: GetTaskParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        self.jobs.get_task(&request.task_id).map(GetTaskResult::new)
    }

    async fn update_task(&self, request: UpdateTaskParams, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        self.jobs.update_task(&request.task_id, request.input_responses)
    }

    async fn cancel_task(&self, request: CancelTaskParams, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        self.jobs.cancel_task(&request.task_id)
    }
}
