//! The rules of the house: which module may know which, and what every file has. Reads the sources;
//! a rule that is broken names the file.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

const FILE_LINES_MAX: usize = 500;

/// A part of the house, and what must not appear in it: modules of ours, and crates.
struct Rule {
    part: &'static str,
    never_modules: &'static [&'static str],
    never_crates: &'static [&'static str],
}

const RULES: &[Rule] = &[
    Rule {
        part: "domain",
        never_modules: &[
            "actors",
            "app",
            "bridge",
            "config",
            "http",
            "store",
            "wire",
            "telemetry",
        ],
        never_crates: &["serde", "sqlx", "actix", "actix_web", "redis", "tokio"],
    },
    Rule {
        part: "wire",
        never_modules: &["actors", "app", "bridge", "config", "http", "store"],
        never_crates: &["sqlx", "actix", "actix_web", "redis", "tokio"],
    },
    Rule {
        part: "store",
        never_modules: &["actors", "app", "bridge", "config", "http", "wire"],
        never_crates: &["actix", "actix_web", "redis"],
    },
    Rule {
        part: "actors",
        never_modules: &["app", "bridge", "config", "http", "wire"],
        never_crates: &["sqlx", "actix_web", "redis"],
    },
    Rule {
        part: "bridge",
        never_modules: &["app", "config", "http", "store"],
        never_crates: &["sqlx", "actix_web"],
    },
    Rule {
        part: "http",
        never_modules: &["app", "config"],
        never_crates: &["sqlx", "redis"],
    },
    Rule {
        part: "metrics",
        never_modules: &[
            "actors", "app", "bridge", "config", "domain", "feed", "http", "store", "tail", "wire",
        ],
        never_crates: &["sqlx", "actix", "actix_web", "redis", "tokio"],
    },
    Rule {
        part: "tail",
        never_modules: &[
            "actors",
            "app",
            "bridge",
            "feed",
            "http",
            "store",
            "telemetry",
            "wire",
        ],
        never_crates: &["sqlx", "actix", "actix_web", "redis"],
    },
    Rule {
        part: "tls",
        never_modules: &[
            "actors",
            "app",
            "bridge",
            "config",
            "domain",
            "feed",
            "http",
            "store",
            "tail",
            "telemetry",
            "wire",
        ],
        never_crates: &["sqlx", "actix", "actix_web", "redis", "reqwest"],
    },
    Rule {
        part: "telemetry",
        never_modules: &[
            "actors", "app", "bridge", "config", "domain", "http", "store", "wire",
        ],
        never_crates: &["sqlx", "actix_web", "redis"],
    },
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// `src/http/error.rs` and `src/http.rs` are of the part `http`.
fn part_of(path: &Path) -> String {
    let inner = path.strip_prefix(root().join("src")).unwrap();
    let first = inner.components().next().unwrap().as_os_str();
    first.to_str().unwrap().trim_end_matches(".rs").to_owned()
}

/// The source without comments, in one line, so that a `use` in several is whole.
fn code_of(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let lines = text
        .lines()
        .map(|line| match line.trim_start().starts_with("//") {
            true => "",
            false => line.trim(),
        });
    lines.collect::<Vec<_>>().join(" ")
}

/// The first names after `crate::`, also those of `use crate::{a::…, b}`.
fn modules_used(code: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for (at, start) in code.match_indices("crate::") {
        // `$crate::` and `mycrate::` are others.
        if code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_') {
            continue;
        }
        let rest = &code[at + start.len()..];
        match rest.strip_prefix('{') {
            Some(group) => used.extend(heads(group)),
            None => used.extend(name_at(rest)),
        }
    }
    used
}

/// The first name of each member of a group, up to its closing brace.
fn heads(group: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut depth = 0;
    let mut at_head = true;
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => at_head = true,
            _ if at_head && character.is_alphabetic() => {
                names.extend(name_at(&group[at..]));
                at_head = false;
            }
            _ => {}
        }
    }
    names
}

fn name_at(text: &str) -> Option<String> {
    let name: String = text
        .chars()
        .take_while(|character| character.is_alphanumeric() || *character == '_')
        .collect();
    (!name.is_empty()).then_some(name)
}

/// Whether the crate's name begins a path somewhere.
fn uses_crate(code: &str, name: &str) -> bool {
    let path = format!("{name}::");
    let begins = code.match_indices(&path).any(|(at, _)| {
        !code[..at]
            .ends_with(|before: char| before.is_alphanumeric() || matches!(before, '_' | ':'))
    });
    begins || code.contains(&format!("use {name};"))
}

#[test]
fn no_module_knows_what_it_must_not() {
    let mut broken = Vec::new();
    for path in sources_below(&root().join("src")) {
        let (part, code) = (part_of(&path), code_of(&path));
        let used = modules_used(&code);
        for rule in RULES.iter().filter(|rule| rule.part == part) {
            for module in rule
                .never_modules
                .iter()
                .filter(|module| used.contains(**module))
            {
                broken.push(format!("{} uses crate::{module}", path.display()));
            }
            for name in rule
                .never_crates
                .iter()
                .filter(|name| uses_crate(&code, name))
            {
                broken.push(format!("{} uses {name}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn only_the_wiring_reads_the_settings() {
    for path in sources_below(&root().join("src")) {
        let part = part_of(&path);
        // The health check and the tail are programs of their own, with settings of their own.
        if !["app", "main", "config", "healthcheck", "tail"].contains(&part.as_str()) {
            let used = modules_used(&code_of(&path));
            assert!(!used.contains("config"), "{}", path.display());
        }
    }
}

#[test]
fn the_engines_are_private_to_the_store() {
    for path in sources_below(&root().join("src")) {
        if part_of(&path) != "store" {
            let code = code_of(&path);
            for engine in ["store::postgres", "store::sqlite"] {
                assert!(!code.contains(engine), "{} names {engine}", path.display());
            }
        }
    }
    let seam = code_of(&root().join("src/store/mod.rs"));
    for engine in ["postgres", "sqlite"] {
        assert!(seam.contains(&format!(" mod {engine};")), "no {engine}");
        assert!(!seam.contains(&format!("pub mod {engine};")), "{engine}");
    }
}

#[test]
fn every_file_says_its_job_and_fits_a_sitting() {
    let mut wrong = Vec::new();
    for directory in ["src", "tests", "publisher"] {
        for path in sources_below(&root().join(directory)) {
            let text = fs::read_to_string(&path).unwrap();
            if !text.starts_with("//! ") {
                wrong.push(format!("{} has no header", path.display()));
            }
            let lines = text.lines().count();
            if lines > FILE_LINES_MAX {
                wrong.push(format!("{} has {lines} lines", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn both_engines_have_the_same_migrations() {
    let numbers = |engine: &str| -> Vec<String> {
        let directory = root().join("migrations").join(engine);
        let mut names: Vec<String> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert!(!numbers("postgres").is_empty());
    assert_eq!(numbers("postgres"), numbers("sqlite"));
}

/// The lines of a section of a manifest, by the names before their first `.` or blank.
fn section<'a>(manifest: &'a str, name: &str) -> BTreeMap<&'a str, &'a str> {
    let (_, rest) = manifest.split_once(&format!("\n[{name}]\n")).unwrap();
    let lines = rest.lines().take_while(|line| !line.starts_with('['));
    let named = lines.filter_map(|line| Some((line.split(['.', ' ']).next()?, line)));
    named
        .filter(|(name, _)| name.starts_with(char::is_alphabetic))
        .collect()
}

/// The fuzz crate is no member of the workspace, so no other build notices what it lacks.
#[test]
fn the_fuzz_crate_depends_on_what_the_sources_use_that_it_shares() {
    let ours = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let theirs = fs::read_to_string(root().join("fuzz/Cargo.toml")).unwrap();
    let shared = section(&ours, "workspace.dependencies");
    let fuzzed = section(&theirs, "dependencies");
    let files =
        ["src/domain", "src/wire", "fuzz/src"].map(|part| sources_below(&root().join(part)));
    let code: Vec<String> = files.concat().iter().map(|path| code_of(path)).collect();
    let mut used = 0;
    for (name, line) in section(&ours, "dependencies") {
        let path = name.replace('-', "_");
        if code.iter().any(|code| uses_crate(code, &path)) {
            // One that the workspace names has its version and features there.
            let line = shared.get(name).unwrap_or(&line);
            assert_eq!(fuzzed.get(name), Some(line), "{name} in fuzz/Cargo.toml");
            used += 1;
        }
    }
    // And the fuzzer's own.
    assert_eq!(used + 1, fuzzed.len(), "{fuzzed:#?}");
}

/// Else it is not the service that is fuzzed.
#[test]
fn the_fuzz_crate_builds_with_the_versions_of_the_service() {
    let packages = |lock: &str| -> BTreeSet<(String, String)> {
        let text = fs::read_to_string(root().join(lock)).unwrap();
        let value = |line: &str| line.split('"').nth(1).unwrap().to_owned();
        let lines: Vec<&str> = text.lines().collect();
        let named = lines
            .windows(2)
            .filter(|pair| pair[0].starts_with("name = "));
        named.map(|pair| (value(pair[0]), value(pair[1]))).collect()
    };
    let (ours, theirs) = (packages("Cargo.lock"), packages("fuzz/Cargo.lock"));
    let manifest = fs::read_to_string(root().join("fuzz/Cargo.toml")).unwrap();
    for name in section(&manifest, "dependencies").into_keys() {
        let mut versions = theirs.iter().filter(|(package, _)| package == name);
        let is_ours = name == "libfuzzer-sys" || versions.any(|package| ours.contains(package));
        assert!(is_ours, "{name} in fuzz/Cargo.lock");
    }
}

#[test]
fn the_rules_see_what_they_forbid() {
    let code =
        "use crate::{ actors::{Ingest, Stats}, domain::Event, }; let x = crate::wire::text();";
    let used: Vec<String> = modules_used(code).into_iter().collect();
    assert_eq!(used, ["actors", "domain", "wire"]);
    assert!(uses_crate("sqlx::query(text)", "sqlx"));
    assert!(uses_crate("use actix_web::web;", "actix_web"));
    assert!(!uses_crate("use actix_web::web;", "actix"));
    assert!(!uses_crate("super::redis::connect()", "redis"));
}
