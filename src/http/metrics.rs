//! `GET /metrics`: what this process has done and holds, as Prometheus text (exposition format
//! 0.0.4). Counts are gathered when they are asked for; publishing pays nothing for them.

use super::{HttpState, auth::TokenScope, error::ApiError};
use crate::actors::ActorState;
use actix_web::{HttpRequest, HttpResponse, web::Data};
use std::{
    fmt::{Display, Write},
    sync::atomic::{AtomicU64, Ordering},
};

pub(super) async fn metrics(
    request: HttpRequest,
    state: Data<HttpState>,
) -> Result<HttpResponse, ApiError> {
    state.access.check(&request, TokenScope::Read)?;
    // Also a turn in the StatsActor's mailbox: what was answered before this call is counted below.
    let totals = state.stats.totals().await;
    let mut page = Page::default();
    events(&mut page, &state);
    in_flight(&mut page, &state);
    actors(&mut page, &state);
    // What only the database or the broker knows is left out while it is out of reach.
    if let Ok(totals) = totals {
        page.family(
            "oncelog_dead_letters",
            "gauge",
            "Dead letters that are kept.",
        );
        page.sample("oncelog_dead_letters", &[], totals.dead_letters);
    }
    if let Some(broker) = &state.broker
        && let Ok(depth) = broker.depth().await
    {
        let name = "oncelog_broker_waiting_entries";
        page.family(
            name,
            "gauge",
            "Entries of the broker's stream, each until its event is stored.",
        );
        page.sample(name, &[], depth);
    }
    let name = "oncelog_uptime_seconds";
    page.family(name, "gauge", "Time since the process was started.");
    page.sample(name, &[], state.lifecycle.uptime().as_secs_f64());
    let name = "oncelog_build_info";
    page.family(name, "gauge", "The version that runs.");
    page.sample(name, &[("version", env!("CARGO_PKG_VERSION"))], 1);
    Ok(HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .body(page.0))
}

fn events(page: &mut Page, state: &HttpState) {
    let local = state.stats.local();
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    for (name, help, count) in [
        (
            "oncelog_events_stored_total",
            "Events stored.",
            read(&local.stored),
        ),
        (
            "oncelog_events_duplicate_total",
            "Events whose key was stored already, conflicts among them.",
            read(&local.duplicates),
        ),
        (
            "oncelog_events_conflict_total",
            "Duplicates that said something else than what is stored.",
            read(&local.conflicts),
        ),
        (
            "oncelog_events_rejected_total",
            "Events that validation refused.",
            read(&local.rejected),
        ),
    ] {
        page.family(name, "counter", help);
        page.sample(name, &[], count);
    }
    let name = "oncelog_commits_total";
    page.family(name, "counter", "Transactions committed.");
    page.sample(name, &[], read(&local.commits));
    let name = "oncelog_commit_seconds_total";
    page.family(name, "counter", "Time spent in committed transactions.");
    #[expect(
        clippy::cast_precision_loss,
        reason = "exact for 285 years of microseconds"
    )]
    let seconds = read(&local.commit_us) as f64 / 1e6;
    page.sample(name, &[], seconds);
}

fn in_flight(page: &mut Page, state: &HttpState) {
    let admission = state.ingest.admission();
    let name = "oncelog_inflight_events";
    page.family(name, "gauge", "Events that wait for their commit.");
    page.sample(name, &[], admission.events_in_flight());
    let name = "oncelog_inflight_bytes";
    page.family(
        name,
        "gauge",
        "Bytes of bodies that are read or wait for their commit.",
    );
    page.sample(name, &[], admission.bytes_in_flight());
}

fn actors(page: &mut Page, state: &HttpState) {
    let views: Vec<_> = state
        .roster
        .statuses()
        .map(|status| status.view())
        .collect();
    let name = "oncelog_actor_restarts_total";
    page.family(name, "counter", "Restarts of each actor.");
    for view in &views {
        page.sample(name, &[("actor", &view.name)], view.restarts);
    }
    let name = "oncelog_actor_mailbox_messages";
    page.family(
        name,
        "gauge",
        "Messages that wait for an actor or its transaction.",
    );
    for view in &views {
        page.sample(name, &[("actor", &view.name)], view.mailbox_depth);
    }
    let name = "oncelog_actor_state";
    page.family(name, "gauge", "1 for the state that an actor is in.");
    for view in &views {
        for one in [
            ActorState::Running,
            ActorState::Restarting,
            ActorState::Failed,
        ] {
            let labels = [("actor", view.name.as_str()), ("state", one.as_str())];
            page.sample(name, &labels, u8::from(view.state == one));
        }
    }
}

/// The text as it grows. Label values are names of ours, free of what the format escapes.
#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let open = if index == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{open}{label}=\"{text}\"");
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{close} {value}");
    }
}
