//! The graph of a workflow as JSON, DOT (Graphviz) and Mermaid.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

use super::graph::{Graph, GraphNode};
use crate::ids::WorkflowId;
use crate::task::TaskState;

/// What a rendering shows beyond the graph itself.
#[derive(Debug, Clone, Default)]
pub struct GraphView {
    /// States by step name: they choose the colours.
    pub states: BTreeMap<String, TaskState>,
    /// Drawn bold; see [`Graph::critical_path`].
    pub critical_path: Vec<usize>,
    /// Workflows that steps of kind `workflow` started, by step name.
    pub children: BTreeMap<String, WorkflowId>,
}

impl GraphView {
    fn state(&self, node: &GraphNode) -> Option<TaskState> {
        self.states.get(&node.name).copied()
    }

    fn is_critical(&self, edge: (usize, usize)) -> bool {
        self.critical_path.windows(2).any(|pair| (pair[0], pair[1]) == edge)
    }
}

/// Light fills that black text is readable on.
fn colour(state: TaskState) -> &'static str {
    match state {
        TaskState::Blocked | TaskState::Skipped => "#eeeeee",
        TaskState::Delayed => "#fff3c4",
        TaskState::Ready => "#dbeafe",
        TaskState::Leased => "#bfdbfe",
        TaskState::Running => "#93c5fd",
        TaskState::Succeeded => "#bbf7d0",
        TaskState::Failed | TaskState::Dead => "#fecaca",
        TaskState::Cancelled => "#e5d5f5",
    }
}

impl Graph {
    /// `{name, nodes: [{name, kind, for_each, level, state?, child?}], edges: [{from, to}], critical_path: [name]}`.
    pub fn to_json(&self, view: &GraphView) -> Value {
        let node = |node: &GraphNode| {
            let mut object =
                json!({"name": node.name, "kind": node.kind, "for_each": node.for_each, "level": node.level});
            if let Some(state) = view.state(node) {
                object["state"] = json!(state);
            }
            if let Some(child) = view.children.get(&node.name) {
                object["child"] = json!(child);
            }
            object
        };
        let name = |step: usize| self.nodes.get(step).map(|node| node.name.as_str());
        json!({
            "name": self.name,
            "nodes": self.nodes.iter().map(node).collect::<Vec<_>>(),
            "edges": self.edges().map(|(need, step)| json!({"from": name(need), "to": name(step)})).collect::<Vec<_>>(),
            "critical_path": view.critical_path.iter().filter_map(|step| name(*step)).collect::<Vec<_>>(),
        })
    }

    pub fn to_dot(&self, view: &GraphView) -> String {
        let mut out = format!("digraph {} {{\n  rankdir=LR;\n", dot_text(&self.name));
        out.push_str("  node [shape=box, style=\"rounded,filled\", fillcolor=white];\n");
        for node in &self.nodes {
            let lines = label(node, view, dot_escaped, "\\n");
            let fill = view.state(node).map(|state| format!(", fillcolor=\"{}\"", colour(state))).unwrap_or_default();
            push_line(&mut out, format_args!("  {} [label=\"{lines}\"{fill}];", dot_text(&node.name)));
        }
        for (need, step) in self.edges() {
            let (from, to) = (dot_text(&self.nodes[need].name), dot_text(&self.nodes[step].name));
            let bold = if view.is_critical((need, step)) { " [penwidth=3]" } else { "" };
            push_line(&mut out, format_args!("  {from} -> {to}{bold};"));
        }
        out.push_str("}\n");
        out
    }

    pub fn to_mermaid(&self, view: &GraphView) -> String {
        let mut out = "flowchart LR\n".to_owned();
        for (index, node) in self.nodes.iter().enumerate() {
            let lines = label(node, view, mermaid_escaped, "<br/>");
            let class = view.state(node).map(|state| format!(":::{state}")).unwrap_or_default();
            push_line(&mut out, format_args!("  s{index}[\"{lines}\"]{class}"));
        }
        for (link, (need, step)) in self.edges().enumerate() {
            push_line(&mut out, format_args!("  s{need} --> s{step}"));
            if view.is_critical((need, step)) {
                push_line(&mut out, format_args!("  linkStyle {link} stroke-width:4px"));
            }
        }
        let states = TaskState::ALL.into_iter().filter(|state| view.states.values().any(|other| other == state));
        for state in states {
            push_line(&mut out, format_args!("  classDef {state} fill:{},color:#000000", colour(state)));
        }
        out
    }
}

fn push_line(out: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(out, "{line}").expect("writing to a String does not fail");
}

/// Name, kind, and the state if it is known, a line each.
fn label(node: &GraphNode, view: &GraphView, escaped: fn(&str) -> String, line_end: &str) -> String {
    let kind = if node.for_each { format!("{} for each", node.kind) } else { node.kind.to_string() };
    let state = view.state(node).map(|state| state.to_string());
    let child = view.children.get(&node.name).map(ToString::to_string);
    let lines = [Some(node.name.clone()), Some(kind), child, state];
    lines.iter().flatten().map(|line| escaped(line)).collect::<Vec<_>>().join(line_end)
}

fn dot_text(text: &str) -> String {
    format!("\"{}\"", dot_escaped(text))
}

/// In a quoted DOT text only `"` and `\` have a meaning; line ends are written as such.
fn dot_escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// In a quoted Mermaid text characters with a meaning are written as `#NUMBER;`.
fn mermaid_escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' | ' ' | '.' => out.push(letter),
            letter if letter.is_alphanumeric() => out.push(letter),
            other => write!(out, "#{};", u32::from(other)).expect("writing to a String does not fail"),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dag::StepSpec;
    use crate::dag::graph::tests::workflow;
    use crate::task::TaskKind;

    fn embedding() -> (Graph, GraphView) {
        let mut spec = workflow(&[vec![], vec![0], vec![0], vec![1]]);
        spec.steps[1].kind = TaskKind::Embed;
        spec.steps[1].for_each = Some(crate::dag::Template::parse(&json!(["a"])).unwrap());
        let graph = Graph::of(&spec).unwrap();
        let states = BTreeMap::from([("s0".to_owned(), TaskState::Succeeded), ("s1".to_owned(), TaskState::Running)]);
        let view = GraphView { states, critical_path: graph.critical_path(|_| 1), ..GraphView::default() };
        (graph, view)
    }

    #[test]
    fn the_json_form_names_nodes_edges_and_the_critical_path() {
        let (graph, view) = embedding();
        let json = graph.to_json(&view);
        assert_eq!(
            json["nodes"][1],
            json!({"name": "s1", "kind": "embed", "for_each": true, "level": 1, "state": "running"})
        );
        assert_eq!(json["nodes"][2].get("state"), None);
        assert_eq!(json["edges"][2], json!({"from": "s1", "to": "s3"}));
        assert_eq!(json["critical_path"], json!(["s0", "s1", "s3"]));
    }

    #[test]
    fn the_dot_form_is_stable() {
        let (graph, view) = embedding();
        let expected = r##"digraph "w" {
  rankdir=LR;
  node [shape=box, style="rounded,filled", fillcolor=white];
  "s0" [label="s0\nnoop\nsucceeded", fillcolor="#bbf7d0"];
  "s1" [label="s1\nembed for each\nrunning", fillcolor="#93c5fd"];
  "s2" [label="s2\nnoop"];
  "s3" [label="s3\nnoop"];
  "s0" -> "s1" [penwidth=3];
  "s0" -> "s2";
  "s1" -> "s3" [penwidth=3];
}
"##;
        assert_eq!(graph.to_dot(&view), expected);
    }

    #[test]
    fn the_mermaid_form_is_stable() {
        let (graph, view) = embedding();
        let expected = r##"flowchart LR
  s0["s0<br/>noop<br/>succeeded"]:::succeeded
  s1["s1<br/>embed for each<br/>running"]:::running
  s2["s2<br/>noop"]
  s3["s3<br/>noop"]
  s0 --> s1
  linkStyle 0 stroke-width:4px
  s0 --> s2
  s1 --> s3
  linkStyle 2 stroke-width:4px
  classDef running fill:#93c5fd,color:#000000
  classDef succeeded fill:#bbf7d0,color:#000000
"##;
        assert_eq!(graph.to_mermaid(&view), expected);
    }

    #[test]
    fn names_cannot_break_out_of_a_rendering() {
        let mut spec = workflow(&[vec![]]);
        spec.name = "x\" {\n\\".into();
        spec.steps = vec![StepSpec::new("a\"]; b[\"<script>\\", TaskKind::Noop)];
        let graph = Graph::of(&spec).unwrap();
        let dot = graph.to_dot(&GraphView::default());
        assert!(dot.starts_with(r#"digraph "x\" {\n\\" {"#), "{dot}");
        assert!(dot.contains(r#""a\"]; b[\"<script>\\" [label="a\"]; b[\"<script>\\\nnoop"];"#), "{dot}");
        let mermaid = graph.to_mermaid(&GraphView::default());
        assert!(mermaid.contains("s0[\"a#34;#93;#59; b#91;#34;#60;script#62;#92;<br/>noop\"]"), "{mermaid}");
    }
}
