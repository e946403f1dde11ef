//! Claims about the settings that say where the database is.

use super::{serve, wrong};

const KNOWN: &str = "oncelog-development-only";

#[test]
fn a_replica_is_of_postgres_beside_a_postgres() {
    let on_postgres = [("DATABASE_URL", "postgres://h/d")];
    let replica = ["--database-read-url", "postgres://u:s3cret@r1,r2:5433/d"];
    let config = serve(&replica, &on_postgres);
    let replica_url = config.database_read_url.expect("a replica");
    assert_eq!(replica_url.redacted(), "postgres://r1,r2:5433/d");
    let alone = wrong(&replica, &[]);
    assert_eq!(
        alone,
        "DATABASE_READ_URL (--database-read-url): the URL needs a DATABASE_URL of Postgres beside it"
    );
    let another_engine = wrong(&["--database-read-url", "sqlite://r"], &on_postgres);
    assert_eq!(
        another_engine,
        "DATABASE_READ_URL (--database-read-url): the URL must start with postgres://, starts with \
         \"sqlite\""
    );
}

#[test]
fn the_published_secret_is_found_with_a_replica_too() {
    let url = format!("postgres://oncelog:{KNOWN}@one,two/oncelog");
    let env = [
        ("DATABASE_URL", "postgres://h/d"),
        ("DATABASE_READ_URL", url.as_str()),
    ];
    let config = serve(&["--development=true"], &env);
    assert_eq!(config.development_secrets(), ["DATABASE_READ_URL"]);
    assert!(!wrong(&[], &env).contains(KNOWN));
}

/// sqlx decodes a password, takes one from the parameters as well, and one from the environment where
/// the URL has none.
#[test]
fn the_published_secret_is_found_wherever_the_driver_takes_a_password_from() {
    let encoded = KNOWN.replace('-', "%2D");
    for url in [
        format!("postgres://u:{encoded}@h/d"),
        format!("postgres://u@h/d?password={KNOWN}"),
        format!("postgresql:///d?host=/run/postgresql&user=u&password={encoded}"),
        format!("postgres://u:own@h,i/d?target_session_attrs=any&password={KNOWN}"),
        format!("postgres://u@h/d?password=own&password={KNOWN}&sslmode=disable"),
    ] {
        let env = [("DATABASE_URL", url.as_str())];
        let config = serve(&["--development=true"], &env);
        assert_eq!(config.development_secrets(), ["DATABASE_URL"], "{url}");
        let line = wrong(&[], &env);
        assert!(
            line.starts_with("DATABASE_URL (--database-url): must not"),
            "{line}"
        );
        assert!(!line.contains(KNOWN) && !line.contains(&encoded), "{line}");
    }
    let redis = format!("redis://:{encoded}@broker");
    let config = serve(&["--development=true"], &[("REDIS_URL", &redis)]);
    assert_eq!(config.development_secrets(), ["REDIS_URL"]);
}

#[test]
fn the_published_secret_in_the_environment_counts_where_a_url_has_no_password() {
    let secret = ("PGPASSWORD", KNOWN);
    let (bare, own) = ("postgres://u@h/d", "postgres://u:own@h/d");
    let by_parameter = "postgres://u@h/d?password=own";
    for urls in [
        &[("DATABASE_URL", bare)][..],
        &[("DATABASE_URL", own), ("DATABASE_READ_URL", bare)],
        &[("DATABASE_URL", "postgres://h,i/d")],
    ] {
        let env = [urls, &[secret]].concat();
        let config = serve(&["--development=true"], &env);
        assert_eq!(config.development_secrets(), ["PGPASSWORD"], "{urls:?}");
        let line = wrong(&[], &env);
        assert!(
            line.starts_with("PGPASSWORD: must not be the published secret"),
            "{line}"
        );
    }
    for urls in [
        &[][..],
        &[("DATABASE_URL", "sqlite://data/e.db")],
        &[("DATABASE_URL", own)],
        &[("DATABASE_URL", by_parameter)],
        &[("DATABASE_URL", own), ("DATABASE_READ_URL", by_parameter)],
    ] {
        let env = [urls, &[secret]].concat();
        assert!(
            serve(&[], &env).development_secrets().is_empty(),
            "{urls:?}"
        );
    }
    let others = [("DATABASE_URL", bare), ("PGPASSWORD", "own")];
    assert!(serve(&[], &others).development_secrets().is_empty());
}
