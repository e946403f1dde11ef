//! The description as a page: plain HTML without a script, made once, from the same document that
//! machines get.

use super::TAGS;
use serde_json::Value;
use std::fmt::Write;

/// The page of a document.
pub(super) fn render(document: &Value) -> String {
    let mut out = String::from(HEAD);
    let about = text(&document["info"]["description"]);
    let version = text(&document["info"]["version"]);
    let _ = write!(
        out,
        "<header><h1>oncelog <small>{version}</small></h1><p>{about}</p><p><a href=\"/openapi.json\">openapi.json</a> · <a href=\"/\">dashboard</a></p></header><div class=\"columns\"><nav aria-label=\"Calls\">"
    );
    for (tag, _) in TAGS {
        let _ = write!(out, "<h2>{tag}</h2><ul>");
        for call in calls(document, tag) {
            let _ = write!(
                out,
                "<li><a href=\"#{}\">{} <code>{}</code></a></li>",
                text(&call.operation["operationId"]),
                badge(call.method),
                escaped(call.path)
            );
        }
        out.push_str("</ul>");
    }
    out.push_str("</nav><main id=\"calls\">");
    for (tag, about) in TAGS {
        let _ = write!(out, "<h2>{tag}</h2><p>{}</p>", escaped(about));
        for call in calls(document, tag) {
            push_call(&mut out, document, &call);
        }
    }
    push_schemas(&mut out, document);
    out.push_str("</main></div></body></html>\n");
    out
}

const HEAD: &str = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
    <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
    <title>oncelog: the API</title><link rel=\"stylesheet\" href=\"/docs/style.css\"></head>\
    <body><a class=\"skip\" href=\"#calls\">Skip to the calls</a>";

struct Call<'a> {
    path: &'a str,
    method: &'a str,
    operation: &'a Value,
}

fn members(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let members = value.as_object().into_iter().flatten();
    members.map(|(name, value)| (name.as_str(), value))
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn calls<'a>(document: &'a Value, tag: &'a str) -> impl Iterator<Item = Call<'a>> {
    members(&document["paths"])
        .flat_map(|(path, item)| {
            members(item).map(move |(method, operation)| Call {
                path,
                method,
                operation,
            })
        })
        .filter(move |call| call.operation["tags"][0] == tag)
}

fn push_call(out: &mut String, document: &Value, call: &Call<'_>) {
    let operation = call.operation;
    let id = text(&operation["operationId"]);
    let _ = write!(
        out,
        "<article id=\"{id}\"><h3><a href=\"#{id}\">{} <code>{}</code></a> {}</h3>",
        badge(call.method),
        escaped(call.path),
        text(&operation["summary"])
    );
    push_paragraph(out, &operation["description"]);
    if operation["security"].is_array() {
        out.push_str("<p class=\"note\">Takes a token: <code>Authorization: Bearer …</code></p>");
    }
    if operation["parameters"].is_array() {
        out.push_str("<h4>Parameters</h4><dl>");
        for parameter in items(&operation["parameters"]) {
            let schema = &parameter["schema"];
            let _ = write!(
                out,
                "<dt><code>{}</code> <small>{}, {}</small></dt><dd>{}</dd>",
                text(&parameter["name"]),
                text(&parameter["in"]),
                escaped(&shape(schema)),
                text(&parameter["description"])
            );
        }
        out.push_str("</dl>");
    }
    push_example(out, call);
    out.push_str("<h4>Answers</h4>");
    for (status, answer) in members(&operation["responses"]) {
        push_answer(out, document, status, resolved(document, answer));
    }
    out.push_str("</article>");
}

/// A curl line, and the bodies of the other media types.
fn push_example(out: &mut String, call: &Call<'_>) {
    let path = call
        .path
        .replace("{topic}", "orders")
        .replace("{event_id}", "42");
    let path = path.replace("{name}", "persist-0").replace("{id}", "7");
    let mut line = format!("curl -sS http://localhost:8080{path}");
    match call.method {
        "get" if path == "/events/stream" => line = line.replace("-sS", "-sSN"),
        "get" => {}
        method => {
            line = line.replace("-sS", &format!("-sS -X {}", method.to_ascii_uppercase()));
        }
    }
    let _ = write!(out, "<h4>Example</h4>");
    let mut bodies: Vec<_> = members(&call.operation["requestBody"]["content"]).collect();
    // The document has them by name, CloudEvents first; most readers want the plain one.
    bodies.sort_by_key(|(media_type, _)| *media_type != "application/json");
    if bodies.is_empty() {
        push_block(out, &line);
    }
    for (media_type, content) in bodies {
        let body = match &content["example"] {
            Value::String(lines) => lines.clone(),
            other => other.to_string(),
        };
        push_block(
            out,
            &format!("{line} \\\n  -H 'Content-Type: {media_type}' \\\n  --data-binary '{body}'"),
        );
    }
}

fn push_answer(out: &mut String, document: &Value, status: &str, answer: &Value) {
    let _ = write!(
        out,
        "<details><summary><b class=\"s{}\">{status}</b> {}</summary>",
        &status[..1],
        text(&answer["description"])
    );
    for (name, header) in members(&answer["headers"]) {
        let _ = write!(
            out,
            "<p><code>{}</code> {}</p>",
            escaped(name),
            text(&header["description"])
        );
    }
    for (media_type, content) in members(&answer["content"]) {
        let schema = shape(&content["schema"]);
        let _ = write!(out, "<p><code>{}</code> ", escaped(media_type));
        if document["components"]["schemas"][&schema].is_object() {
            let _ = write!(out, "<a href=\"#schema-{0}\">{0}</a>", escaped(&schema));
        }
        out.push_str("</p>");
        match &content["example"] {
            Value::String(example) => push_block(out, example),
            example => push_block(
                out,
                &serde_json::to_string_pretty(example).unwrap_or_default(),
            ),
        }
    }
    out.push_str("</details>");
}

fn push_schemas(out: &mut String, document: &Value) {
    out.push_str("<h2>Bodies</h2>");
    for (name, schema) in members(&document["components"]["schemas"]) {
        let _ = write!(
            out,
            "<article id=\"schema-{0}\"><h3><code>{0}</code> {1}</h3>",
            escaped(name),
            escaped(&shape(schema))
        );
        push_paragraph(out, &schema["description"]);
        let parts = items(&schema["allOf"]).chain([schema]);
        out.push_str("<dl>");
        for (member, of) in parts.flat_map(|part| members(&resolved(document, part)["properties"]))
        {
            let _ = write!(
                out,
                "<dt><code>{}</code> <small>{}</small></dt><dd>{}</dd>",
                escaped(member),
                escaped(&shape(of)),
                text(&of["description"])
            );
        }
        out.push_str("</dl></article>");
    }
}

fn push_paragraph(out: &mut String, paragraph: &Value) {
    if paragraph.is_string() {
        let _ = write!(out, "<p>{}</p>", text(paragraph));
    }
}

/// Wide lines scroll within their block, also by keyboard.
fn push_block(out: &mut String, block: &str) {
    let _ = write!(out, "<pre tabindex=\"0\">{}</pre>", escaped(block));
}

fn badge(method: &str) -> String {
    format!("<b class=\"{method}\">{}</b>", method.to_ascii_uppercase())
}

/// What a reference stands for.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let target = value["$ref"].as_str().and_then(|at| at.strip_prefix('#'));
    target.and_then(|at| document.pointer(at)).unwrap_or(value)
}

/// A schema in a few words.
fn shape(schema: &Value) -> String {
    if let Some(at) = schema["$ref"].as_str() {
        return at.rsplit('/').next().unwrap_or_default().to_owned();
    }
    if schema["enum"].is_array() {
        let values = items(&schema["enum"]).filter_map(Value::as_str);
        return values.collect::<Vec<_>>().join(" | ");
    }
    if schema["type"] == "array" {
        return format!("array of {}", shape(&schema["items"]));
    }
    let kind = match &schema["type"] {
        Value::String(kind) => kind.clone(),
        Value::Array(kinds) => {
            let kinds = kinds.iter().filter_map(Value::as_str);
            kinds.collect::<Vec<_>>().join(" or ")
        }
        _ => String::new(),
    };
    let mut words = vec![kind];
    for (bound, word) in [
        ("minimum", "from"),
        ("maximum", "to"),
        ("minLength", "characters from"),
        ("maxLength", "to"),
        ("default", "default"),
    ] {
        if !schema[bound].is_null() {
            words.push(format!("{word} {}", schema[bound]).replace('"', ""));
        }
    }
    words.join(" ")
}

fn text(value: &Value) -> String {
    escaped(value.as_str().unwrap_or_default())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
