//! A small disk that can be full: a file system in memory, which only root may mount.

use std::{
    fs::{self, File, Permissions},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
};
use tempfile::TempDir;

const BALLAST: &str = "ballast";

/// Mounted below a directory of its own, gone when dropped.
pub(crate) struct Volume(TempDir);

impl Volume {
    /// `None`, and a line that says why, where this user or this machine does not let it be mounted.
    pub(crate) fn mount(megabytes: u32) -> Option<Self> {
        let directory = tempfile::Builder::new()
            .prefix("oncelog-volume-")
            .tempdir()
            .unwrap();
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o"])
            .arg(format!("size={megabytes}m,mode=755"))
            .arg("tmpfs")
            .arg(directory.path())
            .output();
        match output {
            Ok(output) if output.status.success() => {
                let open = Permissions::from_mode(0o755);
                fs::set_permissions(directory.path(), open).unwrap();
                Some(Self(directory))
            }
            Ok(output) => {
                let error = String::from_utf8_lossy(&output.stderr);
                eprintln!("skipped, as no small disk can be mounted: {error}");
                None
            }
            Err(error) => {
                eprintln!("skipped, as no small disk can be mounted: {error}");
                None
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
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
        // Lazily: whoever still has a file open there is about to end.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}
