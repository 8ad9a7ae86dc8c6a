//! The wire protocols: each dialect with its settings. A further one is a line of `protocols!` and a folder of its own.

use crate::dialect::Dialect;
use crate::dialect::anthropic::Anthropic;
use crate::dialect::bedrock::Bedrock;
use crate::dialect::gemini::{Gemini, Vertex};
use crate::dialect::mistral::Mistral;
use crate::dialect::openai::OpenAi;
use crate::dialect::sagemaker::SageMaker;
use crate::dialect::{Configure, Setup};
use crate::yaml::problem::Position;
use crate::yaml::read::Reader;
use crate::yaml::section::{Entries, FieldSchema, Section, words};
use std::borrow::Cow;

/// Makes the enum of the protocols, the sections of their keys, and what asks one of them.
macro_rules! protocols {
    ($($(#[doc = $doc:literal])+ $name:ident = $word:literal, $field:ident;)+) => {
        /// A wire protocol with the settings of a target, or of a provider for targets that say nothing themselves.
        #[derive(Clone)]
        pub enum Protocol { $($(#[doc = $doc])+ $name($name)),+ }

        words! {
            /// A wire protocol, as the catalogue names it.
            Wire { $($(#[doc = $doc])+ $name = $word),+ }
        }

        own_keys! {
            /// The keys of a provider that only some protocols have.
            ProviderKeys: ProviderKeys { $($name $field),+ }
        }

        own_keys! {
            /// The keys of a target that only some protocols have.
            TargetKeys: TargetKeys { $($name $field),+ }
        }

        impl Protocol {
            /// The protocol of a provider. `None` after a problem.
            pub fn configure(wire: Wire, setup: &mut Setup<'_>, keys: &ProviderKeys, cx: &mut Reader<'_>) -> Option<Self> {
                match wire { $(Wire::$name => $name::configure(setup, &keys.$field, cx).map(Self::$name)),+ }
            }

            /// The same with the settings of a target.
            pub fn for_target(&self, keys: &TargetKeys, split_think_tags: bool) -> Self {
                match self { $(Self::$name(dialect) => Self::$name(dialect.for_target(&keys.$field, split_think_tags))),+ }
            }

            /// What writes requests and reads answers.
            pub fn dialect(&self) -> &dyn Dialect {
                match self { $(Self::$name(dialect) => dialect),+ }
            }
        }
    };
}

/// A section with the keys of all protocols, each of which reads its own.
macro_rules! own_keys {
    ($(#[doc = $doc:literal])+ $section:ident: $type:ident { $($name:ident $field:ident),+ }) => {
        $(#[doc = $doc])+
        pub struct $section {
            /// Those that were written with a value, and where.
            pub written: Vec<(&'static str, Position)>,
            $(pub(crate) $field: <$name as Configure>::$type),+
        }

        impl $section {
            /// Whether a key belongs to a protocol.
            pub fn belongs(key: &str, wire: Wire) -> bool {
                match wire { $(Wire::$name => <$name as Configure>::$type::keys().contains(&key)),+ }
            }
        }

        impl Section for $section {
            fn keys() -> Cow<'static, [&'static str]> {
                let mut keys = Vec::new();
                $(keys.extend_from_slice(&<$name as Configure>::$type::keys());)+
                keys.sort_unstable();
                keys.dedup();
                keys.into()
            }

            fn of(entries: &Entries<'_>, cx: &mut Reader<'_>) -> Option<Self> {
                let written = entries.all_written(&Self::keys());
                $(let $field = Section::of(entries, cx);)+
                Some(Self { written, $($field: $field?),+ })
            }

            fn docs() -> &'static [&'static str] {
                &[$($doc),+]
            }

            fn fields() -> Vec<FieldSchema> {
                let mut fields = Vec::new();
                $(fields.extend(<$name as Configure>::$type::fields());)+
                fields
            }
        }
    };
}

protocols! {
    /// OpenAI chat completions, of everyone who speaks them.
    OpenAi = "openai", openai;
    /// Mistral's chat completions.
    Mistral = "mistral", mistral;
    /// Anthropic's Messages API.
    Anthropic = "anthropic", anthropic;
    /// AWS Bedrock's Converse.
    Bedrock = "bedrock", bedrock;
    /// AWS SageMaker's runtime.
    SageMaker = "sagemaker", sagemaker;
    /// Gemini's protocol at Google AI Studio.
    Gemini = "gemini", gemini;
    /// GCP Vertex AI.
    Vertex = "vertex", vertex;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Provider;
    use std::collections::HashMap;
    use std::sync::Arc;

    fn provider(section: &str) -> Arc<Provider> {
        let text =
            format!("auth: none\nproviders: {{ p: {{ {section} }} }}\nroutes: {{ r: {{ targets: [ {{ provider: p, model: m }} ] }} }}");
        crate::config::parse(&text, "t", &|_| None).unwrap_or_else(|problems| panic!("{text}: {problems:?}")).snapshot.providers[0].clone()
    }

    #[test]
    fn regions_and_locations_are_part_of_the_default_host() {
        for (section, want) in [
            ("kind: bedrock, region: us-east-1", "https://bedrock-runtime.us-east-1.amazonaws.com"),
            ("kind: sagemaker, region: cn-north-1", "https://runtime.sagemaker.cn-north-1.amazonaws.com.cn"),
            ("kind: vertex, project: p, location: us-central1", "https://us-central1-aiplatform.googleapis.com"),
            ("kind: vertex, project: p, location: global", "https://aiplatform.googleapis.com"),
            ("kind: vertex, project: p, location: eu", "https://aiplatform.eu.rep.googleapis.com"),
            ("kind: azure_openai, resource: r-1, api_key: k", "https://r-1.openai.azure.com/openai/v1"),
            ("kind: azure_openai, resource: r-1, access_token: t", "https://r-1.openai.azure.com/openai/v1"),
            ("kind: databricks, workspace: dbc-1.cloud.databricks.com, api_key: k", "https://dbc-1.cloud.databricks.com/serving-endpoints"),
        ] {
            assert_eq!(provider(section).base.to_string(), want);
        }
    }

    #[test]
    fn a_query_of_the_kinds_belongs_to_a_base_url_without_one() {
        let query = |section: &str| provider(&format!("kind: azure_openai_deployments, api_key: k, {section}")).base.query.to_string();
        assert_eq!(query("resource: r, api_version: 2024-10-21"), "api-version=2024-10-21");
        assert_eq!(query("base_url: \"https://h/openai\", api_version: 2024-10-21"), "api-version=2024-10-21");
        assert_eq!(query("base_url: \"https://h/openai?api-version=v9\""), "api-version=v9");
        let two = "base_urls: [\"https://a/openai\", \"https://b/openai?api-version=v9\"], api_version: v1";
        let provider = provider(&format!("kind: azure_openai_deployments, api_key: k, {two}"));
        let queries: Vec<_> = provider.endpoints().map(|server| server.base.query.to_string()).collect();
        assert_eq!(queries, ["api-version=v1", "api-version=v9"]);
    }

    #[test]
    fn settings_of_a_base_url_are_asked_for_where_they_are_needed() {
        let problems = |section: &str| {
            let text =
                format!("auth: none\nproviders: {{ p: {{ {section} }} }}\nroutes: {{ r: {{ targets: [ {{ provider: p, model: m }} ] }} }}");
            let problems = crate::config::parse(&text, "t", &|_| None).err().unwrap_or_default();
            problems.iter().map(|problem| (problem.at.unwrap().column, problem.message.clone())).collect::<Vec<_>>()
        };
        for (section, column, message) in [
            ("kind: azure_openai, api_key: k", 17, "`resource` is missing: a provider of kind azure_openai needs it"),
            ("kind: azure_openai, api_key: k, resource: a.b", 61, "`resource` is a name of letters, digits and `-`"),
            (
                "kind: azure_openai, api_key: k, resource: r, api_version: v1",
                64,
                "`api_version` is no key of a provider of kind azure_openai; it belongs to azure_openai_deployments",
            ),
            ("kind: azure_openai_deployments, api_key: k, resource: r", 17, "`api_version` is missing"),
            (
                "kind: azure_openai, api_key: k, resource: r, base_url: \"https://h/v1\"",
                61,
                "`resource` has no effect, because `base_url` says it",
            ),
            (
                "kind: azure_openai, resource: r",
                17,
                "`api_key` is missing: a provider of kind azure_openai needs it, or `api_key_file`, or `access_token`",
            ),
            ("kind: azure_openai, resource: r, api_key: k, access_token: t", 78, "`access_token` and `api_key` exclude each other"),
            (
                "kind: openai, access_token: t",
                33,
                "`access_token` is no key of a provider of kind openai; it belongs to azure_openai, azure_openai_deployments, vertex",
            ),
            ("kind: databricks, api_key: k, workspace: \"https://dbc.cloud.databricks.com\"", 60, "`workspace` is a host like dbc-"),
        ] {
            let found = problems(section);
            assert_eq!(found.len(), 1, "{section}: {found:?}");
            assert!(found[0].1.starts_with(message), "{section}: {found:?}");
            assert_eq!(found[0].0, column, "{section}: {found:?}");
        }
    }

    /// Several protocols may have a key; the schema of the configuration describes it once.
    #[test]
    fn a_key_is_the_same_whichever_protocol_has_it() {
        for fields in [ProviderKeys::fields(), TargetKeys::fields()] {
            let mut seen = HashMap::new();
            for field in fields {
                let known = seen.entry(field.name).or_insert_with(|| (field.docs, field.schema.clone()));
                assert_eq!(*known, (field.docs, field.schema), "{}", field.name);
                assert!(!field.required, "{}: other protocols do not have it", field.name);
            }
        }
    }

    #[test]
    fn a_key_belongs_to_the_protocols_that_read_it() {
        let wires =
            |belongs: fn(&str, Wire) -> bool, key| Wire::ALL.iter().filter(move |wire| belongs(key, **wire)).map(|wire| wire.name());
        let of_provider = |key| wires(ProviderKeys::belongs, key).collect::<Vec<_>>();
        let of_target = |key| wires(TargetKeys::belongs, key).collect::<Vec<_>>();
        assert_eq!(of_provider("region"), ["bedrock", "sagemaker"]);
        assert_eq!(of_provider("returns"), ["openai", "sagemaker", "vertex"]);
        assert_eq!(of_provider("default_max_tokens"), ["anthropic"]);
        assert_eq!(of_provider("access_token"), ["openai", "vertex"]); // of the first, the kinds of which the catalogue says so
        assert_eq!(of_target("default_max_tokens"), ["anthropic", "bedrock", "sagemaker", "vertex"]);
        assert_eq!(of_target("structured_output"), ["anthropic", "bedrock", "vertex"]);
        assert!(of_target("returns").is_empty());
    }
}
