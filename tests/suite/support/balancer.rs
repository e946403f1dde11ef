//! nginx with the files of `deploy/replicas/`, as an unprivileged user on a free port: only ports and paths
//! are others.

use super::{
    Client, eventually,
    process::{Process, User, free_port, unprivileged},
};
use rustix::process::Signal;
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::chown,
    path::Path,
    process::Command,
    thread,
    time::Duration,
};
use tempfile::TempDir;

const START_MAX: Duration = Duration::from_secs(15);
const PORTS_TRIED_MAX: usize = 10;

/// A running nginx, gone when dropped.
pub(crate) struct Balancer {
    // Before the directory: fields are dropped in this order.
    process: Process,
    address: SocketAddr,
    directory: TempDir,
}

impl Balancer {
    /// One in front of these replicas.
    pub(crate) async fn start(replicas: &[SocketAddr]) -> Self {
        Self::with(replicas, &[]).await
    }

    /// One whose files have some texts replaced.
    pub(crate) async fn with(replicas: &[SocketAddr], replaced: &[(&str, &str)]) -> Self {
        for _ in 0..PORTS_TRIED_MAX {
            if let Some(balancer) = Self::try_start(replicas, replaced).await {
                return balancer;
            }
        }
        panic!("no free port in {PORTS_TRIED_MAX} attempts");
    }

    async fn try_start(replicas: &[SocketAddr], replaced: &[(&str, &str)]) -> Option<Self> {
        let directory = tempfile::Builder::new()
            .prefix("oncelog-nginx-")
            .tempdir()
            .unwrap();
        let user = unprivileged();
        if let Some(User { uid, gid }) = user {
            chown(directory.path(), Some(uid), Some(gid)).unwrap();
        }
        let (port, health_port) = (free_port(), free_port());
        let place = directory.path().display();
        let (mut text, mut servers) = (deployed("nginx.conf"), deployed("servers.conf"));
        for (from, to) in [
            ("/tmp/", format!("{place}/").as_str()),
            ("listen 8080;", &format!("listen 127.0.0.1:{port};")),
            (
                "listen 127.0.0.1:8081;",
                &format!("listen 127.0.0.1:{health_port};"),
            ),
            // It is the test's own user's, and may not be opened by another one.
            ("/dev/stdout", &format!("{place}/access.log")),
        ]
        .iter()
        .chain(replaced)
        {
            let is_there = text.contains(from) || servers.contains(from);
            assert!(is_there, "no {from:?} in what is deployed");
            text = text.replace(from, to);
            servers = servers.replace(from, to);
        }
        fs::write(directory.path().join("nginx.conf"), text).unwrap();
        write_servers(directory.path(), &servers, replicas);

        let debian = Path::new("/usr/sbin/nginx");
        let mut nginx = Command::new(if debian.exists() {
            debian
        } else {
            Path::new("nginx")
        });
        nginx
            .arg("-c")
            .arg(directory.path().join("nginx.conf"))
            .arg("-p")
            .arg(directory.path())
            .current_dir("/");
        // A master that is killed leaves its workers behind.
        let mut process = Process::spawn(nginx, user, Signal::TERM);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let health = Client::new(SocketAddr::from((Ipv4Addr::LOCALHOST, health_port)));
        let mut has_ended = false;
        eventually("nginx answers", START_MAX, async || {
            has_ended = process.try_wait().is_some();
            has_ended || health.status("/").await == Some(204)
        })
        .await;
        if has_ended {
            let stderr = process.stderr();
            assert!(stderr.contains("Address already in use"), "nginx: {stderr}");
            return None;
        }
        Some(Self {
            process,
            address,
            directory,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A client of its own, with its own connections.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// Uses these replicas from now on, as an operator makes it: another file, and a reload.
    pub(crate) fn reload(&self, replicas: &[SocketAddr]) {
        write_servers(self.directory.path(), &deployed("servers.conf"), replicas);
        self.process.signal(Signal::HUP);
    }

    /// A line for each request that took more than one attempt or came to nothing.
    pub(crate) fn attempts(&self) -> String {
        fs::read_to_string(self.directory.path().join("access.log")).unwrap()
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        if thread::panicking() {
            let (stderr, attempts) = (self.process.stderr(), self.attempts());
            eprintln!("--- stderr of nginx\n{stderr}\n--- its log\n{attempts}---");
        }
    }
}

fn deployed(file: &str) -> String {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/replicas");
    fs::read_to_string(directory.join(file)).unwrap()
}

/// The file as it is deployed, with these addresses for its names.
fn write_servers(directory: &Path, deployed: &str, replicas: &[SocketAddr]) {
    let line = deployed.lines().find(|line| line.starts_with("server "));
    let (_, parameters) = line.unwrap().split_once(" resolve ").unwrap();
    let servers: String = replicas
        .iter()
        .map(|address| format!("server {address} {parameters}\n"))
        .collect();
    fs::write(directory.join("servers.conf"), servers).unwrap();
}
