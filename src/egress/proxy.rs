//! An HTTP proxy: address and credentials.

use super::authority;
use crate::percent;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Uri};
use std::fmt;
use zeroize::Zeroizing;

/// Port of a URL without one.
const DEFAULT_PORT: u16 = 3128;

/// A proxy. Displayed as `host:port`, without its credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    host: Box<str>,
    port: u16,
    /// Marked as sensitive.
    authorization: Option<HeaderValue>,
}

impl Proxy {
    /// Parses `http://[user[:password]@]host[:port]`, user and password percent-encoded.
    ///
    /// # Errors
    /// What is invalid, without quoting the URL.
    pub fn parse(url: &str) -> Result<Self, &'static str> {
        let url = url.trim();
        let (scheme, rest) = url.split_once("://").ok_or("is not a URL like http://user:password@proxy.internal:3128")?;
        if !scheme.eq_ignore_ascii_case("http") {
            return Err(match scheme.to_ascii_lowercase().as_str() {
                "https" => "must begin with http://: a proxy that is itself reached over TLS is not supported",
                "socks4" | "socks4a" | "socks5" | "socks5h" => "must begin with http://: SOCKS is not supported",
                _ => "must begin with http://",
            });
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        // An unencoded `/`, `?` or `#` in a password would end the authority early.
        if rest.contains(['/', '?', '#']) {
            return Err("must end after the port; in a user name or password write / as %2F, ? as %3F, # as %23");
        }
        let (user_info, host_and_port) = match rest.rsplit_once('@') {
            Some((user_info, host)) => (Some(user_info), host),
            None => (None, rest),
        };
        let uri: Uri = format!("http://{host_and_port}").parse().map_err(|_| "has a bad host or port")?;
        let authority = uri.authority().ok_or("has no host")?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err("has no host");
        }
        let port = match authority.port_u16() {
            Some(port) if port > 0 => port,
            None if authority.as_str() == authority.host() => DEFAULT_PORT,
            _ => return Err("has a bad port"),
        };
        Ok(Self { host: host.into(), port, authorization: user_info.map(basic).transpose()? })
    }

    /// Name, or address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Value of `proxy-authorization`; marked as sensitive.
    pub const fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }

    /// `host:port`.
    pub fn authority(&self) -> String {
        authority(&self.host, self.port)
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.authority())
    }
}

/// Credentials for basic authentication (RFC 7617) from a URL's user info.
fn basic(user_info: &str) -> Result<HeaderValue, &'static str> {
    let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
    let decoded = |text| percent::decode(text).map(|text| Zeroizing::new(text.into_owned()));
    let (Some(user), Some(password)) = (decoded(user), decoded(password)) else {
        return Err("has a user name or password with a bad %-encoding; write % as %25");
    };
    // RFC 7617, section 2: "a user-id containing a colon character is invalid".
    if user.contains(':') {
        return Err("has a user name with a colon, which basic authentication cannot send");
    }
    if user.chars().chain(password.chars()).any(char::is_control) {
        return Err("has a user name or password with a control character");
    }
    let credentials = Zeroizing::new(format!("{}:{}", *user, *password));
    let value = Zeroizing::new(format!("Basic {}", STANDARD.encode(credentials.as_bytes())));
    let mut value = HeaderValue::from_str(&value).map_err(|_| "has a user name or password that a header cannot carry")?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(url: &str) -> Option<String> {
        let proxy = Proxy::parse(url).unwrap();
        let value = proxy.authorization()?.to_str().unwrap().strip_prefix("Basic ").unwrap().to_owned();
        Some(String::from_utf8(STANDARD.decode(value).unwrap()).unwrap())
    }

    #[test]
    fn a_url_is_a_host_a_port_and_an_account() {
        for (url, shown, credentials) in [
            ("http://proxy:8080", "proxy:8080", None),
            (" HTTP://proxy.internal/ ", "proxy.internal:3128", None),
            ("http://[2001:db8::1]:3128", "[2001:db8::1]:3128", None),
            ("http://user:pass@10.0.0.1:1", "10.0.0.1:1", Some("user:pass")),
            ("http://token@proxy", "proxy:3128", Some("token:")),
            ("http://us%40er:p%3Aa%2Fs%25s@proxy", "proxy:3128", Some("us@er:p:a/s%s")),
            ("http://user:p@ss@proxy", "proxy:3128", Some("user:p@ss")),
            ("http://user:a:b@proxy", "proxy:3128", Some("user:a:b")),
        ] {
            assert_eq!(Proxy::parse(url).unwrap().to_string(), shown, "{url}");
            assert_eq!(account(url).as_deref(), credentials, "{url}");
        }
    }

    #[test]
    fn what_is_no_proxy_is_said_without_its_password() {
        for (url, what) in [
            ("", "is not a URL"),
            ("proxy:3128", "is not a URL"),
            ("https://user:hunter2@proxy", "over TLS"),
            ("socks5://user:hunter2@proxy", "SOCKS"),
            ("ftp://proxy", "must begin with http://"),
            ("http://", "host"),
            ("http://user:hunter2@", "host"),
            ("http://user:hun/ter2@proxy", "%2F"),
            ("http://proxy/path", "must end after the port"),
            ("http://proxy:0", "port"),
            ("http://proxy:99999", "port"),
            ("http://proxy:hunter2", "port"),
            ("http://user:hun%ter2@proxy", "%-encoding"),
            ("http://us%3Aer:hunter2@proxy", "colon"),
            ("http://user:hunter2%0d%0ax@proxy", "control character"),
        ] {
            let said = Proxy::parse(url).unwrap_err();
            assert!(said.contains(what) && !said.contains("hunter2"), "{url}: {said}");
        }
    }

    #[test]
    fn a_proxy_is_shown_without_its_account() {
        let proxy = Proxy::parse("http://user:hunter2@proxy:1").unwrap();
        let shown = format!("{proxy} {proxy:?}");
        assert!(!shown.contains("hunter2") && !shown.contains(&STANDARD.encode("user:hunter2")), "{shown}");
    }
}
