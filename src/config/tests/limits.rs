//! Claims about the settings that say who is answered and how often, and what is kept.

use super::{serve, wrong};
use crate::config::RateLimit;

#[test]
fn without_a_rate_there_is_no_limit_and_without_a_burst_it_is_that_of_a_second() {
    assert_eq!(serve(&[], &[]).rate_limit, None);
    let limit = |env| serve(&[], env).rate_limit.unwrap();
    let (per_s, burst) = (50, 50);
    assert_eq!(limit(&[("RATE_LIMIT", "50")]), RateLimit { per_s, burst });
    let both = [("RATE_LIMIT", "50"), ("RATE_LIMIT_BURST", "2000")];
    let burst = 2000;
    assert_eq!(limit(&both), RateLimit { per_s, burst });
}

#[test]
fn a_rate_is_a_number_of_events_a_second() {
    for value in ["0", "-1", "0.5", "10/s", "10r/s", "1000001", "off"] {
        for variable in ["RATE_LIMIT", "RATE_LIMIT_BURST"] {
            let line = wrong(&[], &[(variable, value)]);
            let expected = format!("{value:?} must be a number from 1 to 1000000");
            assert!(
                line.starts_with(variable) && line.ends_with(&expected),
                "{line}"
            );
        }
    }
}

#[test]
fn no_proxy_is_trusted_unless_it_is_named() {
    assert!(serve(&[], &[]).trusted_proxies.is_empty());
    let config = serve(&["--trusted-proxies", "::1,10.0.0.0/8"], &[]);
    assert_eq!(config.trusted_proxies.len(), 2);
    let line = wrong(&[], &[("TRUSTED_PROXIES", "proxy")]);
    let expected = "TRUSTED_PROXIES (--trusted-proxies): \"proxy\" must be addresses or networks";
    assert!(line.starts_with(expected), "{line}");
}

#[test]
fn every_name_is_answered_to_unless_some_are_named() {
    assert!(serve(&[], &[]).allowed_hosts.is_empty());
    let config = serve(&["--allowed-hosts", "Logs.example.com, aggregator"], &[]);
    assert_eq!(config.allowed_hosts, ["logs.example.com", "aggregator"]);
    let line = wrong(&[], &[("ALLOWED_HOSTS", "aggregator:8080")]);
    let expected = "ALLOWED_HOSTS (--allowed-hosts): \"aggregator:8080\" must be names of hosts";
    assert!(line.starts_with(expected), "{line}");
}

#[test]
fn a_burst_alone_limits_nothing_and_is_refused() {
    let line = wrong(&[], &[("RATE_LIMIT_BURST", "7")]);
    assert_eq!(
        line,
        "RATE_LIMIT (--rate-limit): must be set where RATE_LIMIT_BURST is"
    );
}
