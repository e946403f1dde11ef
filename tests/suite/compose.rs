//! `docker-compose.yml` and `.env.example` against docs/configuration.md and the real binary: each setting
//! is either one that a user of the stack can set, or one of those that are not for him, with the reason.
//! `scripts/check-compose.sh` runs the stack itself.

use crate::support::{Engine, TestApp, oncelog};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// What the stack sets by itself, or leaves alone.
const NOT_FOR_USERS: [(&str, &[&str]); 5] = [
    (
        "the containers' own addresses, paths and names",
        &[
            "BIND",
            "DATABASE_URL",
            "REDIS_URL",
            "LOG_FORMAT",
            "LOG_DIR",
            "BROKER_CONSUMER",
        ],
    ),
    (
        "files, which need a volume beside the variable (docs/operations.md)",
        &["TLS_CERT", "TLS_KEY", "ADMIN_TOKEN_FILE", "API_TOKENS_FILE"],
    ),
    (
        "another database or broker than the stack's own",
        &[
            "DATABASE_READ_URL",
            "DATABASE_POOLER",
            "DATABASE_CITUS",
            "BROKER_STREAM",
            "BROKER_STREAMS",
            "BROKER_GROUP",
            "BROKER_REPLICAS_ACK",
        ],
    ),
    (
        "stop_grace_period and the balancer's times go by them",
        &[
            "SHUTDOWN_TIMEOUT_MS",
            "DATABASE_CONNECT_TIMEOUT_MS",
            "DATABASE_STATEMENT_TIMEOUT_MS",
        ],
    ),
    (
        "the service's inner clockwork",
        &[
            "RECONNECT_PAUSE_MS_MAX",
            "BROKER_TAKEOVER_MS",
            "FEED_POLL_MS",
            "RESTART_PAUSE_MS_MIN",
            "RESTART_PAUSE_MS_MAX",
            "RESTART_HEALTHY_MS",
            "RESTARTS_MAX",
            "STATS_INTERVAL_MS",
        ],
    ),
];

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The settings of all tables of docs/configuration.md.
fn documented() -> BTreeSet<String> {
    let text = read("docs/configuration.md");
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.map(|row| row.split('|').nth(1).unwrap_or_default());
    let names = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    names.map(str::to_owned).collect()
}

/// The settings that the binary says it has.
fn known() -> BTreeSet<String> {
    let help = oncelog().arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let names = help.split("[env: ").skip(1);
    names
        .map(|rest| rest.split([']', '=']).next().unwrap_or_default().to_owned())
        .collect()
}

/// What the aggregators' containers get, by name.
fn passed() -> BTreeMap<String, String> {
    let text = read("docker-compose.yml");
    let mut lines = text.lines();
    assert!(lines.any(|line| line == "x-aggregator-environment: &aggregator-environment"));
    lines
        .take_while(|line| line.starts_with("  "))
        .filter_map(|line| line.trim().split_once(": "))
        .filter(|(name, _)| !name.starts_with('#'))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// What `.env` may set, with the values that the example has.
fn example() -> BTreeMap<String, String> {
    let text = read(".env.example");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn not_for_users() -> BTreeSet<String> {
    let all = NOT_FOR_USERS.iter().flat_map(|(_, names)| *names);
    all.map(|name| (*name).to_owned()).collect()
}

#[test]
fn every_setting_of_the_service_is_documented() {
    assert_eq!(documented(), known());
}

#[test]
fn the_stack_passes_every_setting_that_is_for_its_users() {
    let passed = passed();
    let can_be_set: BTreeSet<String> = passed
        .iter()
        .filter(|(name, value)| {
            let begins = |rest: &str| value.starts_with(&format!("${{{name}:{rest}"));
            begins("-") || begins("+")
        })
        .map(|(name, _)| name.clone())
        .collect();
    let others = not_for_users();
    assert!(can_be_set.is_disjoint(&others));
    let all: BTreeSet<String> = can_be_set.union(&others).cloned().collect();
    // A new setting belongs into docker-compose.yml and .env.example, or among those above with a reason.
    assert_eq!(all, documented());
    let example = example();
    for name in &can_be_set {
        let default = passed[name].strip_prefix(&format!("${{{name}:-"));
        let default = default.map_or("", |rest| rest.trim_end_matches('}'));
        assert_eq!(
            example.get(name).map(String::as_str),
            Some(default),
            "{name}"
        );
    }
}

#[test]
fn the_example_has_all_that_the_stack_reads() {
    let text = read("docker-compose.yml");
    let names = text.split("${").skip(1);
    let names: BTreeSet<&str> = names
        .map(|rest| rest.split([':', '}']).next().unwrap_or_default())
        .collect();
    let example = example();
    let example: BTreeSet<&str> = example.keys().map(String::as_str).collect();
    assert_eq!(names, example);
}

/// As a container gets them where `.env` sets nothing.
#[tokio::test]
async fn an_empty_value_of_each_is_the_default() {
    let mut app = TestApp::builder(Engine::Sqlite).await;
    let plain = TestApp::start(Engine::Sqlite).await;
    let mut empty = 0;
    for (name, value) in passed() {
        if value == format!("${{{name}:-}}") || value.starts_with(&format!("${{{name}:+")) {
            app = app.set(&name, "");
            empty += 1;
        }
    }
    assert!(empty > 20, "{empty}");
    let app = app.start().await;
    let limits = async |app: &TestApp| {
        let page = app.get("/metrics").await.text;
        let lines = page.lines().filter(|line| !line.starts_with('#'));
        let limits = lines.filter(|line| line.contains("_limit"));
        limits.map(str::to_owned).collect::<Vec<_>>()
    };
    let found = limits(&app).await;
    assert!(!found.is_empty());
    assert_eq!(found, limits(&plain).await);
}
