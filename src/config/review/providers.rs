//! Providers that no route uses, and base URLs without the path that their kind has.

use super::{Review, targets};
use crate::provider::BaseUrl;
use crate::provider::catalogue::Kind;
use crate::yaml::problem::Problems;
use crate::yaml::tree::Node;
use std::collections::HashSet;

pub(super) fn review(review: &Review<'_>, problems: &mut Problems) {
    let used: HashSet<usize> = review.snapshot.routes.iter().flat_map(|route| targets(route)).map(|target| target.provider.index).collect();
    for (provider, (name, node)) in review.snapshot.providers.iter().zip(review.entries("providers")) {
        if !used.contains(&provider.index) {
            problems.warn(name.at, format!("no route uses the provider `{}`", provider.name));
        }
        let listed = node.get("base_urls").map_or(&[][..], Node::items);
        for (server, url) in provider.endpoints().zip(node.get("base_url").into_iter().chain(listed)) {
            if let Some(usual) = usual_path(server.kind).filter(|_| server.base.prefix.is_empty()) {
                let at = |path: &str| BaseUrl { prefix: path.into(), ..server.base.clone() };
                let path = server.protocol.dialect().quirks().map_or("", |quirks| &quirks.path);
                let (asked, meant) = (at(path), at(usual));
                let key = if listed.is_empty() { "base_url" } else { "base_urls" };
                problems.warn(url.at, format!("`{key}` has no path, so that requests go to {asked}; probably `{meant}` is meant"));
            }
        }
    }
}

/// The path of the base URLs of a kind: that of the provider's own, or the one below which the servers of the kind serve.
fn usual_path(kind: &Kind) -> Option<&str> {
    let Some(url) = kind.entry.base_url.as_deref() else { return (kind.name != "openai_compatible").then_some("/v1") };
    let (_, rest) = url.split_once("://")?;
    let (_, path) = rest.split_at_checked(rest.find('/')?)?;
    path.split('?').next()
}
