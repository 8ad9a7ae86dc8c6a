//! What a request asks for beside its conversation, under a route's settings: an override counts before the client's word, and
//! that before a default.

use crate::error::ApiError;
use crate::json::text::Text;
use crate::json::walk;
use crate::llm::constraint;
use crate::llm::envelope::ChatRequest;
use crate::llm::field::{Field, GUIDED, Loss};
use crate::llm::request::{Authority, Block, OutputFormat, Param, Path, Request, Role};
use std::borrow::Cow;

/// A request with everything that OpenAI's fields and the route's settings say, and the route's instructions. A front adds what
/// its client says in other words.
///
/// # Errors
/// A 400 that names the field that cannot be read.
pub(in crate::front) fn neutral<'a>(base: &ChatRequest<'a>) -> Result<Request<'a>, ApiError> {
    let mut request = Request {
        model: base.model,
        stream: base.stream(),
        size: base.parsed.body().len() + base.system.map_or(0, str::len),
        params: base.asked_fields().collect(),
        reject_unsupported: base.params.reject_unsupported,
        sampling: base.sampling()?,
        effort: base.asked(Field::ReasoningEffort).and_then(walk::string),
        user: base.asked(Field::User).and_then(walk::string),
        metadata: base.asked(Field::Metadata),
        service_tier: base.asked(Field::ServiceTier),
        serial_calls: base.asked(Field::ParallelToolCalls).is_some(),
        output: constraint::read(base)?,
        adjustments: base.params.adjustments,
        seal: base.seal,
        ..Request::default()
    };
    if let Some(system) = base.system {
        request.push_turn(Role::System, Path::default(), [Block::text(Text::Plain(system), Path::default())]);
    }
    Ok(request)
}

/// Notes that the client asks for a field, by its name in its protocol, and returns whether its value applies: it yields to
/// the route's override, and a field that the target has refused is noted as such.
pub(in crate::front) fn asks(base: &ChatRequest<'_>, field: Field, name: &'static str, request: &mut Request<'_>) -> bool {
    if base.authority(field) == Authority::Override {
        return false;
    }
    let refused = base.params.adjustments.without.contains(field);
    request.params.retain(|param| param.field != Some(field));
    let loss = field.loss().unwrap_or(Loss::Hint);
    request.params.push(Param { field: Some(field), name: Cow::Borrowed(name), loss, refused });
    !refused
}

/// Holds the answer to the client's format, unless an override of the route holds it to something else. `name`: the client's
/// of it.
pub(in crate::front) fn answer_format<'a>(base: &ChatRequest<'a>, format: OutputFormat<'a>, name: &'static str, request: &mut Request<'a>) {
    let overrides = |field: &Field| base.authority(*field) == Authority::Override && base.raw(*field).is_some();
    if !GUIDED.iter().any(overrides) && asks(base, format.field, name, request) {
        request.params.retain(|param| !param.field.is_some_and(|field| GUIDED.contains(&field))); // the route's default
        request.output = Some(format);
    }
}

/// The members that pass to providers of OpenAI's protocol as they come: those that the route sets, and the client's of these
/// fields.
pub(in crate::front) fn passed<'a>(base: &ChatRequest<'a>, fields: &[Field]) -> Vec<(&'a str, &'a str)> {
    let mut passed = base.passed();
    let clients = fields.iter().filter(|field| base.authority(**field) == Authority::Client);
    passed.extend(clients.filter_map(|field| Some((field.name(), base.asked(*field)?))));
    passed
}

/// Most parameters to which a hint is added. That is more than the client's members and all fields, so that further hints
/// would not be named one by one.
const MAX_PARAMS: usize = 512;

/// Names, once, something that no other provider has and the answer is the same without.
pub(in crate::front) fn hint<'a>(params: &mut Vec<Param<'a>>, name: impl Into<Cow<'a, str>>) {
    let name = name.into();
    if params.len() < MAX_PARAMS && !params.iter().any(|param| param.name == name) {
        params.push(Param::unknown(name));
    }
}
