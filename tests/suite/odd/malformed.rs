//! Bodies that are no JSON, or not the JSON of an event, in every encoding.

use super::{
    request::{event, publish, with, with_text},
    row::{Row, accepted, invalid_at, refused, row, status, stored},
};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = texts();
    rows.extend(encodings());
    rows.extend(white_space_and_repeats());
    rows
}

fn texts() -> Vec<Row> {
    let good = event();
    let broken = [
        ("nothing", String::new()),
        ("white space", " \r\n\t ".to_owned()),
        ("an opening brace", "{".to_owned()),
        ("a closing brace", "}".to_owned()),
        ("a bracket for a brace", "{]".to_owned()),
        ("a word", "event".to_owned()),
        ("half a word", "nul".to_owned()),
        ("a word with a capital", "True".to_owned()),
        ("NaN", "NaN".to_owned()),
        ("a byte of zero", "\0".to_owned()),
        ("a quote", "\"".to_owned()),
        ("a value without a key", "{:1}".to_owned()),
        ("a key without a value", "{\"topic\"}".to_owned()),
        ("a key with a colon only", "{\"topic\":}".to_owned()),
        ("a key without quotes", "{topic:\"a\"}".to_owned()),
        ("single quotes", good.replace('"', "'")),
        ("a comma at the end", good.replace("}}", "},}")),
        ("two commas", good.replacen(',', ",,", 1)),
        ("no comma", good.replacen(',', " ", 1)),
        ("a semicolon", good.replacen(',', ";", 1)),
        ("a comment", good.replacen('{', "{/* one */", 1)),
        ("a comment at the end", format!("{good}// one")),
        ("cut in the middle", good[..good.len() / 2].to_owned()),
        ("cut before its end", good[..good.len() - 1].to_owned()),
        ("a brace too many", format!("{good}}}")),
        ("two events behind each other", format!("{good}{good}")),
        ("two events with a comma", format!("{good},{good}")),
        ("a letter behind it", format!("{good}x")),
        ("a byte of zero behind it", format!("{good}\0")),
        ("a form feed before it", format!("\u{c}{good}")),
        ("a no-break space before it", format!("\u{a0}{good}")),
        ("two byte order marks", format!("\u{feff}\u{feff}{good}")),
        ("a byte order mark alone", "\u{feff}".to_owned()),
        ("ten thousand brackets", "[".repeat(10_000)),
        ("a hundred thousand braces", "{\"a\":".repeat(100_000)),
        (
            "a string that never ends",
            format!("{{\"topic\":\"{}", "a".repeat(10_000)),
        ),
        ("a line break in a string", with("topic", "\"a\nb\"")),
        ("a tab in a string", with("source", "\"a\tb\"")),
        ("an unknown escape", with("topic", r#""\x41""#)),
        ("a short escape", with("topic", r#""\u12""#)),
        ("an escape that is not hex", with("topic", r#""\u12G4""#)),
        ("a backslash at the end", with("topic", r#""\""#)),
        (
            "a number with a leading zero",
            with("x", "1").replacen("\"a\":1", "\"a\":01", 1),
        ),
        ("a form", "topic=a&event_id=b".to_owned()),
        ("XML", "<event><topic>a</topic></event>".to_owned()),
        ("YAML", "topic: a\nevent_id: b\n".to_owned()),
    ];
    let other_values = [
        "null", "true", "1", "-1.5e3", "\"text\"", "[]", "{}", "[{}]", "[[]]",
    ];
    let mut rows: Vec<Row> = broken.map(|(name, body)| refused(name, body)).into();
    rows.extend(other_values.map(|body| refused(format!("the value {body}"), body)));
    let in_array = format!("[{}]", event());
    rows.push(row(
        "an event in an array",
        publish(in_array),
        invalid_at(&[""]),
    ));
    let fields_as_array = format!(r#"["odd","e","{}","s",{{}}]"#, super::request::TIMESTAMP);
    rows.push(refused("the fields as an array", fields_as_array));
    rows
}

fn encodings() -> Vec<Row> {
    let units = |text: &str| text.encode_utf16().collect::<Vec<u16>>();
    let utf16_le = units(&event())
        .iter()
        .flat_map(|unit| unit.to_le_bytes())
        .collect::<Vec<u8>>();
    let utf16_be = units(&event())
        .iter()
        .flat_map(|unit| unit.to_be_bytes())
        .collect::<Vec<u8>>();
    let utf32 = event()
        .chars()
        .flat_map(|char| u32::from(char).to_le_bytes())
        .collect::<Vec<u8>>();
    // The sign stands for bytes that are no text.
    let put_in = |bytes: &[u8]| {
        let event = with_text("source", "a#b").into_bytes();
        let at = event.iter().position(|byte| *byte == b'#').unwrap();
        [&event[..at], bytes, &event[at + 1..]].concat()
    };
    let ends_in = [event().as_bytes(), b"\xff"].concat();
    let bytes = [
        ("UTF-16, little end first", utf16_le.clone()),
        ("UTF-16, big end first", utf16_be),
        (
            "UTF-16 with its mark",
            [&b"\xff\xfe"[..], &utf16_le].concat(),
        ),
        ("UTF-32", utf32),
        ("Latin-1", put_in(b"\xe4")),
        ("a byte that UTF-8 never has", put_in(b"\xff")),
        ("a byte that goes on with nothing", put_in(b"\x80")),
        ("half a character", put_in(b"\xc3")),
        ("an overlong slash", put_in(b"\xc0\xaf")),
        ("an overlong zero", put_in(b"\xc0\x80")),
        ("a surrogate in UTF-8", put_in(b"\xed\xa0\x80")),
        (
            "a surrogate pair in UTF-8 (CESU-8)",
            put_in(b"\xed\xa0\xbd\xed\xb8\x80"),
        ),
        ("a character above U+10FFFF", put_in(b"\xf4\x90\x80\x80")),
        ("a byte of no text behind it", ends_in),
        (
            "gzip that nobody announced",
            crate::support::gzip(event().as_bytes()),
        ),
    ];
    bytes.map(|(name, body)| refused(name, body)).into()
}

fn white_space_and_repeats() -> Vec<Row> {
    let spaced = event();
    let marked = event();
    let escaped = with("topic", r#""\u006f\u0064\u0064""#);
    let key_escaped = event();
    let repeated = event();
    let unknown = event();
    let surrogate_key = event();
    let padded = event();
    vec![
        row(
            "white space around everything",
            publish(format!(
                "\r\n\t {} \n",
                spaced
                    .replace(',', " ,\n\t")
                    .replace(':', " : ")
                    .replace("12 : 00 : 00", "12:00:00")
            )),
            stored(vec![spaced]),
        ),
        row(
            "a byte order mark",
            publish(format!("\u{feff}{marked}")),
            stored(vec![marked]),
        ),
        accepted("escapes in a string", escaped),
        row(
            "escapes in a key",
            publish(key_escaped.replacen("topic", r"t\u006fpic", 1)),
            stored(vec![key_escaped]),
        ),
        // Of a repeated key the last counts, as almost every reader has it.
        row(
            "a key twice",
            publish(repeated.replacen('{', "{\"topic\":\"first\",", 1)),
            stored(vec![repeated]),
        ),
        row(
            "fields that nobody knows",
            publish(unknown.replacen('{', r#"{"id":[{"a":null}],"Topic":1,"":{},"#, 1)),
            stored(vec![unknown]),
        ),
        row(
            "half a surrogate pair in a field that nobody knows",
            publish(surrogate_key.replacen('{', r#"{"\ud800":"\udc00","#, 1)),
            stored(vec![surrogate_key]),
        ),
        row(
            "a hundred thousand blanks",
            publish(format!("{}{padded}", " ".repeat(100_000))),
            stored(vec![padded]),
        ),
        row(
            "an event with other capitals",
            publish(event().replace("topic", "TOPIC")),
            invalid_at(&["/topic"]),
        ),
        row(
            "a repeated key whose last is wrong",
            publish(event().replacen("\"payload\"", "\"source\":\"\",\"payload\"", 1)),
            status(422),
        ),
    ]
}
