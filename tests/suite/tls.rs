//! HTTPS: the whole service over it, the programs beside it, and what is no certificate.

use crate::support::{
    Answer, Client, Engine, Process, TestApp, TestCertificate, event, eventually, oncelog,
    publisher,
};
use reqwest::Method;
use rustix::process::Signal;
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// Runs it to its end: exit code, stdout, stderr.
async fn run(command: Command) -> (Option<i32>, String, String) {
    let mut process = Process::spawn(command, None, Signal::KILL);
    let (status, _) = process.wait(PATIENCE).await;
    (status.code(), process.stdout(), process.stderr())
}

async fn start(certificate: &TestCertificate) -> TestApp {
    let builder = TestApp::builder(Engine::Sqlite).await;
    builder.tls(certificate).start().await
}

fn healthcheck(app: &TestApp, certificate: &TestCertificate) -> Command {
    let mut command = oncelog();
    command
        .arg("healthcheck")
        .env("BIND", app.address().to_string())
        .env("TLS_CERT", certificate.cert_path());
    command
}

fn tail(app: &TestApp) -> Command {
    let mut command = oncelog();
    command.args(["tail", "--json", "--url"]);
    command.arg(format!("https://{}", app.address()));
    command
}

#[tokio::test]
async fn what_is_published_over_tls_is_read_over_tls() {
    let certificate = TestCertificate::for_loopback();
    let app = start(&certificate).await;
    assert_eq!(
        app.publish(&event("t", "e")).await.ok()["outcome"],
        "stored"
    );
    assert_eq!(app.events("topic=t").await[0]["event_id"], "e");
    let head = Answer::of(app.request(Method::HEAD, "/stats")).await;
    assert_eq!(head.status, 200);
}

#[tokio::test]
async fn the_tail_follows_over_tls_where_it_is_given_the_certificate() {
    let certificate = TestCertificate::for_loopback();
    let mut app = start(&certificate).await;
    app.publish(&event("t", "0")).await.ok();
    let mut trusting = tail(&app);
    trusting.args(["--follow", "--since", "2026-01-01T00:00:00Z", "--ca-file"]);
    trusting.arg(certificate.cert_path());
    let mut process = Process::spawn(trusting, None, Signal::KILL);
    for number in 1..4 {
        if number == 2 {
            app.kill9().await;
            app.restart().await;
        }
        app.publish(&event("t", &number.to_string())).await.ok();
        eventually("the line is there", PATIENCE, async || {
            process.stdout().lines().count() > number
        })
        .await;
    }
    assert_eq!(process.stdout().lines().count(), 4);
    process.signal(Signal::INT);
    assert_eq!(process.wait(PATIENCE).await.0.code(), Some(0));

    // Another certificate than the server's.
    let mut mistrusting = tail(&app);
    let other = TestCertificate::for_loopback();
    mistrusting.arg("--ca-file").arg(other.cert_path());
    let (code, _, stderr) = run(mistrusting).await;
    assert_eq!((code, stderr.lines().count()), (Some(1), 1), "{stderr}");
    assert!(stderr.contains("invalid peer certificate"), "{stderr}");
}

#[tokio::test]
async fn the_publishers_account_agrees_over_tls() {
    let certificate = TestCertificate::for_loopback();
    let app = start(&certificate).await;
    let mut command = publisher();
    command.args(["--verify", "--events", "200", "--url"]);
    command.arg(format!("https://{}", app.address()));
    command.arg("--ca-file").arg(certificate.cert_path());
    let (code, stdout, stderr) = run(command).await;
    assert_eq!(code, Some(0), "{stdout}{stderr}");
}

#[tokio::test]
async fn the_healthcheck_trusts_the_certificate_whatever_its_name_and_no_other() {
    let certificate = TestCertificate::new("log.example");
    let app = start(&certificate).await;
    assert_eq!(run(healthcheck(&app, &certificate)).await.0, Some(0));
    let other = TestCertificate::new("log.example");
    let (code, _, stderr) = run(healthcheck(&app, &other)).await;
    assert_eq!((code, stderr.lines().count()), (Some(1), 1), "{stderr}");
    assert!(stderr.contains("TLS_CERT"), "{stderr}");
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_after_sighup_and_a_wrong_one_is_not() {
    let certificate = TestCertificate::for_loopback();
    let app = start(&certificate).await;
    let certificate = certificate.renew();
    let renewed = Client::secure(app.address(), certificate.trust());
    assert_eq!(renewed.status("/livez").await, None);
    app.signal(Signal::HUP);
    eventually("the new one is shown", PATIENCE, async || {
        renewed.status("/livez").await == Some(200)
    })
    .await;
    assert_eq!(run(healthcheck(&app, &certificate)).await.0, Some(0));

    fs::write(certificate.cert_path(), "nothing").unwrap();
    app.signal(Signal::HUP);
    eventually("it says so", PATIENCE, async || {
        app.log().contains("kept the certificate")
    })
    .await;
    let newcomer = Client::secure(app.address(), certificate.trust());
    assert_eq!(newcomer.status("/livez").await, Some(200));
}

#[tokio::test]
async fn who_speaks_plain_http_or_nothing_holds_up_nobody() {
    let certificate = TestCertificate::for_loopback();
    let app = start(&certificate).await;
    let silent: Vec<TcpStream> = (0..300)
        .map(|_| TcpStream::connect(app.address()).unwrap())
        .collect();
    let address = app.address();
    let answer = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // The connection may be reset, which is an end as well.
        let _ = stream.read_to_end(&mut answer);
        answer
    });
    let answer = answer.await.unwrap();
    assert!(!answer.starts_with(b"HTTP/"), "{answer:?}");
    app.publish(&event("t", "e")).await.ok();
    drop(silent);
}

#[tokio::test]
async fn what_is_no_certificate_or_no_key_of_it_is_one_line_and_exit_2() {
    let (one, other) = (
        TestCertificate::for_loopback(),
        TestCertificate::for_loopback(),
    );
    let garbage = one.path().join("garbage.pem");
    let body = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    fs::write(&garbage, body).unwrap();
    let (cert, key) = (one.cert_path(), one.key_path());
    for (cert, key, named) in [
        (Some(&cert), None, "TLS_KEY (--tls-key)"),
        (None, Some(&key), "TLS_CERT (--tls-cert)"),
        (Some(&cert), Some(&other.key_path()), "TLS_KEY (--tls-key)"),
        (Some(&cert), Some(&cert), "TLS_KEY (--tls-key)"),
        (Some(&key), Some(&key), "TLS_CERT (--tls-cert)"),
        (Some(&garbage), Some(&key), "TLS_CERT (--tls-cert)"),
        (
            Some(&one.path().join("none")),
            Some(&key),
            "TLS_CERT (--tls-cert)",
        ),
        (
            Some(&cert),
            Some(&one.path().to_owned()),
            "TLS_KEY (--tls-key)",
        ),
    ] {
        let mut command = oncelog();
        command.env("BIND", "127.0.0.1:0");
        for (variable, path) in [("TLS_CERT", cert), ("TLS_KEY", key)] {
            if let Some(path) = path {
                command.env(variable, path);
            }
        }
        let (code, _, stderr) = run(command).await;
        assert_eq!(code, Some(2), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.starts_with(&format!("oncelog: {named}")), "{stderr}");
        assert!(!stderr.contains("PRIVATE KEY-----\n"), "{stderr}");
    }
}
