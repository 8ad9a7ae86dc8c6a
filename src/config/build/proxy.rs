//! Proxies: which one a provider names itself, and what the environment names for the others.

use super::{Builder, written};
use crate::config::file;
use crate::egress::Egress;
use crate::egress::environment::Environment;
use crate::egress::proxy::Proxy;
use std::sync::Arc;

impl Builder<'_> {
    /// What holds for the connections of providers that say nothing of proxies themselves.
    pub(super) fn egress(&mut self, server: &file::Server) -> Egress {
        let Some(at) = written(&server.written, "proxy_from_environment").filter(|_| server.proxy_from_environment) else {
            return Egress::Direct;
        };
        match Environment::read(self.reader.env) {
            Ok(environment) => Egress::Environment(Arc::new(environment)),
            Err(problems) => {
                problems.into_iter().for_each(|problem| self.add(at, problem));
                Egress::Direct
            }
        }
    }

    /// What a provider says of proxies itself.
    pub(super) fn proxy(&mut self, provider: &file::Provider) -> Option<Egress> {
        let (at, url, key) = match (&provider.proxy, &provider.proxy_file) {
            (Some(_), Some(path)) => {
                self.add(path.at, "`proxy` and `proxy_file` exclude each other; write one of them");
                return None;
            }
            (Some(url), None) => (url.at, self.reader.secret(&url.value)?, "`proxy`"),
            (None, Some(path)) => (path.at, self.reader.secret_file(path)?, "the URL in the file of `proxy_file`"),
            (None, None) => return None,
        };
        if url.expose().trim() == "none" {
            return Some(Egress::Direct);
        }
        match Proxy::parse(url.expose()) {
            Ok(_) if provider.base_url.as_ref().is_some_and(|url| url.value.trim().starts_with("unix:")) => {
                self.add(at, format!("{key} has no meaning for a Unix socket, which is on this machine; leave it out"));
                None
            }
            Ok(proxy) => Some(Egress::Through(Arc::new(proxy))),
            Err(what) => {
                self.add(at, format!("{key} {what}"));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::parse;
    use crate::dir::Dir;
    use crate::provider::Provider;
    use std::sync::Arc;

    const VARIABLES: [(&str, &str); 4] = [
        ("HTTPS_PROXY", "http://env:correct-horse@secure.internal:1"),
        ("HTTP_PROXY", "plain.internal:2"),
        ("NO_PROXY", "10.0.0.0/8"),
        ("OWN_PROXY", "http://own:battery-staple@own.internal:3"),
    ];

    fn text(server: &str, provider: &str) -> String {
        format!(
            "server: {{ {server} }}\nproviders:\n  p: {{ {provider} }}\nroutes: {{ r: {{ targets: [ {{ provider: p, model: m }} ] }} }}\nauth: none\n"
        )
    }

    fn read(text: &str) -> Result<Arc<Provider>, Vec<String>> {
        let env = |name: &str| VARIABLES.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        match parse(text, "t.yaml", &env) {
            Ok(loaded) => Ok(loaded.snapshot.providers[0].clone()),
            Err(problems) => Err(problems.iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn a_provider_goes_through_its_own_proxy_then_through_that_of_the_environment() {
        let environment = "proxy_from_environment: true";
        for (server, provider, proxy, forwards) in [
            ("", "kind: openai, api_key: k", None, false),
            (environment, "kind: openai, api_key: k", Some("secure.internal:1"), false),
            (environment, "kind: vllm, base_url: \"http://gpu.internal/v1\"", Some("plain.internal:2"), true),
            (environment, "kind: vllm, base_url: \"http://gpu.internal/v1\", http: 2", Some("plain.internal:2"), false),
            (environment, "kind: vllm, base_url: \"http://10.0.0.7/v1\"", None, false),
            (environment, "kind: vllm, base_url: \"http://127.0.0.1/v1\"", None, false),
            (environment, "kind: vllm, base_url: \"unix:/run/llm.sock\"", None, false),
            (environment, "kind: openai, api_key: k, proxy: none", None, false),
            (environment, "kind: openai, api_key: k, proxy: \"${OWN_PROXY}\"", Some("own.internal:3"), false),
            ("", "kind: vllm, base_url: \"http://127.0.0.1/v1\", proxy: \"${OWN_PROXY}\"", Some("own.internal:3"), true),
        ] {
            let read = read(&text(server, provider)).unwrap_or_else(|problems| panic!("{provider}: {problems:?}"));
            assert_eq!(read.proxy().map(ToString::to_string).as_deref(), proxy, "{server} {provider}");
            assert_eq!(read.forward_proxy().is_some(), forwards, "{server} {provider}");
        }
    }

    #[test]
    fn a_proxy_that_cannot_be_used_is_told_with_its_place_and_without_its_password() {
        let unusable = "proxy_from_environment: true";
        for (server, provider, place, what) in [
            ("", "kind: openai, api_key: k, proxy: proxy", "3:41", "`proxy` is not a URL like http://user:password@"),
            ("", "kind: openai, api_key: k, proxy: \"https://u:correct-horse@h\"", "3:41", "`proxy` must begin with http://"),
            ("", "kind: openai, api_key: k, proxy: \"socks5://u:correct-horse@h\"", "3:41", "SOCKS"),
            ("", "kind: openai, api_key: k, proxy: \"http://u:correct-horse/x@h\"", "3:41", "%2F"),
            ("", "kind: openai, api_key: k, proxy_file: /none", "3:46", "cannot read the file"),
            ("", "kind: openai, api_key: k, proxy_file: /none, proxy: none", "3:46", "exclude each other"),
            ("", "kind: vllm, base_url: \"unix:/run/x\", proxy: \"http://h\"", "3:52", "no meaning for a Unix socket"),
            ("", "kind: vllm, base_url: \"unix:/run/x\", http: 2", "3:45", "`http: 2` is not possible over a Unix socket"),
        ] {
            let problems = read(&text(server, provider)).err().unwrap();
            let told = matches!(&problems[..], [one] if one.starts_with(&format!("t.yaml:{place}: ")) && one.contains(what));
            assert!(told && !problems.concat().contains("correct-horse"), "{provider}: {problems:?}");
        }
        let env = |name: &str| (name == "NO_PROXY").then(|| "10.*".to_owned());
        let problems = parse(&text(unusable, "kind: openai, api_key: k"), "t.yaml", &env).err().unwrap();
        assert_eq!(problems[0].to_string().split(": ").next(), Some("t.yaml:1:11"));
        assert!(problems.len() == 1 && problems[0].message.contains("NO_PROXY contains `10.*`"), "{problems:?}");
    }

    #[test]
    fn a_file_holds_the_proxy_and_its_password_is_known_as_a_secret() {
        let dir = Dir::new();
        let file = dir.write("proxy", "http://own:tr0ub4dor-and-3@file.internal:4\n");
        let text = text("", &format!("kind: openai, api_key: k, proxy_file: {}", file.display()));
        let loaded = parse(&text, "t.yaml", &|_| None).unwrap_or_else(|problems| panic!("{problems:?}"));
        assert_eq!(loaded.files, [file]);
        assert_eq!(loaded.snapshot.providers[0].proxy().unwrap().to_string(), "file.internal:4");
        assert_eq!(crate::redact::redact("its tr0ub4dor-and-3"), "its [redacted]");
    }
}
