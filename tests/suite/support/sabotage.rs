//! A disk whose syncs fail or are slow or that is full, and a clock that jumps: a library that is loaded before the C
//! library of a program (`sabotage.c`), compiled when it is first asked for.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::{FileExt, PermissionsExt},
    process::Command,
    sync::Arc,
};
use tempfile::TempDir;

/// For any number of processes, which all do as they are told.
#[derive(Clone)]
pub(crate) struct Sabotage {
    directory: Arc<TempDir>,
    told: Arc<File>,
}

impl Sabotage {
    /// As `prepare`; `None`, and a line that says why, where this machine compiles no C.
    pub(crate) fn try_prepare() -> Option<Self> {
        match Command::new("cc").arg("--version").output() {
            Ok(output) if output.status.success() => Some(Self::prepare()),
            _ => {
                eprintln!(
                    "left out, as there is no cc: syncs that fail, slow and full disks, clocks"
                );
                None
            }
        }
    }

    /// One that does nothing yet.
    pub(crate) fn prepare() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("oncelog-sabotage-")
            .tempdir()
            .unwrap();
        let path = directory.path();
        let output = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(path.join("sabotage.so"))
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/suite/support/sabotage.c"
            ))
            .output()
            .expect("cc, with which Rust links");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        let told = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path.join("told"))
            .unwrap();
        told.set_len(40).unwrap();
        // Postgres is another user, and counts failures in it.
        let open_to = |path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        open_to(path.to_owned(), 0o755);
        open_to(path.join("told"), 0o666);
        Self {
            told: Arc::new(told),
            directory: Arc::new(directory),
        }
    }

    /// The environment of a process that is sabotaged.
    pub(crate) fn variables(&self) -> [(&'static str, String); 2] {
        let path = |name: &str| self.directory.path().join(name).display().to_string();
        [
            ("LD_PRELOAD", path("sabotage.so")),
            ("SABOTAGE", path("told")),
        ]
    }

    /// So many more syncs fail with EIO.
    pub(crate) fn failing_syncs(&self, count: i64) {
        self.tell(0, count);
    }

    /// How many of those are still to come.
    pub(crate) fn syncs_that_will_fail(&self) -> i64 {
        self.told_at(0)
    }

    /// Each sync takes that much longer.
    pub(crate) fn slow_syncs(&self, ms: i64) {
        self.tell(8, ms);
    }

    /// The clock of the wall is that far ahead of the true one, or behind it.
    pub(crate) fn shift_clock(&self, seconds: i64) {
        self.tell(16, seconds);
    }

    /// How far it is.
    pub(crate) fn clock_s(&self) -> i64 {
        self.told_at(16)
    }

    /// Whether no file finds room to grow.
    pub(crate) fn fill_disk(&self, is_full: bool) {
        self.tell(24, i64::from(is_full));
    }

    /// Writes that have found none so far.
    pub(crate) fn writes_without_room(&self) -> i64 {
        self.told_at(32)
    }

    fn told_at(&self, at: u64) -> i64 {
        let mut value = [0; 8];
        self.told.read_exact_at(&mut value, at).unwrap();
        i64::from_ne_bytes(value)
    }

    fn tell(&self, at: u64, value: i64) {
        self.told.write_all_at(&value.to_ne_bytes(), at).unwrap();
    }
}
