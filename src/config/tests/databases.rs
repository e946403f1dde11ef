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
