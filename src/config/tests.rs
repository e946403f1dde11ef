//! Claims about the settings.

mod limits;

use super::*;

mod databases;

fn parse(args: &[&str], env: &[(&str, &str)]) -> Result<Command, ConfigError> {
    Cli::parse_from(["oncelog"].iter().chain(args), |name| {
        env.iter()
            .find(|(variable, _)| *variable == name)
            .map(|(_, value)| value.into())
    })
}

fn serve(args: &[&str], env: &[(&str, &str)]) -> Config {
    match parse(args, env).expect("the settings are right") {
        Command::Serve(config) => *config,
        other => panic!("{other:?}"),
    }
}

fn wrong(args: &[&str], env: &[(&str, &str)]) -> String {
    let line = parse(args, env)
        .map(|command| format!("{command:?}"))
        .expect_err("a setting is wrong")
        .to_string();
    assert!(!line.contains(['\n', '\r']), "{line}");
    line
}

fn help() -> String {
    match parse(
        &["--help"],
        &[("ADMIN_TOKEN", "s3cret-a"), ("API_TOKENS", "s3cret-b")],
    ) {
        Ok(Command::Help(text)) => text,
        other => panic!("{other:?}"),
    }
}

fn flags() -> Vec<String> {
    flags::described()
        .get_arguments()
        .filter_map(|arg| arg.get_long().map(str::to_owned))
        .filter(|flag| flag != "help" && flag != "version")
        .collect()
}

#[test]
fn nothing_has_to_be_set() {
    let config = serve(&[], &[]);
    assert_eq!(config.bind.to_string(), "127.0.0.1:8080");
    assert_eq!(config.database_url.expose(), "sqlite://data/oncelog.db");
    assert_eq!(config.redis_url, None);
    assert_eq!(config.persist_actors, 1);
    assert_eq!(config.admin_token, None);
    assert_eq!(config.api_tokens, []);
    assert_eq!(config.max_body_bytes, 8 * MIB);
    assert_eq!(config.log_format, LogFormat::Text);
    assert_eq!(config.log_filter, "info");
    assert!((1..=8).contains(&config.http_workers));
}

#[test]
fn a_flag_beats_its_variable_before_and_after_the_subcommand() {
    let env = [("RESTARTS_MAX", "5")];
    assert_eq!(serve(&[], &env).restarts_max, 5);
    for args in [
        ["--restarts-max", "7", "serve"],
        ["serve", "--restarts-max", "7"],
    ] {
        assert_eq!(serve(&args, &env).restarts_max, 7, "{args:?}");
    }
    assert_eq!(serve(&["--restarts-max=7"], &env).restarts_max, 7);
}

#[test]
fn an_empty_value_is_as_unset() {
    let every: Vec<(String, &str)> = flags()
        .iter()
        .map(|flag| (setting::variable_of(flag), " "))
        .collect();
    let env: Vec<(&str, &str)> = every
        .iter()
        .map(|(name, value)| (&**name, *value))
        .collect();
    assert_eq!(
        format!("{:?}", serve(&[], &env)),
        format!("{:?}", serve(&[], &[]))
    );
    assert_eq!(
        serve(&["--restarts-max", ""], &[("RESTARTS_MAX", "5")]).restarts_max,
        5
    );
}

#[test]
fn a_wrong_value_of_any_setting_is_one_line_that_names_flag_and_variable() {
    // Wrong for every grammar there is: no number, address, URL, filter, format or ASCII.
    let wrong_value = "ü=\nb";
    for flag in flags() {
        let variable = setting::variable_of(&flag);
        let named = format!("{variable} (--{flag}): ");
        let from_env = wrong(&[], &[(&variable, wrong_value)]);
        assert!(from_env.starts_with(&named), "{from_env}");
        let from_flag = wrong(&[&format!("--{flag}={wrong_value}")], &[]);
        assert_eq!(from_flag, from_env);
        let without_value = wrong(&[&format!("--{flag}")], &[]);
        assert!(without_value.starts_with(&named), "{without_value}");
    }
}

#[test]
fn a_wrong_value_is_repeated_and_what_is_expected_is_said() {
    for (variable, value, line) in [
        (
            "PERSIST_ACTORS",
            "x",
            "PERSIST_ACTORS (--persist-actors): \"x\" must be a number from 1 to 64",
        ),
        (
            "PERSIST_ACTORS",
            "0",
            "PERSIST_ACTORS (--persist-actors): \"0\" must be a number from 1 to 64",
        ),
        (
            "BIND",
            ":8080",
            "BIND (--bind): \":8080\" must be an IP address and a port, such as 127.0.0.1:8080",
        ),
        (
            "LOG_FORMAT",
            "xml",
            "LOG_FORMAT (--log-format): \"xml\" must be text or json",
        ),
        (
            "RUST_LOG",
            "oncelog=debug,warning",
            "RUST_LOG (--rust-log): \"oncelog=debug,warning\" must be a log filter, such as info or \
             oncelog=debug,sqlx=warn",
        ),
        (
            "RUST_LOG",
            "oncelog=loud",
            "RUST_LOG (--rust-log): \"oncelog=loud\" must be a log filter, such as info or \
             oncelog=debug,sqlx=warn",
        ),
        (
            "DATABASE_URL",
            "mysql://u:s3cret@h/d",
            "DATABASE_URL (--database-url): the URL must start with postgres:// or sqlite://, \
             starts with \"mysql\"",
        ),
        (
            "REDIS_URL",
            "rediss://h",
            "REDIS_URL (--redis-url): the URL must start with redis://, starts with \"rediss\"",
        ),
    ] {
        assert_eq!(wrong(&[], &[(variable, value)]), line);
    }
    assert_eq!(
        wrong(&["--http-workers", "-1"], &[]),
        "HTTP_WORKERS (--http-workers): \"-1\" must be a number from 1 to 64"
    );
}

#[test]
fn a_text_that_is_no_utf8_is_one_line_too() {
    use std::os::unix::ffi::OsStringExt;
    let broken = OsString::from_vec(vec![b'a', 0xFF]);
    let from_env = Cli::parse_from(["oncelog"], |name| (name == "BIND").then(|| broken.clone()));
    assert_eq!(
        from_env.unwrap_err().to_string(),
        "BIND (--bind): must be UTF-8"
    );
    let args = ["oncelog".into(), "--bind".into(), broken.clone()];
    let line = Cli::parse_from(args, |_| None).unwrap_err().to_string();
    assert!(!line.contains('\n'), "{line}");
}

#[test]
fn unknown_flags_and_subcommands_are_one_line_and_hide_what_may_be_a_secret() {
    assert_eq!(
        wrong(&["--admin-tokn=s3cret"], &[]),
        "\"--admin-tokn\" is no argument of oncelog, see oncelog --help"
    );
    assert_eq!(
        wrong(&["serv"], &[]),
        "\"serv\" is no subcommand, must be serve, tail or healthcheck, see oncelog --help"
    );
    wrong(&["serve", "extra"], &[]);
    wrong(&["healthcheck", "-x"], &[]);
}

#[test]
fn help_and_version_are_no_errors_and_name_every_variable() {
    let help = help();
    for flag in flags() {
        assert!(help.contains(&format!("--{flag} <")), "{flag}");
        let variable = format!("[env: {}]", setting::variable_of(&flag));
        assert!(help.contains(&variable), "{variable}");
    }
    for args in [&["--version"][..], &["help"], &["serve", "--help"]] {
        assert!(matches!(parse(args, &[]), Ok(Command::Help(_))), "{args:?}");
    }
}

#[test]
fn no_secret_is_shown_in_help_debug_or_errors() {
    assert!(!help().contains("s3cret"));
    let config = serve(
        &["--api-tokens", "s3cret-1,ci:publish:s3cret-2"],
        &[
            ("ADMIN_TOKEN", "s3cret-3"),
            (
                "DATABASE_URL",
                "postgres://u:s3cret-4@db:5433/events?password=s3cret-5",
            ),
            ("REDIS_URL", "redis://:s3cret-6@broker:6379/1"),
        ],
    );
    let shown = format!("{config:?}");
    assert!(!shown.contains("s3cret"), "{shown}");
    assert!(
        shown.contains("DatabaseUrl(postgres://db:5433/events)"),
        "{shown}"
    );
    let several = serve(
        &["--database-url", "postgres://u:s3cret@a:5433,b/d?x=s3cret"],
        &[],
    );
    assert_eq!(several.database_url.redacted(), "postgres://a:5433,b/d");
    assert!(shown.contains("RedisUrl(redis://broker:6379/1)"), "{shown}");
    for (variable, value) in [
        ("ADMIN_TOKEN", "s3cret ü"),
        ("API_TOKENS", "ci:fly:s3cret"),
        ("API_TOKENS", "ci:s3cret"),
        ("API_TOKENS", "s3cret,s3cret"),
        ("DATABASE_URL", "u:s3cret@db/events"),
        ("DATABASE_URL", "postgres://u:s3c#ret@db/events"),
        ("REDIS_URL", "redis://u:s3cret@host/zero"),
    ] {
        let line = wrong(&[], &[(variable, value)]);
        assert!(!line.contains("s3c"), "{line}");
    }
}

#[test]
fn api_tokens_have_the_scopes_they_name() {
    let tokens = serve(&["--api-tokens", "abc, ops:read+admin:x:y ,"], &[]).api_tokens;
    assert_eq!(tokens.len(), 2);
    assert_eq!(tokens[0].name, None);
    assert_eq!(tokens[0].scopes, [Scope::Publish, Scope::Read]);
    assert_eq!(tokens[1].name.as_deref(), Some("ops"));
    assert!(tokens[1].allows(Scope::Admin) && !tokens[1].allows(Scope::Publish));
    assert_eq!(tokens[1].secret.expose(), "x:y");
    for list in [",", "a:b", ":read:t", "n::t", "n:read:", "n:read+:t", "a b"] {
        wrong(&["--api-tokens", list], &[]);
    }
}

#[test]
fn a_secret_is_itself_and_nothing_else() {
    let secret = Secret::parse("abc").unwrap();
    assert!(secret.is(b"abc"));
    for other in ["", "ab", "abd", "abcd", "ABC"] {
        assert!(!secret.is(other.as_bytes()), "{other}");
    }
}

#[test]
fn shards_follow_the_engine_unless_they_are_set() {
    let postgres = ("DATABASE_URL", "postgresql://db/events");
    assert!((2..=8).contains(&serve(&[], &[postgres]).persist_actors));
    assert_eq!(
        serve(&["--persist-actors", "3"], &[postgres]).persist_actors,
        3
    );
}

#[test]
fn sizes_are_bytes_or_carry_their_unit() {
    for (text, bytes) in [
        ("1024", 1024),
        ("1KiB", 1024),
        ("2 mib", 2 * MIB),
        ("134217728", 128 * MIB),
    ] {
        assert_eq!(
            serve(&["--max-body-bytes", text], &[]).max_body_bytes,
            bytes
        );
    }
    for text in [
        "1023",
        "129MiB",
        "1MB",
        "MiB",
        "-1",
        "1.5MiB",
        "99999999999999999999MiB",
    ] {
        wrong(&["--max-body-bytes", text], &[]);
    }
}

#[test]
fn the_largest_body_always_finds_room() {
    let config = serve(&["--max-body-bytes", "100MiB"], &[]);
    assert_eq!(config.inflight_bytes_max, 100 * MIB);
    let line = wrong(&["--inflight-bytes-max", "4MiB"], &[]);
    assert!(line.starts_with("INFLIGHT_BYTES_MAX"), "{line}");
}

#[test]
fn the_longest_pause_is_not_below_the_shortest() {
    wrong(
        &[
            "--restart-pause-ms-min",
            "50",
            "--restart-pause-ms-max",
            "40",
        ],
        &[],
    );
}

#[test]
fn databases_are_told_apart_by_their_scheme() {
    for url in [
        "postgres://u@h/d",
        "postgresql:///d?host=/run/postgresql",
        "postgres://%2Frun/d",
        "postgres://u@h1:5433,h2/d?target_session_attrs=primary",
    ] {
        let config = serve(&["--database-url", url], &[]);
        assert_eq!(config.database_url.engine(), Engine::Postgres, "{url}");
    }
    for url in [
        "sqlite://a.db",
        "sqlite:///var/a.db?mode=rwc",
        "sqlite::memory:",
    ] {
        let config = serve(&["--database-url", url], &[]);
        assert_eq!(config.database_url.engine(), Engine::Sqlite, "{url}");
    }
    for url in [
        "a.db",
        "sqlite://",
        "postgres:db",
        "postgres://h:port/d",
        "postgres://h1,h2:port/d",
        "postgres://h1,h2/d?target_session_attrs=standby",
        "http://h",
    ] {
        wrong(&["--database-url", url], &[]);
    }
}

#[test]
fn the_health_check_asks_loopback_where_the_bind_is_a_wildcard() {
    for (bind, address) in [
        ("0.0.0.0:9000", "127.0.0.1:9000"),
        ("[::]:9000", "[::1]:9000"),
        ("localhost:9000", "127.0.0.1:9000"),
        ("10.1.2.3:9000", "10.1.2.3:9000"),
    ] {
        // A setting of the service alone is not the check's business.
        match parse(&["healthcheck"], &[("BIND", bind), ("PERSIST_ACTORS", "x")]) {
            Ok(Command::Healthcheck(check)) => assert_eq!(check.address.to_string(), address),
            other => panic!("{other:?}"),
        }
    }
}

fn tail(args: &[&str], env: &[(&str, &str)]) -> TailConfig {
    match parse(&[&["tail"], args].concat(), env).expect("the settings are right") {
        Command::Tail(config) => *config,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_tail_needs_no_flags_and_takes_them_as_they_are() {
    let config = tail(&[], &[("DATABASE_URL", "nonsense"), ("TOPIC", "t")]);
    assert_eq!(config.url.as_str(), "http://127.0.0.1:8080/");
    assert_eq!((config.topic, config.since), (None, None));
    assert!(!config.follows && !config.is_json);
    let config = tail(
        &["--topic", " a ", "-f", "--json", "--token", "s3cret"],
        &[("ONCELOG_URL", "http://log:80/x")],
    );
    assert_eq!(config.url.as_str(), "http://log/x");
    assert_eq!(config.topic.as_deref(), Some(" a "));
    assert!(config.follows && config.is_json);
    assert!(!format!("{config:?}").contains("s3cret"));
}

#[test]
fn since_is_an_instant_or_a_duration() {
    let now = Timestamp::parse("2026-01-31T12:00:00Z").unwrap();
    for (text, expected) in [
        ("90s", "2026-01-31T11:58:30Z"),
        ("10m", "2026-01-31T11:50:00Z"),
        ("2h", "2026-01-31T10:00:00Z"),
        ("1d", "2026-01-30T12:00:00Z"),
        ("2026-01-01T01:00:00+01:00", "2026-01-01T00:00:00Z"),
        ("2026-01-01T00:00:00", "2026-01-01T00:00:00Z"),
    ] {
        assert_eq!(
            tail::since(text, now),
            Ok(Timestamp::parse(expected).unwrap()),
            "{text}"
        );
    }
    for text in [
        "10",
        "m",
        "-1d",
        "1w",
        "1h30m",
        "99999999999999999999d",
        "yesterday",
    ] {
        assert!(tail::since(text, now).is_err(), "{text}");
    }
}

#[test]
fn a_wrong_tail_is_one_line_that_names_the_flag() {
    assert_eq!(
        wrong(&["tail", "--since", "soon"], &[]),
        "SINCE (--since): \"soon\" must be an RFC 3339 timestamp, or a duration such as 30s, 10m, 2h or 1d"
    );
    for url in [
        "ftp://log",
        "log:80",
        "http://u:s3cret@log",
        "http://log/?a=b",
    ] {
        let line = wrong(&["tail", "--url", url], &[]);
        assert_eq!(
            line,
            "URL (--url): the URL must be an address such as http://127.0.0.1:8080"
        );
    }
    wrong(&["tail", "--token"], &[]);
    wrong(&["tail", "--nonsense"], &[]);
    wrong(&["serve", "--topic", "a"], &[]);
}

#[test]
fn the_published_secret_is_found_wherever_it_is_used() {
    let known = "oncelog-development-only";
    let database = format!("postgres://oncelog:{known}@storage/oncelog");
    let databases = format!("postgres://oncelog:{known}@one,two/oncelog");
    let redis = format!("redis://:{known}@broker:6379/0");
    let tokens = format!("mine,ci:publish:{known}");
    for (variable, value) in [
        ("ADMIN_TOKEN", known),
        ("API_TOKENS", &tokens),
        ("DATABASE_URL", &database),
        ("DATABASE_URL", &databases),
        ("REDIS_URL", &redis),
    ] {
        let config = serve(&["--development=true"], &[(variable, value)]);
        assert_eq!(config.development_secrets(), [variable]);
        let line = wrong(&[], &[(variable, value), ("DEVELOPMENT", "false")]);
        assert!(
            line.starts_with(variable) && !line.contains(known),
            "{line}"
        );
    }
    wrong(&[], &[("DEVELOPMENT", "perhaps")]);
    let own = [
        ("ADMIN_TOKEN", "own"),
        ("DATABASE_URL", "postgres://u:own@storage/oncelog"),
    ];
    assert!(serve(&[], &own).development_secrets().is_empty());
}
