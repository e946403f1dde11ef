//! Query strings: 400 for what is wrong, in silence over what is unknown.

use super::{
    request::get,
    row::{Row, row, status},
};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for query in ACCEPTED {
        rows.push(row(
            format!("?{query}"),
            get(format!("/events?{query}")),
            status(200),
        ));
    }
    for query in REFUSED {
        rows.push(row(
            format!("?{query}"),
            get(format!("/events?{query}")),
            status(400),
        ));
    }
    let (fits, long) = ("a".repeat(255), "a".repeat(256));
    for name in ["topic", "source"] {
        rows.push(row(
            format!("{name} of 255"),
            get(format!("/events?{name}={fits}")),
            status(200),
        ));
        rows.push(row(
            format!("{name} of 256"),
            get(format!("/events?{name}={long}")),
            status(400),
        ));
    }
    let wide = "%F0%9F%98%80".repeat(255);
    rows.push(row(
        "topic of 255 wide ones",
        get(format!("/events?topic={wide}")),
        status(200),
    ));
    rows.push(row(
        "a query of 60,000 letters",
        get(format!("/events?x={}", "a".repeat(60_000))),
        status(200),
    ));
    rows.push(row(
        "5000 parameters",
        get(format!("/events?{}", "a=b&".repeat(5000))),
        status(200),
    ));
    rows.push(row(
        "5000 limits",
        get(format!("/events?{}limit=0", "limit=1&".repeat(5000))),
        status(400),
    ));
    for (path, expected) in ELSEWHERE {
        rows.push(row(path, get(path), status(expected)));
    }
    rows
}

const ACCEPTED: [&str; 40] = [
    "",
    "&",
    "&&&",
    "=",
    "?",
    "a",
    "=a",
    "a=b=c",
    "unknown=1",
    "Limit=0",
    "limit=1",
    "limit=0001",
    "limit=%31",
    "limit=1000",
    "limit=1001",
    "limit=4294967296",
    "limit=99999999999999999999999999",
    "limit=",
    "limit",
    "limit=0&limit=1",
    "topic=",
    "topic=nothing",
    "topic=a&topic=b",
    "topic=a%20b+c",
    "topic=%F0%9F%98%80",
    "topic=%25%5F%27%22",
    "topic=';drop%20table%20x;--",
    "t%6Fpic=a",
    "source=",
    "source=suite",
    "order=asc",
    "order=desc",
    "order=",
    "cursor=",
    "cursor=0-0",
    "cursor=9223372036854775807-9223372036854775807",
    "cursor=0-0&order=asc&limit=1",
    "since=2026-01-31T12:00:00Z&until=2026-01-31T12:00:00%2B01:00",
    "since=2026-01-31T12:00:00",
    "since=0000-01-01T00:00:00Z&until=9999-12-31T23:59:59.999999Z",
];

const REFUSED: [&str; 46] = [
    "limit=0",
    "limit=00",
    "limit=-1",
    "limit=%2B1",
    "limit=1.5",
    "limit=1e2",
    "limit=0x10",
    "limit=ten",
    "limit=%20",
    "limit=1%20",
    "limit=1,000",
    "limit=%D9%A1",
    "limit=1&limit=0",
    "topic=%00",
    "topic=%0A",
    "topic=%20",
    "topic=+",
    "topic=%C2%85",
    "topic=%ff",
    "topic=%E2%82",
    "topic=%ED%A0%80",
    "%ff=a",
    "source=%00",
    "source=%20%20",
    "order=up",
    "order=ASC",
    "order=asc%20",
    "order=asc,desc",
    "cursor=nonsense",
    "cursor=-",
    "cursor=1",
    "cursor=1-",
    "cursor=-1",
    "cursor=1-2-3",
    "cursor=-1-1",
    "cursor=%2B1-1",
    "cursor=1--1",
    "cursor=1-1%00",
    "cursor=9223372036854775808-0",
    "cursor=0-99999999999999999999",
    "cursor=%D9%A1-1",
    "since=never",
    "since=2026-01-31",
    // A plus sign in a query is a blank.
    "since=2026-01-31T12:00:00+01:00",
    "until=2026-02-30T12:00:00Z",
    "since=1769860800",
];

const ELSEWHERE: [(&str, u16); 12] = [
    ("/stats?limit=0", 200),
    ("/topics?a=b", 200),
    ("/health?verbose", 200),
    ("/metrics?name[]=a", 200),
    ("/dead-letters?limit=1", 200),
    ("/dead-letters?limit=0", 400),
    ("/dead-letters?limit=1001", 200),
    ("/dead-letters?cursor=x", 400),
    ("/dead-letters?cursor=9223372036854775808", 400),
    ("/events/stream?cursor=x", 400),
    ("/events/stream?topic=%00", 400),
    ("/events/t/e?limit=0", 404),
];
