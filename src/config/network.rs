//! The grammars of addresses of networks and of names of hosts. Used by `setting`.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
};

/// The first and the last address of a network; all between belong to it.
pub type Network = RangeInclusive<IpAddr>;

/// The longest name of the DNS.
const HOST_CHARS_MAX: usize = 253;

/// `10.0.0.0/8`, or one address, separated by commas.
pub(super) fn networks(text: &str) -> Result<Vec<Network>, String> {
    entries(text)
        .map(network)
        .collect::<Option<Vec<_>>>()
        .filter(|networks| !networks.is_empty())
        .ok_or_else(|| {
            "must be addresses or networks, such as 127.0.0.1 or 10.0.0.0/8, separated by commas"
                .to_owned()
        })
}

/// Names without a port, separated by commas; in lower case.
pub(super) fn host_names(text: &str) -> Result<Vec<String>, String> {
    let is_name = |name: &str| {
        let mut bytes = name.bytes();
        name.len() <= HOST_CHARS_MAX
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    };
    let names: Vec<&str> = entries(text).collect();
    match names.is_empty() || !names.iter().all(|name| is_name(name)) {
        true => Err(
            "must be names of hosts without a port, such as logs.example.com, separated by commas"
                .to_owned(),
        ),
        false => Ok(names.iter().map(|name| name.to_ascii_lowercase()).collect()),
    }
}

fn entries(text: &str) -> impl Iterator<Item = &str> {
    let entries = text.split(',').map(str::trim);
    entries.filter(|entry| !entry.is_empty())
}

fn network(text: &str) -> Option<Network> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length.parse::<u8>().ok()?)),
        None => (text, None),
    };
    match address.parse().ok()? {
        IpAddr::V4(address) => {
            let length = length.unwrap_or(32);
            // Of an address, the bits that differ within the network.
            let host = u32::MAX.checked_shr(length.into()).unwrap_or(0);
            let bits = address.to_bits();
            let at = |bits| IpAddr::V4(Ipv4Addr::from_bits(bits));
            (length <= 32).then(|| at(bits & !host)..=at(bits | host))
        }
        IpAddr::V6(address) => {
            let length = length.unwrap_or(128);
            let host = u128::MAX.checked_shr(length.into()).unwrap_or(0);
            let bits = address.to_bits();
            let at = |bits| IpAddr::V6(Ipv6Addr::from_bits(bits));
            (length <= 128).then(|| at(bits & !host)..=at(bits | host))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_goes_from_its_first_to_its_last_address() {
        for (text, first, last) in [
            ("192.0.2.7", "192.0.2.7", "192.0.2.7"),
            ("192.0.2.7/32", "192.0.2.7", "192.0.2.7"),
            ("10.0.0.0/8", "10.0.0.0", "10.255.255.255"),
            ("10.1.2.3/8", "10.0.0.0", "10.255.255.255"),
            ("172.16.0.0/12", "172.16.0.0", "172.31.255.255"),
            ("0.0.0.0/0", "0.0.0.0", "255.255.255.255"),
            ("::1", "::1", "::1"),
            (
                "fd00::/8",
                "fd00::",
                "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            ),
            ("::/0", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ] {
            assert_eq!(
                networks(text),
                Ok(vec![address(first)..=address(last)]),
                "{text}"
            );
        }
        assert!(!networks("0.0.0.0/0").unwrap()[0].contains(&address("::1")));
        assert_eq!(networks("::1, 10.0.0.0/8,").unwrap().len(), 2);
    }

    #[test]
    fn what_is_no_network_is_none() {
        for text in [
            ",",
            "x",
            "10",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "10.0.0.0/8/8",
            "::/129",
            "10.0.0.0:80",
            "[::1]",
            "localhost",
            "10.0.0.1 10.0.0.2",
            "10.0.0.0/255.0.0.0",
        ] {
            assert!(networks(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_of_hosts_have_no_port_no_scheme_and_no_star() {
        let names = host_names("Logs.Example.com, aggregator,").unwrap();
        assert_eq!(names, ["logs.example.com", "aggregator"]);
        for text in [
            ",",
            "a:80",
            "http://a",
            "*.example.com",
            "*",
            "a b",
            "[::1]",
            "ü.example",
            &"a".repeat(254),
        ] {
            assert!(host_names(text).is_err(), "{text}");
        }
    }
}
