//! The five fields: missing, of another type, empty, at their limits, with characters of all kinds.

use super::{
    request::{fresh_id, publish, quoted, with, with_text, without},
    row::{Row, accepted, invalid_at, row},
};

const TEXTS: [(&str, &str); 3] = [
    ("topic", "/topic"),
    ("event_id", "/event_id"),
    ("source", "/source"),
];
const CHARS_MAX: usize = 255;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = types();
    for (field, pointer) in TEXTS {
        rows.extend(refused_texts(field, pointer));
        rows.extend(accepted_texts(field));
    }
    rows.push(row(
        "everything wrong at once",
        publish(r#"{"topic":"","event_id":1,"timestamp":"now","payload":[]}"#),
        invalid_at(&["/topic", "/event_id", "/timestamp", "/source", "/payload"]),
    ));
    rows
}

fn types() -> Vec<Row> {
    let fields = [
        ("topic", "/topic"),
        ("event_id", "/event_id"),
        ("timestamp", "/timestamp"),
        ("source", "/source"),
        ("payload", "/payload"),
    ];
    let mut rows = Vec::new();
    for (field, pointer) in fields {
        let at = || invalid_at(&[pointer]);
        let name = format!("no {field}");
        rows.push(row(name, publish(without(field)), at()));
        for value in ["null", "true", "0", "1.5", "[]", "[\"a\"]", "\"\""] {
            let name = format!("{field} is {value}");
            rows.push(row(name, publish(with(field, value)), at()));
        }
        if field != "payload" {
            let name = format!("{field} is an object");
            rows.push(row(name, publish(with(field, "{\"a\":\"b\"}")), at()));
        }
    }
    rows
}

fn refused_texts(field: &'static str, pointer: &'static str) -> Vec<Row> {
    let long = "a".repeat(CHARS_MAX + 1);
    let long_wide = "\u{1F600}".repeat(CHARS_MAX + 1);
    let texts = [
        ("one blank", " "),
        ("blanks", "   "),
        ("a no-break space and an em space", "\u{a0}\u{2003}"),
        ("an ideographic space", "\u{3000}"),
        ("a line separator", "\u{2028}"),
        ("U+0000", "a\u{0}b"),
        ("U+0001", "\u{1}"),
        ("a bell", "a\u{7}"),
        ("a tab", "a\tb"),
        ("a line feed", "a\n"),
        ("a carriage return", "\ra"),
        ("an escape", "\u{1b}[31m"),
        ("U+001F", "a\u{1f}b"),
        ("a delete", "a\u{7f}b"),
        ("U+0080", "\u{80}"),
        ("a next line", "a\u{85}b"),
        ("U+009F", "a\u{9f}b"),
        ("256 letters", &long),
        ("256 characters of four bytes", &long_wide),
    ];
    let text_rows = texts.map(|(name, text)| {
        let name = format!("{field}: {name}");
        row(
            name,
            publish(with_text(field, text)),
            invalid_at(&[pointer]),
        )
    });
    let escapes = [
        ("a high surrogate alone", r#""a\ud800""#),
        ("a low surrogate alone", r#""\udc00b""#),
        ("surrogates the wrong way round", r#""\udc00\ud800""#),
        ("U+0000 as an escape", r#""a\u0000b""#),
        ("a next line as an escape", r#""a\u0085b""#),
    ];
    let escape_rows = escapes.map(|(name, json)| {
        let name = format!("{field}: {name}");
        row(name, publish(with(field, json)), invalid_at(&[pointer]))
    });
    text_rows.into_iter().chain(escape_rows).collect()
}

fn accepted_texts(field: &'static str) -> Vec<Row> {
    // In front, so that no key is there twice.
    let filled = |with: &str| {
        let id = fresh_id();
        let rest = with.repeat(CHARS_MAX - id.len());
        format!("{id}{rest}")
    };
    let texts = [
        ("255 letters", filled("a")),
        ("255 characters of two bytes", filled("ü")),
        ("255 characters of four bytes", filled("\u{1F600}")),
        ("a letter among blanks", format!("  {}  ", fresh_id())),
        (
            "a joiner and a turn of direction",
            format!("a\u{200d}\u{202e}{}", fresh_id()),
        ),
        (
            "a byte order mark within",
            format!("\u{feff}{}", fresh_id()),
        ),
        (
            "a character that is none",
            format!("\u{ffff}\u{fdd0}{}", fresh_id()),
        ),
        ("one for private use", format!("\u{10FFFD}{}", fresh_id())),
        ("one letter composed", format!("\u{e9}{}", fresh_id())),
        ("the same decomposed", format!("e\u{301}{}", fresh_id())),
        ("slashes and dots", format!("../a/./b//{}", fresh_id())),
        ("percent signs", format!("%2F%00%zz%{}", fresh_id())),
        (
            "question mark and fragment",
            format!("?a=b&c#{}", fresh_id()),
        ),
        ("quotes and backslashes", format!("\"\\'`{}", fresh_id())),
        (
            "what SQL could take for its own",
            format!("'; drop table x; --{}", fresh_id()),
        ),
        (
            "what a page could take for its own",
            format!("<script>{}</script>", fresh_id()),
        ),
        (
            "what a pattern could take for its own",
            format!("%_*[a]{}", fresh_id()),
        ),
    ];
    let mut rows: Vec<Row> = texts
        .map(|(name, text)| accepted(format!("{field}: {name}"), with_text(field, &text)))
        .into();
    let pair = quoted(&fresh_id()).replacen('"', r#""\ud83d\ude00"#, 1);
    rows.push(accepted(
        format!("{field}: a surrogate pair"),
        with(field, pair),
    ));
    rows
}
