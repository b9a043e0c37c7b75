//! What a caller that is kept to a namespace may ask.

use std::sync::Arc;

use magpie_core::dag::WorkflowSpec;
use magpie_core::ids::{ContentId, OperationId, TaskId};
use magpie_core::payload::Payload;
use magpie_core::queue::{
    ApprovalRequest, ContextRequest, LedgerRequest, OutsideRequest, Refusal, ScheduleRequest, SubmitItem,
};
use magpie_core::task::{AttemptResult, TaskKind, TaskSpec};
use sha2::{Digest, Sha256};

use super::whole_node;
use crate::messages::blob::{BlobReply, BlobRequest};
use crate::messages::cache::CacheRequest;
use crate::messages::node::NodeRequest;
use crate::messages::stream::{EventsAsk, StreamRequest};
use crate::messages::tool::{ToolAsk, ToolRequest};
use crate::messages::{Answer, Body};

/// How much further back the newest events are asked for, since most of a home's are others'.
const EVENTS_FURTHER: u64 = 20;

/// A namespace, and the name of the caller that is kept to it.
pub type Kept<'a> = (&'a str, &'a str);

/// What is asked, once everything that it names is found to be the namespace's.
pub struct Question<T = Body> {
    pub body: T,
    /// Tasks, workflows and schedules.
    pub ids: Vec<TaskId>,
    pub blobs: Vec<Named>,
}

/// A blob that a message names, and what is told if the namespace does not have it.
pub struct Named {
    pub cid: ContentId,
    pub lacking: Result<Answer, Refusal>,
}

impl<T> Question<T> {
    fn of(body: T) -> Self {
        Self { body, ids: Vec::new(), blobs: Vec::new() }
    }

    fn about(ids: impl IntoIterator<Item = TaskId>, body: T) -> Self {
        Self { ids: ids.into_iter().collect(), ..Self::of(body) }
    }

    fn map<U>(self, wrap: impl FnOnce(T) -> U) -> Question<U> {
        Question { body: wrap(self.body), ids: self.ids, blobs: self.blobs }
    }
}

/// # Errors
/// If it is about the whole node, or names another namespace.
pub fn within(kept: Kept<'_>, body: Body) -> Result<Question, Refusal> {
    match body {
        Body::Ledger(request) => Ok(ledger(kept, request)?.map(Body::Ledger)),
        Body::Home { home, request } => Ok(ledger(kept, request)?.map(|request| Body::Home { home, request })),
        Body::Stream(request) => Ok(stream(kept, request)?.map(Body::Stream)),
        Body::Blob(request) => Ok(blob(request).map(Body::Blob)),
        Body::Cache(request) => Ok(Question::of(Body::Cache(cache(kept, request)?))),
        Body::Node(NodeRequest::Status) => Ok(Question::of(body)),
        // The other node keeps it to the same namespace, by the same rules. What follows a call names one that was begun.
        Body::Tool(ToolRequest::At { ask: ToolAsk::CallKept { ref namespace, .. }, .. }) if namespace == kept.0 => {
            Ok(Question::of(body))
        }
        Body::Tool(ToolRequest::At { ask: ToolAsk::Wait { .. } | ToolAsk::Cancel { .. }, .. }) => {
            Ok(Question::of(body))
        }
        Body::Node(
            NodeRequest::Homes
            | NodeRequest::ExportHome { .. }
            | NodeRequest::ImportHome { .. }
            | NodeRequest::Logs(_)
            | NodeRequest::RecordCalls(_)
            | NodeRequest::Audit(_),
        )
        | Body::Worker(_)
        | Body::Registry(_)
        | Body::Clock(_)
        | Body::Device(_)
        | Body::Actor(_)
        | Body::Access(_)
        | Body::Peer(_)
        | Body::Mount(_)
        | Body::Tool(_) => Err(whole_node(kept.0)),
    }
}

fn ledger(kept: Kept<'_>, request: LedgerRequest) -> Result<Question<LedgerRequest>, Refusal> {
    let namespace = kept.0;
    match keyed(namespace, request) {
        LedgerRequest::Submit { operation, items } => tasks(namespace, operation, items),
        LedgerRequest::SubmitWorkflow { operation, mut spec } => {
            let ids = workflow(namespace, Arc::make_mut(&mut spec))?;
            let blobs = spec.blobs().into_iter().map(input).collect();
            Ok(Question { body: LedgerRequest::SubmitWorkflow { operation, spec }, ids, blobs })
        }
        LedgerRequest::ListTasks { mut filter, cursor, limit } => {
            filter.namespace = own(namespace, filter.namespace)?;
            Ok(Question::of(LedgerRequest::ListTasks { filter, cursor, limit }))
        }
        LedgerRequest::ListDead { mut filter, cursor, limit } => {
            filter.namespace = own(namespace, filter.namespace)?;
            Ok(Question::of(LedgerRequest::ListDead { filter, cursor, limit }))
        }
        LedgerRequest::ListWorkflows { state, namespace: named, cursor, limit } => {
            let namespace = own(namespace, named)?;
            Ok(Question::of(LedgerRequest::ListWorkflows { state, namespace, cursor, limit }))
        }
        request @ (LedgerRequest::PauseQueue { .. }
        | LedgerRequest::ResumeQueue { .. }
        | LedgerRequest::ClearQueue { .. }) => Ok(Question::of(queue(namespace, request)?)),
        LedgerRequest::Schedule(request) => Ok(schedule(namespace, request)?.map(LedgerRequest::Schedule)),
        LedgerRequest::Outside(request) => Ok(outside(namespace, request).map(LedgerRequest::Outside)),
        LedgerRequest::Approval(request) => Ok(approval(namespace, request)?.map(LedgerRequest::Approval)),
        LedgerRequest::Context(request) => Ok(Question::of(LedgerRequest::Context(context(kept.1, request)))),
        // Each names what it is about. What there is of others is shown to nobody: see `shown`.
        request @ (LedgerRequest::GetTask { .. }
        | LedgerRequest::WaitTask { .. }
        | LedgerRequest::WaitAttempt { .. }
        | LedgerRequest::GetWorkflow { .. }
        | LedgerRequest::WaitWorkflow { .. }
        | LedgerRequest::RetryWorkflow { .. }
        | LedgerRequest::Cancel { .. }
        | LedgerRequest::SetPriority { .. }
        | LedgerRequest::WhyPending { .. }
        | LedgerRequest::ShowDead { .. }) => Ok(Question::about(request.subject(), request)),
        LedgerRequest::RetryTasks { operation, ids } => {
            Ok(Question::about(ids.clone(), LedgerRequest::RetryTasks { operation, ids }))
        }
        LedgerRequest::PurgeDead { operation, ids } => {
            Ok(Question::about(ids.clone(), LedgerRequest::PurgeDead { operation, ids }))
        }
        LedgerRequest::Rehearse(request) => {
            let question = ledger(kept, *request)?.map(|request| LedgerRequest::Rehearse(Box::new(request)));
            // What a dry run would put is not there; the home does not look for it.
            Ok(Question { blobs: Vec::new(), ..question })
        }
        request @ LedgerRequest::Stats => Ok(Question::of(request)),
        LedgerRequest::NamespacesOf { .. }
        | LedgerRequest::CountNamespace { .. }
        | LedgerRequest::Usage(_)
        | LedgerRequest::Claim { .. }
        | LedgerRequest::Credit(_)
        | LedgerRequest::Renew(_)
        | LedgerRequest::Complete(_)
        | LedgerRequest::Release(_)
        | LedgerRequest::AskPermits(_)
        | LedgerRequest::TakePermits(_) => Err(whole_node(namespace)),
    }
}

fn tasks(
    namespace: &str,
    operation: OperationId,
    mut items: Vec<SubmitItem>,
) -> Result<Question<LedgerRequest>, Refusal> {
    let (mut ids, mut blobs) = (Vec::new(), Vec::new());
    for item in &mut items {
        task(namespace, &mut item.spec)?;
        ids.extend(item.spec.parent);
        blobs.extend(item.spec.blobs().map(input));
    }
    Ok(Question { body: LedgerRequest::Submit { operation, items }, ids, blobs })
}

/// Its own part of the queue.
fn queue(own_one: &str, mut request: LedgerRequest) -> Result<LedgerRequest, Refusal> {
    if let LedgerRequest::PauseQueue { namespace, .. }
    | LedgerRequest::ResumeQueue { namespace, .. }
    | LedgerRequest::ClearQueue { namespace, .. } = &mut request
    {
        *namespace = own(own_one, namespace.take())?;
    }
    Ok(request)
}

/// The same under an operation id of the namespace: a key that another namespace used answers nothing of it.
fn keyed(namespace: &str, mut request: LedgerRequest) -> LedgerRequest {
    match &mut request {
        LedgerRequest::Submit { operation, .. }
        | LedgerRequest::SubmitWorkflow { operation, .. }
        | LedgerRequest::RetryWorkflow { operation, .. }
        | LedgerRequest::Cancel { operation, .. }
        | LedgerRequest::SetPriority { operation, .. }
        | LedgerRequest::RetryTasks { operation, .. }
        | LedgerRequest::PurgeDead { operation, .. }
        | LedgerRequest::PauseQueue { operation, .. }
        | LedgerRequest::ResumeQueue { operation, .. }
        | LedgerRequest::ClearQueue { operation, .. }
        | LedgerRequest::Claim { operation }
        | LedgerRequest::Schedule(
            ScheduleRequest::Change { operation, .. } | ScheduleRequest::RunNow { operation, .. },
        )
        | LedgerRequest::Approval(ApprovalRequest::Hold { operation, .. })
        | LedgerRequest::Context(ContextRequest::Update { operation, .. }) => {
            *operation = own_operation(namespace, *operation);
        }
        LedgerRequest::GetTask { .. }
        | LedgerRequest::WaitTask { .. }
        | LedgerRequest::WaitAttempt { .. }
        | LedgerRequest::ListTasks { .. }
        | LedgerRequest::GetWorkflow { .. }
        | LedgerRequest::WaitWorkflow { .. }
        | LedgerRequest::ListWorkflows { .. }
        | LedgerRequest::WhyPending { .. }
        | LedgerRequest::ListDead { .. }
        | LedgerRequest::ShowDead { .. }
        | LedgerRequest::Schedule(ScheduleRequest::Get { .. } | ScheduleRequest::List { .. })
        | LedgerRequest::NamespacesOf { .. }
        | LedgerRequest::CountNamespace { .. }
        | LedgerRequest::Usage(_)
        | LedgerRequest::Rehearse(_)
        | LedgerRequest::Stats
        | LedgerRequest::Credit(_)
        | LedgerRequest::Renew(_)
        | LedgerRequest::Complete(_)
        | LedgerRequest::Release(_)
        | LedgerRequest::AskPermits(_)
        | LedgerRequest::TakePermits(_)
        | LedgerRequest::Outside(_)
        | LedgerRequest::Approval(ApprovalRequest::List { .. } | ApprovalRequest::Decide { .. })
        | LedgerRequest::Context(ContextRequest::Get { .. }) => {}
    }
    request
}

fn own_operation(namespace: &str, operation: OperationId) -> OperationId {
    let digest = Sha256::new().chain_update(operation.0).chain_update(namespace).finalize();
    let mut own = [0; 16];
    own.copy_from_slice(&digest[..16]);
    OperationId(own)
}

/// The namespace, where none or it is named.
fn own(namespace: &str, named: Option<String>) -> Result<Option<String>, Refusal> {
    match named {
        Some(named) if named != namespace => Err(another(namespace, &named)),
        Some(_) | None => Ok(Some(namespace.to_owned())),
    }
}

fn another(namespace: &str, named: &str) -> Refusal {
    let problem = format!("it is {named:?}, and this caller is kept to {namespace:?}");
    Refusal::invalid("/namespace", problem, format!("leave it out, or write {namespace}"))
}

/// A specification that names none says `default`.
fn put_into(namespace: &str, named: &mut String) -> Result<(), Refusal> {
    if *named != namespace && *named != TaskSpec::new(TaskKind::Noop).namespace {
        return Err(another(namespace, named));
    }
    namespace.clone_into(named);
    Ok(())
}

fn task(namespace: &str, spec: &mut Arc<TaskSpec>) -> Result<(), Refusal> {
    put_into(namespace, &mut Arc::make_mut(spec).namespace)
}

/// The workflows in it get its namespace when they start. Answers the tasks that are to be parents.
fn workflow(namespace: &str, spec: &mut WorkflowSpec) -> Result<Vec<TaskId>, Refusal> {
    put_into(namespace, &mut spec.namespace)?;
    let mut parents: Vec<TaskId> = spec.parent.into_iter().collect();
    for step in &mut spec.steps {
        if let Some(child) = &mut step.workflow {
            parents.extend(workflow(namespace, Arc::make_mut(child))?);
        }
    }
    Ok(parents)
}

/// What a task is to be given.
fn input(cid: ContentId) -> Named {
    let fix = "put it with ipfs_add, or write files as {path, text}";
    let lacking = Refusal::invalid("/files", format!("there is no blob {cid} in this namespace"), fix);
    Named { cid, lacking: Err(lacking) }
}

fn schedule(namespace: &str, request: ScheduleRequest) -> Result<Question<ScheduleRequest>, Refusal> {
    match request {
        ScheduleRequest::List { namespace: named, cursor, limit } => {
            let namespace = own(namespace, named)?;
            Ok(Question::of(ScheduleRequest::List { namespace, cursor, limit }))
        }
        request @ (ScheduleRequest::Get { .. } | ScheduleRequest::Change { .. } | ScheduleRequest::RunNow { .. }) => {
            Ok(Question::about(request.id(), request))
        }
    }
}

/// What waits in it.
fn approval(own_one: &str, request: ApprovalRequest) -> Result<Question<ApprovalRequest>, Refusal> {
    match request {
        ApprovalRequest::List { of, namespace, decided, cursor, limit } => {
            let namespace = own(own_one, namespace)?;
            Ok(Question::about(of, ApprovalRequest::List { of, namespace, decided, cursor, limit }))
        }
        ApprovalRequest::Hold { operation, call, key, namespace } => {
            let namespace = own(own_one, namespace)?;
            Ok(Question::of(ApprovalRequest::Hold { operation, call, key, namespace }))
        }
        ApprovalRequest::Decide { id, .. } => Ok(Question::about([id], request)),
    }
}

/// A worker has its caller's name, so that what it holds is its namespace's.
fn outside(own: &str, request: OutsideRequest) -> Question<OutsideRequest> {
    match request {
        OutsideRequest::Register { .. } | OutsideRequest::Unregister { .. } => Question::of(request),
        OutsideRequest::Take { worker, offers, namespace: _ } => {
            Question::of(OutsideRequest::Take { worker, offers, namespace: Some(own.to_owned()) })
        }
        OutsideRequest::Keep { worker, holds } => {
            let ids: Vec<TaskId> = holds.iter().map(|hold| hold.task).collect();
            Question::about(ids, OutsideRequest::Keep { worker, holds })
        }
        OutsideRequest::End { worker, task, lease, outcome } => {
            let output = match &outcome.result {
                AttemptResult::Succeeded { output } => Payload::blob(output),
                AttemptResult::Failed { .. } => None,
            };
            let blobs = output.map(|blob| input(blob.cid)).into_iter().collect();
            Question { body: OutsideRequest::End { worker, task, lease, outcome }, ids: vec![task], blobs }
        }
    }
}

/// Its own name, whatever is said.
fn context(caller: &str, request: ContextRequest) -> ContextRequest {
    let principal = caller.to_owned();
    match request {
        ContextRequest::Get { id, principal: _ } => ContextRequest::Get { id, principal },
        ContextRequest::Update { operation, id, principal: _, set, remove, ttl_ms } => {
            ContextRequest::Update { operation, id, principal, set, remove, ttl_ms }
        }
    }
}

fn stream((namespace, _): Kept<'_>, request: StreamRequest) -> Result<Question<StreamRequest>, Refusal> {
    match request {
        StreamRequest::Task { id, .. } => Ok(Question::about([id], request)),
        StreamRequest::Events(ask) => {
            let last = ask.last.map(|last| last.saturating_mul(EVENTS_FURTHER));
            Ok(Question::of(StreamRequest::Events(EventsAsk { last, ..ask })))
        }
        StreamRequest::Attempt { .. } => Err(whole_node(namespace)),
    }
}

fn blob(request: BlobRequest) -> Question<BlobRequest> {
    let named = match &request {
        BlobRequest::Stat { cid } => Some((*cid, BlobReply::Stat { blob: None })),
        BlobRequest::Get { cid, .. } => Some((*cid, BlobReply::Missing { cid: *cid })),
        BlobRequest::Put { .. } => None,
    };
    let blobs = named.map(|(cid, told)| Named { cid, lacking: Ok(Answer::Blob(told)) });
    Question { blobs: blobs.into_iter().collect(), ..Question::of(request) }
}

/// Keys begin with the namespace: no other caller's begin so.
fn cache((namespace, _): Kept<'_>, request: CacheRequest) -> Result<CacheRequest, Refusal> {
    let own = |key: String| format!("\0{namespace}\0{key}");
    match request {
        CacheRequest::Get { key } => Ok(CacheRequest::Get { key: own(key) }),
        CacheRequest::Put { key, value, ttl_ms } => Ok(CacheRequest::Put { key: own(key), value, ttl_ms }),
        CacheRequest::Invalidate { key, is_prefix } => Ok(CacheRequest::Invalidate { key: own(key), is_prefix }),
        CacheRequest::Stats => Err(whole_node(namespace)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use magpie_core::ids::LedgerTag;
    use magpie_core::queue::{SubmitItem, TaskFilter};
    use magpie_core::task::FileRef;

    use crate::messages::mount::MountRequest;
    use crate::messages::worker::WorkerRequest;

    const KEPT: Kept<'_> = ("books", "token:ann@books");

    fn asked(request: LedgerRequest) -> Result<Question, Refusal> {
        within(KEPT, Body::Ledger(request))
    }

    fn submit(operation: u8, spec: TaskSpec) -> LedgerRequest {
        LedgerRequest::Submit { operation: OperationId([operation; 16]), items: vec![SubmitItem::one(spec)] }
    }

    fn noop() -> TaskSpec {
        TaskSpec::new(TaskKind::Noop)
    }

    fn id(ulid: u128) -> TaskId {
        TaskId { ulid, ledger: LedgerTag([5; 5]) }
    }

    #[test]
    fn a_task_goes_into_the_namespace_with_what_it_names_to_be_found_there() {
        let file = FileRef { path: "a".to_owned(), cid: ContentId::of(b"a"), bytes: 1, executable: false };
        let spec = TaskSpec { parent: Some(id(1)), files: vec![file.clone()], ..noop() };
        let question = asked(submit(1, spec)).unwrap();
        let Body::Ledger(LedgerRequest::Submit { operation, items }) = question.body else { panic!("it is asked") };
        assert_eq!(items[0].spec.namespace, "books");
        assert_ne!(operation, OperationId([1; 16]), "the id under which it is done is the namespace's");
        assert_eq!((question.ids, question.blobs.len(), question.blobs[0].cid), (vec![id(1)], 1, file.cid));
        let foreign = asked(submit(1, TaskSpec { namespace: "films".to_owned(), ..noop() }));
        assert!(matches!(foreign.err(), Some(Refusal::Invalid { errors }) if errors[0].path == "/namespace"));
    }

    #[test]
    fn one_key_is_another_operation_in_each_namespace() {
        let operation = OperationId([7; 16]);
        let (books, films) = (own_operation("books", operation), own_operation("films", operation));
        assert_ne!(books, films);
        assert_eq!(books, own_operation("books", operation), "twice is once");
    }

    #[test]
    fn lists_are_of_the_namespace_whatever_they_were_asked_of() {
        let request = LedgerRequest::ListTasks { filter: TaskFilter::default(), cursor: None, limit: 1 };
        let Body::Ledger(LedgerRequest::ListTasks { filter, .. }) = asked(request).unwrap().body else {
            panic!("a list")
        };
        assert_eq!(filter.namespace.as_deref(), Some("books"));
        let filter = TaskFilter { namespace: Some("films".to_owned()), ..TaskFilter::default() };
        assert!(asked(LedgerRequest::ListTasks { filter, cursor: None, limit: 1 }).is_err());
    }

    #[test]
    fn what_an_id_names_is_looked_up_first() {
        let cancel = LedgerRequest::Cancel { operation: OperationId([1; 16]), id: id(3), reason: String::new() };
        assert_eq!(asked(cancel).unwrap().ids, [id(3)]);
        let retry = LedgerRequest::RetryTasks { operation: OperationId([1; 16]), ids: vec![id(3), id(4)] };
        assert_eq!(asked(retry).unwrap().ids, [id(3), id(4)]);
    }

    #[test]
    fn sessions_are_asked_for_in_the_callers_name_and_no_other() {
        let request = LedgerRequest::Context(ContextRequest::Get { id: id(1), principal: "token:root".to_owned() });
        let Body::Ledger(LedgerRequest::Context(ContextRequest::Get { principal, .. })) = asked(request).unwrap().body
        else {
            panic!("a session")
        };
        assert_eq!(principal, "token:ann@books");
    }

    #[test]
    fn what_is_about_the_whole_node_is_not_asked() {
        for body in [
            Body::Worker(WorkerRequest::Stats),
            Body::Mount(MountRequest::List),
            Body::Cache(CacheRequest::Stats),
            Body::Node(NodeRequest::Homes),
            Body::Ledger(LedgerRequest::NamespacesOf { ids: vec![id(1)] }),
            Body::Ledger(LedgerRequest::CountNamespace { namespace: "films".to_owned() }),
        ] {
            assert!(matches!(within(KEPT, body).err(), Some(Refusal::Forbidden { .. })));
        }
    }
}
