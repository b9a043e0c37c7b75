//! Fills a step's templates in, when the outputs it refers to are there.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::condition::{self, Condition, ConditionError};
use super::reference::{Reference, Root};
use super::resolve::{ResolveError, Values, Wanted, described, items};
use super::spec::{CompensateSpec, StepSpec, WorkflowSpec};
use super::template::{Piece, Template, TextTemplate};
use crate::limits;
use crate::payload::JsonText;
use crate::task::{TaskError, TaskState};

/// What references are resolved against.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The workflow's parameters.
    pub input: &'a BTreeMap<String, JsonText>,
    /// The output of each step by name; of a `for_each` step the JSON list of its items' outputs, in their order, with
    /// `null` for what did not succeed. Those of [`StepSpec::bound_steps`] or [`WorkflowSpec::output_steps`] must be there.
    pub outputs: &'a BTreeMap<String, JsonText>,
    /// How those steps stand or ended, by name.
    pub ends: &'a BTreeMap<String, StepEnd>,
}

/// How a step stands or ended, as JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepEnd {
    state: JsonText,
    error: JsonText,
}

impl StepEnd {
    pub fn new(state: TaskState, error: Option<&TaskError>) -> Self {
        let (code, message) = (error.map(|error| &error.code), error.map(|error| &error.message));
        let error = JsonText::of(&serde_json::json!({"code": code, "message": message}));
        Self { state: JsonText::of(&state.name().into()), error }
    }
}

/// What a step becomes when its join is met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BoundStep {
    /// Its condition does not hold.
    Skipped,
    Runs(ItemWindow),
}

/// Some of the tasks of a step: one, or one per item of its `for_each`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemWindow {
    /// `None`: the condition does not hold for this item.
    pub tasks: Vec<Option<BoundTask>>,
    /// Items of the whole list.
    pub items: usize,
}

/// The part of a task that depends on the outputs of others; the rest is [`WorkflowSpec::task`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundTask {
    pub input: JsonText,
    pub run: Vec<String>,
    /// Only where [`StepSpec::takes_needs`] says so.
    pub needs: BTreeMap<String, JsonText>,
}

/// Why the templates of a step, or of the workflow's outputs, cannot be filled in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    #[error("{place}: {error}")]
    Resolve { place: Place, error: ResolveError },
    #[error("{place}: when {condition}: {error}")]
    Condition { place: Place, condition: String, error: ConditionError },
    #[error("{place}: for_each takes a list, and {list} is {found}")]
    NotAList { place: Place, list: String, found: String },
    #[error("{place}: for_each over {items} items, and at most {} are allowed", limits::FOR_EACH_ITEMS_MAX)]
    TooManyItems { place: Place, items: usize },
    #[error("{place}: inputs and commands take more than {} bytes", limits::BINDING_BYTES_MAX)]
    TooLarge { place: Place },
}

/// Whose templates are filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Step(String),
    Outputs,
}

impl Place {
    fn of(step: &StepSpec) -> Self {
        Self::Step(step.name.clone())
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Step(name) => write!(formatter, "step {name}"),
            Self::Outputs => formatter.write_str("outputs"),
        }
    }
}

/// Decides the condition of a step and fills in its templates, for the items that stand in `window`. Of a step
/// without `for_each` the one task is the first. What a condition leaves out is not filled in.
///
/// # Errors
/// [`BindError`] if a reference has no value, the condition is neither true nor false, `for_each` is over something
/// else than a list or over more than [`limits::FOR_EACH_ITEMS_MAX`] items, or the window exceeds
/// [`limits::BINDING_BYTES_MAX`].
pub fn bind_window(step: &StepSpec, scope: &Scope<'_>, window: Range<usize>) -> Result<BoundStep, BindError> {
    // Decided once: what a later window reads may have changed since.
    let whole = step.when.as_ref().filter(|condition| !condition.is_of_item() && window.contains(&0));
    if let Some(condition) = whole
        && !decide(step, condition, scope, None)?
    {
        return Ok(BoundStep::Skipped);
    }
    let binder = Binder::of_step(step, scope)?;
    let bound = match &step.for_each {
        None if window.contains(&0) => ItemWindow { tasks: vec![Some(binder.one(scope)?)], items: 1 },
        None => ItemWindow { tasks: Vec::new(), items: 1 },
        Some(list) => binder.each(list, window, scope)?,
    };
    Ok(BoundStep::Runs(bound))
}

/// Fills in the task that undoes `step`.
///
/// # Errors
/// [`BindError`] if a reference has no value, or the result exceeds [`limits::BINDING_BYTES_MAX`].
pub fn bind_compensation(
    step: &StepSpec,
    compensate: &CompensateSpec,
    scope: &Scope<'_>,
) -> Result<BoundTask, BindError> {
    Binder::of_step(&compensate.as_step(step), scope)?.one(scope)
}

/// Whether a condition holds, for one item where it is decided item by item.
fn decide(
    step: &StepSpec,
    condition: &Condition,
    scope: &Scope<'_>,
    item: Option<(usize, &str)>,
) -> Result<bool, BindError> {
    let lookup = |reference: &Reference| match (&reference.root, item) {
        (Root::ItemIndex, Some((index, _))) => Ok(Cow::Owned(index.to_string())),
        (Root::Item, Some((_, raw))) => find_one(reference, raw).map(Cow::Borrowed),
        (Root::Item | Root::ItemIndex, None) => Err(ResolveError::missing(reference, "there is no item here")),
        (Root::Input(_) | Root::Output(_) | Root::State(_) | Root::Error(_), _) => {
            find_one(reference, scope.text(reference)?).map(Cow::Borrowed)
        }
    };
    condition::holds(condition, &lookup).map_err(|error| BindError::Condition {
        place: Place::of(step),
        condition: condition.to_string(),
        error,
    })
}

fn find_one<'s>(reference: &Reference, raw: &'s str) -> Result<&'s str, ResolveError> {
    let (mut wanted, mut found) = (Wanted::default(), Values::new());
    wanted.add(reference);
    wanted.find(raw, &mut found)?;
    found.get(reference).copied().ok_or_else(|| ResolveError::missing(reference, "it leads nowhere"))
}

impl<'a> Scope<'a> {
    /// The text that a reference reads from.
    fn text(&self, reference: &Reference) -> Result<&'a str, ResolveError> {
        let (text, missing) = match &reference.root {
            Root::Input(name) => (self.input.get(name), "the workflow has no such input"),
            Root::Output(step) => (self.outputs.get(step), "the step has no output"),
            Root::State(step) => (self.ends.get(step).map(|end| &end.state), "the step has no state"),
            Root::Error(step) => (self.ends.get(step).map(|end| &end.error), "the step has no error"),
            Root::Item | Root::ItemIndex => (None, "there is no item here"),
        };
        text.map(JsonText::as_str).ok_or_else(|| ResolveError::missing(reference, missing))
    }
}

/// Fills in the workflow's outputs.
///
/// # Errors
/// [`BindError`] if a reference has no value, or the result exceeds [`limits::BINDING_BYTES_MAX`].
pub fn outputs(spec: &WorkflowSpec, scope: &Scope<'_>) -> Result<BTreeMap<String, JsonText>, BindError> {
    let references = spec.outputs.values().flat_map(Template::references);
    let values = resolve(references, scope).map_err(|error| BindError::Resolve { place: Place::Outputs, error })?;
    let filler = Filler { values: &values, item: None };
    let mut bytes = Budget::new(Place::Outputs, limits::BINDING_BYTES_MAX);
    spec.outputs.iter().map(|(name, template)| Ok((name.clone(), filler.value(template, &mut bytes)?))).collect()
}

/// Finds the value of every reference that is the same for all items.
fn resolve<'t, 's>(
    references: impl Iterator<Item = &'t Reference>,
    scope: &Scope<'s>,
) -> Result<Values<'t, 's>, ResolveError> {
    let mut roots: BTreeMap<&Root, (&'t Reference, Wanted<'t>)> = BTreeMap::new();
    for reference in references.collect::<BTreeSet<_>>().into_iter().filter(|reference| !reference.is_of_item()) {
        roots.entry(&reference.root).or_insert_with(|| (reference, Wanted::default())).1.add(reference);
    }
    let mut found = Values::new();
    for (reference, wanted) in roots.into_values() {
        wanted.find(scope.text(reference)?, &mut found)?;
    }
    Ok(found)
}

/// Bytes that may still be written for one place.
struct Budget {
    place: Place,
    left: usize,
}

impl Budget {
    fn new(place: Place, bytes: usize) -> Self {
        Self { place, left: bytes }
    }

    fn take(&mut self, bytes: usize) -> Result<(), BindError> {
        self.left = self.left.checked_sub(bytes).ok_or_else(|| BindError::TooLarge { place: self.place.clone() })?;
        Ok(())
    }

    fn refuse(&self, error: ResolveError) -> BindError {
        BindError::Resolve { place: self.place.clone(), error }
    }
}

/// A step with the values of its references, those of the items aside.
struct Binder<'t, 's> {
    step: &'t StepSpec,
    values: Values<'t, 's>,
    bytes_max: usize,
}

impl<'t, 's> Binder<'t, 's> {
    fn of_step(step: &'t StepSpec, scope: &Scope<'s>) -> Result<Self, BindError> {
        let values = resolve(step.references().into_iter(), scope);
        let values = values.map_err(|error| BindError::Resolve { place: Place::of(step), error })?;
        Ok(Self { step, values, bytes_max: limits::BINDING_BYTES_MAX })
    }

    fn budget(&self) -> Budget {
        Budget::new(Place::of(self.step), self.bytes_max)
    }

    fn one(&self, scope: &Scope<'_>) -> Result<BoundTask, BindError> {
        let mut budget = self.budget();
        let mut task = self.task(&Filler { values: &self.values, item: None }, &mut budget)?;
        for name in self.step.needs.iter().filter(|_| self.step.takes_needs()) {
            let reference = || Reference { root: Root::Output(name.clone()), path: Vec::new() };
            let output = scope.outputs.get(name);
            let output =
                output.ok_or_else(|| budget.refuse(ResolveError::missing(&reference(), "the step has no output")))?;
            budget.take(output.as_str().len())?;
            task.needs.insert(name.clone(), output.clone());
        }
        Ok(task)
    }

    fn each(&self, list: &Template, window: Range<usize>, scope: &Scope<'_>) -> Result<ItemWindow, BindError> {
        let mut budget = self.budget();
        let text = Filler { values: &self.values, item: None }.json(list, &mut budget)?;
        let not_a_list = || BindError::NotAList {
            place: Place::of(self.step),
            list: list.to_source().as_str().unwrap_or("it").to_owned(),
            found: described(&text),
        };
        let (raws, count) = items(&text, &window).map_err(|_| not_a_list())?;
        if count > limits::FOR_EACH_ITEMS_MAX {
            return Err(BindError::TooManyItems { place: Place::of(self.step), items: count });
        }
        let mut wanted = Wanted::default();
        let of_item: BTreeSet<&Reference> =
            self.step.references().into_iter().filter(|reference| reference.root == Root::Item).collect();
        of_item.into_iter().for_each(|reference| wanted.add(reference));
        let condition = self.step.when.as_ref().filter(|condition| condition.is_of_item());
        let mut tasks = Vec::with_capacity(raws.len());
        for (index, raw) in (window.start..).zip(raws) {
            if let Some(condition) = condition
                && !decide(self.step, condition, scope, Some((index, raw)))?
            {
                tasks.push(None);
                continue;
            }
            let mut values = Values::new();
            wanted.find(raw, &mut values).map_err(|error| budget.refuse(error))?;
            let filler = Filler { values: &self.values, item: Some((index, &values)) };
            tasks.push(Some(self.task(&filler, &mut budget)?));
        }
        Ok(ItemWindow { tasks, items: count })
    }

    fn task(&self, filler: &Filler<'_, '_>, budget: &mut Budget) -> Result<BoundTask, BindError> {
        let input = filler.value(&self.step.input, budget)?;
        let run = self.step.run.iter().map(|text| filler.text(text, budget)).collect::<Result<_, _>>()?;
        Ok(BoundTask { input, run, needs: BTreeMap::new() })
    }
}

/// Writes templates with the values that are known.
struct Filler<'v, 's> {
    values: &'v Values<'v, 's>,
    /// The place of the item and the values of the references into it.
    item: Option<(usize, &'v Values<'v, 's>)>,
}

impl<'s> Filler<'_, 's> {
    /// The JSON text of a reference.
    fn raw(&self, reference: &Reference, budget: &Budget) -> Result<Cow<'s, str>, BindError> {
        let found = match (&reference.root, self.item) {
            (Root::ItemIndex, Some((index, _))) => Some(Cow::Owned(index.to_string())),
            (Root::Item, Some((_, values))) => values.get(reference).copied().map(Cow::Borrowed),
            (Root::Input(_) | Root::Output(_) | Root::State(_) | Root::Error(_), _) => {
                self.values.get(reference).copied().map(Cow::Borrowed)
            }
            (Root::Item | Root::ItemIndex, None) => None,
        };
        found.ok_or_else(|| budget.refuse(ResolveError::missing(reference, "there is no item here")))
    }

    fn value(&self, template: &Template, budget: &mut Budget) -> Result<JsonText, BindError> {
        self.json(template, budget).map(|text| joined(&text))
    }

    /// The template as JSON text; a value that is one reference as a whole is passed on without a copy.
    fn json(&self, template: &Template, budget: &mut Budget) -> Result<Cow<'s, str>, BindError> {
        if let Template::Text(text) = template
            && let Some(reference) = text.sole_reference()
        {
            let raw = self.raw(reference, budget)?;
            budget.take(raw.len())?;
            return Ok(raw);
        }
        let mut out = String::new();
        self.write(template, &mut out, budget)?;
        Ok(Cow::Owned(out))
    }

    fn write(&self, template: &Template, out: &mut String, budget: &mut Budget) -> Result<(), BindError> {
        match template {
            Template::Verbatim(text) => {
                budget.take(text.as_str().len())?;
                out.push_str(text.as_str());
            }
            Template::Text(text) if text.sole_reference().is_some() => out.push_str(&self.json(template, budget)?),
            Template::Text(text) => out.push_str(&quoted(&self.text(text, budget)?)),
            Template::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    out.push(if index == 0 { '[' } else { ',' });
                    self.write(item, out, budget)?;
                }
                out.push_str(if items.is_empty() { "[]" } else { "]" });
            }
            Template::Mapping(entries) => {
                for (index, (key, entry)) in entries.iter().enumerate() {
                    out.push(if index == 0 { '{' } else { ',' });
                    out.push_str(&quoted(key));
                    out.push(':');
                    self.write(entry, out, budget)?;
                }
                out.push_str(if entries.is_empty() { "{}" } else { "}" });
            }
        }
        Ok(())
    }

    /// The text with the values' own texts in it: a text without its quotes, anything else as JSON.
    fn text(&self, template: &TextTemplate, budget: &mut Budget) -> Result<String, BindError> {
        let mut out = String::new();
        for piece in template.pieces() {
            let start = out.len();
            match piece {
                Piece::Verbatim(text) => out.push_str(text),
                Piece::Reference(reference) => {
                    let raw = self.raw(reference, budget)?;
                    if raw.starts_with('"') {
                        let text: Result<String, _> = serde_json::from_str(&raw);
                        let unreadable = |error| budget.refuse(ResolveError::unreadable(reference, &error));
                        out.push_str(&text.map_err(unreadable)?);
                    } else {
                        out.push_str(&raw);
                    }
                }
            }
            budget.take(out.len() - start)?;
        }
        Ok(out)
    }
}

fn joined(text: &str) -> JsonText {
    JsonText::parse(text).expect("well-formed JSON in the place of a value leaves well-formed JSON")
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::TaskKind;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn texts(entries: &[(&str, &str)]) -> BTreeMap<String, JsonText> {
        entries.iter().map(|(name, text)| ((*name).to_owned(), JsonText::parse(text).unwrap())).collect()
    }

    fn step(kind: TaskKind, input: Value) -> StepSpec {
        StepSpec { input: Template::parse(&input).unwrap(), ..StepSpec::new("embed", kind) }
    }

    fn for_each(list: Value, input: Value) -> StepSpec {
        StepSpec { for_each: Some(Template::parse(&list).unwrap()), ..step(TaskKind::Embed, input) }
    }

    const NO_ENDS: &BTreeMap<String, StepEnd> = &BTreeMap::new();

    fn bind_with(
        step: &StepSpec,
        input: &[(&str, &str)],
        outputs: &[(&str, &str)],
    ) -> Result<Vec<BoundTask>, BindError> {
        let scope = Scope { input: &texts(input), outputs: &texts(outputs), ends: NO_ENDS };
        match bind_window(step, &scope, 0..limits::FOR_EACH_ITEMS_MAX)? {
            BoundStep::Runs(window) => Ok(window.tasks.into_iter().flatten().collect()),
            BoundStep::Skipped => unreachable!("the step has no condition"),
        }
    }

    fn one(input: Value, outputs: &[(&str, &str)]) -> String {
        let tasks = bind_with(&step(TaskKind::Noop, input), &[("k", "\"v\"")], outputs).unwrap();
        tasks[0].input.as_str().to_owned()
    }

    fn each(step: &StepSpec, outputs: &[(&str, &str)]) -> Result<Vec<String>, BindError> {
        let tasks = bind_with(step, &[], outputs)?;
        Ok(tasks.into_iter().map(|task| task.input.as_str().to_owned()).collect())
    }

    #[test]
    fn a_sole_reference_is_the_value_and_others_are_text() {
        let outputs = [("a", r#"{ "x": [1.50, "y\"é", null], "t": true }"#)];
        assert_eq!(one(json!("${steps.a.output}"), &outputs), outputs[0].1);
        assert_eq!(one(json!("${steps.a.output.x[0]}"), &outputs), "1.50");
        assert_eq!(one(json!("<${steps.a.output.x[1]}|${steps.a.output.t}>"), &outputs), r#""<y\"é|true>""#);
        assert_eq!(one(json!({"l": ["${input.k}", "$${x}", {}], "m": []}), &[]), r#"{"l":["v","${x}",{}],"m":[]}"#);
        assert_eq!(one(json!("${steps.a.output.x} $${k}"), &outputs), r#""[1.50, \"y\\\"é\", null] ${k}""#);
    }

    #[test]
    fn an_output_that_nobody_refers_to_is_not_needed() {
        let mut step = step(TaskKind::Embed, json!("${steps.a.output}"));
        step.needs = vec!["a".into(), "b".into()];
        assert!(bind_with(&step, &[], &[("a", "1")]).is_ok());
        assert_eq!(step.bound_steps().names().into_iter().collect::<Vec<_>>(), ["a"]);
        let error = bind_with(&step, &[], &[]).unwrap_err();
        assert_eq!(error.to_string(), "step embed: ${steps.a.output} has no value: the step has no output");
    }

    #[test]
    fn only_a_process_without_for_each_is_handed_what_it_needs() {
        let mut process = StepSpec { needs: vec!["a".into()], ..step(TaskKind::Process, json!(null)) };
        process.run = vec!["python3".parse().unwrap(), "${steps.a.output[0]}".parse().unwrap()];
        let task = bind_with(&process, &[], &[("a", "[\"b c\"]")]).unwrap().remove(0);
        assert_eq!(task.needs, texts(&[("a", "[\"b c\"]")]));
        assert_eq!(task.run, ["python3", "b c"]);
        process.for_each = Some(Template::parse(&json!([1, 2])).unwrap());
        let tasks = bind_with(&process, &[], &[("a", "[1]")]).unwrap();
        assert!(tasks.len() == 2 && tasks.iter().all(|task| task.needs.is_empty()));
    }

    #[test]
    fn for_each_makes_a_task_per_item_in_order() {
        let step = for_each(
            json!("${steps.a.output.chunks}"),
            json!({"i": "${item_index}", "t": "${item.t}", "n": "${steps.a.output.n}"}),
        );
        let outputs = [("a", r#"{"n": 7, "chunks": [{"t": "x"}, {"t": 1.0}]}"#)];
        assert_eq!(each(&step, &outputs).unwrap(), [r#"{"i":0,"n":7,"t":"x"}"#, r#"{"i":1,"n":7,"t":1.0}"#]);
        assert_eq!(
            each(&for_each(json!(["a", 1]), json!("${item}-${item_index}")), &[]).unwrap(),
            ["\"a-0\"", "\"1-1\""]
        );
        assert!(each(&for_each(json!([]), json!("${item}")), &[]).unwrap().is_empty());
    }

    #[test]
    fn for_each_over_something_else_is_refused_with_what_was_found() {
        let step = for_each(json!("${steps.a.output}"), json!("${item.t}"));
        let refused = |output: &str| each(&step, &[("a", output)]).unwrap_err().to_string();
        assert_eq!(
            refused("{\"chunks\": []}"),
            "step embed: for_each takes a list, and ${steps.a.output} is a mapping with chunks"
        );
        assert_eq!(refused("5"), "step embed: for_each takes a list, and ${steps.a.output} is the number 5");
        assert_eq!(refused("[1]"), "step embed: ${item.t} has no value: there is no key t in the number 1");
        let many = format!("[{}0]", "0,".repeat(limits::FOR_EACH_ITEMS_MAX));
        assert_eq!(refused(&many), "step embed: for_each over 100001 items, and at most 100000 are allowed");
    }

    #[test]
    fn a_window_binds_its_items_only() {
        let step = for_each(json!("${steps.a.output}"), json!("${item}${item_index}"));
        let outputs = texts(&[("a", "[5, 6, 7]")]);
        let window = |range| {
            let scope = Scope { input: &BTreeMap::new(), outputs: &outputs, ends: NO_ENDS };
            match bind_window(&step, &scope, range).unwrap() {
                BoundStep::Runs(window) => window,
                BoundStep::Skipped => unreachable!("the step has no condition"),
            }
        };
        assert_eq!(window(1..2).tasks[0].as_ref().unwrap().input.as_str(), "\"61\"");
        assert_eq!((window(1..9).tasks.len(), window(3..9).tasks.len(), window(0..1).items), (2, 0, 3));
    }

    #[test]
    fn a_large_output_copied_to_every_item_is_refused_before_it_is_made() {
        let big = format!("\"{}\"", "x".repeat(1 << 10));
        let step = for_each(json!("${steps.list.output}"), json!("${steps.big.output}"));
        let outputs = texts(&[("big", &big), ("list", &format!("[{}0]", "0,".repeat(999)))]);
        let input = BTreeMap::new();
        let scope = Scope { input: &input, outputs: &outputs, ends: NO_ENDS };
        let mut binder = Binder::of_step(&step, &scope).unwrap();
        assert!(binder.each(step.for_each.as_ref().unwrap(), 0..1_000, &scope).is_ok());
        binder.bytes_max = 1_000 << 10;
        let error = binder.each(step.for_each.as_ref().unwrap(), 0..1_000, &scope).unwrap_err();
        assert_eq!(error, BindError::TooLarge { place: Place::Step("embed".into()) });
        assert!(binder.each(step.for_each.as_ref().unwrap(), 0..900, &scope).is_ok());
    }

    #[test]
    fn a_hundred_thousand_items_bind_from_one_reading_of_the_list() {
        let list = format!("{{\"chunks\": [{}\"end\"]}}", "\"some text of a passage\",".repeat(99_999));
        let step = for_each(json!("${steps.a.output.chunks}"), json!("${item}"));
        let inputs = each(&step, &[("a", &list)]).unwrap();
        assert_eq!((inputs.len(), inputs[99_999].as_str()), (100_000, "\"end\""));
    }

    #[test]
    fn outputs_of_the_workflow_are_filled_in() {
        let mut spec = crate::dag::graph::tests::workflow(&[vec![]]);
        spec.outputs.insert("n".into(), Template::parse(&json!({"count": "${steps.s0.output.n}"})).unwrap());
        let outputs_of = |text: &str| {
            outputs(&spec, &Scope { input: &BTreeMap::new(), outputs: &texts(&[("s0", text)]), ends: NO_ENDS })
        };
        assert_eq!(outputs_of("{\"n\": 3}").unwrap(), texts(&[("n", "{\"count\":3}")]));
        let error = outputs_of("[]").unwrap_err().to_string();
        assert_eq!(error, "outputs: ${steps.s0.output.n} has no value: there is no key n in a list of 0");
    }

    proptest! {
        #[test]
        fn a_value_passes_through_as_it_is(value in crate::dag::template::tests::any_source()) {
            let text = serde_json::to_string_pretty(&value).unwrap();
            prop_assert_eq!(one(json!("${steps.a.output}"), &[("a", &text)]), text.trim());
        }

        #[test]
        fn interpolated_text_is_the_text_itself(text in ".{0,40}") {
            let output = serde_json::to_string(&text).unwrap();
            let bound: String = serde_json::from_str(&one(json!("<${steps.a.output}>"), &[("a", &output)])).unwrap();
            prop_assert_eq!(bound, format!("<{text}>"));
        }

        #[test]
        fn a_verbatim_value_is_bound_to_itself(value in crate::dag::template::tests::any_source()) {
            let escaped = Template::Verbatim(JsonText::of(&value)).to_source();
            let bound: Value = serde_json::from_str(&one(escaped, &[])).unwrap();
            prop_assert_eq!(bound, value);
        }
    }
}
