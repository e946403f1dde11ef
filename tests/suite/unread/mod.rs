//! Bodies that nobody reads, as bytes on a connection: a little is thrown away and the next request is answered;
//! before more the connection ends, and the answer says so; no body is ever taken for a request; and who asks
//! before he sends is not told to send what is refused.

mod random;
mod wire;

use crate::support::{Engine, TestApp, TestCertificate, event};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use std::{
    net::Shutdown,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tokio::time::sleep;
use wire::{ANSWER_MAX, Wire, connect};

/// What is read for the sake of the connection (src/app/unread.rs).
const UNREAD_BYTES_MAX: usize = 64 << 10;
/// What would be answered, in the place of what is behind it, if it were taken for a request.
const HIDDEN: &str = "PUT /hidden HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
const LIVEZ: &str = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";

fn connect_tls(app: &TestApp, certificate: &TestCertificate) -> Wire {
    let mut roots = RootCertStore::empty();
    let pem = CertificateDer::from_pem_file(certificate.cert_path());
    roots.add(pem.unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    Wire::over(StreamOwned::new(session, connect(app.address())))
}

/// How a body is told from what is behind it.
#[derive(Debug, Clone, Copy)]
enum Framing {
    Length,
    Chunks,
}

const FRAMINGS: [Framing; 2] = [Framing::Length, Framing::Chunks];

impl Framing {
    /// A request's head and its body.
    fn request(self, line: &str, headers: &str, body: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let (framing, body) = match self {
            Self::Length => (format!("Content-Length: {}", body.len()), body.to_vec()),
            Self::Chunks => ("Transfer-Encoding: chunked".to_owned(), chunked(body)),
        };
        let head = format!("{line} HTTP/1.1\r\nHost: x\r\n{headers}{framing}\r\n\r\n");
        (head.into_bytes(), body)
    }
}

fn chunked(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in body.chunks(1000) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

/// Does the same with each of them at once: an end takes its time.
fn each_at_once(check: impl Fn(Framing, &str, &str, u16) + Sync) {
    thread::scope(|scope| {
        let check = &check;
        for framing in FRAMINGS {
            for (line, headers, status) in UNREAD {
                scope.spawn(move || check(framing, line, headers, status));
            }
        }
    });
}

fn publish(event_id: &str) -> Vec<u8> {
    let body = event("unread", event_id).to_string();
    let (head, body) = Framing::Length.request("POST /publish", "", body.as_bytes());
    [head, body].concat()
}

/// Requests whose bodies nobody reads, with what they get.
const UNREAD: [(&str, &str, u16); 7] = [
    ("GET /livez", "", 200),
    ("GET /nothing", "", 404),
    ("DELETE /publish", "", 405),
    ("GET /events?limit=0", "", 400),
    ("POST /publish", "Content-Type: text/plain\r\n", 415),
    ("POST /publish", "Content-Encoding: rot13\r\n", 415),
    ("POST /publish/batch", "Content-Type: image/png\r\n", 415),
];

async fn goes_on_behind_every_small_body(wire: &mut Wire) {
    for framing in FRAMINGS {
        for (line, headers, status) in UNREAD {
            let (head, body) = framing.request(line, headers, HIDDEN.as_bytes());
            wire.send([&head[..], &body].concat());
            wire.goes_on_after(status);
            // In pieces, as slow networks have them.
            wire.send(&head);
            for piece in body.chunks(20) {
                sleep(Duration::from_millis(1)).await;
                wire.send(piece);
            }
            wire.goes_on_after(status);
        }
    }
    wire.send(LIVEZ);
    wire.goes_on_after(200);
}

#[tokio::test]
async fn a_small_body_that_nobody_reads_does_not_cost_the_connection() {
    let app = TestApp::start(Engine::Sqlite).await;
    goes_on_behind_every_small_body(&mut Wire::open(app.address())).await;
}

#[tokio::test]
async fn over_tls_it_does_not_either() {
    let certificate = TestCertificate::for_loopback();
    let app = TestApp::builder(Engine::Sqlite).await;
    let app = app.tls(&certificate).start().await;
    goes_on_behind_every_small_body(&mut connect_tls(&app, &certificate)).await;
}

#[tokio::test]
async fn who_would_rather_speak_websocket_is_answered_in_http() {
    let app = TestApp::start(Engine::Sqlite).await;
    let wish = "Connection: Upgrade\r\nUpgrade: WebSocket\r\n";
    let body = event("unread", "upgraded").to_string();
    let (head, body) = Framing::Length.request("POST /publish", wish, body.as_bytes());
    let publish = [head, body].concat();
    for (request, status) in [
        (publish.clone(), 200),
        (
            format!("GET /livez HTTP/1.1\r\nHost: x\r\n{wish}\r\n").into(),
            200,
        ),
        (
            format!("GET /nothing HTTP/1.1\r\nHost: x\r\n{wish}\r\n").into(),
            404,
        ),
    ] {
        let mut wire = Wire::open(app.address());
        let sent = Instant::now();
        // What is behind it is no part of its body, and is not answered, as the answer says.
        wire.send([&request[..], HIDDEN.as_bytes()].concat());
        wire.ends_with(status);
        assert!(sent.elapsed() < Duration::from_secs(3), "it has waited");
    }
    // In pieces, as slow networks have them.
    let mut wire = Wire::open(app.address());
    for piece in publish.chunks(20) {
        sleep(Duration::from_millis(1)).await;
        wire.send(piece);
    }
    wire.ends_with(200);
    assert_eq!(app.database().rows().await, 1);
}

#[tokio::test]
async fn who_is_over_the_rate_or_has_no_token_keeps_the_connection() {
    let app = TestApp::builder(Engine::Sqlite).await;
    let app = app.set("RATE_LIMIT", 1).set("API_TOKENS", "secret");
    let app = app.start().await;
    let mut wire = Wire::open(app.address());
    let events: Vec<_> = (0..1000)
        .map(|n| event("unread", &format!("{n}")))
        .collect();
    let all = serde_json::json!({ "events": events }).to_string();
    let token = "Authorization: Bearer secret\r\n";
    // Once, and then nothing for a quarter of an hour.
    let (head, body) = Framing::Length.request("POST /publish/batch", token, all.as_bytes());
    wire.send([head, body].concat());
    wire.goes_on_after(200);
    let later = event("unread", "later").to_string();
    for framing in FRAMINGS {
        for _ in 0..20 {
            let (head, body) = framing.request("POST /publish", token, later.as_bytes());
            wire.send([head, body].concat());
            wire.goes_on_after(429);
            let (head, body) = framing.request("POST /publish", "", later.as_bytes());
            wire.send([head, body].concat());
            // The refusals themselves are counted by the address.
            let answer = wire.answer();
            assert!(matches!(answer.status, 401 | 429), "{answer:?}");
            assert!(!answer.is_last);
        }
    }
    assert_eq!(app.database().rows().await, 1000);
}

#[tokio::test]
async fn requests_behind_such_a_body_are_answered_and_the_body_is_not() {
    let app = TestApp::start(Engine::Sqlite).await;
    let mut wire = Wire::open(app.address());
    let mut published = 0;
    for framing in FRAMINGS {
        for (line, headers, status) in UNREAD {
            let (head, body) = framing.request(line, headers, HIDDEN.repeat(3).as_bytes());
            published += 1;
            let good = publish(&format!("{published}"));
            wire.send([&head[..], &body, LIVEZ.as_bytes(), &good, &head, &body].concat());
            for status in [status, 200, 200, status] {
                assert_eq!(wire.answer().status, status, "{framing:?} {line}");
            }
        }
    }
    wire.send(LIVEZ);
    wire.goes_on_after(200);
    assert_eq!(app.database().rows().await, published);
}

#[tokio::test]
async fn a_body_at_the_bound_is_read_and_one_beyond_it_ends_the_connection() {
    let app = TestApp::start(Engine::Sqlite).await;
    let address = app.address();
    let most = vec![b' '; UNREAD_BYTES_MAX];
    // Requests all through it: where one were parsed, another answer would come.
    let more = HIDDEN.repeat(16 * UNREAD_BYTES_MAX / HIDDEN.len());
    let more = more.as_bytes();
    each_at_once(|framing, line, headers, status| {
        let (head, body) = framing.request(line, headers, &most);
        let mut wire = Wire::open(address);
        wire.send([&head[..], &body, LIVEZ.as_bytes()].concat());
        wire.goes_on_after(status);
        wire.goes_on_after(200);
        let (head, body) = framing.request(line, headers, more);
        let mut wire = Wire::open(address);
        wire.send_what_it_takes([&head[..], &body, LIVEZ.as_bytes()].concat());
        wire.ends_with(status);
    });
    // Where the head says it, nobody has to send it first.
    let least = vec![b' '; UNREAD_BYTES_MAX + 1];
    each_at_once(|_, line, headers, status| {
        let (head, _) = Framing::Length.request(line, headers, &least);
        let mut wire = Wire::open(address);
        wire.send(&head);
        wire.ends_with(status);
    });
}

#[tokio::test]
async fn a_body_that_does_not_come_ends_the_connection_at_its_deadline() {
    let app = TestApp::builder(Engine::Sqlite).await;
    let app = app.set("BODY_TIMEOUT_MS", 300).start().await;
    let address = app.address();
    each_at_once(|framing, line, headers, status| {
        let (head, body) = framing.request(line, headers, HIDDEN.repeat(2).as_bytes());
        let mut wire = Wire::open(address);
        let started = Instant::now();
        wire.send([&head[..], &body[..HIDDEN.len() + 10]].concat());
        wire.ends_with(status);
        assert!(started.elapsed() < ANSWER_MAX / 2, "{framing:?} {line}");
    });
    // Nor is the end of a client's sending the end of a body.
    for framing in FRAMINGS {
        let (head, _) = framing.request("GET /nothing", "", HIDDEN.as_bytes());
        let stream = connect(app.address());
        let mut wire = Wire::over(stream.try_clone().unwrap());
        wire.send(&head);
        stream.shutdown(Shutdown::Write).unwrap();
        wire.ends_with(404);
    }
}

#[tokio::test]
async fn a_body_that_breaks_ends_the_connection() {
    let app = TestApp::start(Engine::Sqlite).await;
    for end in ["zz\r\n", "5\r\nhellothere\r\n", "-1\r\n", "1;\n\r\n"] {
        let head = "GET /nothing HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut wire = Wire::open(app.address());
        wire.send(format!("{head}{end}{HIDDEN}{LIVEZ}"));
        let answer = wire.answer();
        assert!(answer.is_last, "{end:?}: {answer:?}");
        while wire.read() {}
        let further = String::from_utf8_lossy(&wire.received);
        // Of the parser, perhaps; of what is hidden or behind it, never.
        let statuses: Vec<&str> = further
            .lines()
            .filter_map(|line| line.strip_prefix("HTTP/1.1 "))
            .collect();
        assert!(
            statuses.iter().all(|status| status.starts_with("400")),
            "{end:?}: {further}"
        );
    }
}

const EXPECT: &str = "Expect: 100-continue\r\n";

#[tokio::test]
async fn who_asks_before_he_sends_is_told_to_only_where_the_body_is_wanted() {
    let app = TestApp::start(Engine::Sqlite).await;
    let mut wire = Wire::open(app.address());
    for (n, framing) in FRAMINGS.into_iter().enumerate() {
        let body = event("unread", &format!("expected {n}")).to_string();
        for (body, status) in [(body.as_str(), 200), ("no event", 422)] {
            let (head, body) = framing.request("POST /publish", EXPECT, body.as_bytes());
            wire.send(&head);
            assert_eq!(wire.answer().status, 100);
            wire.send(&body);
            wire.goes_on_after(status);
            // Behind another request, and the body without waiting.
            wire.send([LIVEZ.as_bytes(), &head, &body, LIVEZ.as_bytes()].concat());
            wire.goes_on_after(200);
            let mut answer = wire.answer();
            if answer.status == 100 {
                answer = wire.answer();
            }
            assert_eq!((answer.status, answer.is_last), (status, false));
            wire.goes_on_after(200);
        }
    }
    assert_eq!(app.database().rows().await, 2);
    // There is nothing to wait for.
    let (head, _) = Framing::Length.request("POST /publish", EXPECT, b"");
    wire.send(&head);
    wire.goes_on_after(422);
}

#[tokio::test]
async fn who_asks_before_he_sends_is_refused_by_the_head_alone() {
    let app = TestApp::builder(Engine::Sqlite).await;
    let app = app.set("MAX_BODY_BYTES", "128KiB").start().await;
    let address = app.address();
    let hidden = HIDDEN.repeat(20_000);
    each_at_once(|framing, line, headers, status| {
        let headers = format!("{headers}{EXPECT}");
        let (head, body) = framing.request(line, &headers, hidden.as_bytes());
        let mut wire = Wire::open(address);
        wire.send(&head);
        wire.ends_with(status);
        // A client that sends all the same: its body is no request.
        let mut wire = Wire::open(address);
        wire.send_what_it_takes([&head[..], &body, LIVEZ.as_bytes()].concat());
        wire.ends_with(status);
        // A body that is there with the head is no reason to part.
        let (head, body) = framing.request(line, &headers, HIDDEN.as_bytes());
        let mut wire = Wire::open(address);
        wire.send([&head[..], &body, LIVEZ.as_bytes()].concat());
        wire.goes_on_after(status);
        wire.goes_on_after(200);
    });
    let large = vec![b' '; (128 << 10) + 1];
    let (head, _) = Framing::Length.request("POST /publish", EXPECT, &large);
    let mut wire = Wire::open(app.address());
    wire.send(&head);
    wire.ends_with(413);
}
