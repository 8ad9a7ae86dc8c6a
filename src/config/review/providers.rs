//! Providers that no route uses, and base URLs without the path that their kind has.

use super::{Review, targets};
use crate::config::problem::Problems;
use crate::provider::catalogue::entry;
use crate::provider::{BaseUrl, Kind};
use std::collections::HashSet;

pub(super) fn review(review: &Review<'_>, problems: &mut Problems) {
    let used: HashSet<usize> = review.snapshot.routes.iter().flat_map(|route| targets(route)).map(|target| target.provider.index).collect();
    for (provider, (name, node)) in review.snapshot.providers.iter().zip(review.entries("providers")) {
        if !used.contains(&provider.index) {
            problems.warn(name.at, format!("no route uses the provider `{}`", provider.name));
        }
        let written = node.get("base_url").filter(|_| provider.base.prefix.is_empty());
        if let (Some(url), true) = (written, has_v1(provider.kind)) {
            let at = |path: &str| BaseUrl { prefix: path.into(), ..provider.base.clone() };
            let (asked, meant) = (at(&provider.quirks.path), at("/v1"));
            let message = format!("`base_url` has no path, so that requests go to {asked}; probably `{meant}` is meant");
            problems.warn(url.at, message);
        }
    }
}

/// Whether the base URLs of a kind end in `/v1`: the provider's own does, or the servers of the kind serve nothing elsewhere.
fn has_v1(kind: Kind) -> bool {
    let entry = entry(kind);
    entry.base_url.ends_with("/v1") || entry.self_hosted() && kind != Kind::OpenAi("openai_compatible")
}
