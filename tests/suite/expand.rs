//! Migrations only expand the schema, as docs/CONTRIBUTING.md asks: the version before works on it while
//! replicas are upgraded one by one. What is not known to be harmless is refused.

use std::{collections::HashSet, fs, path::Path};

/// The line in a file that contracts, in a release that the changelog says so of.
const CONTRACTS: &str = "-- contract";
/// What sqlx runs outside of a transaction begins with this.
const NO_TRANSACTION: &str = "-- no-transaction";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Engine {
    Postgres,
    Sqlite,
}

/// Statements in lower case, without comments; the bodies of functions are empty.
fn statements(text: &str) -> Vec<String> {
    let lines = text
        .lines()
        .map(|line| line.split("--").next().unwrap_or_default());
    let text = lines.collect::<Vec<_>>().join(" ").to_lowercase();
    let outside = text.split("$$").step_by(2).collect::<Vec<_>>().join(" ");
    let mut statements = Vec::new();
    let mut statement = String::new();
    for part in outside.split_inclusive(';') {
        statement.push_str(part);
        let words = words(statement.trim_end_matches(';'));
        // SQLite's triggers have statements of their own.
        let is_open = words.starts_with(&["create", "trigger"])
            && words.contains(&"begin")
            && words.last() != Some(&"end");
        if !is_open {
            if !words.is_empty() {
                statements.push(words.join(" "));
            }
            statement.clear();
        }
    }
    statements
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

/// What stands between commas that no parenthesis encloses.
fn clauses(text: &str) -> Vec<&str> {
    let mut depth = 0;
    let is_between = |character: char| {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        character == ',' && depth == 0
    };
    text.split(is_between).map(str::trim).collect()
}

/// The name behind these words, where the text begins with them.
fn named<'a>(text: &'a str, beginnings: &[&str]) -> Option<&'a str> {
    let rest = beginnings.iter().find_map(|it| text.strip_prefix(it))?;
    let rest = rest.strip_prefix("if not exists ").unwrap_or(rest);
    rest.split([' ', '(']).next()
}

/// The statements that an older version beside this one would notice.
fn noticed(engine: Engine, text: &str) -> Vec<String> {
    let statements = statements(text);
    let made = |kinds: &'static [&'static str]| -> HashSet<&str> {
        let names = statements.iter().filter_map(|it| named(it, kinds));
        names.collect()
    };
    let tables = made(&["create table "]);
    let triggers = made(&["create trigger "]);
    let is_alone = text.starts_with(NO_TRANSACTION);
    let is_harmless = |statement: &&String| {
        let Some((first, rest)) = statement.split_once(' ') else {
            return false;
        };
        match first {
            "create" => {
                let (_, on) = rest.split_once(" on ").unwrap_or_default();
                let table = on.split([' ', '(']).next().unwrap_or_default();
                let is_new = tables.contains(table);
                let index = ["index ", "unique index "];
                if index.iter().any(|index| rest.starts_with(index)) {
                    let is_unique = rest.starts_with("unique");
                    let is_aside = is_alone && rest.starts_with("index concurrently ");
                    is_new || !is_unique && (is_aside || engine == Engine::Sqlite)
                } else {
                    let kinds = ["table ", "trigger ", "function ", "or replace function "];
                    kinds.iter().any(|kind| rest.starts_with(kind))
                }
            }
            "alter" => named(statement, &["alter table "]).is_some_and(|table| {
                let (_, changes) = rest.split_once(table).unwrap_or_default();
                tables.contains(table) || clauses(changes).into_iter().all(only_expands)
            }),
            // To make it anew; without it there would be nothing to replace a trigger with on SQLite.
            "drop" => named(statement, &["drop trigger "]).is_some_and(|it| triggers.contains(it)),
            // Each row of the log anew, with its indexes, under locks that writers wait for.
            "update" => !rest.starts_with("processed_events"),
            "insert" | "comment" => true,
            "select" => rest == "1",
            _ => false,
        }
    };
    let noticed = statements.iter().filter(|it| !is_harmless(it));
    noticed.cloned().collect()
}

/// A change of a table that the version before writes.
fn only_expands(change: &str) -> bool {
    let words = words(change);
    let has = |text: &str| change.contains(text);
    match words[..] {
        [
            "add",
            "constraint" | "check" | "unique" | "primary" | "foreign" | "exclude",
            ..,
        ] => false,
        ["add", ..] => {
            // Rewritten where each row gets another value; the time of the migration is one for all.
            let computes =
                has(" generated ") || has("default") && has("(") && !has("default now()");
            let refuses = has(" unique") || has(" primary key") || has(" references ");
            let is_missed = has(" not null") && !has(" default ");
            !computes && !refuses && !is_missed
        }
        [
            "alter",
            "column",
            _,
            "set",
            "default" | "statistics" | "storage",
            ..,
        ]
        | ["alter", "column", _, "drop", "not", "null"] => true,
        ["set" | "reset", parameters, ..] => parameters.starts_with('('),
        _ => false,
    }
}

#[test]
fn what_an_older_version_would_notice_is_in_no_migration() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let changelog = fs::read_to_string(root.join("docs/CHANGELOG.md")).unwrap();
    let mut seen = 0;
    for (engine, directory) in [(Engine::Postgres, "postgres"), (Engine::Sqlite, "sqlite")] {
        for entry in fs::read_dir(root.join("migrations").join(directory)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            let text = fs::read_to_string(&path).unwrap();
            seen += 1;
            if text.lines().any(|line| line.starts_with(CONTRACTS)) {
                assert!(changelog.contains(name), "{name}: not in the changelog");
                continue;
            }
            let noticed = noticed(engine, &text);
            assert!(noticed.is_empty(), "{directory}/{name}: {noticed:#?}");
        }
    }
    assert!(seen >= 14, "{seen}");
}

#[test]
fn what_would_be_noticed_is_seen() {
    for statement in [
        "drop table topics",
        "drop table if exists topics",
        "drop index processed_events_in_order",
        "drop trigger processed_events_deletion on processed_events",
        "alter table topics drop column first_stored_at",
        "alter table topics add column note text, drop first_stored_at",
        "ALTER TABLE topics\n    RENAME COLUMN topic TO name",
        "alter table topics rename to names",
        "alter table processed_events alter column seq type bigint",
        "alter table processed_events alter column seq set data type bigint",
        "alter table processed_events alter seq set not null",
        "alter table processed_events alter column payload_digest set not null",
        "alter table processed_events alter column processed_at drop default",
        "alter table processed_events add column note text not null",
        "alter table processed_events add column note text unique",
        "alter table processed_events add column note uuid default gen_random_uuid()",
        "alter table processed_events add column day date generated always as (timestamp::date) stored",
        "alter table processed_events add constraint short check (length(topic) < 100)",
        "alter table processed_events add check (seq >= 0) not valid",
        "alter table processed_events set unlogged",
        "create index by_source on processed_events (source)",
        "create index concurrently by_source on processed_events (source)",
        "create unique index by_time on processed_events (timestamp)",
        "update processed_events set source = ''",
        "delete from dead_letters",
        "truncate dead_letters",
        "do $$ begin drop table topics; end $$",
        "lock table processed_events",
    ] {
        let found = noticed(Engine::Postgres, &format!("select 1;\n{statement};"));
        assert_eq!(found.len(), 1, "{statement}: {found:?}");
    }
    let unique = "create unique index by_time on processed_events (timestamp);";
    assert_eq!(noticed(Engine::Sqlite, unique).len(), 1);
}

#[test]
fn what_only_expands_passes() {
    for text in [
        "alter table processed_events add column note text;",
        "alter table topics add column n bigint not null default 0, add column at timestamptz not null default now();",
        "alter table processed_events alter column payload_digest drop not null;",
        "alter table topic_stats set (fillfactor = 50, autovacuum_enabled = true);",
        "-- no-transaction\ncreate index concurrently by_source on processed_events (source);",
        "create table notes (id bigint primary key);\ncreate unique index notes_of on notes (id);",
        "create or replace function f() returns trigger language plpgsql as $$\nbegin\n drop table x; return null;\nend\n$$;",
        "-- drop table topics; was here\nupdate deletions set statements = statements;",
    ] {
        assert_eq!(noticed(Engine::Postgres, text), [""; 0], "{text}");
    }
    let anew = "drop trigger t;\ncreate trigger t after update on x begin\n update y set n = 1;\nend;\ncreate index i on x (n);";
    assert_eq!(noticed(Engine::Sqlite, anew), [""; 0]);
}
