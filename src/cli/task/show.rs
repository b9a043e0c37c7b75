//! A task for a person.

use magpie_core::payload::Payload;
use magpie_core::queue::{TaskView, UnmetAt};
use magpie_core::time::Wall;

use crate::cli::{human, table};

/// Characters of an output that a table shows.
const OUTPUT_CHARS_MAX: usize = 200;

pub fn text(view: &TaskView, now: Wall) -> String {
    let mut pairs = vec![
        ("task", view.id.to_string()),
        ("kind", view.kind.to_string()),
        ("state", view.state.to_string()),
        ("priority", view.priority.get().to_string()),
        ("attempts", view.attempts.to_string()),
        ("home", view.home.to_string()),
        ("worker", human::or_dash(view.worker)),
        ("created", when(Some(view.created_at), now)),
        ("started", when(view.started_at, now)),
        ("finished", when(view.finished_at, now)),
        ("took", human::took(view.started_at, view.finished_at, now)),
    ];
    let step = view.workflow.zip(view.step.as_ref());
    pairs.extend(step.map(|(workflow, step)| ("step", format!("{step} of {workflow}"))));
    pairs.extend(view.retry_of.map(|of| ("retry of", of.to_string())));
    pairs.extend(view.retried_by.map(|by| ("retried by", by.to_string())));
    pairs.extend(view.parent.map(|parent| ("parent", parent.to_string())));
    pairs.extend(view.child.map(|child| ("runs as", child.to_string())));
    pairs.extend(view.due_at.map(|due| ("due", due.to_string())));
    pairs.extend(view.progress.as_ref().map(|progress| ("progress", human::progress(progress))));
    pairs.extend(view.checkpoint.as_ref().map(|text| ("checkpoint", payload(&Payload::Inline(text.clone())))));
    pairs.extend(view.used.cpu_us.map(|us| ("cpu time", human::seconds(us))));
    pairs.extend(view.used.gpu_us.map(|us| ("gpu time", human::seconds(us))));
    pairs.extend(view.attempt_stopped_at.map(|at| ("attempt gone", when(Some(at), now))));
    pairs.extend(view.output.as_ref().map(|output| ("output", payload(output))));
    pairs.extend(view.error.as_ref().map(|error| ("error", error.to_string())));
    pairs.extend(view.earlier_errors.iter().map(|error| ("earlier error", error.to_string())));
    let mut text = table::details(pairs);
    if !view.unmet.is_empty() {
        text += &format!("\nno known node can run it:\n{}", unmet(&view.unmet));
    }
    if !view.log_tail.is_empty() {
        text += "\nlog:\n";
        view.log_tail.lines().for_each(|line| text += &format!("  {}\n", table::printable(line)));
    }
    text
}

/// What each node lacks, the nearest miss first.
pub fn unmet(nodes: &[UnmetAt]) -> String {
    let lacks = |node: &UnmetAt| if node.unmet.is_empty() { "nothing".to_owned() } else { node.unmet.join("; ") };
    table::rows(["PEER", "LACKS"], nodes.iter().map(|node| [node.peer.to_string(), lacks(node)]))
}

fn when(at: Option<Wall>, now: Wall) -> String {
    at.map_or_else(|| "-".to_owned(), |at| format!("{at} ({})", human::ago(Some(at), now)))
}

/// The value, or its beginning; a blob by its id.
fn payload(payload: &Payload) -> String {
    match payload {
        Payload::Blob(blob) => format!("{} in blob {}", human::bytes(blob.bytes), blob.cid),
        Payload::Inline(text) => match text.as_str().char_indices().nth(OUTPUT_CHARS_MAX) {
            Some((end, _)) => format!("{}... (see `nodectl task result`)", &text.as_str()[..end]),
            None => text.as_str().to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use magpie_core::ids::ContentId;
    use magpie_core::payload::{BlobRef, JsonText};
    use serde_json::json;

    #[test]
    fn a_long_output_is_cut_between_letters() {
        let long = Payload::Inline(JsonText::of(&json!("ä".repeat(300))));
        assert_eq!(payload(&long).matches('ä').count(), OUTPUT_CHARS_MAX - 1);
        assert!(payload(&long).ends_with("(see `nodectl task result`)"));
        let blob = Payload::Blob(BlobRef { cid: ContentId::of(b"x"), bytes: 2_048 });
        assert!(payload(&blob).starts_with("2.0 KiB in blob bafkrei"));
    }
}
