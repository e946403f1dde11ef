//! What an event costs between the body of a request and the parameters of a statement: parsed, validated,
//! planned and encoded, without network and database. `cargo bench --bench ingest` takes the time with
//! criterion; `scripts/check-instructions.sh` counts instructions.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark whose bodies are refused has nothing to say"
)]

#[path = "../throughput/events.rs"]
#[expect(dead_code, reason = "the other benchmark also asks for its parts")]
mod events;

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use oncelog::{domain::EventBatch, store, wire};
use std::{env, hint::black_box, sync::Arc};

/// Singles that a busy writer finds waiting, about; it stores them in one transaction.
const SINGLES: usize = 64;
const BATCH_EVENTS: usize = 1000;

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["count", "singles", rounds] => repeat(rounds, singles(), |bodies| store_singles(bodies)),
        ["count", "batch", rounds] => repeat(rounds, batch(), store_batch),
        _ => measure(),
    }
}

/// The same work again and again, with nothing around it that would be counted.
fn repeat<B>(rounds: &str, bodies: B, work: fn(&B) -> usize) {
    for _ in 0..rounds.parse().unwrap() {
        black_box(work(black_box(&bodies)));
    }
}

fn measure() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("ingest");
    let (singles, batch) = (singles(), batch());

    group.throughput(Throughput::Elements(SINGLES as u64));
    group.bench_function("64 singles: parse and validate", |bencher| {
        bencher.iter(|| parse_singles(black_box(&singles)));
    });
    group.bench_function("64 singles: all", |bencher| {
        bencher.iter(|| store_singles(black_box(&singles)));
    });

    group.throughput(Throughput::Elements(BATCH_EVENTS as u64));
    group.bench_function("batch of 1000: parse and validate", |bencher| {
        bencher.iter(|| wire::batch_from_json(black_box(&batch).clone()).unwrap());
    });
    group.bench_function("batch of 1000: all", |bencher| {
        bencher.iter(|| store_batch(black_box(&batch)));
    });
    group.finish();
    criterion.final_summary();
}

fn singles() -> Vec<Bytes> {
    let source = events::Source::new(1, 0.0);
    let body = || {
        let mut body = Vec::new();
        source.draw().write_json(&mut body);
        body.into()
    };
    (0..SINGLES).map(|_| body()).collect()
}

fn batch() -> Bytes {
    let source = events::Source::new(1, 0.0);
    let mut body = b"{\"events\":[".to_vec();
    for place in 0..BATCH_EVENTS {
        if place > 0 {
            body.push(b',');
        }
        source.draw().write_json(&mut body);
    }
    body.extend_from_slice(b"]}");
    body.into()
}

fn parse_singles(bodies: &[Bytes]) -> Vec<Arc<EventBatch>> {
    let parse = |body: &Bytes| wire::event_from_json(body.clone()).unwrap();
    bodies
        .iter()
        .map(|body| Arc::new(EventBatch::single(parse(body))))
        .collect()
}

fn store_singles(bodies: &[Bytes]) -> usize {
    store::encode_for_postgres(&parse_singles(bodies)).unwrap()
}

fn store_batch(body: &Bytes) -> usize {
    let batch = wire::batch_from_json(body.clone()).unwrap();
    store::encode_for_postgres(&[Arc::new(batch)]).unwrap()
}
