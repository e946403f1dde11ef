//! Random requests behind each other, cut into random pieces: each is answered as if it were alone, in order, and
//! nothing that stands in a body is done.

use super::{FRAMINGS, HIDDEN, LIVEZ, UNREAD, wire::Wire};
use crate::support::{Engine, TestApp, event, seed};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::time::Duration;
use tokio::time::sleep;

const PIPELINES: usize = 300;
const REQUESTS_MAX: usize = 8;
/// Several together are more than actix-http reads at a time.
const HIDDEN_REPEATS_MAX: usize = 200;
const PIECES_MAX: usize = 6;

/// Requests behind each other, and the statuses of their answers.
#[derive(Default)]
struct Pipeline {
    bytes: Vec<u8>,
    statuses: Vec<u16>,
    events: u64,
}

impl Pipeline {
    fn random(random: &mut StdRng, events: &mut u64) -> Self {
        let mut pipeline = Self::default();
        for _ in 0..random.random_range(1..=REQUESTS_MAX) {
            let framing = FRAMINGS[random.random_range(0..FRAMINGS.len())];
            match random.random_range(0..6) {
                0 => pipeline.push(200, LIVEZ.as_bytes()),
                1 => {
                    let (head, body) = framing.request("POST /publish", "", b"no event");
                    pipeline.push(422, &[head, body].concat());
                }
                2 | 3 => {
                    *events += 1;
                    pipeline.events += 1;
                    let event = event("sent", &events.to_string()).to_string();
                    let (head, body) = framing.request("POST /publish", "", event.as_bytes());
                    pipeline.push(200, &[head, body].concat());
                }
                _ => {
                    let (line, headers, status) = UNREAD[random.random_range(0..UNREAD.len())];
                    let hidden = hidden(random);
                    let (head, body) = framing.request(line, headers, hidden.as_bytes());
                    pipeline.push(status, &[head, body].concat());
                }
            }
        }
        pipeline
    }

    fn push(&mut self, status: u16, request: &[u8]) {
        self.bytes.extend_from_slice(request);
        self.statuses.push(status);
    }

    async fn send(&self, random: &mut StdRng, wire: &mut Wire) {
        let mut rest = &self.bytes[..];
        for _ in 1..random.random_range(1..=PIECES_MAX) {
            let (piece, behind) = rest.split_at(random.random_range(0..=rest.len()));
            wire.send_what_it_takes(piece);
            rest = behind;
            if random.random() {
                sleep(Duration::from_millis(1)).await;
            }
        }
        wire.send_what_it_takes(rest);
    }
}

/// A body that is requests from its first byte to its last, one of which would store something.
fn hidden(random: &mut StdRng) -> String {
    let smuggled = event("smuggled", "e").to_string();
    let length = smuggled.len();
    let smuggled =
        format!("POST /publish HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{smuggled}");
    let repeats = random.random_range(0..HIDDEN_REPEATS_MAX);
    format!("{}{smuggled}{}", HIDDEN.repeat(repeats), HIDDEN)
}

#[tokio::test]
async fn random_requests_behind_each_other_are_answered_in_order_and_no_body_is_one() {
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let app = TestApp::start(Engine::Sqlite).await;
    let (mut events, mut stored, mut ended) = (0, 0, 0);
    for number in 0..PIPELINES {
        let pipeline = Pipeline::random(&mut random, &mut events);
        let mut wire = Wire::open(app.address());
        pipeline.send(&mut random, &mut wire).await;
        let mut is_ended = false;
        for (place, expected) in pipeline.statuses.iter().enumerate() {
            // Where the next body is there in part, actix-http ends the connection with this answer.
            if is_ended && !wire.has_more() {
                ended += 1;
                break;
            }
            let answer = wire.answer();
            assert_eq!(
                answer.status, *expected,
                "pipeline {number}, answer {place}"
            );
            is_ended |= answer.is_last;
        }
        if !is_ended {
            wire.send(LIVEZ);
            wire.goes_on_after(200);
        }
        stored += pipeline.events;
    }
    eprintln!("{PIPELINES} pipelines, {events} events, {ended} ended before the last answer");
    let database = app.database();
    let smuggled = "select count(*) from processed_events where topic = 'smuggled'";
    assert_eq!(database.number(smuggled).await, 0);
    let rows = u64::try_from(database.rows().await).unwrap();
    assert!(rows <= stored, "{rows} of {stored}");
}
