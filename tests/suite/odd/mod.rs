//! Odd requests in tables, sent as bytes: each gets the status that the contract gives it, with a
//! problem document where that is an error, in time, and never a 5xx; the connection still knows
//! where its next request begins; the next good request works; what was accepted reads back equal;
//! and at the end the counters are exact. A table shows all rows that fail, not only the first.

mod batches;
mod cloudevents;
mod exchange;
mod fields;
mod framing;
mod headers;
mod json;
mod kept;
mod logs;
mod malformed;
mod media;
mod operating;
mod payloads;
mod preferences;
mod queries;
mod request;
mod routes;
mod row;
mod service;
mod sizes;
mod timestamps;
mod tokens;

use crate::support::{Engine, TestApp, TestBroker};
use row::Row;
use service::Service;

on_both_engines!(
    what_is_no_json_is_refused,
    fields_are_what_the_contract_says_they_are,
    payloads_are_what_both_databases_can_hold,
    timestamps_are_rfc_3339,
    batches_are_all_or_nothing,
    cloudevents_in_three_modes,
    bodies_of_other_types_and_encodings,
    sizes_at_the_limit_and_one_over,
    paths_and_methods,
    query_strings,
    headers_of_all_kinds,
    framing_that_lies,
    streams_and_admin_calls,
    tokens_that_are_none,
    preferences_with_a_broker,
);

async fn what_is_no_json_is_refused(engine: Engine) {
    hold(&TestApp::start(engine).await, malformed::rows()).await;
}

async fn fields_are_what_the_contract_says_they_are(engine: Engine) {
    hold(&TestApp::start(engine).await, fields::rows()).await;
}

async fn payloads_are_what_both_databases_can_hold(engine: Engine) {
    hold(&TestApp::start(engine).await, payloads::rows()).await;
}

async fn timestamps_are_rfc_3339(engine: Engine) {
    hold(&TestApp::start(engine).await, timestamps::rows()).await;
}

async fn batches_are_all_or_nothing(engine: Engine) {
    hold(&TestApp::start(engine).await, batches::rows()).await;
}

async fn cloudevents_in_three_modes(engine: Engine) {
    hold(&TestApp::start(engine).await, cloudevents::rows()).await;
}

async fn bodies_of_other_types_and_encodings(engine: Engine) {
    hold(&TestApp::start(engine).await, media::rows()).await;
}

async fn sizes_at_the_limit_and_one_over(engine: Engine) {
    let app = TestApp::builder(engine).await;
    let app = app.set("MAX_BODY_BYTES", sizes::BODY_BYTES_MAX).start();
    hold(&app.await, sizes::rows()).await;
}

async fn paths_and_methods(engine: Engine) {
    hold(&TestApp::start(engine).await, routes::rows()).await;
}

async fn query_strings(engine: Engine) {
    hold(&TestApp::start(engine).await, queries::rows()).await;
}

async fn headers_of_all_kinds(engine: Engine) {
    hold(&TestApp::start(engine).await, headers::rows()).await;
}

async fn framing_that_lies(engine: Engine) {
    let app = TestApp::builder(engine).await;
    let app = app.set("BODY_TIMEOUT_MS", 1000).start();
    hold(&app.await, framing::rows()).await;
}

async fn streams_and_admin_calls(engine: Engine) {
    hold(&TestApp::start(engine).await, operating::rows()).await;
}

async fn tokens_that_are_none(engine: Engine) {
    let app = TestApp::builder(engine).await;
    let app = app
        .set("API_TOKENS", tokens::API_TOKENS)
        .set("ADMIN_TOKEN", tokens::ADMIN)
        .start();
    let app = app.await;
    let service = Service::guarded(&app, tokens::PLAIN);
    service.holds(tokens::rows()).await;
}

async fn preferences_with_a_broker(engine: Engine) {
    let broker = TestBroker::create().await;
    let app = TestApp::builder(engine).await.broker(&broker).start();
    hold(&app.await, preferences::rows()).await;
}

async fn hold(app: &TestApp, rows: Vec<Row>) {
    Service::open(app).holds(rows).await;
}

/// The tables are as many rows as they are said to be.
#[test]
fn there_are_more_than_four_hundred_odd_requests() {
    let tables = [
        malformed::rows(),
        fields::rows(),
        payloads::rows(),
        timestamps::rows(),
        batches::rows(),
        cloudevents::rows(),
        media::rows(),
        sizes::rows(),
        routes::rows(),
        queries::rows(),
        headers::rows(),
        framing::rows(),
        operating::rows(),
        tokens::rows(),
        preferences::rows(),
    ];
    let rows = tables.iter().map(Vec::len).sum::<usize>();
    eprintln!("{rows} odd requests");
    assert!(rows > 400, "{rows}");
}
