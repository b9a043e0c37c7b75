//! What a well-typed document can still have wrong: names, order, references.

use std::collections::{HashMap, HashSet};

use super::body::{self, Body};
use super::child;
use super::condition::Condition;
use super::door;
use super::error::{Pointer, Problems, instead, shown};
use super::graph::{self, StepSet};
use super::policy::{Join, OnFail};
use super::reference::{Reference, Root, is_key};
use super::schedule;
use super::spec::{StepSpec, WorkflowSpec};
use super::template::{Template, TextTemplate};
use crate::limits;
use crate::task::TaskSpec;

pub(super) fn task(task: &TaskSpec, problems: &mut Problems) {
    let root = Pointer::default();
    check_name(&task.namespace, &root.key("namespace"), problems);
    body::check(&body_of(task), &root, problems);
    body::check_run(&task.run, &root.key("run"), problems);
    door::check_own(task, problems);
}

/// What a task's input can make wrong by itself.
pub(super) fn input(task: &TaskSpec, problems: &mut Problems) {
    body::check_kind(&body_of(task), &Pointer::default(), problems);
}

fn body_of(task: &TaskSpec) -> Body<'_> {
    Body {
        kind: task.kind,
        has_input: !task.input.is_null(),
        run_len: task.run.len(),
        has_command: task.run.first().is_some_and(|command| !command.is_empty()),
        model: task.model.as_deref(),
        files: &task.files,
        timeout: Some(task.timeout),
        retry: &task.retry,
        labels: &task.labels,
        exclusive: task.exclusive,
    }
}

pub(super) fn workflow(spec: &WorkflowSpec, problems: &mut Problems) {
    let root = Pointer::default();
    check_name(&spec.name, &root.key("name"), problems);
    check_name(&spec.namespace, &root.key("namespace"), problems);
    body::check_labels(&spec.labels, &root.key("labels"), problems);
    spec.labels.iter().for_each(|(key, value)| check_plain(value, &root.key("labels").key(key), problems));
    schedule::check(spec.schedule.as_ref(), spec.durability, problems);
    for (key, len) in [("input", spec.input.len()), ("outputs", spec.outputs.len())] {
        if len > limits::WORKFLOW_VALUES_MAX {
            let fix = format!("write at most {}", limits::WORKFLOW_VALUES_MAX);
            return problems.report(&root.key(key), format!("{len} values"), fix);
        }
    }
    check_keys(spec.input.keys(), &root.key("input"), problems);
    check_keys(spec.outputs.keys(), &root.key("outputs"), problems);
    for (index, step) in spec.steps.iter().enumerate() {
        check_step(step, &step_at(index), problems);
    }
    check_compensations(spec, problems);
    let names = Names::read(spec, problems);
    let ancestors = check_needs(spec, &names, problems);
    check_references(spec, &names, &ancestors, problems);
}

fn step_at(index: usize) -> Pointer {
    Pointer::default().key("steps").index(index)
}

fn check_keys<'a>(names: impl Iterator<Item = &'a String>, at: &Pointer, problems: &mut Problems) {
    for name in names.filter(|name| !is_key(name) || name.len() > limits::NAME_BYTES_MAX) {
        let problem = format!("no reference can name {}", shown(name));
        problems.report(&at.key(name), problem, "use letters, digits, - and _");
    }
}

/// A compensation that nothing leads to would be a promise that nobody keeps.
fn check_compensations(spec: &WorkflowSpec, problems: &mut Problems) {
    if spec.on_fail == OnFail::Compensate || spec.steps.iter().any(|step| step.on_fail == Some(OnFail::Compensate)) {
        return;
    }
    for (index, _) in spec.steps.iter().enumerate().filter(|(_, step)| step.compensate.is_some()) {
        let fix = "add on_fail: compensate to the workflow or to a step";
        problems.report(&step_at(index).key("compensate"), "no failure leads to it", fix);
    }
}

fn check_step(step: &StepSpec, at: &Pointer, problems: &mut Problems) {
    check_name(&step.name, &at.key("name"), problems);
    check_body(step, at, problems);
    step.labels.iter().for_each(|(key, value)| check_plain(value, &at.key("labels").key(key), problems));
    check_join(step, &at.key("join"), problems);
    if let Some(compensate) = &step.compensate {
        check_body(&compensate.as_step(step), &at.key("compensate"), problems);
    }
    let at = at.key("for_each");
    if step.for_each.as_ref().is_some_and(|list| !may_be_a_list(list)) && !problems.touch(&at) {
        problems.report(&at, "for_each takes one reference to a list, or a list", "write ${steps.NAME.output}");
    }
}

fn check_join(step: &StepSpec, at: &Pointer, problems: &mut Problems) {
    let needs = step.needs.len();
    let Join::Count(count) = step.join else {
        if step.join == Join::Any && needs == 0 && !problems.touch(at) {
            problems.report(at, "a step that needs nothing has nothing to join", "add needs, or remove join");
        }
        return;
    };
    if !(1..=needs).contains(&(count as usize)) && !problems.touch(at) {
        let fix = if needs == 0 { "add needs, or remove join".to_owned() } else { format!("write 1 to {needs}") };
        problems.report(at, format!("{count} of {needs} needed steps cannot succeed"), fix);
    }
}

fn check_body(step: &StepSpec, at: &Pointer, problems: &mut Problems) {
    let body = Body {
        kind: step.kind,
        has_input: !step.input.is_null(),
        run_len: step.run.len(),
        has_command: step.run.first().is_some_and(|command| !command.is_empty()),
        model: step.model.as_deref(),
        files: &step.files,
        timeout: step.timeout,
        retry: &step.retry,
        labels: &step.labels,
        exclusive: step.exclusive,
    };
    body::check(&body, at, problems);
    child::check(step, at, problems);
    step.model.iter().for_each(|model| check_plain(model, &at.key("model"), problems));
    step.requires.iter().for_each(|requires| check_plain(requires, &at.key("requires"), problems));
}

fn may_be_a_list(template: &Template) -> bool {
    match template {
        Template::Verbatim(text) => text.as_str().starts_with('['),
        Template::Text(text) => text.sole_reference().is_some(),
        Template::List(_) => true,
        Template::Mapping(_) => false,
    }
}

/// Whether `name` may be that of a workflow, a step or a namespace.
pub fn is_name(name: &str) -> bool {
    (1..=limits::NAME_BYTES_MAX).contains(&name.len()) && name.chars().all(allowed)
}

fn allowed(letter: char) -> bool {
    matches!(letter, 'a'..='z' | '0'..='9' | '-' | '_')
}

fn check_name(name: &str, at: &Pointer, problems: &mut Problems) {
    if problems.touch(at) {
        return;
    }
    if name.is_empty() || name.len() > limits::NAME_BYTES_MAX {
        let fix = format!("write 1 to {} lower-case letters, digits, - or _", limits::NAME_BYTES_MAX);
        problems.report(at, "the name is empty or too long", fix);
    } else if !is_name(name) {
        let corrected = name.to_lowercase().replace(|letter| !allowed(letter), "-");
        let problem = format!("{} is not a name of lower-case letters, digits, - and _", shown(name));
        problems.report(at, problem, format!("write {corrected}"));
    }
}

/// Refuses a reference where none is resolved, instead of taking it for text.
fn check_plain(text: &str, at: &Pointer, problems: &mut Problems) {
    if text.contains("${") {
        problems.report(at, "references are not resolved here", "use them in input, run, when, for_each or outputs");
    }
}

/// The steps by name.
struct Names<'a> {
    indices: HashMap<&'a str, usize>,
    /// Some step has no good name: that another is unknown may follow from it.
    incomplete: bool,
}

impl<'a> Names<'a> {
    fn read(spec: &'a WorkflowSpec, problems: &mut Problems) -> Self {
        let mut names = Self { indices: HashMap::new(), incomplete: false };
        for (index, step) in spec.steps.iter().enumerate() {
            let at = step_at(index).key("name");
            names.incomplete |= problems.touch(&at);
            let first = *names.indices.entry(&step.name).or_insert(index);
            if first != index && !problems.touch(&at) {
                let problem = format!("step {} has the name {} already", first + 1, shown(&step.name));
                problems.report(&at, problem, format!("write {}-{}", step.name, index + 1));
            }
        }
        names.incomplete |= spec.steps.is_empty();
        names
    }

    /// The step, or a report that there is none.
    fn find(&self, name: &str, at: &Pointer, problems: &mut Problems) -> Option<usize> {
        let index = self.indices.get(name).copied();
        if index.is_none() && !self.incomplete {
            problems.report_with(at, || {
                let mut known: Vec<&str> = self.indices.keys().copied().collect();
                known.sort_unstable();
                (format!("there is no step {}", shown(name)), instead(name, known))
            });
        }
        index
    }
}

/// All that each step needs, directly or not; `None` where a cycle or a wrong name leaves that open.
fn check_needs(spec: &WorkflowSpec, names: &Names<'_>, problems: &mut Problems) -> Vec<Option<StepSet>> {
    let mut all = Vec::with_capacity(spec.steps.len());
    let mut whole = Vec::with_capacity(spec.steps.len());
    for (index, step) in spec.steps.iter().enumerate() {
        let at = step_at(index).key("needs");
        let mut needs = Vec::with_capacity(step.needs.len());
        let mut seen = HashSet::new();
        for (place, name) in step.needs.iter().enumerate() {
            let at = at.index(place);
            match names.find(name, &at, problems) {
                Some(need) if !seen.insert(need) => {
                    problems.report(&at, format!("{} is there twice", shown(name)), "name each step once");
                }
                Some(need) => needs.push(need),
                None => {}
            }
        }
        whole.push(needs.len() == step.needs.len() && !problems.touch(&at));
        all.push(needs);
    }
    for cycle in graph::cycles(&all) {
        report_cycle(spec, &cycle, problems);
    }
    let open: Vec<usize> = (0..whole.len()).filter(|index| !whole[*index]).collect();
    let known = |(index, set): (usize, Option<StepSet>)| {
        set.filter(|set| whole[index] && open.iter().all(|other| !set.contains(*other)))
    };
    graph::ancestors(&all).into_iter().enumerate().map(known).collect()
}

fn report_cycle(spec: &WorkflowSpec, cycle: &[usize], problems: &mut Problems) {
    let (Some(&first), Some(&last)) = (cycle.first(), cycle.last()) else { return };
    let name = |index: usize| spec.steps[index].name.as_str();
    let path: Vec<&str> = cycle.iter().chain([&first]).map(|index| name(*index)).collect();
    let place = spec.steps[last].needs.iter().position(|need| need == name(first)).unwrap_or(0);
    let at = step_at(last).key("needs").index(place);
    let problem = format!("the steps need each other in a cycle: {}", path.join(" -> "));
    problems.report(&at, problem, format!("remove {} from the needs of {}", name(first), name(last)));
}

/// Who may be referred to from where.
struct Place<'a> {
    spec: &'a WorkflowSpec,
    names: &'a Names<'a>,
    /// The step whose template it is, with all that it needs; `None`: an output of the workflow.
    step: Option<(usize, Option<&'a StepSet>)>,
    has_item: bool,
    /// Whether the step is over by then, so that its own output may be read.
    is_over: bool,
}

fn check_references(spec: &WorkflowSpec, names: &Names<'_>, ancestors: &[Option<StepSet>], problems: &mut Problems) {
    for (index, step) in spec.steps.iter().enumerate() {
        let at = step_at(index);
        let needed = ancestors.get(index).and_then(Option::as_ref);
        let (step_place, has_item) = (Some((index, needed)), step.for_each.is_some());
        let place = Place { spec, names, step: step_place, has_item, is_over: false };
        let outside = Place { has_item: false, ..place };
        place.check_templates((&step.input, &step.run), &at, problems);
        for reference in step.when.iter().flat_map(Condition::references) {
            place.check(reference, &at.key("when"), problems);
        }
        if let Some(compensate) = &step.compensate {
            let after = Place { is_over: true, ..outside };
            after.check_templates((&compensate.input, &compensate.run), &at.key("compensate"), problems);
        }
        if let Some(list) = &step.for_each {
            list.each_text(&at.key("for_each"), &mut |at, text| outside.check_text(text, at, problems));
        }
    }
    let place = Place { spec, names, step: None, has_item: false, is_over: true };
    for (name, output) in &spec.outputs {
        let at = Pointer::default().key("outputs").key(name);
        output.each_text(&at, &mut |at, text| place.check_text(text, at, problems));
    }
}

impl Place<'_> {
    fn check_templates(&self, (input, run): (&Template, &[TextTemplate]), at: &Pointer, problems: &mut Problems) {
        input.each_text(&at.key("input"), &mut |at, text| self.check_text(text, at, problems));
        for (argument, text) in run.iter().enumerate() {
            self.check_text(text, &at.key("run").index(argument), problems);
        }
    }

    fn check_text(&self, text: &TextTemplate, at: &Pointer, problems: &mut Problems) {
        text.references().for_each(|reference| self.check(reference, at, problems));
    }

    fn check(&self, reference: &Reference, at: &Pointer, problems: &mut Problems) {
        match &reference.root {
            Root::Input(name) => self.check_input(name, at, problems),
            Root::Output(name) => self.check_step_read(name, "output", at, problems),
            Root::State(name) => self.check_step_read(name, "state", at, problems),
            Root::Error(name) => self.check_step_read(name, "error", at, problems),
            Root::Item | Root::ItemIndex if !self.has_item => {
                let problem = format!("{reference} has a value only in input, run and when of a step with for_each");
                problems.report(at, problem, "add for_each to the step, or take another value");
            }
            Root::Item | Root::ItemIndex => {}
        }
    }

    fn check_input(&self, name: &str, at: &Pointer, problems: &mut Problems) {
        let input = &self.spec.input;
        if input.contains_key(name) || problems.touch(&Pointer::default().key("input")) {
            return;
        }
        problems.report_with(at, || {
            let fix = match input.is_empty() {
                true => format!("add input: {{{name}: DEFAULT}} to the workflow"),
                false => instead(name, input.keys().map(String::as_str)),
            };
            (format!("the workflow has no input {}", shown(name)), fix)
        });
    }

    fn check_step_read(&self, name: &str, part: &str, at: &Pointer, problems: &mut Problems) {
        let Some(found) = self.names.find(name, at, problems) else { return };
        match self.step {
            Some((index, _)) if index == found && self.is_over => {}
            Some((index, _)) if index == found => {
                problems.report(at, format!("a step cannot read its own {part}"), "take that of another step");
            }
            Some((index, Some(needed))) if !needed.contains(found) => {
                let reader = &self.spec.steps[index].name;
                let problem = format!("{reader} reads the {part} of {name} and does not need {name}");
                problems.report(at, problem, format!("add {name} to needs"));
            }
            Some(_) | None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dag::graph::tests::{any_dag, workflow};
    use crate::dag::parse::tests::refusal;
    use crate::dag::{parse_task, parse_workflow};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn noops(steps: Value) -> Value {
        let Value::Array(mut steps) = steps else { unreachable!("the tests below give lists") };
        for step in &mut steps {
            step.as_object_mut().unwrap().entry("kind").or_insert(json!("noop"));
        }
        json!({"name": "w", "input": {"texts": "/usr"}, "steps": steps})
    }

    #[test]
    fn a_cycle_is_named_whole() {
        let cycle =
            noops(json!([{"name": "a", "needs": ["b"]}, {"name": "b", "needs": ["a"]}, {"name": "c", "needs": ["c"]}]));
        let expected = "\
/steps/1/needs/0: the steps need each other in a cycle: a -> b -> a (remove a from the needs of b)
/steps/2/needs/0: the steps need each other in a cycle: c -> c (remove c from the needs of c)";
        assert_eq!(refusal(&cycle), expected);
    }

    #[test]
    fn names_are_unique_plain_and_known() {
        let steps = noops(json!([
            {"name": "split"}, {"name": "split"}, {"name": "My Step"}, {"name": ""},
        ]));
        let expected = r#"/steps/2/name: "My Step" is not a name of lower-case letters, digits, - and _ (write my-step)
/steps/3/name: the name is empty or too long (write 1 to 256 lower-case letters, digits, - or _)
/steps/1/name: step 1 has the name "split" already (write split-2)"#;
        assert_eq!(refusal(&steps), expected);
        let steps = noops(
            json!([{"name": "split"}, {"name": "embed", "needs": ["spilt", "split", "split"], "input": "${steps.spilt.output}"}]),
        );
        let expected = r#"/steps/1/needs/0: there is no step "spilt" (write split)
/steps/1/needs/2: "split" is there twice (name each step once)
/steps/1/input: there is no step "spilt" (write split)"#;
        assert_eq!(refusal(&steps), expected);
    }

    #[test]
    fn a_reference_needs_its_step_directly_or_not() {
        let steps = |needs: &[&str]| {
            noops(json!([
                {"name": "a"}, {"name": "b", "needs": ["a"]}, {"name": "c", "needs": needs, "input": {"x": "${steps.a.output}"}},
            ]))
        };
        assert!(parse_workflow(&steps(&["b"])).is_ok());
        let expected = "/steps/2/input/x: c reads the output of a and does not need a (add a to needs)";
        assert_eq!(refusal(&steps(&[])), expected);
        let own = noops(json!([{"name": "a", "input": "${steps.a.output}"}]));
        assert!(refusal(&own).contains("a step cannot read its own output"));
    }

    #[test]
    fn inputs_and_items_are_there_only_where_they_are() {
        let steps = noops(json!([
            {"name": "a", "input": ["${input.text}", "${item.x}"]},
            {"name": "b", "for_each": "${item}", "input": "${item_index}"},
            {"name": "c", "for_each": "x ${input.texts}"},
            {"name": "d", "for_each": [1, "${input.texts}"], "input": "${item}"},
        ]));
        let expected = r#"/steps/2/for_each: for_each takes one reference to a list, or a list (write ${steps.NAME.output})
/steps/0/input/0: the workflow has no input "text" (write texts)
/steps/0/input/1: ${item.x} has a value only in input, run and when of a step with for_each (add for_each to the step, or take another value)
/steps/1/for_each: ${item} has a value only in input, run and when of a step with for_each (add for_each to the step, or take another value)"#;
        assert_eq!(refusal(&steps), expected);
        let mut no_input = noops(json!([{"name": "a", "input": "${input.k}"}]));
        no_input.as_object_mut().unwrap().remove("input");
        assert!(refusal(&no_input).contains("add input: {k: DEFAULT} to the workflow"));
    }

    #[test]
    fn a_reference_where_none_is_resolved_is_refused() {
        let steps = json!({"name": "w", "labels": {"a": "${input.x}"}, "steps": [
            {"name": "a", "kind": "embed", "model": "${input.model}", "input": 1, "requires": "model:${input.model}"},
        ]});
        let places: Vec<String> = parse_workflow(&steps).unwrap_err().into_iter().map(|error| error.path).collect();
        assert_eq!(places, ["/labels/a", "/steps/0/model", "/steps/0/requires"]);
    }

    #[test]
    fn each_kind_has_its_own_fields() {
        let steps = json!({"name": "w", "steps": [
            {"name": "a", "kind": "process"},
            {"name": "b", "kind": "process", "run": [""], "model": "minilm"},
            {"name": "c", "kind": "embed", "run": ["x"]},
            {"name": "d", "kind": "noop", "files": [{"path": "x", "cid": crate::ids::ContentId::of(b"").to_string(), "bytes": 0}]},
        ]});
        let expected = "\
/steps/0/run: a task of kind process needs run (add run: [COMMAND, ARGUMENT, ...])
/steps/1/model: a task of kind process has no model (remove model)
/steps/1/run/0: the command is empty (write the program's name)
/steps/2/run: a task of kind embed has no run (remove run)
/steps/2/model: a task of kind embed needs model (add model: minilm)
/steps/2/input: a task of kind embed needs input (add input: ...)
/steps/3/files: a task of kind noop has no files (remove files)";
        assert_eq!(refusal(&steps), expected);
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        let steps = noops(json!([{"name": "a", "timeout": "8d", "retry": {
            "max_attempts": 0, "factor": 0.5, "jitter": 2, "initial": "2m", "permanent_exit": [0],
        }}]));
        let expected = "\
/steps/0/timeout: a timeout of 8d (write 1ms to 7d)
/steps/0/retry/max_attempts: 0 attempts (write 1 to 1000; 1 means no retry)
/steps/0/retry/factor: a factor of 0.5 (write 1 to 100)
/steps/0/retry/jitter: a jitter of 2 (write 0 to 1)
/steps/0/retry/initial: the first delay, 2m, is longer than the longest, 1m (lower initial or raise max_delay)
/steps/0/retry/permanent_exit/0: 0 is not the exit code of a failure (write 1 to 255)";
        assert_eq!(refusal(&steps), expected);
        let task = json!({"kind": "noop", "not_before": "2026-01-02T00:00:00Z", "deadline": "2026-01-01T00:00:00Z", "idempotency_key": ""});
        let places: Vec<String> = parse_task(&task).unwrap_err().into_iter().map(|error| error.path).collect();
        assert_eq!(places, ["/idempotency_key", "/deadline"]);
    }

    #[test]
    fn files_stay_inside_the_tasks_directory() {
        let file = |path: &str| json!({"path": path, "cid": crate::ids::ContentId::of(b"").to_string(), "bytes": 0});
        let task = |paths: &[&str]| json!({"kind": "process", "run": ["x"], "files": paths.iter().map(|path| file(path)).collect::<Vec<_>>()});
        assert!(parse_task(&task(&["a", "b/c", "b/d", "b-1"])).is_ok());
        for wrong in ["", "/etc/passwd", "../x", "a/../x", "a//b", "./a", "a/", "a\0"] {
            assert!(parse_task(&task(&[wrong])).is_err(), "{wrong:?}");
        }
        let problems = |paths: &[&str]| parse_task(&task(paths)).unwrap_err()[0].problem.clone();
        assert_eq!(problems(&["a", "a"]), "\"a\" is there twice");
        assert_eq!(problems(&["a", "a-b", "a/b"]), "\"a\" is a file and a directory");
    }

    proptest! {
        #[test]
        fn a_random_dag_is_accepted(needs in any_dag()) {
            let document = serde_json::to_value(workflow(&needs)).unwrap();
            prop_assert_eq!(parse_workflow(&document).unwrap(), workflow(&needs));
        }

        #[test]
        fn a_random_graph_with_a_back_edge_is_refused_with_a_real_cycle(mut needs in any_dag(), step: prop::sample::Index, other: prop::sample::Index) {
            let (step, other) = (step.index(needs.len()), other.index(needs.len()));
            let reaches = |needs: &Vec<Vec<usize>>| graph::ancestors(needs)[other].as_ref().is_some_and(|set| set.contains(step));
            prop_assume!(step == other || reaches(&needs));
            needs[step].push(other);
            let errors = parse_workflow(&serde_json::to_value(workflow(&needs)).unwrap()).unwrap_err();
            for error in errors {
                let (_, path) = error.problem.split_once("in a cycle: ").unwrap();
                let path: Vec<usize> = path.split(" -> ").map(|name| name[1..].parse().unwrap()).collect();
                prop_assert_eq!(path.first(), path.last());
                prop_assert!(path.windows(2).all(|pair| needs[pair[0]].contains(&pair[1])));
            }
        }
    }
}
