//! Resources, prompts and completions in the protocol's own types.

use std::sync::LazyLock;

use data_encoding::BASE64;
use rmcp::ErrorData;
use rmcp::model::{
    CacheScope, CompleteRequestParams, CompleteResult, CompletionInfo, GetPromptRequestParams, GetPromptResult, Icon,
    ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult, PaginatedRequestParams, Prompt,
    PromptArgument, PromptMessage, ReadResourceResult, Reference, Resource as ListedResource, ResourceContents,
    ResourceTemplate, Role,
};
use serde_json::json;

use super::LIST_TTL_MS;
use crate::mcp::answer::ToolError;
use crate::mcp::completion::About;
use crate::mcp::dispatch::Dispatcher;
use crate::mcp::handler::Caller;
use crate::mcp::prompts::{PROMPTS, PromptEntry};
use crate::mcp::text::{beginning, clean, clean_value};

/// How long what has ended may be kept by who has read it.
const ENDED_TTL_MS: u64 = 60_000;
/// Three nodes, each with a way to the others.
const ICON: &str = r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><path d="M12 5 5 18h14z" fill="none" stroke="#456" stroke-width="2"/><g fill="#27a"><circle cx="12" cy="5" r="3.5"/><circle cx="5" cy="18" r="3.5"/><circle cx="19" cy="18" r="3.5"/></g></svg>"##;

/// The server's icon, which needs nothing to be fetched.
pub fn icons() -> Vec<Icon> {
    static SOURCE: LazyLock<String> =
        LazyLock::new(|| format!("data:image/svg+xml;base64,{}", BASE64.encode(ICON.as_bytes())));
    vec![Icon::new(SOURCE.as_str()).with_mime_type("image/svg+xml").with_sizes(vec!["any".to_owned()])]
}

pub fn resources(
    dispatcher: &Dispatcher,
    page: Option<PaginatedRequestParams>,
) -> Result<ListResourcesResult, ErrorData> {
    only_page(page)?;
    let single = dispatcher.resources().filter(|entry| entry.variable.is_none());
    let listed = single.map(|entry| {
        ListedResource::new(entry.uri(), entry.name)
            .with_title(entry.title)
            .with_description(entry.description)
            .with_mime_type(entry.mime_type)
    });
    let listed = ListResourcesResult::with_all_items(listed.collect());
    Ok(listed.with_ttl_ms(LIST_TTL_MS).with_cache_scope(CacheScope::Private))
}

pub fn templates(
    dispatcher: &Dispatcher,
    page: Option<PaginatedRequestParams>,
) -> Result<ListResourceTemplatesResult, ErrorData> {
    only_page(page)?;
    let many = dispatcher.resources().filter(|entry| entry.variable.is_some());
    let listed = many.map(|entry| {
        ResourceTemplate::new(entry.uri(), entry.name)
            .with_title(entry.title)
            .with_description(entry.description)
            .with_mime_type(entry.mime_type)
    });
    let listed = ListResourceTemplatesResult::with_all_items(listed.collect());
    Ok(listed.with_ttl_ms(LIST_TTL_MS).with_cache_scope(CacheScope::Private))
}

pub async fn read(dispatcher: &Dispatcher, uri: &str, caller: &dyn Caller) -> Result<ReadResourceResult, ErrorData> {
    let contents = dispatcher.read(uri, caller).await.map_err(|error| refused(uri, error))?;
    let ttl_ms = if contents.is_over { ENDED_TTL_MS } else { 0 };
    let text = ResourceContents::text(contents.text, contents.uri).with_mime_type(contents.mime_type);
    Ok(ReadResourceResult::new(vec![text]).with_ttl_ms(ttl_ms).with_cache_scope(CacheScope::Private))
}

pub fn prompts(page: Option<PaginatedRequestParams>) -> Result<ListPromptsResult, ErrorData> {
    only_page(page)?;
    let listed = ListPromptsResult::with_all_items(PROMPTS.iter().map(listed_prompt).collect());
    Ok(listed.with_ttl_ms(LIST_TTL_MS).with_cache_scope(CacheScope::Private))
}

/// What `prompts/list` shows of a prompt.
pub fn listed_prompt(entry: &PromptEntry) -> Prompt {
    let arguments = entry.arguments.iter().map(|argument| {
        PromptArgument::new(argument.name).with_description(argument.description).with_required(argument.required)
    });
    Prompt::new(entry.name, Some(entry.description), Some(arguments.collect())).with_title(entry.title)
}

pub fn prompt(
    dispatcher: &Dispatcher,
    request: GetPromptRequestParams,
    caller: &dyn Caller,
) -> Result<GetPromptResult, ErrorData> {
    let GetPromptRequestParams { name, arguments, .. } = request;
    let written = dispatcher.prompt(&name, &arguments.unwrap_or_default(), caller);
    let written = written.map_err(|error| refused(&name, error))?;
    let message = PromptMessage::new_text(Role::User, written.text);
    Ok(GetPromptResult::new(vec![message]).with_description(written.description))
}

pub async fn complete(
    dispatcher: &Dispatcher,
    request: CompleteRequestParams,
    caller: &dyn Caller,
) -> Result<CompleteResult, ErrorData> {
    let CompleteRequestParams { r#ref, argument, .. } = request;
    let about = match &r#ref {
        Reference::Resource(template) => About::Template(&template.uri),
        Reference::Prompt(prompt) => About::Prompt(&prompt.name),
        other => {
            let what = other.reference_type();
            return Err(ErrorData::invalid_params(
                format!("nothing of {what} is completed; name a prompt or a template"),
                None,
            ));
        }
    };
    let completed = dispatcher.complete(about, &argument.name, &argument.value, caller).await;
    let completed = completed.map_err(|error| refused(about.name(), error))?;
    let values = CompletionInfo::with_pagination(completed.values, None, completed.has_more);
    values.map(CompleteResult::new).map_err(|error| ErrorData::internal_error(error, None))
}

/// Lists that never have more than one page give no cursor, so none is right.
fn only_page(page: Option<PaginatedRequestParams>) -> Result<(), ErrorData> {
    match page.and_then(|page| page.cursor) {
        None => Ok(()),
        Some(cursor) => {
            let shown = beginning(&cursor, 40);
            Err(ErrorData::invalid_params(
                format!("{shown:?} is no cursor of this list, which has one page; leave it out"),
                None,
            ))
        }
    }
}

/// The protocol's error, in the words of ours, with all that ours says beside them.
pub fn refused(what: &str, error: ToolError) -> ErrorData {
    let message = clean(format!("{}; {}", error.message, error.fix));
    let mut data = clean_value(json!(error));
    data["uri"] = beginning(what, 240).into();
    match error.code {
        "unknown_resource" | "not_found" | "pruned" => ErrorData::resource_not_found(message, Some(data)),
        "wrong_argument" | "unknown_template" | "unknown_prompt" | "not_in_toolset" | "low_scope" | "read_only"
        | "too_large" => ErrorData::invalid_params(message, Some(data)),
        _ => ErrorData::internal_error(message, Some(data)),
    }
}

#[cfg(test)]
mod tests {
    use rmcp::model::ErrorCode;

    use super::*;

    #[test]
    fn an_error_of_ours_is_the_protocols_with_the_same_words() {
        for (code, wanted) in [
            ("unknown_resource", ErrorCode::RESOURCE_NOT_FOUND),
            ("not_found", ErrorCode::RESOURCE_NOT_FOUND),
            ("wrong_argument", ErrorCode::INVALID_PARAMS),
            ("node_unreachable", ErrorCode::INTERNAL_ERROR),
        ] {
            let error = refused("task://x", ToolError::passing(code, "it is\u{1b} so", "do that", 500));
            assert_eq!((error.code, &*error.message), (wanted, "it is so; do that"));
            let data = error.data.unwrap();
            assert_eq!(
                (&data["code"], &data["uri"], &data["fix"]),
                (&json!(code), &json!("task://x"), &json!("do that"))
            );
            assert_eq!((&data["message"], &data["retry_after_ms"]), (&json!("it is so"), &json!(500)));
        }
    }

    #[test]
    fn a_cursor_that_no_page_gave_is_refused() {
        assert!(only_page(None).is_ok() && only_page(Some(PaginatedRequestParams::default())).is_ok());
        let wrong = PaginatedRequestParams::default().with_cursor(Some("20".to_owned()));
        assert_eq!(only_page(Some(wrong)).unwrap_err().code, ErrorCode::INVALID_PARAMS);
    }

    #[test]
    fn the_icon_is_small_and_needs_no_network() {
        let icons = serde_json::to_value(icons()).unwrap();
        let source = icons[0]["src"].as_str().unwrap();
        assert!(source.starts_with("data:image/svg+xml;base64,") && source.len() < 600, "{}", source.len());
    }
}
