use super::*;
use crate::dag::resolve::ResolveError;
use crate::limits;
use proptest::prelude::*;
use std::borrow::Cow;
use std::collections::BTreeMap;

fn decide(source: &str, values: &[(&str, &str)]) -> Result<bool, String> {
    let condition: Condition = source.parse().map_err(|error: TemplateError| error.to_string())?;
    let values: BTreeMap<String, String> =
        values.iter().map(|(name, text)| (format!("${{{name}}}"), (*text).to_owned())).collect();
    let lookup = |reference: &Reference| match values.get(&reference.to_string()) {
        Some(text) => Ok(Cow::Owned(text.clone())),
        None => Err(ResolveError::missing(reference, "nobody gave it")),
    };
    holds(&condition, &lookup).map_err(|error| error.to_string())
}

#[test]
fn operators_bind_as_everywhere_and_compare_as_json() {
    for (source, holds) in [
        ("true", true),
        ("!true", false),
        ("!!true", true),
        ("1 == 1.0", true),
        ("1 < 2 && 2 <= 2 && 3 > 2 && 3 >= 3", true),
        ("'a' < \"b\"", true),
        ("\"it's\" == 'it''s'", true),
        ("\"\\u00e9\\n\" != 'x'", true),
        ("true || false && false", true),
        ("(true || false) && false", false),
        ("!(1 == 2) && !false", true),
        ("null == false", false),
        ("\"1\" == 1", false),
        ("9007199254740993 > 9007199254740992", true),
        ("-1.5e3 < 0", true),
        ("(1 == 1) == true", true),
    ] {
        assert_eq!(decide(source, &[]), Ok(holds), "{source}");
    }
}

#[test]
fn references_have_the_values_of_their_steps() {
    let values = [
        ("steps.a.output.n", "3"),
        ("steps.a.state", "\"succeeded\""),
        ("input.list", "[1, {\"x\": 2}]"),
        ("item", "true"),
        ("steps.b.error.code", "null"),
    ];
    for (source, holds) in [
        ("${steps.a.output.n} >= 3 && ${steps.a.state} == 'succeeded'", true),
        ("${item}", true),
        ("!${item}", false),
        ("${input.list} == ${input.list}", true),
        ("${steps.b.error.code} == null", true),
        ("${steps.b.error.code} == \"timeout\"", false),
    ] {
        assert_eq!(decide(source, &values), Ok(holds), "{source}");
    }
}

#[test]
fn what_short_circuits_is_not_looked_up() {
    assert_eq!(decide("false && ${input.x} > 1", &[]), Ok(false));
    assert_eq!(decide("true || ${input.x}", &[]), Ok(true));
    assert_eq!(decide("true && ${input.x}", &[]).unwrap_err(), "${input.x} has no value: nobody gave it");
}

#[test]
fn values_that_do_not_fit_are_told_in_words() {
    for (value, source, words) in [
        ("\"yes\"", "${input.x}", "${input.x} is the text \"yes\", and true or false is wanted"),
        ("[1]", "${input.x} < 2", "a list of 1 < the number 2: only two numbers or two texts have an order"),
        ("null", "!${input.x}", "${input.x} is null, and true or false is wanted"),
        ("\"2\"", "${input.x} >= 2", "the text \"2\" >= the number 2: only two numbers or two texts have an order"),
    ] {
        assert_eq!(decide(source, &[("input.x", value)]).unwrap_err(), words);
    }
}

#[test]
fn what_cannot_be_a_condition_is_refused_with_its_column_and_a_fix() {
    for (source, words) in [
        (
            "",
            "column 1: expected a value, found the end (write it as ${steps.NAME.state} == \"failed\" && ${input.NAME} > 3)",
        ),
        ("5", "column 1: a number stands where true or false is wanted (compare it, as ${input.NAME} == \"text\")"),
        (
            "${steps.a.state}",
            "column 1: a text stands where true or false is wanted (compare it, as ${input.NAME} == \"text\")",
        ),
        (
            "true && 'x'",
            "column 9: a text stands where true or false is wanted (compare it, as ${input.NAME} == \"text\")",
        ),
        ("${steps.a.state} == 'succeded'", "column 21: \"succeded\" is not the state of a step (write succeeded)"),
        (
            "${input.a} == yes",
            "column 15: \"yes\" is not a value (write \"yes\" for a text, or ${steps.NAME.output} for what a step gave)",
        ),
        (
            "${input.a} < true",
            "column 14: true or false is neither less nor more than anything (compare two numbers or two texts, or use == or !=)",
        ),
        ("1 < 2 < 3", "column 1: three values are compared at once (join two comparisons with &&)"),
        (
            "(true",
            "column 6: expected an operator or \")\", found the end (write it as ${steps.NAME.state} == \"failed\" && ${input.NAME} > 3)",
        ),
        (
            "ä ${input.x",
            "column 1: \"ä\" is not a value (write \"ä\" for a text, or ${steps.NAME.output} for what a step gave)",
        ),
        ("true && ${input.x", "column 9: ${ is never closed (close it with })"),
        (
            "true || ${env.X}",
            "column 11: \"env.X\" is not a place to take a value from (start with steps.NAME.output, input.NAME, item or item_index, or write $${ for the two characters ${)",
        ),
        ("\"x == 1", "column 1: the text is never closed, or has a wrong \\ (close it with \")"),
        ("1x == 1", "column 1: \"1x\" is not a number (write it as 3, -1 or 0.5)"),
    ] {
        assert_eq!(source.parse::<Condition>().unwrap_err().to_string(), words, "{source}");
    }
    let deep = format!("{}true{}", "(".repeat(200), ")".repeat(200));
    assert!(deep.parse::<Condition>().unwrap_err().problem.contains("deeper than 64"));
    assert!("!".repeat(limits::CONDITION_BYTES_MAX + 1).parse::<Condition>().is_err());
    assert!(format!("{}true", "!".repeat(4_000)).parse::<Condition>().is_ok());
}

/// An expression of literals as text, with what it comes to.
fn any_expression() -> impl Strategy<Value = (String, bool)> {
    let comparison = (any::<i8>(), any::<i8>(), 0usize..6).prop_map(|(left, right, place)| {
        let (symbol, relation) = Relation::ALL[place];
        let holds = match relation {
            Relation::Equal => left == right,
            Relation::NotEqual => left != right,
            Relation::AtMost => left <= right,
            Relation::Below => left < right,
            Relation::AtLeast => left >= right,
            Relation::Above => left > right,
        };
        (format!("{left} {symbol} {right}"), holds)
    });
    comparison.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|(text, holds)| (format!("!({text})"), !holds)),
            (inner.clone(), inner.clone())
                .prop_map(|((left, a), (right, b))| (format!("({left}) && ({right})"), a && b)),
            (inner.clone(), inner).prop_map(|((left, a), (right, b))| (format!("({left}) || ({right})"), a || b)),
        ]
    })
}

proptest! {
    #[test]
    fn an_expression_comes_to_what_its_parts_come_to((source, holds) in any_expression()) {
        prop_assert_eq!(decide(&source, &[]), Ok(holds), "{}", source);
    }

    #[test]
    fn any_text_is_a_condition_or_refused_at_a_column_inside_it(source in "[-()!&|=<>'\"0-9a-z${}. ]{0,40}") {
        match source.parse::<Condition>() {
            Ok(condition) => {
                prop_assert_eq!(condition.to_string(), source);
                let packed = rmp_serde::to_vec(&condition).unwrap();
                prop_assert_eq!(rmp_serde::from_slice::<Condition>(&packed).unwrap(), condition);
            }
            Err(error) => prop_assert!((1..=source.chars().count() + 1).contains(&error.column), "{}", error),
        }
    }
}
