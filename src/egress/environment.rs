//! Proxies from the environment: `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY` and their lower-case spellings.

use super::no_proxy::NoProxy;
use super::proxy::Proxy;
use std::net::IpAddr;
use std::sync::Arc;

/// Proxy settings of the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    https: Option<Arc<Proxy>>,
    http: Option<Arc<Proxy>>,
    no_proxy: NoProxy,
}

impl Environment {
    /// Reads the variables. Lower case takes precedence, as in curl; an empty variable counts as unset. `HTTP_PROXY` is
    /// ignored if `REQUEST_METHOD` is set: under CGI, clients can set it with the header `Proxy`.
    ///
    /// # Errors
    /// The invalid variables, with reasons that quote no part of a URL.
    pub fn read(env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let value = |name: &str| env(name).filter(|value| !value.trim().is_empty());
        let mut proxy = |name: &'static str, upper: bool| {
            let lower = name.to_ascii_lowercase();
            let (name, text) = match value(&lower) {
                Some(text) => (lower.as_str(), text),
                None => (name, value(name).filter(|_| upper)?),
            };
            // The scheme is optional here, as in curl and Go.
            let url = if text.contains("://") { text } else { format!("http://{}", text.trim()) };
            match Proxy::parse(&url) {
                Ok(proxy) => Some(Arc::new(proxy)),
                Err(what) => {
                    problems.push(format!("the environment variable {name} {what}"));
                    None
                }
            }
        };
        let https = proxy("HTTPS_PROXY", true);
        let http = proxy("HTTP_PROXY", value("REQUEST_METHOD").is_none());
        let list = value("no_proxy").or_else(|| value("NO_PROXY")).unwrap_or_default();
        let no_proxy = match NoProxy::parse(&list) {
            Ok(no_proxy) => no_proxy,
            Err(entry) => {
                problems.push(format!(
                    "the environment variable NO_PROXY contains `{entry}`; expected a host, a domain, an address, a network like 10.0.0.0/8, or *"
                ));
                NoProxy::default()
            }
        };
        if problems.is_empty() { Ok(Self { https, http, no_proxy }) } else { Err(problems) }
    }

    /// The proxy for a destination. `None` for destinations in `NO_PROXY`, the local host, and link-local addresses,
    /// where clouds run their metadata services.
    pub fn proxy_for(&self, tls: bool, host: &str, port: u16) -> Option<&Arc<Proxy>> {
        let proxy = if tls { &self.https } else { &self.http };
        proxy.as_ref().filter(|_| !is_local(host) && !self.no_proxy.matches(host, port))
    }

    /// All configured proxies.
    pub fn proxies(&self) -> impl Iterator<Item = &Arc<Proxy>> {
        self.https.iter().chain(&self.http)
    }
}

/// Whether a host is local or link-local. RFC 6761, section 6.3: names below `localhost` resolve to the loopback
/// address.
fn is_local(host: &str) -> bool {
    match host.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V4(address)) => address.is_loopback() || address.is_link_local(),
        Ok(IpAddr::V6(address)) => address.is_loopback() || address.is_unicast_link_local(),
        Err(_) => {
            let last = host.trim_end_matches('.').rsplit('.').next();
            last.is_some_and(|last| last.eq_ignore_ascii_case("localhost"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Environment, Vec<String>> {
        Environment::read(&|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    fn shown(environment: &Environment, tls: bool, host: &str) -> Option<String> {
        environment.proxy_for(tls, host, if tls { 443 } else { 80 }).map(|proxy| proxy.to_string())
    }

    #[test]
    fn each_scheme_has_its_variable_in_either_case() {
        let none = read(&[("HTTPS_PROXY", " ")]).unwrap();
        assert_eq!((shown(&none, true, "a.example"), shown(&none, false, "a.example")), (None, None));
        let both = read(&[("HTTPS_PROXY", "http://up:1"), ("HTTP_PROXY", "plain:2")]).unwrap();
        assert_eq!(
            (shown(&both, true, "a.example").as_deref(), shown(&both, false, "a.example").as_deref()),
            (Some("up:1"), Some("plain:2"))
        );
        let lower = read(&[("https_proxy", "http://low:1"), ("HTTPS_PROXY", "http://up:1"), ("http_proxy", "low:2")]).unwrap();
        assert_eq!(
            (shown(&lower, true, "a.example").as_deref(), shown(&lower, false, "a.example").as_deref()),
            (Some("low:1"), Some("low:2"))
        );
        let cgi = [("REQUEST_METHOD", "POST"), ("HTTP_PROXY", "evil:1"), ("HTTPS_PROXY", "up:1")];
        let cgi = read(&cgi).unwrap();
        assert_eq!((shown(&cgi, true, "a.example").as_deref(), shown(&cgi, false, "a.example")), (Some("up:1"), None));
    }

    #[test]
    fn what_is_near_or_exempt_is_reached_directly() {
        let environment = read(&[("HTTPS_PROXY", "up:1"), ("HTTP_PROXY", "up:1"), ("NO_PROXY", "b.example,10.0.0.0/8")]).unwrap();
        for (host, proxied) in [
            ("a.example", true),
            ("x.b.example", false),
            ("10.1.1.1", false),
            ("11.1.1.1", true),
            ("localhost", false),
            ("gpu.LOCALHOST.", false),
            ("localhost.example", true),
            ("127.0.0.9", false),
            ("::1", false),
            ("169.254.169.254", false),
            ("fe80::1", false),
            ("::ffff:169.254.170.2", false),
        ] {
            assert_eq!(shown(&environment, true, host).is_some(), proxied, "{host}");
        }
    }

    #[test]
    fn every_variable_that_cannot_be_used_is_named_without_its_password() {
        let problems =
            read(&[("https_proxy", "https://u:hunter2@up"), ("HTTP_PROXY", "u:hunter2@up:port"), ("NO_PROXY", "10.*")]).unwrap_err();
        assert!(
            problems[0].contains("https_proxy must begin with http://") && problems[1].contains("HTTP_PROXY has a bad"),
            "{problems:?}"
        );
        assert!(problems[2].contains("NO_PROXY contains `10.*`") && !problems.concat().contains("hunter2"), "{problems:?}");
    }
}
