//! A target for the tests of the dialects.

use crate::provider::catalogue::Quirks;
use crate::provider::timeouts::Timeouts;
use crate::provider::{BaseUrl, Credential, HttpVersion, Kind, ModelName, Provider, Settings, Target, TlsOptions};
use http::HeaderValue;
use std::sync::Arc;
use std::time::Duration;

/// The model `m` at a provider `p` of this kind.
pub fn target(kind: Kind, settings: Settings) -> Target {
    let second = Duration::from_secs(1);
    let provider = Provider {
        index: 0,
        name: "p".into(),
        kind,
        base: BaseUrl {
            tls: true,
            socket: None,
            host: "h".into(),
            port: 443,
            authority: HeaderValue::from_static("h"),
            prefix: "".into(),
            query: "".into(),
        },
        endpoint: 0,
        endpoint_name: "p".into(),
        replicas: Vec::new(),
        credential: Credential::None,
        headers: Vec::new(),
        timeouts: Timeouts { connect: second, first_byte: Some(second), first_token: second, between_bytes: second, total: None },
        tls: TlsOptions { ca: None, verify: true, server_name: None, client: None },
        egress: Default::default(),
        http: HttpVersion::Auto,
        settings,
        max_connections: None,
        limits: Vec::new(),
        quirks: Quirks::default(),
    };
    Target {
        index: 0,
        provider: Arc::new(provider),
        model: ModelName::Fixed("m".into()),
        weight: 1,
        price: None,
        replicas: 1,
        context: None,
        display_name: None,
        default_max_tokens: None,
        structured_output: Default::default(),
        format: Default::default(),
        inference_component: None,
        split_think_tags: false,
    }
}
