//! The application: the only place that knows all the others. Reads the settings, makes the store,
//! the actors and the HTTP server, wires them together, and takes them down in order.

mod actors;
mod expect;
mod head;
mod listener;
mod open_files;
mod pace;
mod server;
mod unread;

use crate::{
    bridge::Pause,
    config::{Config, DatabaseUrl},
    domain::Age,
    feed::{Feed, FeedSettings},
    http::{
        self, AllowedHosts, Dashboard, Decoders, HttpLimits, HttpState, Lifecycle, RequestMeter,
    },
    store::{self, Addresses, EventReader, Store, StoreError, StoreOptions},
    tls::ServedCertificate,
};
use actix::Arbiter;
use actix_web::dev::ServerHandle;
use actors::{Backlog, actors};
use anyhow::{Context, anyhow};
use listener::Listener;
use server::{access_rules, http_server, rate_limiter};
use std::{sync::Arc, time::Duration};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep, timeout},
};

/// The longest a read or a reading of the counters may take.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two looks whether the database is there yet.
const START_PAUSE: Duration = Duration::from_millis(250);
/// Between two looks at the settings of a database that is there: another server may have taken over, or
/// somebody may have changed them.
const DURABILITY_LOOK: Duration = Duration::from_secs(5);
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
    let connections_max = open_files::connections_that_fit(&config);
    // Before anything else: a taken port should end the start and leave no trace.
    let listener = Listener::open(config.bind, Duration::from_millis(config.send_timeout_ms))
        .map_err(|error| anyhow!("cannot listen on {}: {error}", config.bind))?;
    let addresses = Addresses {
        url: config.database_url.expose(),
        read_url: config.database_read_url.as_ref().map(DatabaseUrl::expose),
    };
    let store =
        store::open(addresses, store_options(&config)).context("DATABASE_URL (--database-url)")?;
    let (domain, cast) = actors(&config, &store)?;
    let lifecycle = Lifecycle::default();
    let feed = live_feed(&config, &store);
    let access = access_rules(&config);
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
        retention: config.retention.as_ref().map(ToString::to_string),
        dead_letter_retention: config.dead_letter_retention.map(|age| Age(age).to_string()),
        engine: store.engine,
        lifecycle: lifecycle.clone(),
        hosts: match &*config.allowed_hosts {
            [] => AllowedHosts::any(),
            names => AllowedHosts::only(names.to_vec()),
        },
        rates: rate_limiter(&config, &access),
        access,
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
    // Between two threads each event would be handed over twice, which costs more than a second thread brings
    // where there is one for HTTP. Of several none should have the actors' work besides.
    let (arbiter, cast) = if config.http_workers == 1 {
        (None, Some(cast))
    } else {
        let arbiter = Arbiter::new();
        arbiter.spawn_fn(|| cast.start());
        (Some(arbiter), None)
    };
    let server = http_server(
        &config,
        connections_max,
        &listener,
        certificate.as_ref(),
        state,
        cast,
    )?;
    if let Some(certificate) = certificate {
        actix::spawn(renew_on_hangup(certificate)?);
    }
    let handle = server.handle();
    tracing::info!(
        address = %config.bind,
        engine = store.engine,
        database = config.database_url.redacted(),
        replica = config.database_read_url.as_ref().map(DatabaseUrl::redacted),
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
    drain(&handle, &listener, &lifecycle, &domain.backlog, deadline).await;
    // Before the thread of the actors ends: what it has taken to count may be on its way to the database.
    domain.stats.flush().await;
    // Closes idle connections, and gives the last answers a moment to leave.
    handle.stop(true).await;
    domain.stats.flush().await;
    if let Some(arbiter) = arbiter {
        arbiter.stop();
    }
    // Closing is a courtesy to the database; it must not hold up the end.
    let _ = timeout(LINGER, store.reader.close()).await;
    drop(server);
    if ended.is_ok() {
        tracing::info!("shut down");
    }
    ended
}

fn store_options(config: &Config) -> StoreOptions {
    StoreOptions {
        read_connections_max: config.read_connections_max,
        connect_timeout: Duration::from_millis(config.database_connect_timeout_ms),
        statement_timeout: Duration::from_millis(config.database_statement_timeout_ms),
        is_pooled: config.database_is_pooled,
        is_citus: config.database_is_citus,
        recent_keys_max: config.recent_keys_max,
    }
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
            Ok(()) => warn_of_durability(reader).await,
            Err(error @ StoreError::Misconfigured { .. }) => {
                return anyhow!(error).context("DATABASE_URL (--database-url)");
            }
            Err(_) => sleep(START_PAUSE).await,
        }
    }
}

/// What such a database has committed may be gone after a loss of power, and we say that it is not. Looked at
/// for ever, and said whenever it is something else than before; a look that fails says nothing either way.
async fn warn_of_durability(reader: &dyn EventReader) -> ! {
    let mut known = Vec::new();
    loop {
        if let Ok(gaps) = reader.durability_gaps().await
            && gaps != known
        {
            known = gaps;
            match &*known {
                [] => tracing::info!("the database is durable now"),
                off => tracing::error!(
                    off = off.join(", "),
                    "THE DATABASE IS NOT DURABLE: a crash of its machine may lose events that were answered \
                    as stored; switch these settings on"
                ),
            }
        }
        sleep(DURABILITY_LOOK).await;
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
async fn drain(
    handle: &ServerHandle,
    listener: &Listener,
    lifecycle: &Lifecycle,
    backlog: &Backlog,
    deadline: Instant,
) {
    lifecycle.drain();
    if let Some(bridge) = &backlog.bridge {
        bridge.do_send(Pause);
    }
    handle.pause().await;
    // Another thread accepts, and has yet to hear of it.
    sleep(DRAIN_POLL).await;
    listener.close();
    let is_drained = lifecycle.drained(deadline).await;
    // What has come since is answered, too; what comes now is not stored.
    lifecycle.refuse();
    if !(is_drained && lifecycle.drained(deadline).await) {
        tracing::warn!("some requests were not answered before the deadline");
    }
    // Nobody waits for these any more, but their transactions may as well end well.
    while !backlog.is_done() && Instant::now() < deadline {
        sleep(DRAIN_POLL).await;
    }
}
