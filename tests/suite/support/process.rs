//! Processes that never outlive the test: ended by their id when dropped, and by the kernel when
//! the test itself is killed.

use rustix::process::{Pid, Signal, kill_process};
use std::{
    ffi::OsStr,
    fs,
    net::TcpListener,
    os::unix::fs::FileExt,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

/// Above the reserved ports and below those that outgoing connections take.
const PORTS: std::ops::Range<u16> = 10_000..32_000;
const POLL: Duration = Duration::from_millis(10);

/// A running program, with what it has written.
pub(crate) struct Process {
    child: Child,
    stdout: fs::File,
    stderr: fs::File,
    end_with: Signal,
}

/// Who runs a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Process {
    /// Starts the program; `end_with` is what it gets when nobody needs it any more.
    pub(crate) fn spawn(command: Command, user: Option<User>, end_with: Signal) -> Self {
        let stdout = tempfile::tempfile().unwrap();
        let stderr = tempfile::tempfile().unwrap();
        let child = wrapped(&command, user, end_with)
            .stdin(Stdio::null())
            .stdout(stdout.try_clone().unwrap())
            .stderr(stderr.try_clone().unwrap())
            .spawn()
            .expect("setpriv (package util-linux) starts the programs of the tests");
        Self {
            child,
            stdout,
            stderr,
            end_with,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        // One that has ended by itself is not there any more.
        let _ = kill_process(pid, signal);
    }

    pub(crate) fn try_wait(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// How it ended, and how long that took.
    pub(crate) async fn wait(&mut self, within: Duration) -> (ExitStatus, Duration) {
        let started = Instant::now();
        loop {
            if let Some(status) = self.try_wait() {
                return (status, started.elapsed());
            }
            assert!(started.elapsed() < within, "still running after {within:?}");
            tokio::time::sleep(POLL).await;
        }
    }

    /// Memory that it holds, as the kernel counts it.
    pub(crate) fn resident_kib(&self) -> u64 {
        self.memory_kib("VmRSS:")
    }

    /// The most that it has ever held.
    pub(crate) fn resident_kib_max(&self) -> u64 {
        self.memory_kib("VmHWM:")
    }

    fn memory_kib(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn stdout(&self) -> String {
        whole(&self.stdout)
    }

    pub(crate) fn stderr(&self) -> String {
        whole(&self.stderr)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.signal(self.end_with);
        }
        let _ = self.child.wait();
    }
}

/// The command, run by `setpriv`, which becomes it: the kernel sends the signal when the thread
/// that started it ends, as it does with its test.
fn wrapped(command: &Command, user: Option<User>, end_with: Signal) -> Command {
    let mut wrapped = Command::new("setpriv");
    // It knows signals by name only.
    let name = match end_with {
        Signal::QUIT => "QUIT",
        Signal::TERM => "TERM",
        _ => "KILL",
    };
    wrapped.args(["--pdeathsig", name]);
    if let Some(User { uid, gid }) = user {
        wrapped.args(["--reuid", &uid.to_string(), "--regid", &gid.to_string()]);
        wrapped.arg("--clear-groups");
    }
    wrapped.arg("--").arg(command.get_program());
    wrapped.args(command.get_args());
    // The developer's own settings are none of the test's.
    wrapped.env_clear();
    wrapped.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let set =
        |(name, value): (&'_ OsStr, Option<&'_ OsStr>)| Some((name.to_owned(), value?.to_owned()));
    wrapped.envs(command.get_envs().filter_map(set));
    if let Some(directory) = command.get_current_dir() {
        wrapped.current_dir(directory);
    }
    wrapped
}

/// Read at a position: the child writes through the same file, at the place this one would move.
fn whole(file: &fs::File) -> String {
    let bytes = file.metadata().unwrap().len();
    let mut content = vec![0; usize::try_from(bytes).unwrap()];
    let read = file.read_at(&mut content, 0).unwrap();
    String::from_utf8_lossy(&content[..read]).into_owned()
}

/// A port of loopback that nobody listens on. Somebody else may take it before it is used.
pub(crate) fn free_port() -> u16 {
    loop {
        let port = rand::random_range(PORTS);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// The user that may run Postgres, where this one is root, which may not.
pub(crate) fn unprivileged() -> Option<User> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let entry = passwd
        .lines()
        .find_map(|line| line.strip_prefix("postgres:"));
    let fields: Vec<&str> = entry
        .expect("root may not run Postgres, and there is no user postgres to do it")
        .split(':')
        .collect();
    Some(User {
        uid: fields[1].parse().unwrap(),
        gid: fields[2].parse().unwrap(),
    })
}
