//! The application: the only place that knows all the others. Reads the settings, makes the store,
//! the actors and the HTTP server, wires them together, and takes them down in order.

use crate::{
    actors::{
        ActorKind, ActorStatus, Admission, DeadLetterClient, GroupLimits, IngestActor,
        IngestClient, PersistActor, PersistSettings, RestartPolicy, Roster, SharedCounts,
        StatsActor, StatsClient, Turns, start_supervised,
    },
    bridge::{BridgeSettings, BrokerClient, Pause, RedisBridgeActor, StreamNames},
    config::{Config, RedisUrl, Scope},
    feed::{Feed, FeedSettings},
    http::{
        self, AccessRules, Broker, Dashboard, Decoders, HttpLimits, HttpState, Lifecycle,
        RequestMeter, Token, TokenScope,
    },
    store::{self, EventReader, Store, StoreError, StoreOptions},
    tls::ServedCertificate,
};
use actix::{Addr, Arbiter, ArbiterHandle};
use actix_web::{
    App, HttpServer,
    dev::{Server, ServerHandle, Service},
    web::Data,
};
use anyhow::{Context, anyhow};
use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep, timeout},
};

/// Connections that wait to be accepted, beyond which a client's first packet is lost.
const LISTEN_BACKLOG: i32 = 4096;
/// An idle connection is kept that long, longer than common proxies keep theirs.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// The longest a request's head may take to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest a read or a reading of the counters may take.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Before the second attempt to reconnect to the database.
const RECONNECT_PAUSE_MIN: Duration = Duration::from_millis(50);
/// Between two looks whether the database is there yet.
const START_PAUSE: Duration = Duration::from_millis(250);
/// Between two looks whether the last transaction has ended.
const DRAIN_POLL: Duration = Duration::from_millis(10);
/// After the last answer: for its bytes to reach the client.
const LINGER: Duration = Duration::from_secs(1);

/// Serves until the process is told to end.
///
/// # Errors
/// What keeps it from serving at all: a taken port, files that are no certificate and its key, or
/// settings that the database refuses.
pub async fn serve(config: Config) -> anyhow::Result<()> {
    let certificate = config
        .tls
        .clone()
        .map(ServedCertificate::load)
        .transpose()?;
    // Before anything else: a taken port should end the start and leave no trace.
    let listener = listen(&config)?;
    let store = store::open(config.database_url.expose(), store_options(&config))
        .context("DATABASE_URL (--database-url)")?;
    let arbiter = Arbiter::new();
    let domain = start_actors(&config, &store, &arbiter)?;
    let lifecycle = Lifecycle::default();
    let feed = live_feed(&config, &store);
    let state = HttpState {
        ingest: domain.ingest,
        stats: domain.stats.clone(),
        reader: Arc::clone(&store.reader),
        feed: feed.clone(),
        dead_letters: Arc::clone(&store.dead_letters),
        broker: domain.broker,
        roster: domain.backlog.roster.clone(),
        dashboard: Dashboard::default(),
        requests: RequestMeter::default(),
        engine: store.engine,
        lifecycle: lifecycle.clone(),
        access: access_rules(&config),
        decoders: Decoders::default(),
        limits: HttpLimits {
            body_bytes_max: config.max_body_bytes,
            body_timeout: Duration::from_millis(config.body_timeout_ms),
            publish_timeout: Duration::from_millis(config.publish_timeout_ms),
            read_timeout: READ_TIMEOUT,
            heartbeat: Duration::from_millis(config.heartbeat_ms),
        },
    };
    actix::spawn(http::watch(state.clone()));
    let server = http_server(&config, listener, certificate.as_ref(), state)?;
    if let Some(certificate) = certificate {
        actix::spawn(renew_on_hangup(certificate)?);
    }
    let handle = server.handle();
    tracing::info!(
        address = %config.bind,
        engine = store.engine,
        database = config.database_url.redacted(),
        persist_actors = config.persist_actors,
        tls = config.tls.is_some(),
        version = env!("CARGO_PKG_VERSION"),
        "serving",
    );
    warn_of_known_secrets(&config);
    let server = actix::spawn(server);
    let ended = tokio::select! {
        name = termination()? => {
            tracing::info!(signal = name, "shutting down");
            Ok(())
        }
        error = misconfiguration(&*store.reader) => Err(error),
    };
    let deadline = Instant::now() + Duration::from_millis(config.shutdown_timeout_ms);
    // A stream has no last answer to wait for: its client goes on from its cursor elsewhere.
    feed.close();
    drain(&handle, &lifecycle, &domain.backlog, deadline).await;
    domain.stats.flush().await;
    arbiter.stop();
    // Closing is a courtesy to the database; it must not hold up the end.
    let _ = timeout(LINGER, store.reader.close()).await;
    drop(server);
    if ended.is_ok() {
        tracing::info!("shut down");
    }
    ended
}

fn listen(config: &Config) -> anyhow::Result<TcpListener> {
    let listen = || {
        let domain = socket2::Domain::for_address(config.bind);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&config.bind.into())?;
        socket.listen(LISTEN_BACKLOG)?;
        Ok(socket.into())
    };
    listen().map_err(|error: std::io::Error| anyhow!("cannot listen on {}: {error}", config.bind))
}

fn store_options(config: &Config) -> StoreOptions {
    StoreOptions {
        read_connections_max: config.read_connections_max,
        connect_timeout: Duration::from_millis(config.database_connect_timeout_ms),
        statement_timeout: Duration::from_millis(config.database_statement_timeout_ms),
        recent_keys_max: config.recent_keys_max,
    }
}

/// The actors, as the rest of the process sees them.
struct Domain {
    ingest: IngestClient,
    stats: StatsClient,
    broker: Option<Broker>,
    backlog: Backlog,
}

/// What has to end well before the process does.
struct Backlog {
    roster: Roster,
    bridge: Option<Addr<RedisBridgeActor>>,
    broker_entries: Arc<AtomicUsize>,
}

impl Backlog {
    fn is_done(&self) -> bool {
        let mut statuses = self.roster.statuses();
        statuses.all(|status| status.events_waiting() == 0)
            && self.broker_entries.load(Ordering::Relaxed) == 0
    }
}

fn start_actors(config: &Config, store: &Store, arbiter: &Arbiter) -> anyhow::Result<Domain> {
    let arbiter = arbiter.handle();
    let policy = RestartPolicy {
        pause_min: Duration::from_millis(config.restart_pause_ms_min),
        pause_max: Duration::from_millis(config.restart_pause_ms_max),
        healthy_after: Duration::from_millis(config.restart_healthy_ms),
        restarts_max: config.restarts_max,
    };
    let persist_settings = PersistSettings {
        group: GroupLimits {
            events_max: config.group_events_max,
            bytes_max: config.group_bytes_max,
        },
        reconnect_pause_min: RECONNECT_PAUSE_MIN,
        reconnect_pause_max: Duration::from_millis(config.reconnect_pause_ms_max),
    };
    let counts = SharedCounts::default();

    let stats_status = ActorStatus::new(ActorKind::Stats, None);
    let stats = {
        let (status, reader, counts) = (
            stats_status.clone(),
            Arc::clone(&store.reader),
            counts.clone(),
        );
        let interval = Duration::from_millis(config.stats_interval_ms);
        start_supervised(&arbiter, policy, stats_status.clone(), move || {
            StatsActor::new(status, reader, interval, &counts)
        })
    };
    let turns = Turns::new();
    let shards: Vec<(Addr<PersistActor>, ActorStatus)> = (0..config.persist_actors)
        .map(|shard| {
            let status = ActorStatus::new(ActorKind::Persist, Some(shard));
            let (own_status, writers) = (status.clone(), Arc::clone(&store.writers));
            let (turns, stats) = (turns.clone(), stats.clone());
            let actor = start_supervised(&arbiter, policy, status.clone(), move || {
                PersistActor::new(shard, own_status, persist_settings, writers, turns, stats)
            });
            (actor, status)
        })
        .collect();
    let ingest_status = ActorStatus::new(ActorKind::Ingest, None);
    let ingest = {
        let (status, shards) = (ingest_status.clone(), shards.clone());
        start_supervised(&arbiter, policy, ingest_status.clone(), move || {
            IngestActor::new(status, shards)
        })
    };

    let client = IngestClient::new(
        ingest.clone(),
        ingest_status.clone(),
        shards.iter().map(|(_, status)| status.clone()).collect(),
        Admission::new(config.inflight_events_max, config.inflight_bytes_max),
        Duration::from_millis(config.publish_timeout_ms),
    );
    let mut roster = Roster::default();
    roster.add(ingest_status, ingest.recipient());
    for (actor, status) in shards {
        roster.add(status, actor.recipient());
    }
    roster.add(stats_status, stats.clone().recipient());
    let (broker, bridge) = match &config.redis_url {
        Some(url) => {
            let (broker, bridge) = start_bridge(config, url, store, &client, &arbiter, policy)?;
            roster.add(broker.bridge.clone(), bridge.clone().recipient());
            (Some(broker), Some(bridge))
        }
        None => (None, None),
    };
    let entries = broker
        .as_ref()
        .map(|broker| Arc::clone(&broker.entries_in_flight));
    Ok(Domain {
        ingest: client,
        stats: StatsClient::new(stats, &counts, Arc::clone(&store.reader), READ_TIMEOUT),
        broker,
        backlog: Backlog {
            roster,
            bridge,
            broker_entries: entries.unwrap_or_default(),
        },
    })
}

fn start_bridge(
    config: &Config,
    url: &RedisUrl,
    store: &Store,
    ingest: &IngestClient,
    arbiter: &ArbiterHandle,
    policy: RestartPolicy,
) -> anyhow::Result<(Broker, Addr<RedisBridgeActor>)> {
    let client = redis::Client::open(url.expose()).context("REDIS_URL (--redis-url)")?;
    let settings = BridgeSettings {
        names: StreamNames {
            stream: config.broker_stream.clone(),
            group: config.broker_group.clone(),
            consumer: config.broker_consumer.clone(),
        },
        takeover_after: Duration::from_millis(config.broker_takeover_ms),
        entry_bytes_max: config.max_body_bytes,
    };
    let status = ActorStatus::new(ActorKind::RedisBridge, None);
    let entries_in_flight = Arc::new(AtomicUsize::new(0));
    let broker = Broker {
        client: BrokerClient::new(client.clone(), &settings.names)?,
        bridge: status.clone(),
        entries_in_flight: Arc::clone(&entries_in_flight),
    };
    let actor = {
        let (status, ingest) = (status.clone(), ingest.clone());
        let dead_letters = DeadLetterClient::new(Arc::clone(&store.dead_letters));
        start_supervised(arbiter, policy, broker.bridge.clone(), move || {
            RedisBridgeActor::new(
                status,
                client,
                settings,
                ingest,
                dead_letters,
                entries_in_flight,
            )
        })
    };
    Ok((broker, actor))
}

fn live_feed(config: &Config, store: &Store) -> Feed {
    let settings = FeedSettings {
        subscribers_max: config.subscribers_max,
        // The other half is for those who ask for a page or for the counters.
        reads_max: usize::try_from(config.read_connections_max / 2).map_or(1, |half| half.max(1)),
        poll: Duration::from_millis(config.feed_poll_ms),
    };
    Feed::new(Arc::clone(&store.reader), http::push_frame, settings)
}

fn access_rules(config: &Config) -> AccessRules {
    let scope = |scope: &Scope| match scope {
        Scope::Publish => TokenScope::Publish,
        Scope::Read => TokenScope::Read,
        Scope::Admin => TokenScope::Admin,
    };
    let tokens = config
        .api_tokens
        .iter()
        .map(|token| {
            Token::new(
                token.secret.expose(),
                token.scopes.iter().map(scope).collect(),
            )
        })
        .collect();
    let admin_token = config.admin_token.as_ref().map(|secret| secret.expose());
    AccessRules::new(tokens, admin_token, config.bind.ip().is_loopback())
}

fn http_server(
    config: &Config,
    listener: TcpListener,
    certificate: Option<&ServedCertificate>,
    state: HttpState,
) -> anyhow::Result<Server> {
    let workers = config.http_workers;
    let connections_max = (config.connections_max / workers).max(1);
    let server = HttpServer::new(move || {
        let (lifecycle, requests) = (state.lifecycle.clone(), state.requests.clone());
        App::new()
            .app_data(Data::new(state.clone()))
            .wrap_fn(move |request, service| {
                let (in_flight, requests) = (lifecycle.enter(), requests.clone());
                let arrived = Instant::now();
                let response = service.call(request);
                async move {
                    let response = response.await;
                    if let Ok(response) = &response {
                        requests.add(response, arrived.elapsed());
                    }
                    drop(in_flight);
                    response
                }
            })
            .configure(http::routes)
    })
    .workers(workers)
    .max_connections(connections_max)
    .tcp_nodelay(true)
    .keep_alive(KEEP_ALIVE)
    .client_request_timeout(HEAD_TIMEOUT)
    .shutdown_timeout(LINGER.as_secs())
    .disable_signals();
    let server = match certificate {
        None => server.listen(listener),
        Some(certificate) => server
            .tls_handshake_timeout(HEAD_TIMEOUT)
            // By default 256 clients that connect and say nothing keep all others out meanwhile.
            .max_connection_rate(connections_max)
            .listen_rustls_0_23(listener, certificate.server_config()?),
    };
    let server = server.context("cannot serve on the listening socket")?;
    Ok(server.run())
}

/// Resolves with the name of the signal that asks the process to end.
fn termination() -> anyhow::Result<impl Future<Output = &'static str>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}

/// Takes up a renewed certificate when the process is told to. One that is wrong changes nothing.
fn renew_on_hangup(certificate: ServedCertificate) -> anyhow::Result<impl Future<Output = ()>> {
    let mut hangup = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
    Ok(async move {
        while hangup.recv().await.is_some() {
            match certificate.reload() {
                Ok(()) => tracing::info!("read the certificate again"),
                Err(error) => tracing::error!(
                    error = format!("{:#}", anyhow!(error)),
                    "kept the certificate, as the new one cannot be used",
                ),
            }
        }
    })
}

/// A database that is not there yet is waited for, by everybody who needs it. One that is there and
/// refuses the settings will do so for ever: that ends the start.
async fn misconfiguration(reader: &dyn EventReader) -> anyhow::Error {
    loop {
        match reader.ping().await {
            Ok(()) => {
                warn_of_durability(reader).await;
                return std::future::pending().await;
            }
            Err(error @ StoreError::Misconfigured { .. }) => {
                return anyhow!(error).context("DATABASE_URL (--database-url)");
            }
            Err(_) => sleep(START_PAUSE).await,
        }
    }
}

/// What such a database has committed may be gone after a loss of power, and we say that it is not.
async fn warn_of_durability(reader: &dyn EventReader) {
    if let Ok(gaps) = reader.durability_gaps().await
        && !gaps.is_empty()
    {
        tracing::error!(
            off = gaps.join(", "),
            "THE DATABASE IS NOT DURABLE: a crash of its machine may lose events that were answered \
            as stored; switch these settings on"
        );
    }
}

fn warn_of_known_secrets(config: &Config) {
    let known = config.development_secrets();
    if !known.is_empty() {
        tracing::warn!(
            settings = known.join(", "),
            "a secret is the published one of the development setup: set your own"
        );
    }
}

/// No new connections and nothing new from the broker; what is in flight is committed and answered.
async fn drain(handle: &ServerHandle, lifecycle: &Lifecycle, backlog: &Backlog, deadline: Instant) {
    lifecycle.drain();
    if let Some(bridge) = &backlog.bridge {
        bridge.do_send(Pause);
    }
    handle.pause().await;
    if !lifecycle.drained(deadline).await {
        tracing::warn!("some requests were not answered before the deadline");
    }
    // Closes idle connections, and gives the last answers a moment to leave.
    handle.stop(true).await;
    // Nobody waits for these any more, but their transactions may as well end well.
    while !backlog.is_done() && Instant::now() < deadline {
        sleep(DRAIN_POLL).await;
    }
}
