//! Tokens: other schemes and spellings, several at once, and tokens that are none or are elsewhere.

use super::{
    kept::Kept,
    request::{Request, event, get, publish},
    row::{Expected, Row, row, status, stored},
};

pub(super) const API_TOKENS: &str = "plain,reader:read:eyes,writer:publish:hand";
pub(super) const ADMIN: &str = "boss";
/// The one that may publish and read.
pub(super) const PLAIN: &str = "plain";

pub(super) fn rows() -> Vec<Row> {
    let mut rows = spellings();
    rows.extend(scopes());
    rows.extend(places());
    rows.extend(several());
    rows
}

fn with(request: Request, value: impl AsRef<[u8]>) -> Request {
    request.header("Authorization", value)
}

fn spellings() -> Vec<Row> {
    let mut rows = Vec::new();
    for value in [
        "Bearer plain",
        "bearer plain",
        "BEARER plain",
        "bEaReR plain",
        "Bearer  plain",
        "  Bearer plain  ",
    ] {
        let event = event();
        rows.push(row(
            format!("{value:?} publishes"),
            with(publish(event.clone()), value),
            stored(vec![event]),
        ));
        rows.push(row(
            format!("{value:?} reads"),
            with(get("/stats"), value),
            status(200),
        ));
    }
    let long = format!("Bearer {}", "x".repeat(60_000));
    let repeated = format!("Bearer {}", "plain".repeat(10_000));
    let none: [&[u8]; 35] = [
        b"",
        b" ",
        b"Bearer",
        b"Bearer ",
        b"Bearer \t",
        b"Bearer\tplain",
        b"Bearerplain",
        b"Bearer:plain",
        b"Bearer=plain",
        b"plain",
        b"plain Bearer",
        b"Bearer Bearer plain",
        b"Bearer PLAIN",
        b"Bearer plai",
        b"Bearer plainn",
        b"Bearer plain plain",
        b"Bearer plain,hand",
        b"Bearer plain, Bearer hand",
        b"Bearer \"plain\"",
        b"Bearer pla%69n",
        b"Bearer cGxhaW4=",
        b"Bearer reader:read:eyes",
        b"Bearer *",
        b"Bearer null",
        b"Bearer pl\xc3\xa4in",
        b"Bearer plain\xff",
        b"Basic plain",
        b"Basic cGxhaW46",
        b"Basic OnBsYWlu",
        b"Digest username=\"plain\"",
        b"Negotiate plain",
        b"Token plain",
        b"ApiKey plain",
        long.as_bytes(),
        repeated.as_bytes(),
    ];
    for value in none {
        let shown = String::from_utf8_lossy(&value[..value.len().min(40)]).into_owned();
        rows.push(row(
            format!("{shown:?} does not publish"),
            with(publish(event()), value),
            status(401),
        ));
        rows.push(row(
            format!("{shown:?} does not read"),
            with(get("/events"), value),
            status(401),
        ));
        rows.push(row(
            format!("{shown:?} is no admin"),
            with(get("/admin/actors"), value),
            status(401),
        ));
    }
    rows
}

fn scopes() -> Vec<Row> {
    let of = |token: &str, request: Request| with(request, format!("Bearer {token}"));
    let written = event();
    let crash = || Request::new("POST", "/admin/actors/nobody/crash");
    vec![
        row("a reader reads", of("eyes", get("/events")), status(200)),
        row(
            "a reader publishes",
            of("eyes", publish(event())),
            status(403),
        ),
        row("a reader crashes", of("eyes", crash()), status(403)),
        row("a writer reads", of("hand", get("/events")), status(403)),
        row(
            "a writer follows",
            of("hand", get("/events/stream")),
            status(403),
        ),
        row(
            "a writer publishes",
            of("hand", publish(written.clone())),
            stored(vec![written]),
        ),
        row("a plain one crashes", of("plain", crash()), status(403)),
        row("an admin reads", of(ADMIN, get("/stats")), status(403)),
        row(
            "an admin publishes",
            of(ADMIN, publish(event())),
            status(403),
        ),
        row("an admin crashes nobody", of(ADMIN, crash()), status(404)),
        row("nobody crashes", crash(), status(401)),
        row(
            "HEAD without a token",
            Request::new("HEAD", "/events"),
            status(401),
        ),
        row(
            "a stream without a token",
            get("/events/stream"),
            status(401),
        ),
        row(
            "numbers without a token",
            get("/dashboard/stream"),
            status(401),
        ),
        row(
            "what is no event, without a token",
            publish("{"),
            status(401),
        ),
        row(
            "another type, without a token",
            publish(event()).header("Content-Type", "text/plain"),
            status(401),
        ),
        row(
            "a wrong query, without a token",
            get("/events?limit=0"),
            status(401),
        ),
    ]
}

/// A token is in its header and nowhere else; and where none is needed, a wrong one is no fault.
fn places() -> Vec<Row> {
    let elsewhere = [
        ("Proxy-Authorization", "Bearer plain"),
        ("X-Authorization", "Bearer plain"),
        ("WWW-Authenticate", "Bearer plain"),
        ("X-Api-Key", "plain"),
        ("Cookie", "token=plain; Authorization=Bearer plain"),
    ];
    let mut rows: Vec<Row> = elsewhere
        .map(|(name, value)| {
            let request = publish(event()).header(name, value);
            row(format!("a token in {name}"), request, status(401))
        })
        .into();
    for query in [
        "token=plain",
        "access_token=plain",
        "Authorization=Bearer%20plain",
    ] {
        let request = get(format!("/events?{query}"));
        rows.push(row(format!("a token in ?{query}"), request, status(401)));
    }
    for path in [
        "/livez",
        "/readyz",
        "/health",
        "/",
        "/docs",
        "/openapi.json",
    ] {
        let name = |with: &str| format!("{path} with {with}");
        let wrong = with(get(path), "Bearer wrong");
        rows.push(row(name("a wrong token"), wrong, status(200)));
        rows.push(row(name("no token"), get(path), status(200)));
        let no_text = with(get(path), b"\xff");
        rows.push(row(name("one that is no text"), no_text, status(200)));
    }
    let unknown = with(get("/nothing"), "Bearer wrong");
    rows.push(row("nothing, with a wrong token", unknown, status(404)));
    rows
}

fn several() -> Vec<Row> {
    let two = |one: &str, other: &str, request: Request| with(with(request, one), other);
    let (kept, repeated, first) = (event(), event(), event());
    let raw = |token: &str, event: &str| {
        format!(
            "POST /publish HTTP/1.1\r\nHost: oncelog\r\n{token}Content-Length: {}\r\n\r\n{event}",
            event.len()
        )
    };
    let behind = [
        raw("Authorization: Bearer plain\r\n", &first),
        raw("", &event()),
    ];
    vec![
        // The header may stand once only (RFC 9110, section 11.6.2); of two the first one counts.
        row(
            "a good one before a wrong one",
            two("Bearer plain", "Bearer wrong", publish(kept.clone())),
            stored(vec![kept]),
        ),
        row(
            "a wrong one before a good one",
            two("Bearer wrong", "Bearer plain", publish(event())),
            status(401),
        ),
        row(
            "another scheme before a good one",
            two("Basic cGxhaW46", "Bearer plain", publish(event())),
            status(401),
        ),
        row(
            "nothing before a good one",
            two("", "Bearer plain", publish(event())),
            status(401),
        ),
        row(
            "the same one twice",
            two("Bearer plain", "Bearer plain", publish(repeated.clone())),
            stored(vec![repeated]),
        ),
        row(
            "one that may not before one that may",
            two("Bearer eyes", "Bearer plain", publish(event())),
            status(403),
        ),
        row(
            "a request without a token behind one with it",
            Request::raw(behind.concat()).answered(2),
            Expected::Answers(vec![200, 401], Kept::all(vec![first])),
        ),
    ]
}
