//! The description and the routes are the same calls, and the copy in docs/ is the description.

use super::*;
use crate::http;
use actix_web::{App, http::Method, test as actix_test};
use serde_json::Value;
use std::collections::BTreeSet;

fn described() -> Value {
    serde_json::to_value(document()).unwrap()
}

/// `UPDATE_OPENAPI=1 cargo test --workspace openapi` writes it anew.
#[test]
fn the_copy_in_docs_is_the_description() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
    let now = document().to_pretty_json().unwrap() + "\n";
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(path, &now).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        kept == now,
        "run UPDATE_OPENAPI=1 cargo test --workspace openapi"
    );
}

#[actix_web::test]
async fn every_described_path_takes_the_described_methods() {
    let app = actix_test::init_service(App::new().configure(http::routes)).await;
    for (path, item) in described()["paths"].as_object().unwrap() {
        // Nothing takes PATCH, so every path says what it takes.
        let path = path.replace(['{', '}'], "");
        let request = actix_test::TestRequest::with_uri(&path).method(Method::PATCH);
        let answer = actix_test::call_service(&app, request.to_request()).await;
        assert_eq!(answer.status(), 405, "{path}");
        let allowed = answer
            .headers()
            .get("allow")
            .unwrap()
            .to_str()
            .unwrap()
            .to_lowercase();
        let methods: BTreeSet<_> = item
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let allowed = allowed.split(", ").filter(|method| *method != "head");
        assert_eq!(methods, allowed.collect(), "{path}");
    }
}

#[test]
fn every_route_is_described() {
    let document = described();
    let routes = include_str!("../mod.rs").split('"').skip(1).step_by(2);
    let paths: Vec<_> = routes.filter(|text| text.starts_with('/')).collect();
    assert!(
        paths.len() > 10,
        "the routes are no longer found: {paths:?}"
    );
    for path in paths {
        assert!(
            document["paths"][path].is_object(),
            "{path} is not described"
        );
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let document = described();
    let mut left = vec![&document];
    let mut references = 0;
    while let Some(value) = left.pop() {
        if let Some(at) = value["$ref"].as_str() {
            references += 1;
            assert!(document.pointer(&at[1..]).is_some(), "{at}");
        }
        match value {
            Value::Object(members) => left.extend(members.values()),
            Value::Array(items) => left.extend(items),
            _ => {}
        }
    }
    assert!(references > 50, "{references}");
}

#[test]
fn the_page_shows_plain_json_before_cloud_events() {
    let page = page::render(&described());
    for path in ["/publish", "/publish/batch"] {
        let call = format!("http://localhost:8080{path} \\\n  -H 'Content-Type: ");
        let media_type = page.split(&call).nth(1).expect("an example of the call");
        assert!(media_type.starts_with("application/json'"), "{path}");
    }
}

#[test]
fn the_page_has_every_call_and_loads_nothing_from_elsewhere() {
    let document = described();
    let page = page::render(&document);
    for path in document["paths"].as_object().unwrap().keys() {
        assert!(page.contains(&format!("<code>{path}</code>")), "{path}");
    }
    assert!(!page.contains("<script") && !page.contains("src="));
    assert!(!page.contains("href=\"http"));
}
