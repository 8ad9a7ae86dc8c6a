//! `NO_PROXY`: destinations that are reached without the proxy.
//!
//! There is no standard; this follows the common subset of curl and Go. A name includes its subdomains. A network
//! matches destinations given as addresses; names are not resolved for it.

use ipnet::IpNet;
use std::net::IpAddr;

/// A list of destinations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoProxy(Vec<Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    hosts: Hosts,
    /// `None` matches every port.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    All,
    Network(IpNet),
    /// In lower case, without leading and trailing dot; includes subdomains.
    Name(String),
}

impl NoProxy {
    /// Parses entries separated by commas or white space: `*`, an address, a network (`10.0.0.0/8`), or a name
    /// (optionally with a leading `.` or `*.`); all but networks may have a port.
    ///
    /// # Errors
    /// The first invalid entry.
    pub fn parse(list: &str) -> Result<Self, &str> {
        let entries = list.split(|c: char| c == ',' || c.is_whitespace()).filter(|entry| !entry.is_empty());
        entries.map(|text| entry(text).ok_or(text)).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a destination matches. `host` is a name, or an address without brackets.
    pub fn matches(&self, host: &str, port: u16) -> bool {
        let address: Option<IpAddr> = host.parse().ok();
        let host = host.trim_end_matches('.');
        self.0.iter().filter(|entry| entry.port.is_none_or(|own| own == port)).any(|entry| match (&entry.hosts, address) {
            (Hosts::All, _) => true,
            (Hosts::Network(network), Some(address)) => network.contains(&address.to_canonical()),
            (Hosts::Name(name), None) => is_within(host, name),
            (Hosts::Network(_), None) | (Hosts::Name(_), Some(_)) => false,
        })
    }
}

/// Whether `host` is `name` or one of its subdomains.
fn is_within(host: &str, name: &str) -> bool {
    let Some((rest, end)) = host.len().checked_sub(name.len()).and_then(|at| host.split_at_checked(at)) else { return false };
    end.eq_ignore_ascii_case(name) && (rest.is_empty() || rest.ends_with('.'))
}

fn entry(text: &str) -> Option<Entry> {
    if let Some(address) = address(text) {
        return Some(Entry { hosts: Hosts::Network(address.to_canonical().into()), port: None });
    }
    if let Ok(network) = text.parse::<IpNet>() {
        return Some(Entry { hosts: Hosts::Network(network), port: None });
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok().filter(|port| *port > 0)?)),
        None => (text, None),
    };
    let hosts = match address(host) {
        Some(address) => Hosts::Network(address.to_canonical().into()),
        None if host == "*" => Hosts::All,
        None => Hosts::Name(name(host)?),
    };
    Some(Entry { hosts, port })
}

/// An address, with or without brackets.
fn address(text: &str) -> Option<IpAddr> {
    text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text).parse().ok()
}

fn name(text: &str) -> Option<String> {
    let text = text.strip_prefix('*').unwrap_or(text);
    let bare = text.strip_prefix('.').unwrap_or(text).trim_end_matches('.');
    let fits = |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    // A host that ends in a number is an address (WHATWG URL), here an invalid one.
    let is_number = bare.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    (bare.split('.').all(fits) && !is_number).then(|| bare.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_entry_covers_what_curl_and_go_take_it_for() {
        for (list, host, port, covered) in [
            ("", "a.example", 443, false),
            ("*", "a.example", 443, true),
            ("*", "10.0.0.1", 443, true),
            ("*:80", "a.example", 443, false),
            ("a.example", "a.example", 443, true),
            ("A.Example", "a.EXAMPLE", 443, true),
            ("a.example", "a.example.", 443, true),
            ("a.example.", "a.example", 443, true),
            ("a.example", "b.a.example", 443, true),
            ("a.example", "ba.example", 443, false),
            ("a.example", "a.example.org", 443, false),
            (".a.example", "b.a.example", 443, true),
            (".a.example", "a.example", 443, true),
            ("*.a.example", "b.a.example", 443, true),
            ("a.example:8443", "a.example", 8443, true),
            ("a.example:8443", "a.example", 443, false),
            ("x, a.example ,y", "a.example", 443, true),
            ("x a.example", "a.example", 443, true),
            ("local", "gpu.local", 80, true),
            ("10.0.0.1", "10.0.0.1", 80, true),
            ("10.0.0.1", "10.0.0.10", 80, false),
            ("10.0.0.1:81", "10.0.0.1", 80, false),
            ("10.0.0.1:80", "10.0.0.1", 80, true),
            ("10.0.0.0/8", "10.200.3.4", 80, true),
            ("10.0.0.0/8", "11.0.0.1", 80, false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", 80, true),
            ("10.0.0.0/8", "ten.example", 80, false),
            ("0.0.1", "10.0.0.1", 80, false),
            ("2001:db8::/32", "2001:db8::7", 80, true),
            ("::1", "::1", 80, true),
            ("[::1]", "::1", 80, true),
            ("[::1]:80", "::1", 80, true),
            ("[::1]:80", "::1", 81, false),
        ] {
            let found = NoProxy::parse(list).is_ok_and(|no_proxy| no_proxy.matches(host, port));
            assert_eq!(found, covered, "{list} {host}:{port}");
        }
    }

    #[test]
    fn an_entry_that_can_match_nothing_is_named() {
        for (list, entry) in [
            ("a, 10.0.0.0/33", "10.0.0.0/33"),
            ("10.0.*", "10.0.*"),
            ("192.168.1", "192.168.1"),
            ("a.example:port", "a.example:port"),
            ("a.example:0", "a.example:0"),
            ("http://a.example", "http://a.example"),
            ("<local>", "<local>"),
            ("a..b", "a..b"),
            (".", "."),
        ] {
            assert_eq!(NoProxy::parse(list), Err(entry), "{list}");
        }
    }
}
