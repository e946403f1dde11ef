//! What may happen in a storm, and to whom: the service, its database, its broker, their disks and clocks.
//! Told by the storm (`mod.rs`) when to strike; knows nothing of the load.

use super::super::{
    actors::crash_one,
    proxy::{Proxy, Weather},
};
use crate::support::{
    Answer, Database, Engine, LOOK_PAUSE, PostgresServer, RedisServer, Sabotage, TestApp,
    eventually,
};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use reqwest::Method;
use std::{
    collections::BTreeMap,
    env,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// For whatever is waited for here. After an hour a server that syncs has much to do before it recovers.
const SOON: Duration = Duration::from_secs(120);
const REDIS_PAUSE: Duration = Duration::from_secs(1);
/// Longer than a statement may take, and shorter than a publish waits.
const FREEZE: Duration = Duration::from_secs(3);
const SLOW_DISK: Duration = Duration::from_secs(2);
const SLOW_SYNC_MS: std::ops::Range<i64> = 50..400;
/// After the first write that finds no room.
const FULL_DISK: Duration = Duration::from_secs(1);
const HOUR_S: i64 = 3_600;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    ActorCrashed,
    ConnectionsCut,
    ConnectionsForgotten,
    CommitAnswerLost,
    ProcessKilled,
    ProcessTerminated,
    PostgresKilled,
    PostgresFrozen,
    BlackHole,
    RedisKilled,
    RedisPaused,
    SyncsFail,
    DiskSlow,
    DiskFull,
    ClockJumps,
    PostgresClockJumps,
}

/// Each by its name, with how often it is drawn: most are actors' deaths, as they take no time.
static FAULTS: [(Fault, &str, u32); 16] = [
    (Fault::ActorCrashed, "actor crashed", 730),
    (Fault::ConnectionsCut, "connections cut", 50),
    (Fault::ConnectionsForgotten, "connections forgotten", 10),
    (Fault::CommitAnswerLost, "answer to COMMIT lost", 50),
    (Fault::ProcessKilled, "process killed", 20),
    (Fault::ProcessTerminated, "process terminated", 20),
    (Fault::PostgresKilled, "Postgres killed", 20),
    (Fault::PostgresFrozen, "Postgres frozen", 10),
    (Fault::BlackHole, "black hole", 10),
    (Fault::RedisKilled, "Redis killed", 20),
    (Fault::RedisPaused, "Redis paused", 10),
    (Fault::SyncsFail, "sync failed", 15),
    (Fault::DiskSlow, "disk slow", 10),
    (Fault::DiskFull, "disk full", 10),
    (Fault::ClockJumps, "clock jumped", 10),
    (Fault::PostgresClockJumps, "clock of Postgres jumped", 10),
];

/// What must not happen for now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spared {
    /// The process itself, whose memory is watched.
    pub(super) process: bool,
    /// The time that the longer faults take.
    pub(super) time: bool,
}

/// The database server and the way to it.
struct Server {
    postgres: PostgresServer,
    proxy: Proxy,
}

/// Everything that can be struck.
pub(super) struct World {
    random: StdRng,
    server: Option<Server>,
    pub(super) redis: RedisServer,
    pub(super) app: TestApp,
    /// Of whoever has the events on his disk, which is the service itself on SQLite.
    disk: Option<Sabotage>,
    /// Of the service.
    clock: Option<Sabotage>,
    /// The only ones that happen, where somebody looks for what one of them does.
    only: Option<Vec<String>>,
    counts: BTreeMap<&'static str, u64>,
    given_up: u64,
}

impl World {
    pub(super) async fn create(engine: Engine, seed: u64) -> Self {
        let clock = Sabotage::try_prepare();
        let redis = RedisServer::start().await;
        let (server, disk, database) = match engine {
            Engine::Postgres => {
                let disk = clock.as_ref().map(|_| Sabotage::prepare());
                let server = Server::start(disk.as_ref()).await;
                let port = server.proxy.port();
                let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
                (Some(server), disk, Database::at(url))
            }
            Engine::Sqlite => (None, clock.clone(), Database::create(engine).await),
        };
        let mut builder = TestApp::on(Arc::new(database)).set("REDIS_URL", redis.url());
        if engine == Engine::Postgres {
            builder = builder
                .set("DATABASE_STATEMENT_TIMEOUT_MS", 1_000)
                .set("DATABASE_CONNECT_TIMEOUT_MS", 500);
        }
        for (variable, value) in clock.iter().flat_map(Sabotage::variables) {
            builder = builder.set(variable, value);
        }
        Self {
            random: StdRng::seed_from_u64(seed),
            server,
            redis,
            app: builder.start().await,
            disk,
            clock,
            only: env::var("SOAK_FAULTS").ok().map(|names| {
                names
                    .split(',')
                    .map(|name| name.trim().to_owned())
                    .collect()
            }),
            counts: BTreeMap::new(),
            given_up: 0,
        }
    }

    /// What has happened so far, in one line.
    pub(super) fn account(&self) -> String {
        let Self {
            counts, given_up, ..
        } = self;
        match self.server {
            Some(_) => {
                format!("faults: {counts:?}; Postgres gave up and was started {given_up} times")
            }
            None => format!("faults: {counts:?}"),
        }
    }

    /// The faults that could have happened here, and have not.
    pub(super) fn missing(&self) -> Vec<&'static str> {
        let nothing_spared = Spared {
            process: false,
            time: false,
        };
        let possible = FAULTS.iter();
        let possible = possible.filter(|(fault, ..)| self.can(*fault, nothing_spared));
        possible
            .map(|(_, name, _)| *name)
            .filter(|name| self.is_wanted(name) && !self.counts.contains_key(name))
            .collect()
    }

    fn is_wanted(&self, name: &str) -> bool {
        let mut only = self.only.iter().flatten();
        self.only.is_none() || only.any(|wanted| wanted == name)
    }

    fn can(&self, fault: Fault, spared: Spared) -> bool {
        match fault {
            Fault::ActorCrashed | Fault::RedisKilled | Fault::RedisPaused => true,
            Fault::ProcessKilled | Fault::ProcessTerminated => !spared.process,
            Fault::ConnectionsCut
            | Fault::ConnectionsForgotten
            | Fault::CommitAnswerLost
            | Fault::PostgresKilled
            | Fault::BlackHole => self.server.is_some(),
            Fault::PostgresFrozen => self.server.is_some() && !spared.time,
            Fault::SyncsFail => self.disk.is_some(),
            Fault::DiskSlow | Fault::DiskFull => self.disk.is_some() && !spared.time,
            Fault::ClockJumps => self.clock.is_some(),
            Fault::PostgresClockJumps => self.server.is_some() && self.disk.is_some(),
        }
    }

    /// One fault; when it is over, the service is ready again.
    pub(super) async fn strike(&mut self, spared: Spared) {
        let possible: Vec<_> = FAULTS
            .iter()
            .filter(|(fault, name, _)| self.is_wanted(name) && self.can(*fault, spared))
            .collect();
        let drawn = possible.choose_weighted(&mut self.random, |(_, _, weight)| *weight);
        let (fault, name, _) = drawn.expect("a fault that can happen here");
        self.inflict(*fault).await;
        *self.counts.entry(name).or_default() += 1;
        self.recover(name).await;
    }

    async fn inflict(&mut self, fault: Fault) {
        match fault {
            Fault::ActorCrashed => {
                crash_one(&self.app, &mut self.random).await;
            }
            Fault::ProcessKilled => {
                self.app.kill9().await;
                self.app.restart().await;
            }
            Fault::ProcessTerminated => {
                let (status, _) = self.app.terminate().await;
                assert_eq!(status.code(), Some(0), "{}", self.app.stderr());
                self.app.restart().await;
            }
            Fault::RedisKilled => {
                self.redis.kill().await;
                self.redis.start_again().await;
            }
            Fault::RedisPaused => {
                self.redis.pause();
                sleep(REDIS_PAUSE).await;
                self.redis.resume();
            }
            Fault::SyncsFail | Fault::DiskSlow | Fault::DiskFull => self.sabotage_disk(fault).await,
            Fault::ClockJumps => jump(self.clock.as_ref().unwrap(), &mut self.random),
            Fault::PostgresClockJumps => jump(self.disk.as_ref().unwrap(), &mut self.random),
            Fault::ConnectionsCut
            | Fault::ConnectionsForgotten
            | Fault::CommitAnswerLost
            | Fault::PostgresKilled
            | Fault::PostgresFrozen
            | Fault::BlackHole => {
                let server = self.server.as_mut().unwrap();
                server.suffer(fault, &self.app).await;
            }
        }
    }

    async fn sabotage_disk(&mut self, fault: Fault) {
        let disk = self.disk.as_ref().unwrap();
        match fault {
            Fault::SyncsFail => {
                // Postgres panics of the first; another one would meet its recovery.
                disk.failing_syncs(if self.server.is_some() { 1 } else { 3 });
                eventually("syncs have failed", SOON, async || {
                    disk.syncs_that_will_fail() == 0
                })
                .await;
            }
            Fault::DiskSlow => {
                disk.slow_syncs(self.random.random_range(SLOW_SYNC_MS));
                sleep(SLOW_DISK).await;
                disk.slow_syncs(0);
            }
            _ => {
                let before = disk.writes_without_room();
                disk.fill_disk(true);
                eventually("a write has found no room", SOON, async || {
                    disk.writes_without_room() > before
                })
                .await;
                sleep(FULL_DISK).await;
                disk.fill_disk(false);
            }
        }
    }

    /// Waits until the service is ready. Nobody but us starts a Postgres again that has given up: one that
    /// panics of its disk may meet the same disk in its recovery.
    async fn recover(&mut self, from: &str) {
        let Self {
            server,
            app,
            given_up,
            ..
        } = self;
        let deadline = Instant::now() + SOON;
        loop {
            if let Some(server) = server.as_mut()
                && server.postgres.has_ended()
            {
                *given_up += 1;
                server.postgres.start_again().await;
            }
            let answer = Answer::try_of(app.request(Method::GET, "/readyz")).await;
            if matches!(&answer, Ok(answer) if answer.status == 200) {
                return;
            }
            if Instant::now() > deadline {
                let actors = Answer::try_of(app.request(Method::GET, "/admin/actors")).await;
                panic!("not ready {SOON:?} after {from}: {answer:?}; the actors: {actors:?}");
            }
            sleep(LOOK_PAUSE).await;
        }
    }
}

impl Server {
    async fn start(disk: Option<&Sabotage>) -> Self {
        let mut postgres = PostgresServer::prepared();
        if let Some(disk) = disk {
            postgres = postgres.sabotaged(disk);
        }
        postgres.start_again().await;
        let proxy = Proxy::start(postgres.address()).await;
        Self { postgres, proxy }
    }

    async fn suffer(&mut self, fault: Fault, app: &TestApp) {
        match fault {
            Fault::ConnectionsCut => self.proxy.cut(),
            Fault::ConnectionsForgotten => self.proxy.forget(),
            Fault::CommitAnswerLost => {
                let before = self.proxy.swallowed();
                self.proxy.set(Weather::SwallowCommitAnswer);
                eventually("an answer to COMMIT is lost", SOON, async || {
                    self.proxy.swallowed() > before
                })
                .await;
            }
            Fault::PostgresKilled => {
                self.postgres.kill().await;
                self.postgres.start_again().await;
            }
            Fault::PostgresFrozen => {
                let pause = self.postgres.pause();
                sleep(FREEZE).await;
                drop(pause);
            }
            _ => {
                self.proxy.set(Weather::BlackHole);
                eventually("it is noticed", SOON, async || {
                    app.status("/readyz").await == Some(503)
                })
                .await;
                self.proxy.set(Weather::Fair);
            }
        }
    }
}

/// By an hour, ahead or back, and stays there until it jumps again.
fn jump(clock: &Sabotage, random: &mut StdRng) {
    let shift_s = match clock.clock_s() {
        0 => *[-HOUR_S, HOUR_S].choose(random).unwrap(),
        _ => 0,
    };
    clock.shift_clock(shift_s);
}
