//! Routes: their targets, their patterns, and what they do with requests.

use super::{Builder, ByName, Lookup};
use crate::config::file;
use crate::config::types::{Reason, ThinkTags, Unsupported};
use crate::llm::settings::Params;
use crate::provider::protocol::TargetKeys;
use crate::provider::{ModelName, Provider, Target};
use crate::route::r#match::STRIPPED_PREFIXES;
use crate::route::settings::{Budget, Ejection, Retry, Route, Routes};
use crate::yaml::json::Fields;
use crate::yaml::value::{At, Named};
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

/// Most targets of a route, fallback included.
const MAX_TARGETS: usize = 64;
/// Most tries of a request where the route does not set `retry.attempts`.
const MAX_DEFAULT_ATTEMPTS: usize = 4;

/// Request fields that a route cannot set: the gateway itself lives by them.
const OWN_FIELDS: &[&str] = &["model", "messages", "stream", "stream_options", "episode_id", "tensorzero::episode_id"];

impl Builder<'_> {
    /// The routes by the name as written, patterns included, and the table that finds them, still without them.
    pub(super) fn routes(
        &mut self,
        routes: Named<file::Route>,
        providers: &ByName<Arc<Provider>>,
        keep_alive: Duration,
    ) -> (ByName<Arc<Route>>, Routes) {
        let (mut by_name, mut all) = (ByName::new(routes.known), Routes::default());
        let mut aliases: Vec<(usize, At<String>)> = Vec::new();
        for (index, (name, route)) in routes.entries.into_iter().enumerate() {
            let arc = self.name("route", &name);
            self.reachable(&name);
            if let Some(route) = &route {
                aliases.extend(route.aliases.iter().map(|alias| (index, alias.clone())));
            }
            match arc.split_once('*') {
                None => {
                    all.exact.insert(arc.clone(), index);
                }
                Some((_, suffix)) if suffix.contains('*') => {
                    self.add(name.at, format!("the pattern `{arc}` must have exactly one `*`"));
                }
                Some((prefix, suffix)) => all.patterns.push((prefix.into(), suffix.into(), index)),
            }
            let route = route.map(|route| Arc::new(self.route(index, arc, route, providers, keep_alive, &mut all.targets)));
            by_name.push(name.value, route);
        }
        for (index, alias) in aliases {
            self.alias(index, &alias, &mut all);
            by_name.also(&alias.value, index);
        }
        all.patterns.sort_by_key(|(prefix, suffix, _)| std::cmp::Reverse((prefix.len(), suffix.len())));
        (by_name, all)
    }

    fn reachable(&mut self, name: &At<String>) {
        if let Some(prefix) = STRIPPED_PREFIXES.iter().find(|prefix| name.value.starts_with(**prefix)) {
            let message = format!("no client can reach this route: `{prefix}` at the beginning of a model's name is taken off");
            self.add(name.at, message);
        }
    }

    /// Adds a route's further name, once all routes have theirs.
    fn alias(&mut self, route: usize, alias: &At<String>, all: &mut Routes) {
        let name = self.name("route", alias);
        self.reachable(alias);
        if name.contains('*') {
            self.add(alias.at, "`aliases`: an alias is one name, without `*`");
            return;
        }
        match all.exact.entry(name) {
            Entry::Vacant(free) => drop(free.insert(route)),
            Entry::Occupied(taken) if *taken.get() == route => {
                self.add(alias.at, format!("`aliases`: `{}` is this route's name already", alias.value));
            }
            Entry::Occupied(_) => {
                self.add(alias.at, format!("`aliases`: there is another route `{}`; a name belongs to one route", alias.value));
            }
        }
    }

    fn route(
        &mut self,
        index: usize,
        name: Arc<str>,
        route: file::Route,
        providers: &ByName<Arc<Provider>>,
        keep_alive: Duration,
        count: &mut usize,
    ) -> Route {
        let pattern = name.contains('*');
        if let Some(alias) = route.aliases.first().filter(|_| pattern) {
            self.add(alias.at, "`aliases`: a pattern has none, for an alias stands for no model");
        }
        let list = route.targets.value.0;
        if route.sound && list.iter().all(|(target, _)| target.weight.value.0 == 0) {
            let at = list.first().map_or(route.targets.at, |(target, _)| target.weight.at);
            self.add(at, "`weight`: one of the targets needs a weight above 0, or none would be tried first");
        }
        let mut targets = |builder: &mut Self, list: Vec<(file::Target, TargetKeys)>| -> Vec<Arc<Target>> {
            let target = |(target, keys)| builder.target(target, &keys, pattern, providers, count);
            list.into_iter().flat_map(target).map(Arc::new).collect()
        };
        let (targets, fallback) = (targets(self, list), targets(self, route.fallback));
        if targets.len() + fallback.len() > MAX_TARGETS {
            self.add(route.targets.at, format!("a route has at most {MAX_TARGETS} targets, fallback and replicas included"));
        }
        Route {
            index,
            balance: route.balance,
            retry: self.retry(&route.retry, targets.len() + fallback.len()),
            smallest_context: targets.iter().chain(&fallback).filter_map(|target| target.context).min(),
            pooled: targets.iter().chain(&fallback).any(|target| target.replicas != 1),
            targets,
            fallback,
            ejection: self.ejection(&route.ejection),
            timeouts: super::provider::overrides(&route.timeouts),
            keep_alive: Some(route.keep_alive.unwrap_or(keep_alive)).filter(|every| !every.is_zero()),
            system: route.system.filter(|text| !text.is_empty()).map(Arc::from),
            params: Params {
                defaults: self.fields(route.params.defaults),
                overrides: self.fields(route.params.overrides),
                reject_unsupported: route.params.unsupported == Unsupported::Reject,
                adjustments: crate::llm::adjustments::Adjustments::default(),
            },
            limits: self.limits(route.limits),
            aliases: route.aliases.iter().map(|alias| alias.value.as_str().into()).collect(),
            name,
        }
    }

    /// The target, once for each replica of its provider; none where it has a problem.
    fn target(
        &mut self,
        target: file::Target,
        keys: &TargetKeys,
        pattern: bool,
        providers: &ByName<Arc<Provider>>,
        count: &mut usize,
    ) -> Vec<Target> {
        let Some(first) = self.first_target(target, keys, pattern, providers, *count) else { return Vec::new() };
        *count += usize::from(first.replicas);
        let replica = |(nth, provider): (usize, &Arc<Provider>)| Target {
            index: first.index + nth,
            provider: provider.clone(),
            replicas: if nth == 0 { first.replicas } else { 0 },
            ..first.clone()
        };
        first.provider.endpoints().enumerate().map(replica).collect()
    }

    fn first_target(
        &mut self,
        target: file::Target,
        keys: &TargetKeys,
        pattern: bool,
        providers: &ByName<Arc<Provider>>,
        index: usize,
    ) -> Option<Target> {
        let model = self.model(&target.model, pattern);
        let name = &target.provider;
        let provider = match providers.find(&name.value) {
            Lookup::Item(provider) => provider.clone(),
            Lookup::Wrong => return None,
            Lookup::Nobody => {
                let hint = self.did_you_mean(&name.value, providers.names());
                self.add(name.at, format!("there is no provider `{}`{hint}", name.value));
                return None;
            }
        };
        self.foreign_keys("target", provider.kind, keys.written.iter(), |kind, key| TargetKeys::belongs(key, kind.entry.protocol));
        let model = model?;
        Some(Target {
            index,
            replicas: u16::try_from(provider.endpoints().count()).unwrap_or(u16::MAX),
            pricing: self.pricing(target.price.as_ref(), &provider.kind.name, &At { at: target.model.at, value: &model }),
            model,
            weight: target.weight.value.0,
            context: target.context.map(|tokens| tokens.0),
            display_name: target.display_name.map(Into::into),
            protocol: provider.protocol.for_target(keys, target.think_tags == ThinkTags::Split),
            provider,
        })
    }

    fn model(&mut self, model: &At<String>, pattern: bool) -> Option<ModelName> {
        let text = model.value.trim();
        let stars = text.bytes().filter(|b| *b == b'*').count();
        let problem = if text.is_empty() || text.chars().any(char::is_control) {
            "`model` must be the model's name at the provider"
        } else if stars > 1 {
            "`model` may have one `*` only"
        } else if stars == 1 && !pattern {
            "`model`: a `*` has a meaning only in a route whose name has one"
        } else {
            return Some(if stars == 1 { ModelName::Pattern(text.into()) } else { ModelName::Fixed(text.into()) });
        };
        self.add(model.at, problem);
        None
    }

    fn retry(&mut self, retry: &file::Retry, targets: usize) -> Retry {
        if retry.backoff.initial > retry.backoff.max {
            self.add(retry.backoff.at, "`backoff`: `initial` must not be longer than `max`");
        }
        let on = |reason| retry.on.contains(&reason);
        Retry {
            attempts: retry.attempts.map_or(targets.clamp(1, MAX_DEFAULT_ATTEMPTS) as u32, |attempts| attempts.0),
            connect: on(Reason::Connect),
            timeout: on(Reason::Timeout),
            rate_limited: on(Reason::RateLimited),
            server_error: on(Reason::ServerError),
            credential: on(Reason::Credential),
            not_found: on(Reason::NotFound),
            context_length: on(Reason::ContextLength),
            content_filter: on(Reason::ContentFilter),
            backoff_initial: retry.backoff.initial,
            backoff_max: retry.backoff.max,
            budget: Budget { share: retry.budget.share.0, per_second: retry.budget.per_second.0 },
        }
    }

    fn ejection(&mut self, ejection: &file::Ejection) -> Ejection {
        let cooldown = &ejection.cooldown;
        if cooldown.initial.0 > cooldown.max.0 {
            self.add(cooldown.at, "`cooldown`: `initial` must not be longer than `max`");
        }
        Ejection {
            failures: ejection.failures.0,
            share: ejection.share.0,
            window: ejection.window.0,
            initial: cooldown.initial.0,
            max: cooldown.max.0,
        }
    }

    fn fields(&mut self, fields: Fields) -> Vec<(String, String)> {
        let mut list = Vec::new();
        for (name, json) in fields.0 {
            if OWN_FIELDS.contains(&name.value.as_str()) {
                self.add(name.at, format!("`{}` cannot be set by a route", name.value));
            }
            list.push((name.value, json.to_string()));
        }
        list
    }
}
