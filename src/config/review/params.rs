//! Request fields that a route sets and that no target takes as they are.

use super::{Review, targets};
use crate::explain::{Sample, encoded};
use crate::llm::field::Field;
use crate::llm::settings::Params;
use crate::near;
use crate::provider::{ModelName, Target};
use crate::route::settings::Route;
use crate::yaml::problem::Problems;
use crate::yaml::tree::Node;

/// Numbers with a range in OpenAI's API (<https://platform.openai.com/docs/api-reference/chat/create>).
const RANGES: [(Field, f64, f64); 6] = [
    (Field::Temperature, 0.0, 2.0),
    (Field::TopP, 0.0, 1.0),
    (Field::FrequencyPenalty, -2.0, 2.0),
    (Field::PresencePenalty, -2.0, 2.0),
    (Field::TopLogprobs, 0.0, 20.0),
    (Field::N, 1.0, 128.0),
];

/// Fields that mean something only beside another one, which a route does not set.
const DEPENDENT: [Field; 5] =
    [Field::ToolChoice, Field::ParallelToolCalls, Field::FunctionCall, Field::TopLogprobs, Field::GuidedWhitespacePattern];

/// Members of common servers that are close to one of OpenAI's.
const EXTRAS: [&str; 6] = ["top_k", "top_a", "min_p", "min_tokens", "use_audio", "max_input_tokens"];

pub(super) fn review(review: &Review<'_>, problems: &mut Problems) {
    for (route, _, node) in review.routes() {
        let Some(section) = node.get("params") else { continue };
        for (part, fields) in [("defaults", &route.params.defaults), ("overrides", &route.params.overrides)] {
            let written = section.get(part).map_or(&[][..], Node::entries);
            for ((name, json), (key, _)) in fields.iter().zip(written) {
                if let Some(message) = fault(route, name, json) {
                    problems.warn(key.at, message);
                }
            }
        }
    }
}

/// What is wrong with one field.
fn fault(route: &Route, name: &str, json: &str) -> Option<String> {
    if json == "null" {
        return None;
    }
    let field = Field::of(name.as_bytes());
    let range = RANGES.iter().find(|(known, ..)| Some(*known) == field);
    if let (Some((_, from, to)), Ok(number)) = (range, json.parse::<f64>())
        && !(*from..=*to).contains(&number)
    {
        return Some(format!("`{name}`: {json} is out of range; it is a number from {from} to {to}"));
    }
    let member = serde_json::to_string(name).ok()?;
    let sample = Sample::new(&format!(",{member}:{json}"));
    let sample = match sample {
        Ok(sample) => sample,
        Err(why) => return Some(format!("{}; every request to this route would be refused", why.trim_end_matches('.'))),
    };
    if field.is_some_and(|field| DEPENDENT.contains(&field)) {
        return None;
    }
    if let Some(message) = refused(route, name, &sample) {
        return Some(message);
    }
    let known = Field::ALL.iter().map(|field| field.name());
    let close = near::nearest(name, known, 1).first().copied().filter(|_| field.is_none() && !EXTRAS.contains(&name));
    close.map(|close| format!("`{name}` is no parameter that Tidegate knows, and is sent as it stands; did you mean `{close}`?"))
}

/// The message for a field that every target of the route refuses or drops.
fn refused(route: &Route, name: &str, sample: &Sample) -> Option<String> {
    let params = Params { reject_unsupported: route.params.reject_unsupported, ..Params::default() };
    let empty = Sample::new("").ok()?;
    let mut verdicts = targets(route).filter_map(|target| {
        let model = model(target);
        encoded(&empty, &params, None, target, &model).ok()?;
        Some(encoded(sample, &params, None, target, &model))
    });
    let first = verdicts.next()?;
    let unused =
        |verdict: &Result<Vec<String>, String>| verdict.as_ref().map_or(true, |dropped| dropped.iter().any(|dropped| dropped == name));
    if !unused(&first) || !verdicts.all(|verdict| unused(&verdict)) {
        return None;
    }
    Some(match first {
        Err(why) => format!("`{name}` is refused by every target of the route `{}`: {why}", route.name),
        Ok(_) => format!("`{name}` has no effect: no target of the route `{}` has a counterpart for it", route.name),
    })
}

/// The model's name at a target, with a sample in place of a pattern's part.
fn model(target: &Target) -> String {
    match &target.model {
        ModelName::Fixed(model) => model.to_string(),
        ModelName::Pattern(model) => model.replacen('*', "model", 1),
    }
}
