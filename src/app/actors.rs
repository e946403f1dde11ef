//! The actors: what each is given, under which supervision, and how they know each other.

use super::READ_TIMEOUT;
use crate::{
    actors::{
        ActorKind, ActorStatus, Admission, Cast, DeadLetterClient, GroupLimits, IngestActor,
        IngestClient, PersistActor, PersistSettings, RestartPolicy, RetentionActor,
        RetentionSettings, Roster, SharedCounts, StatsActor, StatsClient, Turns,
    },
    bridge::{
        BridgeSettings, BrokerClient, BrokerNodes, EntryLimit, RedisBridgeActor, StreamNames,
    },
    config::{Config, RedisUrl},
    http::Broker,
    store::Store,
};
use actix::Addr;
use anyhow::Context;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Before the second attempt to reconnect to the database.
const RECONNECT_PAUSE_MIN: Duration = Duration::from_millis(50);

/// The actors, as the rest of the process sees them.
pub(super) struct Domain {
    pub(super) ingest: IngestClient,
    pub(super) stats: StatsClient,
    pub(super) broker: Option<Broker>,
    pub(super) backlog: Backlog,
}

/// What has to end well before the process does.
pub(super) struct Backlog {
    pub(super) roster: Roster,
    pub(super) bridge: Option<Addr<RedisBridgeActor>>,
    broker_entries: Arc<AtomicUsize>,
}

impl Backlog {
    pub(super) fn is_done(&self) -> bool {
        let mut statuses = self.roster.statuses();
        statuses.all(|status| status.events_waiting() == 0)
            && self.broker_entries.load(Ordering::Relaxed) == 0
    }
}

/// The actors, which the cast starts when it has its thread.
pub(super) fn actors(config: &Config, store: &Store) -> anyhow::Result<(Domain, Cast)> {
    let mut cast = Cast::default();
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
        cast.add(policy, stats_status.clone(), move || {
            StatsActor::new(status, reader, interval, &counts)
        })
    };
    let turns = Turns::new(config.persist_actors);
    let shards: Vec<(Addr<PersistActor>, ActorStatus)> = (0..config.persist_actors)
        .map(|shard| {
            let status = ActorStatus::new(ActorKind::Persist, Some(shard));
            let (own_status, writers) = (status.clone(), Arc::clone(&store.writers));
            let (turns, stats) = (turns.clone(), stats.clone());
            let actor = cast.add(policy, status.clone(), move || {
                PersistActor::new(shard, own_status, persist_settings, writers, turns, stats)
            });
            (actor, status)
        })
        .collect();
    let ingest_status = ActorStatus::new(ActorKind::Ingest, None);
    let ingest = {
        let (status, shards) = (ingest_status.clone(), shards.clone());
        cast.add(policy, ingest_status.clone(), move || {
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
            let (broker, bridge) = bridge(config, url, store, &client, &mut cast, policy)?;
            roster.add(broker.bridge.clone(), bridge.clone().recipient());
            (Some(broker), Some(bridge))
        }
        None => (None, None),
    };
    if config.retention.is_some() || config.dead_letter_retention.is_some() {
        let (status, retention) = retention(config, store, &mut cast, policy);
        roster.add(status, retention.recipient());
    }
    let entries = broker
        .as_ref()
        .map(|broker| Arc::clone(&broker.entries_in_flight));
    let domain = Domain {
        ingest: client,
        stats: StatsClient::new(stats, &counts, Arc::clone(&store.reader), READ_TIMEOUT),
        broker,
        backlog: Backlog {
            roster,
            bridge,
            broker_entries: entries.unwrap_or_default(),
        },
    };
    Ok((domain, cast))
}

fn retention(
    config: &Config,
    store: &Store,
    cast: &mut Cast,
    policy: RestartPolicy,
) -> (ActorStatus, Addr<RetentionActor>) {
    let settings = RetentionSettings {
        rules: Arc::new(config.retention.clone().unwrap_or_default()),
        dead_letter_age: config.dead_letter_retention,
        interval: Duration::from_millis(config.retention_interval_ms),
        batch_rows_max: config.retention_batch,
    };
    let status = ActorStatus::new(ActorKind::Retention, None);
    let (own_status, store) = (status.clone(), Arc::clone(&store.retention));
    let actor = cast.add(policy, status.clone(), move || {
        RetentionActor::new(own_status, store, settings)
    });
    (status, actor)
}

fn bridge(
    config: &Config,
    url: &RedisUrl,
    store: &Store,
    ingest: &IngestClient,
    cast: &mut Cast,
    policy: RestartPolicy,
) -> anyhow::Result<(Broker, Addr<RedisBridgeActor>)> {
    let nodes = BrokerNodes::new(url.nodes()).context("REDIS_URL (--redis-url)")?;
    let names = StreamNames {
        stream: config.broker_stream.clone(),
        group: config.broker_group.clone(),
        consumer: config.broker_consumer.clone(),
    };
    let settings = BridgeSettings {
        streams: names.spread(config.broker_streams),
        takeover_after: Duration::from_millis(config.broker_takeover_ms),
        entry_limit: EntryLimit::new(config.max_body_bytes),
    };
    let status = ActorStatus::new(ActorKind::RedisBridge, None);
    let entries_in_flight = Arc::new(AtomicUsize::new(0));
    let broker = Broker {
        client: BrokerClient::new(&nodes, &settings, config.broker_replicas_ack),
        bridge: status.clone(),
        entries_in_flight: Arc::clone(&entries_in_flight),
    };
    let actor = {
        let (status, ingest) = (status.clone(), ingest.clone());
        let dead_letters = DeadLetterClient::new(Arc::clone(&store.dead_letters));
        cast.add(policy, broker.bridge.clone(), move || {
            RedisBridgeActor::new(
                status,
                nodes,
                settings,
                ingest,
                dead_letters,
                entries_in_flight,
            )
        })
    };
    Ok((broker, actor))
}
