//! Finds the route for the client's `model`.

use super::settings::{Route, Routes};
use crate::auth::tenants::Tenants;
use crate::auth::{Principal, may_use};
use crate::error::{ApiError, ErrorKind};
use crate::near;
use crate::provider::ModelName;
use std::borrow::Cow;
use std::sync::Arc;

/// Prefixes of route names that are ignored; at most one is removed.
pub const STRIPPED_PREFIXES: [&str; 2] = ["tensorzero::model_name::", "tensorzero::function_name::"];
/// Maximum number of similar names in an error.
const SUGGESTIONS: usize = 3;
/// Maximum length of a quoted unknown name, in characters.
const MAX_ECHO: usize = 128;

/// A matched route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteMatch<'m> {
    /// Index into [`Routes`].
    pub route: usize,
    /// The text that the pattern's `*` matched, never empty; `None` for an exact name.
    pub star: Option<&'m str>,
}

impl<'m> RouteMatch<'m> {
    /// The name of the model at a target.
    pub fn model<'a>(&self, name: &'a ModelName) -> Cow<'a, str>
    where
        'm: 'a,
    {
        match (name, self.star) {
            (ModelName::Fixed(name), _) => Cow::Borrowed(name),
            (ModelName::Pattern(name), Some(star)) if name.as_ref() == "*" => Cow::Borrowed(star),
            (ModelName::Pattern(name), star) => Cow::Owned(name.replacen('*', star.unwrap_or_default(), 1)),
        }
    }
}

/// Finds a route by name: an exact match, else the pattern with the longest prefix, then the longest suffix.
pub fn find<'m>(routes: &Routes, model: &'m str) -> Option<RouteMatch<'m>> {
    let name = stripped(model);
    if let Some(route) = routes.exact.get(name) {
        return Some(RouteMatch { route: *route, star: None });
    }
    // Sorted in this order by the configuration.
    routes.patterns.iter().find_map(|(prefix, suffix, route)| {
        let star = name.strip_prefix(prefix.as_ref())?.strip_suffix(suffix.as_ref())?;
        // A name with a `*` is a pattern, not a model.
        (!star.is_empty() && !star.contains('*')).then_some(RouteMatch { route: *route, star: Some(star) })
    })
}

fn stripped(model: &str) -> &str {
    STRIPPED_PREFIXES.iter().find_map(|prefix| model.strip_prefix(prefix)).unwrap_or(model)
}

/// Finds the route for a model name and checks that the principal may use it.
///
/// # Errors
/// A 404 that suggests similar names the principal may use, or a 403.
pub fn resolve<'m>(routes: &Routes, tenants: &Tenants, principal: &Principal, model: &'m str) -> Result<RouteMatch<'m>, ApiError> {
    let Some(found) = find(routes, model) else { return Err(unknown(routes, tenants, principal, model)) };
    if may_use(principal, tenants, found.route) {
        return Ok(found);
    }
    let (who, model) = (principal.noun(), echo(model));
    let message = format!("This {who} may not use the route `{model}`; `GET /v1/models` lists those that it may.");
    Err(ApiError::new(403, ErrorKind::Permission, message).with_param("model"))
}

/// The 404 for an unknown name.
pub fn unknown(routes: &Routes, tenants: &Tenants, principal: &Principal, model: &str) -> ApiError {
    let names = usable(routes, tenants, principal).flat_map(|route| route.names()).map(AsRef::as_ref);
    let close: Vec<String> = near::nearest(stripped(model), names, SUGGESTIONS).iter().map(|name| format!("`{name}`")).collect();
    let hint = if close.is_empty() { String::new() } else { format!(" Did you mean {}?", close.join(", ")) };
    let message =
        format!("There is no route `{}`.{hint} `GET /v1/models` lists those that this {} may use.", echo(model), principal.noun());
    ApiError::new(404, ErrorKind::NotFound, message).with_param("model")
}

fn echo(model: &str) -> String {
    model.chars().filter(|c| !c.is_control()).take(MAX_ECHO).collect()
}

/// The routes a principal may use, in configuration order; listed by `GET /v1/models`.
pub fn usable<'a>(routes: &'a Routes, tenants: &'a Tenants, principal: &'a Principal) -> impl Iterator<Item = &'a Arc<Route>> {
    routes.iter().filter(move |route| may_use(principal, tenants, route.index))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::authenticate;
    use crate::config::{self, snapshot::Snapshot};

    const TEXT: &str = "\
providers: { p: { kind: openai, api_key: k } }
routes:
  qwen3-4b: { aliases: [default, gpt-4o], targets: [ { provider: p, model: m } ] }
  qwen3-8b: { targets: [ { provider: p, model: m } ] }
  \"*\": { targets: [ { provider: p, model: any } ] }
  \"openai/*\": { targets: [ { provider: p, model: \"*\" } ] }
  \"openai/*-mini\": { targets: [ { provider: p, model: \"x/*-small\" } ] }
  \"openai/gpt-4\": { targets: [ { provider: p, model: exact } ] }
auth: keys
teams:
  t: { routes: [qwen3-4b, \"openai/*\"], keys: [ { id: k, sha256: \"2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683\" } ] }
";

    fn snapshot(text: &str) -> Snapshot {
        config::parse(text, "t", &|_| None).unwrap_or_else(|problems| panic!("{problems:?}")).snapshot
    }

    fn principal(snapshot: &Snapshot) -> Principal {
        let mut headers = http::HeaderMap::new();
        headers.insert("x-api-key", http::HeaderValue::from_static("key"));
        authenticate(&snapshot.tenants, None, &headers, 0).unwrap()
    }

    #[test]
    fn exact_names_go_before_patterns_and_long_patterns_before_short_ones() {
        let snapshot = snapshot(TEXT);
        for (model, name, upstream) in [
            ("qwen3-4b", "qwen3-4b", "m"),
            ("default", "qwen3-4b", "m"),
            ("tensorzero::model_name::gpt-4o", "qwen3-4b", "m"),
            ("tensorzero::model_name::qwen3-4b", "qwen3-4b", "m"),
            ("tensorzero::function_name::openai/o3", "openai/*", "o3"),
            ("openai/gpt-4", "openai/gpt-4", "exact"),
            ("openai/gpt-4o", "openai/*", "gpt-4o"),
            ("openai/gpt-4o-mini", "openai/*-mini", "x/gpt-4o-small"),
            ("openai/-mini", "openai/*", "-mini"),
            ("openai/", "*", "any"),
            ("tensorzero::model_name::tensorzero::model_name::qwen3-4b", "*", "any"),
        ] {
            let found = find(&snapshot.routes, model).unwrap();
            let route = &snapshot.routes[found.route];
            assert_eq!((route.name.as_ref(), found.model(&route.targets[0].model).as_ref()), (name, upstream), "{model}");
        }
        assert_eq!((find(&snapshot.routes, ""), find(&snapshot.routes, "*"), find(&snapshot.routes, "openai/*")), (None, None, None));
    }

    #[test]
    fn a_route_of_others_is_a_403_and_an_unknown_one_a_404_with_hints() {
        let closed = snapshot(&TEXT.replace("  \"*\": { targets: [ { provider: p, model: any } ] }\n", ""));
        let principal = &principal(&closed);
        assert!(resolve(&closed.routes, &closed.tenants, principal, "openai/o3").is_ok());
        let error = resolve(&closed.routes, &closed.tenants, principal, "qwen3-8b").unwrap_err();
        assert_eq!((error.status, error.param.as_deref()), (403, Some("model")));
        let error = resolve(&closed.routes, &closed.tenants, principal, "qwen3-4c").unwrap_err();
        assert_eq!(error.status, 404);
        // The other route is as close, but not for this key to know of.
        assert!(error.message.contains("Did you mean `qwen3-4b`?") && !error.message.contains("8b"), "{}", error.message);
        // A pattern is no name that a client could ask for.
        let error = resolve(&closed.routes, &closed.tenants, principal, "openai/").unwrap_err();
        assert!(error.status == 404 && !error.message.contains('*'), "{}", error.message);
        let error = resolve(&closed.routes, &closed.tenants, principal, &"ü\n".repeat(10_000)).unwrap_err();
        assert!(error.message.len() < 500 && !error.message.contains('\n'));
    }

    #[test]
    fn the_list_holds_what_the_key_may_use() {
        let snapshot = snapshot(TEXT);
        let principal = principal(&snapshot);
        let names: Vec<_> = usable(&snapshot.routes, &snapshot.tenants, &principal).map(|route| route.name.as_ref()).collect();
        assert_eq!(names, ["qwen3-4b", "openai/*"]);
    }
}
