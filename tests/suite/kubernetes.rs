//! `deploy/kubernetes` against the real binary: the settings, paths, metrics and times that it names are
//! those of the service. `scripts/check-kubernetes.sh` holds it against Kubernetes' own schemas.

use crate::support::{Answer, Engine, Exposition, TestApp, TestBroker, event, eventually, oncelog};
use reqwest::Method;
use rustix::process::Signal;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// What the kubelet needs beside the service: see deployment.yaml.
const END_MAX_MS: u64 = 2000;
const SHOWN_MAX: Duration = Duration::from_secs(20);

/// A file of `deploy/kubernetes`.
pub(crate) fn manifest(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("deploy/kubernetes")
        .join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The words that follow this one, up to what ends a value in these files.
fn words_after<'a>(text: &'a str, before: &str) -> Vec<&'a str> {
    let is_end = |c: char| c.is_whitespace() || matches!(c, ',' | '}' | ']' | '{' | '"');
    let found: Vec<_> = text
        .split(before)
        .skip(1)
        .map(|rest| rest.trim_start_matches('"'))
        .map(|rest| rest.split(is_end).next().unwrap_or_default())
        .collect();
    assert!(!found.is_empty(), "no {before:?}");
    found
}

pub(crate) fn number_after(text: &str, before: &str) -> u64 {
    let [word] = words_after(text, before)[..] else {
        panic!("{before:?} more than once")
    };
    word.parse().unwrap()
}

/// The settings that are no secrets.
pub(crate) fn settings() -> Vec<(String, String)> {
    let lines = manifest("base/settings.env");
    let lines = lines.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.split_once('=').expect(line))
        .map(|(variable, value)| (variable.to_owned(), value.to_owned()))
        .collect()
}

/// The variables that containers get one by one.
fn variables(deployment: &str) -> Vec<&str> {
    let names = words_after(deployment, "- name: ").into_iter();
    names
        .filter(|name| name.starts_with(|c: char| c.is_ascii_uppercase()))
        .collect()
}

#[test]
fn the_manifests_set_what_the_service_knows() {
    let help = oncelog().arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let known: BTreeSet<_> = help
        .split("[env: ")
        .skip(1)
        .map(|rest| rest.split(']').next().unwrap_or_default())
        .collect();
    let (base, broker) = (
        manifest("base/deployment.yaml"),
        manifest("components/broker/deployment.yaml"),
    );
    let settings = settings();
    let set = settings.iter().map(|(variable, _)| variable.as_str());
    let set: Vec<_> = set
        .chain(variables(&base))
        .chain(variables(&broker))
        .collect();
    for variable in ["BIND", "DATABASE_URL", "API_TOKENS_FILE", "BROKER_CONSUMER"] {
        assert!(set.contains(&variable), "no {variable} in {set:?}");
    }
    for variable in &set {
        assert!(known.contains(variable), "{variable} is none of {known:?}");
    }
    let once: BTreeSet<_> = set.iter().collect();
    assert_eq!(once.len(), set.len(), "twice: {set:?}");
}

#[test]
fn the_manifests_run_this_version() {
    for path in ["base/kustomization.yaml", "production/kustomization.yaml"] {
        let tags = manifest(path);
        assert_eq!(
            words_after(&tags, "newTag: "),
            [env!("CARGO_PKG_VERSION")],
            "{path}"
        );
    }
}

fn token_file(directory: &Path, name: &str, content: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, content).unwrap();
    path
}

/// As one pod of it: its settings, tokens in files, a broker; probes without a token, metrics with one.
#[tokio::test]
async fn a_pod_passes_its_probes_shows_what_scales_it_and_ends_in_its_time() {
    let directory = tempfile::tempdir().unwrap();
    let admin = token_file(directory.path(), "admin-token", "boss\n");
    let api = token_file(
        directory.path(),
        "api-tokens",
        "w:publish:write\nr:read:look\n",
    );
    let broker = TestBroker::create().await;
    let mut pod = TestApp::builder(Engine::Postgres)
        .await
        .broker(&broker)
        .bind_everywhere()
        .set("BROKER_CONSUMER", "oncelog-7d4b9c-x2x4z")
        .set("ADMIN_TOKEN_FILE", admin.display())
        .set("API_TOKENS_FILE", api.display());
    for (variable, value) in settings() {
        // The port is the test's own.
        if variable != "BIND" {
            pod = pod.set(&variable, value);
        }
    }
    let mut pod = pod.start().await;

    let base = manifest("base/deployment.yaml");
    let broker = manifest("components/broker/deployment.yaml");
    let probes = [&base, &broker].map(|text| words_after(text, "httpGet: {path: "));
    assert_eq!(probes.each_ref().map(Vec::len), [3, 1]);
    for path in probes.concat() {
        pod.get(path).await.ok();
    }
    let publish = pod.request(Method::POST, "/publish").bearer_auth("write");
    Answer::of(publish.body(event("t", "e").to_string()))
        .await
        .ok();

    let scaler = manifest("components/autoscaling/autoscaler.yaml");
    let waiting = manifest("components/broker/kustomization.yaml");
    let adapter = manifest("components/autoscaling/adapter-values.yaml");
    let asked = [&scaler, &waiting].map(|text| words_after(text, "metric: {name: "));
    assert_eq!(asked.concat(), words_after(&adapter, "seriesQuery: "));
    // What the broker does not say in time is left out of a page.
    eventually("the metrics are there", SHOWN_MAX, async || {
        let page = pod.request(Method::GET, "/metrics").bearer_auth("look");
        let page = Exposition::parse(&Answer::of(page).await.text);
        asked
            .iter()
            .flatten()
            .all(|name| page.find(name, &[]).is_some())
    })
    .await;

    let settings = settings();
    let shutdown = settings
        .iter()
        .find(|(variable, _)| variable == "SHUTDOWN_TIMEOUT_MS");
    let shutdown_ms: u64 = shutdown.unwrap().1.parse().unwrap();
    let sleep_ms = 1000 * number_after(&base, "sleep: {seconds: ");
    let grace_ms = 1000 * number_after(&base, "terminationGracePeriodSeconds: ");
    assert!(sleep_ms + shutdown_ms + END_MAX_MS < grace_ms);
    pod.signal(Signal::TERM);
    let (status, took) = pod.wait().await;
    assert!(status.success(), "{status}");
    assert!(took < Duration::from_millis(grace_ms - sleep_ms));
}
