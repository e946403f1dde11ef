//! The names that the service answers to, against DNS rebinding: a page of another site whose name has
//! been made to point here is of the same origin to its browser, and only `Host` tells. `app` asks for
//! every request, before there is a route.

use super::error::ApiError;
use actix_web::{HttpResponse, ResponseError, dev::ServiceRequest, http::header::HOST};
use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

/// The names, where only some are answered to. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AllowedHosts(Option<Arc<[String]>>);

impl AllowedHosts {
    /// Every name is answered to.
    pub fn any() -> Self {
        Self(None)
    }

    /// These, in lower case, beside addresses and `localhost`: none of those can be pointed elsewhere.
    pub fn only(names: Vec<String>) -> Self {
        Self(Some(names.into()))
    }

    /// The answer to a request for another name.
    pub fn refusal(&self, request: &ServiceRequest) -> Option<HttpResponse> {
        let names = self.0.as_ref()?;
        let is_allowed = match request.uri().host() {
            // A target with a name wins over the header (RFC 9112, section 3.2.2).
            Some(name) => answers_to(names, name),
            // No browser sends a request without one.
            None => request.headers().get_all(HOST).all(|host| {
                let host = host.to_str().ok();
                host.is_some_and(|host| answers_to(names, host))
            }),
        };
        (!is_allowed).then(|| ApiError::Misdirected.error_response())
    }
}

fn answers_to(names: &[String], host: &str) -> bool {
    let (name, has_brackets) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((name, _port)) => (name, true),
            None => return false,
        },
        None => (
            host.split_once(':').map_or(host, |(name, _port)| name),
            false,
        ),
    };
    if has_brackets {
        return name.parse::<Ipv6Addr>().is_ok();
    }
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<IpAddr>().is_ok()
        || names.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn is_allowed(request: TestRequest) -> bool {
        let hosts =
            AllowedHosts::only(vec!["logs.example.com".to_owned(), "aggregator".to_owned()]);
        hosts.refusal(&request.to_srv_request()).is_none()
    }

    fn asked_for(host: &str) -> bool {
        is_allowed(TestRequest::get().insert_header((HOST, host)))
    }

    #[test]
    fn addresses_localhost_and_the_names_are_answered_to_on_any_port() {
        for host in [
            "127.0.0.1:8080",
            "127.0.0.1",
            "192.0.2.7:80",
            "[::1]:8080",
            "[::1]",
            "localhost:8080",
            "LocalHost",
            "app.localhost:8080",
            "logs.example.com",
            "LOGS.Example.com:443",
            "logs.example.com.:8080",
            "aggregator:8080",
        ] {
            assert!(asked_for(host), "{host}");
        }
        assert!(is_allowed(TestRequest::get()), "without any Host");
    }

    #[test]
    fn other_names_are_not() {
        for host in [
            "evil.example",
            "evil.example:8080",
            "logs.example.com.evil.example",
            "xlogs.example.com",
            "example.com",
            "localhost.evil.example",
            "notlocalhost",
            "",
            "127.0.0.1.evil.example",
            "[evil.example]:80",
            "[::1",
            "[",
            ":8080",
            "2130706433",
            "user@localhost",
            "localhost/",
            "aggregator aggregator",
        ] {
            assert!(!asked_for(host), "{host}");
        }
    }

    #[test]
    fn a_target_with_a_name_wins_over_the_header() {
        let request = |target| TestRequest::with_uri(target).insert_header((HOST, "localhost"));
        assert!(!is_allowed(request("http://evil.example/events")));
        assert!(is_allowed(request("http://aggregator:8080/events")));
        let both = TestRequest::get().append_header((HOST, "localhost"));
        assert!(!is_allowed(both.append_header((HOST, "evil.example"))));
    }
}
