//! May this request be served? Key, limits, body, route, in this order; the cheap checks before the dear ones.

use super::call::Call;
use super::exchange::Exchange;
use super::live::Live;
use super::stage::Stage;
use crate::auth::{self, Principal};
use crate::error::ApiError;
use crate::front::chat::head::Head;
use crate::id;
use crate::limit::{Denied, Subject};
use crate::llm::envelope::{ChatRequest, Parsed};
use crate::llm::field::Field;
use crate::operation::Operation;
use crate::redact::redact_to;
use crate::route::failures::Failures;
use crate::route::r#match as names;
use crate::route::pick::Plan;
use crate::route::retry::Attempts;
use crate::telemetry::labels::AuthFailure;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use std::sync::Arc;
use tokio::time::Instant;
use uuid::Uuid;

/// Who asks?
///
/// # Errors
/// One and the same 401 for every reason; the log and the metric tell which.
pub fn authenticate(live: &Live, ctx: &mut Exchange, headers: &HeaderMap) -> Result<Principal, ApiError> {
    match auth::authenticate(&live.snapshot.tenants, headers, i64::try_from(ctx.arrived.as_secs()).unwrap_or(i64::MAX)) {
        Ok(who) => {
            ctx.ledger.team = Some(who.team());
            ctx.ledger.key = Some(who.key());
            Ok(who)
        }
        Err(failure) => {
            live.metrics.auth_failure(failure.into());
            ctx.reason = failure.name();
            Err(failure.error())
        }
    }
}

/// Longest body that is read before a shared limit store is asked, in bytes: one that comes with its headers.
const SMALL_BODY: u64 = 64 << 10;

/// The limits of key and team, before the body is read. A shared store is asked only where the body is large or of
/// unknown length; for others, what this node knows of earlier refusals is told, and the admission asks.
///
/// # Errors
/// 429 or 402; nothing has been charged.
pub async fn peek(live: &Live, ctx: &mut Exchange, who: &Principal, length: Option<u64>) -> Result<(), ApiError> {
    let ask = length.is_none_or(|length| length > SMALL_BODY);
    let peeked = live.store.peek(&subject(who), ask, live.now()).await;
    peeked.map_err(|refusal| ctx.refuse(Denied::Limit(refusal)))
}

/// `GET /v1/models`: the routes that the key may use. `data` has the names that can be sent as `model`, aliases included; pattern routes are
/// listed apart in `patterns`, a member that OpenAI's list does not have.
pub fn models(live: &Live, who: &Principal) -> Bytes {
    let mut w = crate::json::write::Writer::with_capacity(256);
    w.object().key("object").string("list").key("data").array();
    for name in names::usable(&live.snapshot.routes, &live.snapshot.tenants, *who).flat_map(|route| route.names()) {
        write_model(&mut w, name, live.loaded_at);
    }
    w.end_array().key("patterns").array();
    for route in names::usable(&live.snapshot.routes, &live.snapshot.tenants, *who).filter(|route| route.is_pattern()) {
        w.string(&route.name);
    }
    w.end_array().end_object();
    w.finish().into()
}

/// `GET /v1/models/{id}`, where the id is still as the path has it.
///
/// # Errors
/// 404 for a route that is not there, or not for this key, which does not learn the difference.
pub fn model(live: &Live, ctx: &mut Exchange, who: &Principal, id: &str) -> Result<Bytes, ApiError> {
    model_page(live, who, id).inspect_err(|_| ctx.asked = Some(asked(id)))
}

fn model_page(live: &Live, who: &Principal, id: &str) -> Result<Bytes, ApiError> {
    let unknown = |name: &str| names::unknown(&live.snapshot.routes, &live.snapshot.tenants, *who, name);
    let id = crate::percent::decode(id).ok_or_else(|| unknown(id))?;
    names::resolve(&live.snapshot.routes, &live.snapshot.tenants, *who, &id).map_err(|_| unknown(&id))?;
    let mut w = crate::json::write::Writer::with_capacity(256);
    write_model(&mut w, &id, live.loaded_at);
    Ok(w.finish().into())
}

fn write_model(w: &mut crate::json::write::Writer, id: &str, created: u64) {
    w.object()
        .key("id")
        .string(id)
        .key("object")
        .string("model")
        .key("created")
        .integer(created)
        .key("owned_by")
        .string("tidegate")
        .end_object();
}

/// Longest part of a model's name that the access log has where the name leads nowhere, in bytes.
const MAX_ASKED: usize = 128;

/// A model's name for the access log, without secrets: it is the client's text.
fn asked(model: &str) -> Box<str> {
    redact_to(model, MAX_ASKED).into()
}

/// Everything that needs the body: its form, the route, all limits at once.
///
/// # Errors
/// 400, 403, 404, 429 or 402; 503 where a shared limit store fails and nothing is admitted without it.
pub async fn admit(
    live: &Arc<Live>,
    ctx: &mut Exchange,
    who: &Principal,
    operation: Operation,
    body: Bytes,
    episode: Option<HeaderValue>,
) -> Result<Box<Call>, ApiError> {
    let parsed = operation.parse(body)?;
    let model = parsed.text(Field::Model).unwrap_or_default();
    let found = names::resolve(&live.snapshot.routes, &live.snapshot.tenants, *who, &model).inspect_err(|error| {
        ctx.asked = Some(asked(&model));
        if error.status == 403 {
            live.metrics.auth_failure(AuthFailure::Forbidden);
            ctx.reason = AuthFailure::Forbidden.name();
        }
    })?;
    let Some(route) = live.snapshot.routes.get(found.route).cloned() else {
        return Err(ApiError::new(500, crate::error::ErrorKind::Internal, "The gateway failed."));
    };
    ctx.ledger.route = Some(route.index);
    ctx.ledger.stream = parsed.stream();
    let episode_id = episode_id(&parsed, episode.as_ref())?;
    let user = parsed.text(Field::User);
    let key = live.snapshot.tenants.keys.get(who.key()).map(|key| key.id.as_bytes());
    // What `sticky` goes by.
    let belongs_to = episode_id.as_ref().map(|id| &id.as_bytes()[..]).or(user.as_deref().map(str::as_bytes)).or(key).unwrap_or_default();
    let now = live.now();
    let under_its_route = ChatRequest { parsed: &parsed, params: &route.params, system: route.system.as_deref(), model: "", seal: None };
    let prospect = operation.prospect(&under_its_route);
    // Which target will answer is not known yet: the first one's price stands for all.
    let estimate = live.limiter.estimate(route.index, &prospect, route.targets.first().and_then(|t| t.price.as_ref()));
    let plan = Plan::new(&route, found.star, fastrand::u64(..), belongs_to, &live.health, now);
    let mut attempts = Attempts::new(plan, fastrand::u64(..));
    if let Some(smallest) = route.smallest_context {
        let prompt = live.limiter.usage(route.index, &prospect).prompt;
        if prompt > u64::from(smallest) {
            for target in attempts.pass_over_small(&route, prompt) {
                ctx.passed_over.add(&target.provider.name, &found.model(&target.model), "context");
            }
        }
    }
    let next = attempts.first(&route, &live.health, now);
    let provider = next.as_ref().map(|turn| turn.target.provider.index);
    let admitted = live.store.admit(&subject(who), route.index, provider, estimate, now).await;
    let permit = admitted.map_err(|denied| ctx.refuse(denied))?;
    live.metrics.limits_admitted(permit.kinds());
    ctx.in_flight = Some(live.metrics.enter(Some(route.index), parsed.stream()));
    let fresh = || id::fresh(ctx.arrived);
    let stage = Stage::new(route.keep_alive.filter(|_| parsed.stream()), Instant::now());
    Ok(Box::new(Call {
        operation,
        stream: parsed.stream(),
        include_usage: parsed.include_usage(),
        head: Head::new(fresh(), episode_id.unwrap_or_else(fresh), ctx.arrived.as_secs(), &model),
        parsed: Some(Box::new(parsed)),
        star: found.star.map(Into::into),
        team: live.snapshot.tenants.teams.get(who.team()).map_or_else(|| "".into(), |t| t.name.clone()),
        prospect,
        permit,
        attempts,
        next,
        attempt: None,
        stage: Arc::new(stage),
        failures: Failures::default(),
        route,
    }))
}

fn subject(who: &Principal) -> Subject {
    Subject { key: Some(who.key()), team: Some(who.team()) }
}

/// The client's episode.
fn episode_id(parsed: &Parsed, header: Option<&HeaderValue>) -> Result<Option<Uuid>, ApiError> {
    let text = parsed
        .text(Field::EpisodeId)
        .or_else(|| parsed.text(Field::TensorzeroEpisodeId))
        .or_else(|| header.map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned()));
    let bad = |_| ApiError::field("episode_id", "`episode_id` must be a UUID; leave it out to get a new one");
    text.map(|text| Uuid::try_parse(&text).map_err(bad)).transpose()
}
