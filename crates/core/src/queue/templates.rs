//! Tasks that differ in their input alone share the rest of their specification: of a million tasks in a queue most do.

use std::sync::Arc;

use crate::payload::{JsonText, Payload};
use crate::task::TaskSpec;

/// Finds out whether a specification is like the one before it.
#[derive(Debug, Clone, Default)]
pub(super) struct Templates {
    last: Option<Arc<TaskSpec>>,
    /// The last one without its input, once another was like it.
    template: Option<Arc<TaskSpec>>,
}

impl Templates {
    /// The specification to keep, and the input if that is not in it. A blob stays in it: where that lies decides where
    /// the task runs.
    pub fn share(&mut self, spec: &Arc<TaskSpec>) -> (Arc<TaskSpec>, Option<JsonText>) {
        let last = self.last.as_ref().filter(|last| last.is_same_but_for_input(spec));
        let (Some(last), Payload::Inline(input)) = (last, &spec.input) else {
            *self = Self { last: Some(spec.clone()), template: None };
            return (spec.clone(), None);
        };
        let without_input = || Arc::new(TaskSpec { input: Payload::default(), ..(**last).clone() });
        let template = self.template.get_or_insert_with(without_input).clone();
        (template, (!spec.input.is_null()).then(|| input.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::TaskKind;

    fn spec(input: u32, model: &str) -> Arc<TaskSpec> {
        let input = Payload::Inline(JsonText::of(&serde_json::Value::from(input)));
        Arc::new(TaskSpec { input, model: Some(model.to_owned()), ..TaskSpec::new(TaskKind::Embed) })
    }

    #[test]
    fn specifications_that_differ_in_their_input_alone_become_one() {
        let mut templates = Templates::default();
        let kept: Vec<_> = (0..3).map(|n| templates.share(&spec(n, "minilm"))).collect();
        assert_eq!(kept[0], (spec(0, "minilm"), None), "the first has none to share with");
        assert!(Arc::ptr_eq(&kept[1].0, &kept[2].0));
        assert_eq!(kept[2].1, Some(JsonText::of(&serde_json::Value::from(2))));
        assert!(kept[2].0.input.is_null());
    }

    #[test]
    fn another_model_is_another_template() {
        let mut templates = Templates::default();
        for n in 0..3 {
            templates.share(&spec(n, "minilm"));
        }
        assert_eq!(templates.share(&spec(3, "other")), (spec(3, "other"), None));
        assert_eq!(templates.share(&spec(4, "minilm")), (spec(4, "minilm"), None));
    }

    #[test]
    fn what_has_no_input_is_shared_as_it_is() {
        let mut templates = Templates::default();
        let plain = Arc::new(TaskSpec::new(TaskKind::Noop));
        templates.share(&plain);
        assert_eq!(templates.share(&Arc::new(TaskSpec::new(TaskKind::Noop))), (plain, None));
    }
}
