//! Which web pages may ask, and under which names the broker answers.
//!
//! Whoever reaches the port may do everything, so it listens on the loopback address unless it is told otherwise. But a browser on the same machine
//! reaches it too, and asks for every page that it shows: a page of another site can send a form or a plain request anywhere, and one
//! whose name suddenly leads to 127.0.0.1 (DNS rebinding) is of the broker's own site, as far as the browser can tell. The browser
//! says in `Origin` whose page asks, and in `Host` which name it believes to ask; neither can be set by a page.
//!
//! | the request | is answered if |
//! |---|---|
//! | names a `Host`, and the port listens on the loopback address or `http-hosts` is set | that is `localhost`, an IP address, or one of `http-hosts` |
//! | has an `Origin` | it is the host that is asked, one of `http-hosts`, or one of `http-cors-origins` |
//! | has neither | always: no browser asks like that |
//!
//! What is answered is never taken for a script or a style (`nosniff`), and no other site's page may show it.

use std::net::{IpAddr, SocketAddr};

use axum::extract::Request;
use axum::http::header::{HOST, ORIGIN, X_CONTENT_TYPE_OPTIONS};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::keys::BrokerConfig;
use crate::http::parameters::shortened;
use crate::http::problem::{Code, Problem};

const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Whose requests are answered.
#[derive(Debug)]
pub(super) struct Sites {
    /// The broker's other names, with a port or for any.
    names: Vec<String>,
    /// Other sites whose pages may ask.
    origins: Vec<String>,
    checks_host: bool,
}

impl Sites {
    pub(super) fn new(config: &BrokerConfig, listener: SocketAddr) -> Self {
        Self {
            names: config.http_hosts.clone(),
            origins: config.http_cors_origins.clone(),
            checks_host: listener.ip().is_loopback() || !config.http_hosts.is_empty(),
        }
    }

    pub(super) fn origins(&self) -> &[String] {
        &self.origins
    }

    /// Why a request is not answered.
    pub(super) fn refusal(&self, request: &Request) -> Option<Problem> {
        let headers = request.headers();
        // A request to a proxy names the host in its first line, which counts then.
        let asked = match request.uri().authority() {
            Some(authority) => Some(authority.as_str().as_bytes()),
            None => headers.get(HOST).map(HeaderValue::as_bytes),
        };
        if let Some(asked) = asked.filter(|_| self.checks_host)
            && !authority(asked).is_some_and(|host| is_local(&host) || self.is_ours(&host))
        {
            let text = format!(
                "{:?} is no name of this broker's: http-hosts lists those it has besides localhost and its addresses",
                shown(asked)
            );
            return Some(Problem::new(Code::ForeignSite, text));
        }
        let origin = headers.get(ORIGIN)?.as_bytes();
        let site = memchr::memmem::find(origin, b"://").and_then(|end| origin.get(end + 3..));
        let is_same = |site: &[u8]| asked.is_some_and(|asked| site.eq_ignore_ascii_case(asked));
        let is_known =
            site.is_some_and(|site| is_same(site) || authority(site).is_some_and(|host| self.is_ours(&host)));
        let is_allowed = |allowed: &String| allowed.as_bytes() == origin;
        if is_known || self.origins.iter().any(is_allowed) {
            return None;
        }
        let text = format!(
            "pages of {:?} may not ask this broker: http-cors-origins lists those that may",
            shown(origin)
        );
        Some(Problem::new(Code::ForeignSite, text))
    }

    /// Whether it is one of the names that were given to the broker.
    fn is_ours(&self, asked: &Authority) -> bool {
        let is_asked = |name: &String| {
            name.eq_ignore_ascii_case(asked.as_str()) || name.eq_ignore_ascii_case(asked.host())
        };
        self.names.iter().any(is_asked)
    }
}

fn authority(bytes: &[u8]) -> Option<Authority> {
    let found = Authority::try_from(bytes).ok();
    found.filter(|found| !found.as_str().contains('@'))
}

/// Names that no other site can have: a page can be anybody's only under a name that somebody may give away.
fn is_local(asked: &Authority) -> bool {
    let host = asked.host();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    host.eq_ignore_ascii_case("localhost") || address.unwrap_or(host).parse::<IpAddr>().is_ok()
}

fn shown(bytes: &[u8]) -> String {
    shortened(&String::from_utf8_lossy(bytes))
}

/// Says in an answer that no page may take it for what it is not, or show it as its own.
pub(super) fn seal(headers: &mut HeaderMap) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    const LOOPBACK: &str = "127.0.0.1:8080";

    fn is_answered(listener: &str, names: &[&str], host: Option<&str>, origin: Option<&str>) -> bool {
        let config = BrokerConfig {
            http_hosts: names.iter().map(|name| (*name).to_owned()).collect(),
            ..BrokerConfig::default()
        };
        let mut request = Request::builder().uri("/v1/topics");
        for (name, value) in [(HOST, host), (ORIGIN, origin)] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        let sites = Sites::new(&config, listener.parse().unwrap());
        sites.refusal(&request.body(Body::empty()).unwrap()).is_none()
    }

    #[test]
    fn a_name_that_somebody_may_give_away_is_refused_where_only_this_machine_asks() {
        for (host, expected) in [
            ("localhost:8080", true),
            ("LOCALHOST", true),
            ("127.0.0.1:8080", true),
            ("[::1]:8080", true),
            ("192.168.1.5", true),
            ("evil.example:8080", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("x@localhost", false),
            ("", false),
            ("log.example:1234", true),
            ("Proxy.Example:8443", true),
            ("proxy.example:80", false),
        ] {
            let names = ["log.example", "proxy.example:8443"];
            assert_eq!(
                is_answered(LOOPBACK, &names, Some(host), None),
                expected,
                "{host}"
            );
        }
        assert!(is_answered(LOOPBACK, &[], None, None));
        assert!(is_answered("0.0.0.0:8080", &[], Some("log.example"), None));
        assert!(!is_answered(
            "0.0.0.0:8080",
            &["log.example"],
            Some("evil.example"),
            None
        ));
    }

    #[test]
    fn a_page_of_another_site_is_refused_wherever_the_port_listens() {
        for (host, origin, expected) in [
            ("localhost:8080", "http://localhost:8080", true),
            ("localhost:8080", "http://localhost:3000", false),
            ("localhost:8080", "http://127.0.0.1:8080", false),
            ("localhost:8080", "https://evil.example", false),
            ("localhost:8080", "null", false),
            ("localhost:8080", "", false),
            ("localhost:8080", "localhost:8080", false),
            ("log.example", "https://log.example", true),
            ("127.0.0.1:8080", "https://log.example", true),
        ] {
            for listener in [LOOPBACK, "0.0.0.0:8080"] {
                let found = is_answered(listener, &["log.example"], Some(host), Some(origin));
                assert_eq!(found, expected, "{host} {origin}");
            }
        }
        assert!(!is_answered(LOOPBACK, &[], None, Some("http://localhost:8080")));
    }

    #[test]
    fn the_first_line_counts_more_than_the_header() {
        let sites = Sites::new(&BrokerConfig::default(), LOOPBACK.parse().unwrap());
        let request = Request::builder()
            .uri("http://evil.example/")
            .header(HOST, "localhost");
        assert!(sites.refusal(&request.body(Body::empty()).unwrap()).is_some());
    }
}
