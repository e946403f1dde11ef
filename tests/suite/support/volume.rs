//! A small disk that can be full: a file system in memory. Root mounts it; who is not root mounts it in a
//! namespace of his own, where the test runs once more.

use super::process::Process;
use rustix::process::{Signal, getegid, geteuid};
use std::{
    env,
    fs::{self, File, Permissions},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use tempfile::TempDir;

const BALLAST: &str = "ballast";
/// Where the disk is already, for a test that runs in the namespace.
const MOUNTED: &str = "TEST_SMALL_DISK";
/// Whether a machine that lets nobody mount one may go without the test.
const MAY_SKIP: &str = "ALLOW_SKIPPED_FAULTS";
/// For the test in the namespace.
const RUN_MAX: Duration = Duration::from_secs(120);
/// Postgres runs as no root, inside the namespace neither: `nobody` everywhere.
const NOBODY: u32 = 65_534;
/// What a failed test exits with, by its harness.
const FAILED: i32 = 101;

/// Mounted below a directory of its own, gone when dropped.
pub(crate) struct Volume {
    path: PathBuf,
    /// What is ours to unmount.
    directory: Option<TempDir>,
}

impl Volume {
    /// `None` where this test, by its whole name, has passed in a namespace, or may be skipped. Fails the
    /// test where no small disk can be had.
    pub(crate) async fn mount(megabytes: u32, test: &str) -> Option<Self> {
        if let Some(path) = env::var_os(MOUNTED) {
            let path = PathBuf::from(path);
            return Some(Self {
                path,
                directory: None,
            });
        }
        let directory = tempfile::Builder::new()
            .prefix("oncelog-volume-")
            .tempdir()
            .unwrap();
        let options = format!("size={megabytes}m,mode=755");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(directory.path())
            .output();
        let error = match mounted {
            Ok(output) if output.status.success() => {
                let open = Permissions::from_mode(0o755);
                fs::set_permissions(directory.path(), open).unwrap();
                return Some(Self {
                    path: directory.path().to_owned(),
                    directory: Some(directory),
                });
            }
            Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
            Err(error) => error.to_string(),
        };
        if let Err(in_namespace) = passes_in_a_namespace(&options, directory.path(), test).await {
            let why = format!("no small disk can be mounted: {error}{in_namespace}");
            let may_skip = env::var(MAY_SKIP).is_ok_and(|value| value == "1");
            assert!(may_skip, "{why}{MAY_SKIP}=1 lets this test be skipped");
            eprintln!("skipped, as {why}");
        }
        None
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes all the room that is left.
    pub(crate) fn fill(&self) {
        let mut ballast = File::create(self.path().join(BALLAST)).unwrap();
        // The last page counts, too.
        for size in [1 << 16, 1 << 12, 1] {
            while ballast.write_all(&vec![7; size]).is_ok() {}
        }
    }

    /// Gives it back.
    pub(crate) fn make_room(&self) {
        fs::remove_file(self.path().join(BALLAST)).unwrap();
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if let Some(directory) = &self.directory {
            // Lazily: whoever still has a file open there is about to end.
            let _ = Command::new("umount")
                .arg("-l")
                .arg(directory.path())
                .status();
        }
    }
}

/// Runs this test once more, by its name, where the disk is mounted. Fails with it; an error where nothing
/// can be mounted there.
async fn passes_in_a_namespace(options: &str, path: &Path, test: &str) -> Result<(), String> {
    // Root there is this user here; the test is to be this user again. What kills this process has to kill
    // it as well, and only the last step keeps that in mind.
    const MOUNT: &str = r#"
        mount -t tmpfs -o "$0" tmpfs "$TEST_SMALL_DISK" || exit
        uid=$1 gid=$2
        shift 2
        exec unshare --user --map-user="$uid" --map-group="$gid" -- setpriv --pdeathsig KILL -- "$@"
    "#;
    let (uid, gid) = match geteuid().is_root() {
        true => (NOBODY, NOBODY),
        false => (geteuid().as_raw(), getegid().as_raw()),
    };
    let mut namespace = Command::new("unshare");
    namespace
        .args(["--map-root-user", "--mount", "sh", "-c", MOUNT, options])
        .args([uid.to_string(), gid.to_string()])
        .arg(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(MOUNTED, path);
    let mut again = Process::spawn(namespace, None, Signal::KILL);
    let (status, _) = again.wait(RUN_MAX).await;
    let (stdout, stderr) = (again.stdout(), again.stderr());
    assert_ne!(status.code(), Some(FAILED), "{stdout}{stderr}");
    if !status.success() {
        return Err(stderr);
    }
    assert!(stdout.contains("1 passed"), "no test {test}: {stdout}");
    Ok(())
}
