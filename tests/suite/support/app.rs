//! The application as users run it: the real binary, a process of its own, on a free port.

use super::{
    certificate::{TestCertificate, Trust},
    client::Client,
    database::{Database, Engine},
    eventually,
    process::{Process, free_port},
    redis::TestBroker,
};
use rustix::process::Signal;
use serde_json::Value;
use std::{
    net::{Ipv4Addr, SocketAddr},
    ops::Deref,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    sync::Arc,
    thread,
    time::Duration,
};

/// The binary of this build.
const ONCELOG: &str = env!("CARGO_BIN_EXE_oncelog");
const START_MAX: Duration = Duration::from_secs(20);
const END_MAX: Duration = Duration::from_secs(15);
const PORTS_TRIED_MAX: usize = 10;

/// A running instance; shows its log where the test fails. Derefs to its client.
pub(crate) struct TestApp {
    process: Process,
    client: Client,
    address: SocketAddr,
    program: PathBuf,
    settings: Vec<(String, String)>,
    database: Arc<Database>,
    trust: Option<Trust>,
}

/// What an instance is started with.
pub(crate) struct TestAppBuilder {
    program: PathBuf,
    settings: Vec<(String, String)>,
    database: Arc<Database>,
    waits_for: &'static str,
    bind: Ipv4Addr,
    trust: Option<Trust>,
}

impl TestApp {
    /// One with an empty database, ready.
    pub(crate) async fn start(engine: Engine) -> Self {
        Self::builder(engine).await.start().await
    }

    pub(crate) async fn builder(engine: Engine) -> TestAppBuilder {
        Self::on(Arc::new(Database::create(engine).await))
    }

    /// One on a database that there is already, or that there will be.
    pub(crate) fn on(database: Arc<Database>) -> TestAppBuilder {
        TestAppBuilder {
            program: PathBuf::from(ONCELOG),
            settings: Vec::new(),
            database,
            waits_for: "/readyz",
            bind: Ipv4Addr::LOCALHOST,
            trust: None,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub(crate) fn database(&self) -> &Arc<Database> {
        &self.database
    }

    /// A client for another task.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// What it has written to stdout.
    pub(crate) fn log(&self) -> String {
        self.process.stdout()
    }

    /// What it has written to stderr.
    pub(crate) fn stderr(&self) -> String {
        self.process.stderr()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Memory that it holds.
    pub(crate) fn resident_kib(&self) -> u64 {
        self.process.resident_kib()
    }

    /// The most memory that it has ever held.
    pub(crate) fn resident_kib_max(&self) -> u64 {
        self.process.resident_kib_max()
    }

    /// How it ended, and how long that took from now.
    pub(crate) async fn wait(&mut self) -> (ExitStatus, Duration) {
        self.process.wait(END_MAX).await
    }

    /// Asks it to end, as an operator does.
    pub(crate) async fn terminate(&mut self) -> (ExitStatus, Duration) {
        self.signal(Signal::TERM);
        self.wait().await
    }

    /// Ends it without a word.
    pub(crate) async fn kill9(&mut self) {
        self.signal(Signal::KILL);
        self.wait().await;
    }

    /// Starts it anew, with the settings, the port and the database it had.
    pub(crate) async fn restart(&mut self) {
        if self.process.try_wait().is_none() {
            self.terminate().await;
        }
        self.process = spawn(&self.program, &self.settings);
        // Connections to the one before are of no use.
        self.client = client(self.address, self.trust.as_ref());
        let started = answers(&self.client, &mut self.process, "/readyz").await;
        assert!(started, "it ended: {}", self.process.stderr());
    }

    /// Becomes this build with its next start: an upgrade.
    pub(crate) async fn becomes(&mut self, program: &Path) {
        program.clone_into(&mut self.program);
        self.restart().await;
    }

    /// Fails where the counters are not what the database holds.
    pub(crate) async fn assert_counters_are_exact(&self) -> Value {
        let stats = self.stats().await;
        self.assert_exact(&stats).await;
        stats
    }

    /// The same of counters that it has answered.
    pub(crate) async fn assert_exact(&self, stats: &Value) {
        let count = |name: &str| stats[name].as_i64().unwrap();
        let unique = count("unique_processed_count");
        let duplicates = count("duplicate_dropped_count");
        assert_eq!(count("received_count"), unique + duplicates, "{stats}");
        assert_eq!(unique, self.database.rows().await, "{stats}");
    }
}

impl Deref for TestApp {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        if thread::panicking() {
            let (log, stderr) = (self.log(), self.stderr());
            eprintln!(
                "--- log of {}\n{log}\n--- stderr\n{stderr}---",
                self.address
            );
        }
    }
}

impl TestAppBuilder {
    /// A setting, by its environment variable.
    pub(crate) fn set(mut self, variable: &str, value: impl ToString) -> Self {
        self.settings.push((variable.to_owned(), value.to_string()));
        self
    }

    /// Of another build.
    pub(crate) fn program(mut self, program: &Path) -> Self {
        program.clone_into(&mut self.program);
        self
    }

    /// Listens beyond loopback; the client stays on it.
    pub(crate) fn bind_everywhere(mut self) -> Self {
        self.bind = Ipv4Addr::UNSPECIFIED;
        self
    }

    /// With this broker.
    pub(crate) fn broker(self, broker: &TestBroker) -> Self {
        self.set("REDIS_URL", broker.url())
            .set("BROKER_STREAM", broker.stream())
    }

    /// Serves HTTPS, and the client trusts this certificate.
    pub(crate) fn tls(mut self, certificate: &TestCertificate) -> Self {
        self.trust = Some(certificate.trust().clone());
        self.set("TLS_CERT", certificate.cert_path().display())
            .set("TLS_KEY", certificate.key_path().display())
    }

    /// Started is what answers this with 200, instead of `/readyz`.
    pub(crate) fn wait_for(mut self, path: &'static str) -> Self {
        self.waits_for = path;
        self
    }

    pub(crate) async fn start(self) -> TestApp {
        for _ in 0..PORTS_TRIED_MAX {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
            let mut settings = vec![
                (
                    "BIND".to_owned(),
                    format!("{}:{}", self.bind, address.port()),
                ),
                ("DATABASE_URL".to_owned(), self.database.url().to_owned()),
            ];
            settings.extend(self.settings.iter().cloned());
            let mut process = spawn(&self.program, &settings);
            let client = client(address, self.trust.as_ref());
            if answers(&client, &mut process, self.waits_for).await {
                return TestApp {
                    process,
                    client,
                    address,
                    program: self.program,
                    settings,
                    database: self.database,
                    trust: self.trust,
                };
            }
            let stderr = process.stderr();
            // Somebody else was faster to take the port.
            assert!(stderr.contains("cannot listen on"), "it ended: {stderr}");
        }
        panic!("no free port in {PORTS_TRIED_MAX} attempts");
    }
}

/// The binary of this build, to be run.
pub(crate) fn oncelog() -> Command {
    Command::new(ONCELOG)
}

/// The publisher of this build, to be run. Cargo names the path of a binary to tests of its own
/// package only; it builds this one beside the service for `publisher/tests`.
pub(crate) fn publisher() -> Command {
    let program = Path::new(ONCELOG).with_file_name("oncelog-publisher");
    assert!(
        program.exists(),
        "no {}: test --workspace",
        program.display()
    );
    Command::new(program)
}

fn client(address: SocketAddr, trust: Option<&Trust>) -> Client {
    match trust {
        Some(trust) => Client::secure(address, trust),
        None => Client::new(address),
    }
}

fn spawn(program: &Path, settings: &[(String, String)]) -> Process {
    let mut command = Command::new(program);
    command.envs(settings.iter().cloned());
    Process::spawn(command, None, Signal::KILL)
}

/// Waits until it answers with 200; false where it has ended instead.
async fn answers(client: &Client, process: &mut Process, path: &str) -> bool {
    let mut has_ended = false;
    eventually(&format!("{path} is 200"), START_MAX, async || {
        has_ended = process.try_wait().is_some();
        has_ended || client.status(path).await == Some(200)
    })
    .await;
    !has_ended
}
