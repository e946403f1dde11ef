//! Load that does not wait for answers (open loop), beyond what the service can do: it goes on doing what it
//! can, and refuses the rest.

use super::{
    ANSWER_MAX, assert_memory_is_bounded, assert_recovers, connections_allowed, stored_ids, wire,
};
use crate::support::{Engine, TestApp};
use std::{
    env, fs,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{task::JoinSet, time::sleep};
use wire::Connection;

/// Between two looks which requests are due.
const TICK: Duration = Duration::from_millis(1);

/// Requests of one shape.
#[derive(Clone, Copy)]
struct Shape {
    name: &'static str,
    /// One is sent alone, more are sent as a batch.
    events: usize,
}

impl Shape {
    fn request(self, id: &str) -> Vec<u8> {
        match self.events {
            1 => wire::publish(id),
            events => wire::publish_batch(id, events),
        }
    }
}

/// What became of one request.
struct Outcome {
    id: String,
    is_stored: bool,
    took: Duration,
    /// Since the load began.
    answered: Duration,
}

/// What became of a load.
struct Tally {
    outcomes: Vec<Outcome>,
    /// Requests for which there was no connection left.
    unsent: usize,
    during: Duration,
}

impl Tally {
    /// Requests that were stored while the load ran, a second.
    fn goodput(&self) -> f64 {
        let in_time = |outcome: &&Outcome| outcome.is_stored && outcome.answered <= self.during;
        let stored = self.outcomes.iter().filter(in_time).count();
        f64::from(u32::try_from(stored).unwrap()) / self.during.as_secs_f64()
    }

    fn times(&self, are_stored: bool) -> Vec<Duration> {
        let outcomes = self.outcomes.iter();
        let wanted = outcomes.filter(|outcome| outcome.is_stored == are_stored);
        let mut times: Vec<Duration> = wanted.map(|outcome| outcome.took).collect();
        times.sort();
        times
    }

    /// What all but one in a hundred take.
    fn p99(&self, are_stored: bool) -> Duration {
        let times = self.times(are_stored);
        let place = times.len() * 99 / 100;
        times.get(place).copied().unwrap_or_default()
    }

    fn longest(&self, are_stored: bool) -> Duration {
        self.times(are_stored).pop().unwrap_or_default()
    }

    fn refused(&self) -> usize {
        self.times(false).len()
    }

    /// Whatever was answered with 200 is there.
    async fn assert_is_stored(&self, shape: Shape, app: &TestApp) {
        let there = stored_ids(app.database().url()).await;
        for outcome in self.outcomes.iter().filter(|outcome| outcome.is_stored) {
            let id = &outcome.id;
            let is_there = match shape.events {
                1 => there.contains(id),
                events => (0..events).all(|number| there.contains(&format!("{id}-{number}"))),
            };
            assert!(is_there, "{id} is not there");
        }
    }
}

/// So many clients, each of which sends the next request when it has the answer to the one before.
async fn closed_loop(address: SocketAddr, shape: Shape, clients: usize, during: Duration) -> Tally {
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for client in 0..clients {
        tasks.spawn(async move {
            let mut connection = Connection::open(address).await.unwrap();
            let mut outcomes = Vec::new();
            while start.elapsed() < during {
                let id = format!("closed-{client}-{}", outcomes.len());
                outcomes.push(asked(&mut connection, shape, id, start).await);
            }
            outcomes
        });
    }
    Tally {
        outcomes: tasks.join_all().await.into_iter().flatten().collect(),
        unsent: 0,
        during,
    }
}

/// So many requests a second, whatever becomes of those before, over as many connections as that takes.
async fn open_loop(
    address: SocketAddr,
    shape: Shape,
    rate: f64,
    connections_max: usize,
    during: Duration,
) -> Tally {
    let free: Arc<Mutex<Vec<Connection>>> = Arc::default();
    let mut opened = 0;
    let mut unsent = 0;
    let mut sent: u32 = 0;
    let mut tasks = JoinSet::new();
    let start = Instant::now();
    while start.elapsed() < during {
        let due = rate * start.elapsed().as_secs_f64();
        while f64::from(sent) < due {
            sent += 1;
            let connection = free.lock().unwrap().pop();
            if connection.is_none() && opened == connections_max {
                unsent += 1;
                continue;
            }
            opened += usize::from(connection.is_none());
            let free = Arc::clone(&free);
            let id = format!("open-{sent}");
            tasks.spawn(async move {
                let mut connection = match connection {
                    Some(connection) => connection,
                    None => Connection::open(address).await.unwrap(),
                };
                let outcome = asked(&mut connection, shape, id, start).await;
                free.lock().unwrap().push(connection);
                outcome
            });
        }
        sleep(TICK).await;
    }
    Tally {
        outcomes: tasks.join_all().await,
        unsent,
        during,
    }
}

async fn asked(connection: &mut Connection, shape: Shape, id: String, start: Instant) -> Outcome {
    let request = shape.request(&id);
    let sent = Instant::now();
    let answer = connection.ask(&request).await.unwrap();
    Outcome {
        id,
        is_stored: answer.is_stored(),
        took: sent.elapsed(),
        answered: start.elapsed(),
    }
}

/// A transaction takes a fifth of a second here and holds one batch, so the service can do five a second
/// however busy the machine is, with ten in flight.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_times_what_it_can_do_is_refused_and_costs_nothing_of_what_it_does() {
    const BATCHES: Shape = Shape {
        name: "batches",
        events: 100,
    };
    const CAPACITY: f64 = 5.0;
    const DURING: Duration = Duration::from_secs(8);
    const REFUSAL_MAX: Duration = Duration::from_secs(1);
    let builder = TestApp::builder(Engine::Postgres).await;
    let app = builder
        .set("PERSIST_ACTORS", 1)
        .set("GROUP_EVENTS_MAX", BATCHES.events)
        .set("INFLIGHT_EVENTS_MAX", 1_000)
        .start()
        .await;
    let database = app.database();
    for statement in [
        "create function wait() returns trigger language plpgsql as \
         $$ begin perform pg_sleep(0.2); return null; end $$",
        "create trigger wait before insert on processed_events for each statement execute function wait()",
    ] {
        database.execute(statement).await;
    }
    let at_capacity = closed_loop(app.address(), BATCHES, 5, DURING).await;
    assert_eq!(at_capacity.refused(), 0);
    let beyond = open_loop(app.address(), BATCHES, 3.0 * CAPACITY, 500, DURING).await;

    assert!(beyond.refused() > 0, "nothing was refused");
    assert_eq!(beyond.unsent, 0);
    let over = Instant::now();
    database
        .execute("drop trigger wait on processed_events")
        .await;
    let back = assert_recovers(&app, over).await;
    let longest = beyond.longest(true).max(beyond.longest(false));
    assert!(longest < ANSWER_MAX, "{longest:?}");
    // A refusal takes half a second, and what is accepted two; the cores may be busy with other tests.
    let refusal = beyond.p99(false);
    assert!(refusal < REFUSAL_MAX, "{refusal:?}");
    let (usual, goodput) = (at_capacity.goodput(), beyond.goodput());
    assert!(
        usual <= 2.0 * CAPACITY,
        "{usual} a second: nothing waits here"
    );
    assert!(goodput >= 0.8 * usual, "{goodput} a second of {usual}");
    beyond.assert_is_stored(BATCHES, &app).await;
    app.assert_counters_are_exact().await;
    assert_memory_is_bounded(&app);
    eprintln!(
        "{goodput:.2} a second of {usual:.2}; refused within {refusal:?}; back after {back:?}"
    );
}

/// At full size: what it came to, and where that is too little. Of single events fewer may be in flight than the
/// service takes by itself: a connection has one at a time, so by itself it would take what all of them send.
pub(super) async fn run_at_full_size() -> (Vec<String>, Vec<String>) {
    const DURING: Duration = Duration::from_secs(10);
    const SINGLES: Shape = Shape {
        name: "single events",
        events: 1,
    };
    const BATCHES: Shape = Shape {
        name: "batches of 1,000 events",
        events: 1_000,
    };
    // Others than these show where it ends.
    let connections = env::var("OVERLOAD_CONNECTIONS").map(|number| number.parse().unwrap());
    let connections = connections_allowed(connections.unwrap_or(2_000), true);
    let mut lines = Vec::new();
    let mut failures = Vec::new();
    for (shape, clients, inflight_max) in [(SINGLES, 256, 1_000), (BATCHES, 16, 100_000)] {
        let builder = TestApp::builder(Engine::Postgres).await;
        let builder = builder.set("INFLIGHT_EVENTS_MAX", inflight_max);
        let app = builder.start().await;
        let usual = closed_loop(app.address(), shape, clients, DURING).await;
        let peak = usual.goodput();
        let peak_cost = cpu_ms(&app) / peak;
        let before = cpu_ms(&app);
        let beyond = open_loop(app.address(), shape, 3.0 * peak, connections, DURING).await;
        let back = assert_recovers(&app, Instant::now()).await;
        let goodput = beyond.goodput();
        let cost = (cpu_ms(&app) - before) / goodput;
        let memory = app.resident_kib_max() / 1024;
        lines.push(format!(
            "{}, {peak:.0} a second with {clients} clients, at most {inflight_max} events in flight; asked for \
            three times that over up to {connections} connections: {goodput:.0} a second ({:.2} of it), p99 {:.2?}, \
            the longest {:.2?}; {} refused, p99 {:.2?}, the longest {:.2?}; {} not sent for want of a \
            connection; the service's own time a request grew {:.2} times; as before after \
            {back:.2?}; memory {memory} MiB",
            shape.name,
            goodput / peak,
            beyond.p99(true),
            beyond.longest(true),
            beyond.refused(),
            beyond.p99(false),
            beyond.longest(false),
            beyond.unsent,
            cost / peak_cost,
        ));
        beyond.assert_is_stored(shape, &app).await;
        // Shown with all the rest, and a failure then.
        let longest = beyond.longest(true).max(beyond.longest(false));
        if longest >= ANSWER_MAX {
            failures.push(format!("{} answered after {longest:?}", shape.name));
        }
        assert_memory_is_bounded(&app);
        if beyond.refused() == 0 {
            failures.push(format!("no {} were refused", shape.name));
        }
        if goodput < 0.8 * peak {
            failures.push(format!("{goodput} {} a second of {peak}", shape.name));
        }
    }
    (lines, failures)
}

/// Processor time that the service has taken so far.
fn cpu_ms(app: &TestApp) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", app.pid())).unwrap();
    // Its name stands in parentheses and may have spaces in it.
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks = fields.split(' ').skip(11).take(2);
    // A tick is ten milliseconds on every Linux there is.
    ticks
        .map(|ticks| 10.0 * ticks.parse::<f64>().unwrap())
        .sum()
}
