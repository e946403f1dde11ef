//! A private Redis. Faults get one of their own; all others share the one of `TEST_REDIS_URL`, which
//! `scripts/test.sh` starts, where there is one, and each has its own stream in it.

use super::{
    eventually,
    process::{Process, free_port},
};
use rustix::process::Signal;
use std::{env, process::Command, time::Duration};
use tempfile::TempDir;

const START_MAX: Duration = Duration::from_secs(15);

/// A server with its data, gone when dropped.
pub(crate) struct RedisServer {
    // Before the directory: fields are dropped in this order.
    process: Option<Process>,
    port: u16,
    data: TempDir,
}

impl RedisServer {
    pub(crate) async fn start() -> Self {
        let data = tempfile::Builder::new()
            .prefix("oncelog-redis-")
            .tempdir()
            .unwrap();
        let mut server = Self {
            process: None,
            port: free_port(),
            data,
        };
        server.start_again().await;
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Starts it with the data and on the port it had, and waits until it answers.
    pub(crate) async fn start_again(&mut self) {
        let mut redis = Command::new("redis-server");
        redis
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .args([
                "--appendonly",
                "yes",
                "--appendfsync",
                "always",
                "--save",
                "",
            ])
            .arg("--dir")
            .arg(self.data.path());
        self.process = Some(Process::spawn(redis, None, Signal::KILL));
        let client = redis::Client::open(self.url()).unwrap();
        eventually("Redis answers", START_MAX, async || {
            let Ok(mut connection) = client.get_multiplexed_async_connection().await else {
                return false;
            };
            let pong: redis::RedisResult<String> =
                redis::cmd("PING").query_async(&mut connection).await;
            pong.is_ok()
        })
        .await;
    }

    /// Stops its clock: connections stay, answers do not come.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        self.process
            .as_ref()
            .expect("a running Redis")
            .signal(signal);
    }

    /// Ends it at once; what it has acknowledged is in its log.
    pub(crate) async fn kill(&mut self) {
        let mut process = self.process.take().expect("a running Redis");
        process.signal(Signal::KILL);
        process.wait(START_MAX).await;
    }
}

/// A broker for one test: a stream that no other test uses.
pub(crate) struct TestBroker {
    url: String,
    stream: String,
    _own: Option<RedisServer>,
}

impl TestBroker {
    pub(crate) async fn create() -> Self {
        let own = match env::var("TEST_REDIS_URL") {
            Ok(_) => None,
            Err(_) => Some(RedisServer::start().await),
        };
        let url = match &own {
            Some(server) => server.url(),
            None => env::var("TEST_REDIS_URL").unwrap(),
        };
        Self {
            url,
            stream: format!("test:{:016x}", rand::random::<u64>()),
            _own: own,
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The key of its stream.
    pub(crate) fn stream(&self) -> &str {
        &self.stream
    }
}
