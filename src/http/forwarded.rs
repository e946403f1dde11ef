//! Which address a request comes from, where proxies stand before the service. Asked by `rate`.

use actix_web::HttpRequest;
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
};

/// The proxies that are believed when they say for whom they ask; by their networks.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Vec<RangeInclusive<IpAddr>>);

impl TrustedProxies {
    /// Each network by its first and its last address.
    pub fn new(networks: Vec<RangeInclusive<IpAddr>>) -> Self {
        Self(networks)
    }

    /// The nearest address that is none of a trusted proxy. Each proxy adds whom it was asked by at the
    /// end of `X-Forwarded-For`; what stands before the first untrusted address that one may have made up.
    pub(super) fn client_of(&self, request: &HttpRequest) -> IpAddr {
        let peer = request.peer_addr();
        let mut client = peer.map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| canonical(peer.ip()));
        if !self.trusts(client) {
            return client;
        }
        let headers: Vec<_> = request.headers().get_all("x-forwarded-for").collect();
        let values = headers
            .iter()
            .rev()
            .flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
        for entry in values {
            let Some(address) = address_in(entry) else {
                break;
            };
            client = address;
            if !self.trusts(client) {
                break;
            }
        }
        client
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// An address; some proxies add the port to it.
fn address_in(entry: &[u8]) -> Option<IpAddr> {
    let entry = std::str::from_utf8(entry).ok()?.trim();
    let bare = entry
        .strip_prefix('[')
        .and_then(|entry| entry.strip_suffix(']'));
    let address = bare.unwrap_or(entry).parse::<IpAddr>();
    address
        .ok()
        .or_else(|| entry.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .map(canonical)
}

/// A socket for both versions shows an address of IPv4 as one of IPv6.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn client_of(peer: &str, forwarded: &[&str]) -> String {
        let networks = [("10.0.0.0", "10.255.255.255"), ("::1", "::1")];
        let networks = networks.map(|(first, last)| address(first)..=address(last));
        let mut request = TestRequest::default().peer_addr(SocketAddr::new(address(peer), 4711));
        for value in forwarded {
            request = request.append_header(("X-Forwarded-For", *value));
        }
        let proxies = TrustedProxies::new(networks.into());
        proxies.client_of(&request.to_http_request()).to_string()
    }

    #[test]
    fn who_is_no_proxy_is_the_client_whatever_he_says() {
        assert_eq!(client_of("192.0.2.1", &["198.51.100.1"]), "192.0.2.1");
        assert_eq!(client_of("::ffff:192.0.2.1", &["10.0.0.1"]), "192.0.2.1");
    }

    #[test]
    fn a_proxy_says_for_whom_it_asks_and_what_the_client_has_made_up_is_not_looked_at() {
        assert_eq!(client_of("10.0.0.1", &["192.0.2.1"]), "192.0.2.1");
        assert_eq!(client_of("::ffff:10.0.0.1", &["192.0.2.1"]), "192.0.2.1");
        assert_eq!(client_of("::1", &["203.0.113.9, 192.0.2.1"]), "192.0.2.1");
        assert_eq!(
            client_of("10.0.0.1", &["203.0.113.9", "192.0.2.1"]),
            "192.0.2.1"
        );
        assert_eq!(
            client_of("10.0.0.1", &["10.9.9.9,192.0.2.1, 10.0.0.2"]),
            "192.0.2.1"
        );
        assert_eq!(client_of("10.0.0.1", &["made up, 192.0.2.1"]), "192.0.2.1");
    }

    #[test]
    fn entries_may_have_ports_and_one_that_is_no_address_ends_the_look() {
        assert_eq!(client_of("10.0.0.1", &["192.0.2.1:5000"]), "192.0.2.1");
        assert_eq!(
            client_of("10.0.0.1", &["[2001:db8::1]:5000"]),
            "2001:db8::1"
        );
        assert_eq!(client_of("10.0.0.1", &["[2001:db8::1]"]), "2001:db8::1");
        assert_eq!(client_of("10.0.0.1", &["2001:db8::1"]), "2001:db8::1");
        for odd in [
            "",
            "unknown",
            "192.0.2.1, ",
            "_hidden",
            "192.0.2.1; 192.0.2.2",
        ] {
            assert_eq!(client_of("10.0.0.1", &[odd]), "10.0.0.1", "{odd:?}");
        }
        assert_eq!(client_of("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client_of("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
    }
}
