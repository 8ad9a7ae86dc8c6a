//! Where spans go.

use super::base_url::base_url;
use super::{Builder, MAX_NAME};
use crate::config::file;
use crate::egress::Egress;
use crate::telemetry::spans::{PATH, Tracing};
use crate::telemetry::trace::Sampling;
use crate::yaml::value::At;
use http::Uri;

/// The port of OTLP over gRPC, which is not spoken.
const GRPC_PORT: u16 = 4317;

impl Builder<'_> {
    pub(super) fn tracing(&mut self, tracing: file::Tracing, egress: &Egress) -> Option<Tracing> {
        let endpoint = self.endpoint(&tracing.otlp);
        let headers = self.headers(tracing.headers);
        let service_name = tracing.service_name.value;
        if service_name.is_empty() || service_name.len() > MAX_NAME || service_name.contains(char::is_control) {
            self.add(tracing.service_name.at, format!("`service_name` has 1 to {MAX_NAME} bytes, without control characters"));
        }
        let (uri, shown) = endpoint?;
        let sampling = Sampling::of_millionths(tracing.sample.0);
        Some(Tracing { uri, shown, headers, sampling, service_name, compression: tracing.compression, egress: egress.clone() })
    }

    /// Where batches are posted, and its name in messages.
    fn endpoint(&mut self, otlp: &At<String>) -> Option<(Uri, String)> {
        let url = otlp.value.trim();
        let problem = match (url.strip_suffix('/').unwrap_or(url).strip_suffix(PATH), base_url(url)) {
            (Some(base), Ok(_)) => format!("`otlp` is a base URL, to which {PATH} is appended; write `{base}`"),
            _ if !url.starts_with("http://") && !url.starts_with("https://") => {
                "`otlp` must begin with http:// or https://, like http://127.0.0.1:4318".to_owned()
            }
            (_, Err(_)) if url.contains('@') => "`otlp` must not hold a user or password; use `headers`".to_owned(),
            (_, Err(what)) => format!("`otlp` {what}"),
            (None, Ok(base)) => {
                if base.port == GRPC_PORT {
                    let message =
                        format!("`otlp`: {GRPC_PORT} is the port of OTLP over gRPC; OTLP over HTTP, which is spoken here, has 4318");
                    self.reader.problems.warn(otlp.at, message);
                }
                let scheme = if base.tls { "https" } else { "http" };
                let authority = base.authority.to_str().unwrap_or_default();
                match format!("{scheme}://{authority}{}", base.path_and_query(PATH)).parse() {
                    Ok(uri) => return Some((uri, base.to_string())),
                    Err(_) => "`otlp` is not a URL like http://127.0.0.1:4318".to_owned(),
                }
            }
        };
        self.add(otlp.at, problem);
        None
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Loaded, parse};

    fn read(tracing: &str) -> Result<Loaded, Vec<String>> {
        let text = format!(
            "tracing: {tracing}\nproviders: {{ p: {{ kind: openai, api_key: k }} }}\n\
             routes: {{ r: {{ targets: [ {{ provider: p, model: m }} ] }} }}\nauth: none\n"
        );
        let env = |name: &str| (name == "TOKEN").then(|| "Bearer correct-horse-battery".to_owned());
        parse(&text, "t.yaml", &env).map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn spans_go_to_the_path_below_the_base_url() {
        for (otlp, uri, shown) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces", "http://127.0.0.1:4318"),
            ("https://h/otlp/", "https://h/otlp/v1/traces", "https://h/otlp"),
            ("https://h:443/?key=k", "https://h/v1/traces?key=k", "https://h?…"),
        ] {
            let loaded = read(&format!("{{ otlp: \"{otlp}\" }}")).unwrap_or_else(|problems| panic!("{otlp}: {problems:?}"));
            let tracing = loaded.snapshot.tracing.unwrap();
            assert_eq!((tracing.uri.to_string().as_str(), tracing.shown.as_str()), (uri, shown));
            assert_eq!((tracing.service_name.as_str(), tracing.headers.len()), ("tidegate", 0));
        }
    }

    #[test]
    fn what_cannot_be_traced_is_told_with_its_place() {
        for (tracing, place, what) in [
            ("{}", "1:10", "`otlp` is missing"),
            ("{ otlp: \"127.0.0.1:4318\" }", "1:18", "must begin with http:// or https://"),
            ("{ otlp: \"unix:/run/otel.sock\" }", "1:18", "must begin with http:// or https://"),
            ("{ otlp: \"http://u:correct-horse@h\" }", "1:18", "use `headers`"),
            ("{ otlp: \"http://h:0\" }", "1:18", "`otlp` has a bad port"),
            ("{ otlp: \"http://h/v1/traces\" }", "1:18", "write `http://h`"),
            ("{ otlp: \"http://h\", sample: 1.5 }", "1:38", "a share from 0 to 1"),
            ("{ otlp: \"http://h\", sample: -1 }", "1:38", "a share from 0 to 1"),
            ("{ otlp: \"http://h\", headers: { \"a b\": c } }", "1:41", "`a b` is no name of a header"),
            ("{ otlp: \"http://h\", headers: { host: c } }", "1:41", "the gateway's own"),
            ("{ otlp: \"http://h\", service_name: \"\" }", "1:44", "`service_name` has 1 to"),
            ("{ otlp: \"http://h\", compression: zstd }", "1:43", "none, gzip"),
            ("{ otlp: \"http://h\", protocol: grpc }", "1:30", "unknown key `protocol`"),
        ] {
            let problems = read(tracing).err().unwrap_or_else(|| panic!("{tracing}"));
            let told = matches!(&problems[..], [one] if one.starts_with(&format!("t.yaml:{place}: ")) && one.contains(what));
            assert!(told && !problems.concat().contains("correct-horse"), "{tracing}: {problems:?}");
        }
    }

    #[test]
    fn grpcs_port_is_warned_of_and_headers_are_secrets() {
        let loaded = read("{ otlp: \"http://h:4317\", headers: { authorization: \"${TOKEN}\" } }").unwrap_or_else(|p| panic!("{p:?}"));
        assert!(loaded.warnings.iter().any(|warning| warning.message.contains("OTLP over gRPC")));
        assert_eq!(crate::redact::redact("its correct-horse-battery"), "its [redacted]");
    }
}
