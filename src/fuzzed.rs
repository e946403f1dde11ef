//! What the fuzzer has found worth keeping (`fuzz/corpus`), through the claims it was found with: what
//! broke once stays found without a fuzzer. Tests only; the claims are the fuzz targets' own file.

#[path = "../fuzz/src/claims.rs"]
#[expect(
    unreachable_pub,
    reason = "it is public to the fuzz targets, of another crate"
)]
mod claims;

use proptest::prelude::*;
use std::{
    fs,
    panic::catch_unwind,
    path::{Path, PathBuf},
};

/// A file is read in a review, and all of them are cloned by everybody.
const FILE_BYTES_MAX: usize = 4096;
const TARGET_FILES_MAX: usize = 150;
const CORPUS_BYTES_MAX: usize = 400 << 10;

type Claim = fn(&[u8]);

/// The targets by their names, which are those of their files in `fuzz/fuzz_targets` and of their
/// directories in `fuzz/corpus`.
const TARGETS: [(&str, Claim); 6] = [
    ("cloudevents", claims::cloudevents),
    ("cursor", claims::cursor),
    ("digest", claims::digest),
    ("json", claims::json),
    ("ndjson", claims::ndjson),
    ("payload", claims::payload),
];

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn files_in(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn names_in(directory: &Path) -> Vec<String> {
    let files = files_in(directory);
    let stems = files.iter().map(|file| file.file_stem().unwrap());
    stems
        .map(|stem| stem.to_str().unwrap().to_owned())
        .collect()
}

fn hold(input: &[u8]) {
    for (_, claim) in TARGETS {
        claim(input);
    }
}

/// Of all that was found.
fn corpus() -> Vec<Vec<u8>> {
    let directories = TARGETS.map(|(name, _)| fuzz().join("corpus").join(name));
    let files = directories.iter().flat_map(|directory| files_in(directory));
    files.map(|file| fs::read(file).unwrap()).collect()
}

proptest! {
    #[test]
    fn claims_hold_of_random_bytes(input in prop::collection::vec(any::<u8>(), 0..500)) {
        hold(&input);
    }

    #[test]
    fn claims_hold_of_random_letters_of_json(input in r#"[\[\]{}":,\\0-9eE.+ntrue \n-]{0,200}"#) {
        hold(input.as_bytes());
    }

    #[test]
    fn claims_hold_of_what_was_found_with_other_bytes_in_it(
        mut input in prop::sample::select(corpus()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        end in any::<prop::sample::Index>(),
    ) {
        for (at, byte) in changes {
            let at = at.index(input.len() + 1);
            match input.get_mut(at) {
                Some(place) => *place = byte,
                None => input.push(byte),
            }
        }
        hold(&input);
        hold(&input[..end.index(input.len() + 1)]);
    }
}

#[test]
fn every_target_has_its_corpus_and_its_place_here() {
    let known = TARGETS.map(|(name, _)| name);
    assert_eq!(names_in(&fuzz().join("fuzz_targets")), known);
    assert_eq!(names_in(&fuzz().join("corpus")), known);
}

/// Each input through every target: what one has found may be new to another.
#[test]
fn what_a_fuzzer_has_found_holds() {
    let mut broken = Vec::new();
    for (found_by, _) in TARGETS {
        for file in files_in(&fuzz().join("corpus").join(found_by)) {
            let input = fs::read(&file).unwrap();
            for (name, claim) in TARGETS {
                if catch_unwind(|| claim(&input)).is_err() {
                    broken.push(format!("{name} of {}", file.display()));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn the_corpus_stays_small() {
    let mut bytes = 0;
    for (name, _) in TARGETS {
        let files = files_in(&fuzz().join("corpus").join(name));
        assert!((1..=TARGET_FILES_MAX).contains(&files.len()), "{name}");
        for file in files {
            let size = fs::read(&file).unwrap().len();
            assert!(size <= FILE_BYTES_MAX, "{}: {size}", file.display());
            bytes += size;
        }
    }
    assert!(bytes <= CORPUS_BYTES_MAX, "{bytes}");
}
