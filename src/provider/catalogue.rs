//! What is known of every kind of provider: `catalogue.yaml`, read once.
//!
//! A provider that speaks OpenAI with its own habits is an entry of data there, and nothing else; what its keys mean is
//! the closed set of [`Quirks`]. Nothing in the dialects asks which provider it is talking to.

use super::protocol::Wire;
use crate::dialect::openai::quirks::{Guided, Quirks};
use crate::yaml::read::{Read, Reader};
use crate::yaml::section::{section, words};
use crate::yaml::tree;
use crate::yaml::value::{At, Named, scalars};
use http::HeaderName;
use std::sync::LazyLock;

/// A kind of provider: what the user writes as `kind`.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// The user's word for it.
    pub name: String,
    /// What is written of it beside its quirks.
    pub entry: Entry,
    /// How the OpenAI dialect differs here.
    pub quirks: Quirks,
}

section! {
    plain
    /// A kind's entry, beside its quirks.
    Entry {
        /// What is spoken.
        protocol: Wire = "openai",
        /// The provider's own base URL, without a trailing slash; none where the operator must say it. Words in capitals
        /// (`REGION`, `RESOURCE`) stand for the provider's settings of these names.
        base_url: Option<String>,
        /// Whether a provider of this kind has an `api_key`.
        api_key: ApiKey = "required",
        /// Header that takes the key, where that is not `authorization: Bearer KEY`.
        key_header: Option<HeaderName>,
        /// Whether a provider can have an `access_token`, sent as `authorization: Bearer TOKEN`.
        access_token: bool = "false",
    }
}

words! {
    /// Whether a provider has an `api_key`.
    ApiKey {
        /// It needs one.
        Required = "required",
        /// It may have one.
        Optional = "optional",
        /// It proves who pays in another way.
        None = "none",
    }
}

scalars!(HeaderName, "the name of a header", { "type": "string" }, |name| HeaderName::from_bytes(name.as_bytes()).ok());

impl Kind {
    /// Whether the operator runs the server, so that only they know where it is and how it takes constraints.
    pub fn self_hosted(&self) -> bool {
        self.entry.base_url.is_none()
    }

    /// The quirks of a server of this kind, whose operator says how it takes constraints.
    pub fn quirks(&self, guided: Option<Guided>) -> &Quirks {
        // Two of the operator's words are two versions of vLLM; the others are other servers.
        let server = match guided {
            Some(Guided::Sglang) => named("sglang"),
            Some(Guided::LlamaCpp) => named("llama_cpp"),
            _ => None,
        };
        &server.unwrap_or(self).quirks
    }
}

/// All kinds, in the order of their names.
pub fn kinds() -> &'static [Kind] {
    static KINDS: LazyLock<Vec<Kind>> = LazyLock::new(|| parse(include_str!("catalogue.yaml")).unwrap_or_default()); // a test parses it
    &KINDS
}

/// The kind of this name.
pub fn named(name: &str) -> Option<&'static Kind> {
    kinds().iter().find(|kind| kind.name == name)
}

fn parse(text: &str) -> Result<Vec<Kind>, String> {
    let mut reader = Reader::new(&|_| None);
    let node = tree::parse(text, &mut reader.problems);
    let named = node.and_then(|node| Named::<(Entry, Quirks)>::read(&node, &mut reader));
    if let Some((at, _, message)) = reader.problems.into_sorted().into_iter().next() {
        return Err(format!("{}:{}: {message}", at.line, at.column));
    }
    let kind = |(name, entry): (At<String>, Option<(Entry, Quirks)>)| entry.map(|(entry, quirks)| Kind { name: name.value, entry, quirks });
    let mut kinds: Vec<Kind> = named.into_iter().flat_map(|named| named.entries).filter_map(kind).collect();
    kinds.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(kinds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::shared::params::Policy;
    use crate::llm::field::Field;
    use crate::yaml::value::OrNone;

    /// A configuration with a provider of this kind that has all it needs.
    fn configuration(kind: &Kind) -> String {
        let key = if kind.entry.api_key == ApiKey::Required { ", api_key: k" } else { "" };
        let base = if kind.self_hosted() { ", base_url: \"http://127.0.0.1:1/v1\"" } else { "" };
        let url = kind.entry.base_url.as_deref().unwrap_or_default();
        let settings = ["RESOURCE", "API_VERSION", "WORKSPACE"].into_iter().filter(|word| url.contains(word));
        let settings: String = settings.map(|word| format!(", {}: a-1", word.to_ascii_lowercase())).collect();
        let name = &kind.name;
        format!(
            "auth: none\nproviders: {{ p: {{ kind: {name}{key}{base}{settings} }} }}\nroutes: {{ r: {{ targets: [ {{ provider: p, model: m }} ] }} }}"
        )
    }

    #[test]
    fn every_entry_is_a_kind_that_can_be_used() {
        assert_eq!(parse(include_str!("catalogue.yaml")).as_deref(), Ok(kinds()));
        for kind in kinds().iter().filter(|kind| kind.entry.protocol == Wire::OpenAi) {
            let text = configuration(kind);
            let loaded = crate::config::parse(&text, "t.yaml", &|_| None).unwrap_or_else(|problems| panic!("{text}: {problems:?}"));
            let explained = crate::explain::explain(&loaded.snapshot.routes, "r").unwrap();
            assert!(explained.contains(&kind.name) && !explained.contains("every request is refused"), "{explained}");
        }
    }

    #[test]
    fn every_protocol_has_a_kind() {
        for wire in Wire::ALL {
            assert!(kinds().iter().any(|kind| kind.entry.protocol == *wire), "{wire:?}");
        }
    }

    /// The example of the README is an entry as it stands there.
    #[test]
    fn a_new_kind_is_a_few_lines() {
        let readme = include_str!("../../README.md").split("## A new kind of provider").nth(1).unwrap();
        let example = readme.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
        let kinds = parse(example).unwrap();
        let [acme] = &kinds[..] else { panic!("{kinds:?}") };
        assert_eq!((acme.name.as_str(), acme.entry.base_url.as_deref()), ("acme", Some("https://api.acme.example/v1")));
        assert!(named("acme").is_none(), "it is new");
        assert_eq!((acme.entry.api_key, acme.entry.protocol), (ApiKey::Required, Wire::OpenAi));
        assert_eq!(acme.quirks.policy(Field::N), Policy::Essential);
    }

    #[test]
    fn what_is_no_key_is_told() {
        assert!(parse("x: { base_ulr: y }").unwrap_err().contains("`base_ulr`"));
        assert!(parse("x: { lacks: [sed] }").unwrap_err().contains("`sed`"));
    }

    /// Whoever has an endpoint is played with it, and nobody else.
    #[test]
    #[cfg(feature = "simulator")]
    fn the_simulator_has_the_endpoints_that_the_kinds_have() {
        for (kind, base) in [
            ("openai", "/openai/v1"),
            ("together", "/together/v1"),
            ("deepseek", "/deepseek"),
            ("fireworks", "/fireworks/inference/v1"),
            ("hyperbolic", "/hyperbolic/v1"),
            ("xai", "/xai/v1"),
            ("vllm", "/vllm/v1"),
            ("sglang", "/sglang/v1"),
            ("mistral", "/mistral/v1"),
        ] {
            for endpoint in crate::llm::endpoint::Endpoint::ALL {
                let path = named(kind).unwrap().quirks.endpoint(*endpoint);
                let played = crate::simulate::plays(&format!("{base}{}", path.unwrap_or(endpoint.path())));
                assert_eq!(path.is_some(), played, "{kind} {endpoint:?}");
            }
        }
    }

    #[test]
    fn entries_say_what_they_should() {
        let kind = |name| named(name).unwrap();
        assert_eq!(kind("openai").entry.base_url.as_deref(), Some("https://api.openai.com/v1"));
        assert_eq!(kind("anthropic").entry.key_header, Some(HeaderName::from_static("x-api-key")));
        let deepseek = &kind("deepseek").quirks;
        assert_eq!((deepseek.policy(Field::Seed), deepseek.policy(Field::N)), (Policy::Hint, Policy::Essential));
        assert_eq!(deepseek.policy(Field::ChatTemplate), Policy::Essential);
        assert_eq!(kind("vllm").quirks.policy(Field::ChatTemplate), Policy::Mapped);
        let has = |name| kind(name).quirks.embeddings.0.is_some();
        assert_eq!(["openai", "mistral", "deepseek", "hyperbolic", "xai"].map(has), [true, true, false, false, false]);
        assert_eq!(kind("together").quirks.embeddings.0.as_ref().unwrap().dimensions, OrNone(None));
        assert_eq!(kind("openai_compatible").quirks(Some(Guided::Sglang)).guided, Guided::Sglang);
        assert_eq!(kind("azure_openai").entry.key_header, Some(HeaderName::from_static("api-key")));
        let tokens = kinds().iter().filter(|kind| kind.entry.access_token).map(|kind| kind.name.as_str());
        assert_eq!(tokens.collect::<Vec<_>>(), ["azure_openai", "azure_openai_deployments", "vertex"]);
        let open = kinds().iter().filter(|kind| kind.entry.api_key == ApiKey::Optional && !kind.self_hosted());
        assert_eq!(open.map(|kind| kind.name.as_str()).collect::<Vec<_>>(), ["bedrock", "lm_studio", "nvidia_nim", "ollama"]);
    }
}
