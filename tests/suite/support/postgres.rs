//! A private Postgres. Faults get one of their own; all others share one, and get a database in it:
//! the one of `TEST_POSTGRES_URL`, which `scripts/test.sh` starts, else one for this process.

use super::{
    eventually,
    process::{Process, User, free_port, unprivileged},
    sabotage::Sabotage,
};
use rustix::process::Signal;
use sqlx::{Connection, PgConnection};
use std::{
    env,
    fs::{self, Permissions},
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr},
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{OnceLock, mpsc},
    thread,
    time::Duration,
};
use tempfile::TempDir;

/// After an hour of a soak, a recovery has much to read and to sync.
const START_MAX: Duration = Duration::from_secs(120);

/// A server with its data, gone when dropped.
pub(crate) struct PostgresServer {
    // Before the directory: fields are dropped in this order.
    process: Option<Process>,
    port: u16,
    user: Option<User>,
    sabotage: Option<Sabotage>,
    data: TempDir,
}

/// A server that stands still as long as this is there.
pub(crate) struct Paused {
    keeper: Child,
}

impl Drop for Paused {
    fn drop(&mut self) {
        // It waits for the end of its stdin.
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

impl PostgresServer {
    /// One that has its data and its port, and does not run yet.
    pub(crate) fn prepared() -> Self {
        Self::prepared_in(&env::temp_dir())
    }

    /// As `prepared`, with its data below this directory.
    pub(crate) fn prepared_in(directory: &Path) -> Self {
        let mut initdb = Command::new(program("initdb"));
        initdb
            .args(["--username=postgres", "--auth=trust", "--encoding=UTF8"])
            .args(["--no-locale", "--no-sync", "--pgdata"]);
        Self::made_by(initdb, directory)
    }

    /// A standby that streams from this server and has caught up with it. It runs.
    pub(crate) async fn standby(&self) -> Self {
        let mut backup = Command::new(program("pg_basebackup"));
        let port = self.port;
        backup
            .arg(format!("--dbname=host=127.0.0.1 port={port} user=postgres"))
            .args(["--checkpoint=fast", "--wal-method=stream", "--no-sync"])
            .args(["--write-recovery-conf", "--pgdata"]);
        let mut standby = Self::made_by(backup, &env::temp_dir());
        standby.start_again().await;
        let mut primary = PgConnection::connect(&self.url("postgres")).await.unwrap();
        eventually("the standby streams", START_MAX, async || {
            let count = "select count(*) from pg_stat_replication where state = 'streaming'";
            let count = sqlx::query_scalar::<_, i64>(count);
            count.fetch_one(&mut primary).await.unwrap() > 0
        })
        .await;
        standby
    }

    /// One whose data this program makes in the directory that is its last argument.
    fn made_by(mut program: Command, directory: &Path) -> Self {
        let user = unprivileged();
        let data = tempfile::Builder::new()
            .prefix("oncelog-postgres-")
            .tempdir_in(directory)
            .unwrap();
        if let Some(User { uid, gid }) = user {
            chown(data.path(), Some(uid), Some(gid)).unwrap();
        }
        // Postgres wants its data for itself; initdb sees to that, a backup does not.
        fs::set_permissions(data.path(), Permissions::from_mode(0o700)).unwrap();
        program.arg(data.path()).current_dir("/");
        let mut maker = Process::spawn(program, user, Signal::KILL);
        let status = loop {
            match maker.try_wait() {
                Some(status) => break status,
                None => thread::park_timeout(Duration::from_millis(10)),
            }
        };
        assert!(status.success(), "no data: {}", maker.stderr());
        Self {
            process: None,
            port: free_port(),
            user,
            sabotage: None,
            data,
        }
    }

    /// With a disk that does what it is told from the next start on, and `fsync` therefore.
    pub(crate) fn sabotaged(mut self, sabotage: &Sabotage) -> Self {
        self.sabotage = Some(sabotage.clone());
        self
    }

    /// One that runs.
    pub(crate) async fn start() -> Self {
        let mut server = Self::prepared();
        server.start_again().await;
        server
    }

    /// The address of one of its databases.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Where it takes connections.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Does this on it, as its superuser; one statement each, as some of them ask for.
    pub(crate) async fn execute(&self, statements: &[&'static str]) {
        let mut connection = PgConnection::connect(&self.url("postgres")).await.unwrap();
        for statement in statements {
            let done = sqlx::query(*statement).execute(&mut connection).await;
            done.unwrap();
        }
    }

    /// Waits until this question is answered with true; it may be one that cannot be asked yet.
    pub(crate) async fn says(&self, question: &'static str) {
        let mut connection = PgConnection::connect(&self.url("postgres")).await.unwrap();
        eventually(question, START_MAX, async || {
            let answer = sqlx::query_scalar::<_, bool>(question);
            answer.fetch_one(&mut connection).await.unwrap_or(false)
        })
        .await;
    }

    /// Starts it with the data and on the port it had, and waits until it takes connections.
    pub(crate) async fn start_again(&mut self) {
        self.launch();
        let url = self.url("postgres");
        eventually("Postgres takes connections", START_MAX, async || {
            PgConnection::connect(&url).await.is_ok()
        })
        .await;
    }

    /// Whether it has given up by itself, as after a full disk that a recovery finds.
    pub(crate) fn has_ended(&mut self) -> bool {
        let process = self.process.as_mut();
        process.is_none_or(|process| process.try_wait().is_some())
    }

    /// Breaks every connection and ends, as a lost machine does; committed data stays.
    pub(crate) async fn kill(&mut self) {
        let mut process = self.process.take().expect("a running Postgres");
        process.signal(Signal::QUIT);
        process.wait(START_MAX).await;
    }

    /// Stops the server with all of its processes, as a machine that hangs: connections stay, new ones are
    /// made by the kernel, and nobody answers. It goes on when the pause is dropped.
    pub(crate) fn pause(&self) -> Paused {
        // The postmaster first, which then starts no others. A process of its own lets it go on even where the
        // test is killed: what is stopped cannot end.
        const PAUSE: &str = r#"
            trap '' INT TERM
            kill -STOP "$0"
            all="$0 $(cat "/proc/$0/task/$0/children")"
            kill -STOP $all
            echo stopped
            read -r _
            kill -CONT $all
        "#;
        let pid = self.process.as_ref().expect("a running Postgres").pid();
        let mut keeper = Command::new("sh")
            .args(["-c", PAUSE, &pid.to_string()])
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = keeper.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        assert_eq!(line, "stopped\n");
        Paused { keeper }
    }

    fn launch(&mut self) {
        let mut postgres = Command::new(program("postgres"));
        postgres.arg("-D").arg(self.data.path());
        for setting in [
            format!("port={}", self.port),
            "listen_addresses=127.0.0.1".to_owned(),
            "unix_socket_directories=".to_owned(),
            "shared_buffers=32MB".to_owned(),
            "max_connections=100".to_owned(),
            // What is killed here is processes, and their writes are the kernel's already.
            match self.sabotage {
                Some(_) => "fsync=on".to_owned(),
                None => "fsync=off".to_owned(),
            },
        ] {
            postgres.arg("-c").arg(setting);
        }
        if let Some(sabotage) = &self.sabotage {
            postgres.envs(sabotage.variables());
        }
        postgres.current_dir("/");
        // QUIT is an immediate shutdown, which leaves no children and no shared memory behind.
        self.process = Some(Process::spawn(postgres, self.user, Signal::QUIT));
    }
}

/// The address of the server that tests share.
pub(super) fn shared_url() -> &'static str {
    static SHARED: OnceLock<String> = OnceLock::new();
    SHARED.get_or_init(|| match env::var("TEST_POSTGRES_URL") {
        Ok(url) => url,
        Err(_) => kept_by_a_thread(),
    })
}

/// A server lives as long as the thread that started it; this one ends with the process.
fn kept_by_a_thread() -> String {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut server = PostgresServer::prepared();
        let mut janitor = janitor(server.data.path());
        // Out of it, as a wait would close it.
        let _end = janitor.stdin.take();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(server.start_again());
        sender.send(server.url("postgres")).unwrap();
        // It is there for as long as this process.
        janitor.wait().unwrap();
    });
    receiver.recv().unwrap()
}

/// Removes the data when this process is gone, however it ends: nothing static is dropped. It sees
/// the end at its stdin, which nobody else holds, and waits for the server's own end.
fn janitor(data: &Path) -> Child {
    const REMOVE: &str = r#"
        trap '' INT TERM
        read -r _
        for _ in $(seq 100); do
            [ -e "$0/postmaster.pid" ] || break
            sleep 0.1
        done
        rm -rf -- "$0"
    "#;
    Command::new("sh")
        .args(["-c", REMOVE])
        .arg(data)
        .current_dir("/")
        // What ends the tests by their process group must not end it.
        .process_group(0)
        .stdin(Stdio::piped())
        // A runner waits for those who hold its test's output.
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Debian keeps the server's programs out of the path, by version.
fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut packaged: Vec<(u32, PathBuf)> = versions
        .flatten()
        .filter_map(|version| {
            let number = version.file_name().to_str()?.parse().ok()?;
            Some((number, version.path().join("bin").join(name)))
        })
        .filter(|(_, path)| path.exists())
        .collect();
    packaged.sort();
    match packaged.pop() {
        Some((_, path)) => path,
        None => Path::new(name).to_owned(),
    }
}
