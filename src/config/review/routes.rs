//! Routes: tries that do not reach all targets, deadlines that never pass, and patterns that match the same names.

use super::{Review, targets};
use crate::provider::timeouts::TimeoutOverrides;
use crate::route::settings::Route;
use crate::units;
use crate::yaml::problem::Problems;
use crate::yaml::tree::{Key, Node};
use std::time::Duration;

pub(super) fn review(review: &Review<'_>, problems: &mut Problems) {
    for (provider, (_, node)) in review.snapshot.providers.iter().zip(review.entries("providers")) {
        if let Some(section) = node.get("timeouts") {
            let t = &provider.timeouts;
            let written = |key: &str, value: Duration| section.get(key).map(|_| value);
            let written = TimeoutOverrides {
                connect: written("connect", t.connect),
                first_byte: t.first_byte,
                first_token: written("first_token", t.first_token),
                between_bytes: written("between_bytes", t.between_bytes),
                total: t.total,
            };
            contradictions(&written, section, None, problems);
        }
    }
    for (route, _, node) in review.routes() {
        attempts(route, node, problems);
        if let Some(section) = node.get("timeouts") {
            contradictions(&route.timeouts, section, None, problems);
            for target in targets(route) {
                let total = target.provider.timeouts.total;
                if let (None, Some(total)) = (route.timeouts.total, total) {
                    let with = TimeoutOverrides { total: Some(total), ..route.timeouts };
                    contradictions(&with, section, Some(&target.provider.name), problems);
                }
            }
        }
    }
    patterns(review, problems);
}

/// A number of tries that was written and is below the number of targets.
fn attempts(route: &Route, node: &Node, problems: &mut Problems) {
    let all = route.targets.len() + route.fallback.len();
    let Some(written) = node.get("retry").and_then(|retry| retry.get("attempts")) else { return };
    if (route.retry.attempts as usize) < all {
        let tries = if route.retry.attempts == 1 { "1 try".to_owned() } else { format!("{} tries", route.retry.attempts) };
        let message = format!("`attempts`: {tries} cannot reach all {all} targets and fallbacks of the route `{}`", route.name);
        problems.warn(written.at, message);
    }
}

/// Deadlines that were written and never pass, because another one always passes first. `section` is where they stand;
/// `provider` is whose `total` is compared.
fn contradictions(written: &TimeoutOverrides, section: &Node, provider: Option<&str>, problems: &mut Problems) {
    let parts = [
        ("connect", written.connect),
        ("first_byte", written.first_byte),
        ("first_token", written.first_token),
        ("between_bytes", written.between_bytes),
    ];
    for (name, value) in parts {
        let (Some(value), Some(node)) = (value, section.get(name)) else { continue };
        let text = units::text(value);
        if let Some(total) = written.total.filter(|total| *total < value) {
            let of = provider.map_or(String::new(), |name| format!(" of the provider `{name}`"));
            let message = format!("`{name}`: {text} is longer than `total`{of} ({}), which always passes first", units::text(total));
            problems.warn(node.at, message);
        }
    }
    if let (Some(byte), Some(token), Some(node)) = (written.first_byte, written.first_token, section.get("first_byte"))
        && byte > token
        && provider.is_none()
    {
        let (byte, token) = (units::text(byte), units::text(token));
        problems.warn(node.at, format!("`first_byte`: {byte} is longer than `first_token` ({token}), which passes first in every stream"));
    }
}

/// Patterns that match some of the same names, neither being a special case of the other.
fn patterns(review: &Review<'_>, problems: &mut Problems) {
    let names: Vec<&Key> = review.entries("routes").iter().map(|(name, _)| name).collect();
    // The first that matches is taken.
    let patterns = &review.snapshot.routes.patterns;
    for (number, (prefix, suffix, route)) in patterns.iter().enumerate() {
        for (first_prefix, first_suffix, first) in patterns.iter().take(number) {
            let crossed = first_prefix.starts_with(prefix.as_ref()) && suffix.ends_with(first_suffix.as_ref());
            if !crossed || prefix == first_prefix || suffix == first_suffix {
                continue;
            }
            let (Some(name), Some(winner)) = (names.get(*route), names.get(*first)) else { continue };
            let message = format!(
                "the route `{}` does not get the names that `{}` matches too: the pattern with the longer beginning is preferred",
                name.text, winner.text
            );
            problems.warn(name.at, message);
        }
    }
}
