//! `GET /metrics`: what this process has done and holds, as Prometheus text (exposition format
//! 0.0.4). Counts are gathered when they are asked for; publishing pays little for them. No topic
//! is a label: clients choose topics, and each would be a series for ever.

mod process;
mod requests;

pub use requests::RequestMeter;
pub(super) use requests::measured;

use super::{HttpState, auth::TokenScope, error::ApiError};
use crate::{
    actors::{ActorKind, ActorState, LocalCounts},
    domain::Rejection,
    metrics::Page,
    store::Totals,
};
use actix_web::{
    HttpRequest, HttpResponse,
    web::{self, Data},
};
use process::ProcessFigures;
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::time::timeout;

/// What the database or the broker does not say within that time is left out: Prometheus gives up
/// after 10 s at most, and would then have nothing at all.
const GATHER_TIMEOUT: Duration = Duration::from_secs(2);

/// What has to be asked for elsewhere; none of what is out of reach.
struct Gathered {
    totals: Option<Totals>,
    held_back: Option<u64>,
    broker_entries: Option<u64>,
    process: Option<ProcessFigures>,
}

pub(super) async fn metrics(
    request: HttpRequest,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    state.admit_always(&request, TokenScope::Read)?;
    let gathered = gather(&state).await;
    let mut page = Page::default();
    events(&mut page, state.stats.local());
    in_flight(&mut page, &state);
    readers(&mut page, &state, &gathered);
    leftovers(&mut page, &gathered);
    rates(&mut page, &state);
    actors(&mut page, &state);
    state.requests.write(&mut page);
    if let Some(process) = gathered.process {
        process.write(&mut page);
    }
    page.gauge(
        "oncelog_build_info",
        "The version that runs, and its engine.",
    )
    .sample(
        &[
            ("version", env!("CARGO_PKG_VERSION")),
            ("engine", state.engine),
        ],
        1,
    );
    Ok(HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .body(page.into_text()))
}

async fn gather(state: &HttpState) -> Gathered {
    let broker_entries = async {
        match &state.broker {
            Some(broker) => {
                // A sum of some of the streams would look like a queue that has shrunk.
                let depth = broker.depth().await;
                depth.is_complete.then_some(depth.entries)
            }
            None => None,
        }
    };
    let (totals, held_back, broker_entries, process) = tokio::join!(
        // Also a turn in the StatsActor's mailbox: what was answered before is counted by now.
        in_time(state.stats.totals()),
        in_time(state.reader.held_back()),
        broker_entries,
        // The kernel lists open files one by one.
        web::block(ProcessFigures::read),
    );
    Gathered {
        totals,
        held_back,
        broker_entries,
        process: process.ok().flatten(),
    }
}

async fn in_time<T, E>(read: impl Future<Output = Result<T, E>>) -> Option<T> {
    timeout(GATHER_TIMEOUT, read).await.ok()?.ok()
}

fn events(page: &mut Page, local: &LocalCounts) {
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    page.counter("oncelog_events_stored_total", "Events stored.")
        .value(read(&local.stored));
    page.counter(
        "oncelog_events_duplicate_total",
        "Events whose key was stored already, conflicts among them.",
    )
    .value(read(&local.duplicates));
    page.counter(
        "oncelog_events_conflict_total",
        "Duplicates that said something else than what is stored.",
    )
    .value(read(&local.conflicts));
    page.counter(
        "oncelog_events_queued_total",
        "Events answered as queued in the broker; they are counted again when they are stored.",
    )
    .value(read(&local.queued));
    let reasons = Rejection::ALL.map(|reason| (reason, local.rejected(reason)));
    page.counter(
        "oncelog_events_rejected_total",
        "Events that validation refused.",
    )
    .value(reasons.iter().map(|(_, events)| events).sum::<u64>());
    let mut invalid = page.counter(
        "oncelog_events_invalid_total",
        "The same events by what was wrong with their request first.",
    );
    for (reason, events) in reasons {
        invalid.sample(&[("reason", reason.as_str())], events);
    }
    page.histogram(
        "oncelog_commit_group_events",
        "Events of each committed transaction.",
    )
    .reading(&[], &local.group_events.read());
    page.histogram(
        "oncelog_commit_duration_seconds",
        "From a transaction's first statement to the answer to its commit.",
    )
    .reading(&[], &local.commit_times.read());
}

fn in_flight(page: &mut Page, state: &HttpState) {
    let admission = state.ingest.admission();
    page.gauge(
        "oncelog_inflight_events",
        "Events that wait for their commit.",
    )
    .value(admission.events_in_flight());
    page.gauge("oncelog_inflight_limit_events", "The most of them.")
        .value(admission.events_max());
    page.gauge(
        "oncelog_inflight_bytes",
        "Bytes of bodies that are read or wait for their commit.",
    )
    .value(admission.bytes_in_flight());
    page.gauge("oncelog_inflight_limit_bytes", "The most of them.")
        .value(admission.bytes_max());
}

fn readers(page: &mut Page, state: &HttpState, gathered: &Gathered) {
    page.gauge("oncelog_stream_subscribers", "Open event streams.")
        .value(state.feed.subscribers());
    page.gauge("oncelog_stream_limit_subscribers", "The most of them.")
        .value(state.feed.subscribers_max());
    page.gauge("oncelog_dashboard_viewers", "Open dashboards.")
        .value(state.dashboard.viewers());
    if let Some(transactions) = gathered.held_back {
        page.gauge(
            "oncelog_tail_held_back_transactions",
            "Transactions begun since the oldest that still writes; until it ends, those who follow \
             the log see none of them.",
        )
        .value(transactions);
    }
}

fn leftovers(page: &mut Page, gathered: &Gathered) {
    if let Some(totals) = gathered.totals {
        page.gauge("oncelog_dead_letters", "Dead letters that are kept.")
            .value(totals.dead_letters);
        retention(page, &totals);
    }
    if let Some(entries) = gathered.broker_entries {
        page.gauge(
            "oncelog_broker_waiting_entries",
            "Entries of the broker's streams, each until its event is stored.",
        )
        .value(entries);
    }
}

fn rates(page: &mut Page, state: &HttpState) {
    let Some(refused) = state.rates.refused() else {
        return;
    };
    let mut limited = page.counter(
        "oncelog_rate_limited_total",
        "Calls answered 429, by what their client was counted by.",
    );
    for (counted_by, calls) in refused {
        limited.sample(&[("client", counted_by)], calls);
    }
}

/// From the database: which replica did it is of no interest, and a crash of it changes nothing.
fn retention(page: &mut Page, totals: &Totals) {
    page.counter(
        "oncelog_retention_payloads_dropped_total",
        "Events whose payload was dropped by age, over all replicas.",
    )
    .value(totals.payloads_dropped);
    page.counter(
        "oncelog_retention_events_deleted_total",
        "Events that were deleted by age, over all replicas.",
    )
    .value(totals.events_deleted);
    page.counter(
        "oncelog_retention_dead_letters_deleted_total",
        "Dead letters that were deleted by age, over all replicas.",
    )
    .value(totals.dead_letters_deleted);
    if let Some(at) = totals.retention_run_at {
        page.gauge(
            "oncelog_retention_last_run_timestamp_seconds",
            "When a run last came to its end, on any replica.",
        )
        .value(at.unix_us() / 1_000_000);
    }
}

fn actors(page: &mut Page, state: &HttpState) {
    let statuses = state.roster.statuses();
    let views: Vec<_> = statuses.map(|status| status.view()).collect();
    let mut restarts = page.counter("oncelog_actor_restarts_total", "Restarts of each actor.");
    for view in &views {
        restarts.sample(&[("actor", &view.name)], view.restarts);
    }
    let mut mailboxes = page.gauge(
        "oncelog_actor_mailbox_messages",
        "Messages that wait for an actor or its transaction.",
    );
    for view in &views {
        mailboxes.sample(&[("actor", &view.name)], view.mailbox_depth);
    }
    let mut states = page.gauge(
        "oncelog_actor_state",
        "1 for the state that an actor is in.",
    );
    for view in &views {
        for one in [
            ActorState::Running,
            ActorState::Restarting,
            ActorState::Failed,
        ] {
            let labels = [("actor", view.name.as_str()), ("state", one.as_str())];
            states.sample(&labels, u8::from(view.state == one));
        }
    }
    let mut links = page.gauge(
        "oncelog_actor_connected",
        "1 where an actor reaches the database or the broker that it needs.",
    );
    for view in &views {
        match view.kind {
            ActorKind::Persist | ActorKind::RedisBridge | ActorKind::Retention => {
                links.sample(&[("actor", &view.name)], u8::from(view.is_connected));
            }
            ActorKind::Ingest | ActorKind::Stats => {}
        }
    }
}
