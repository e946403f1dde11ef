//! A rollout and a lost pod, played on real processes with the numbers of deploy/kubernetes: a kubelet that
//! probes and ends pods, and a Service that gives each new connection to a pod that is ready.

use super::{Allowance, assert_the_accounts_agree, load::Load, seed};
use crate::{
    kubernetes::{manifest, number_after, settings},
    support::{Client, Database, PostgresServer, TestApp, eventually},
};
use rustix::process::Signal;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::{sleep, timeout},
};

const CLIENTS: u64 = 8;
const PODS: usize = 2;
const SOON: Duration = Duration::from_secs(60);
/// Until every node knows that a pod is being ended; preStop's sleep is for that.
const WORD_SPREADS: Duration = Duration::from_secs(2);

/// What the manifest tells the kubelet.
#[derive(Clone, Copy)]
struct Orders {
    probe_period: Duration,
    probe_timeout: Duration,
    failures_max: u64,
    pre_stop: Duration,
    grace: Duration,
}

impl Orders {
    fn read() -> Self {
        let text = manifest("base/deployment.yaml");
        let (_, readiness) = text.split_once("readinessProbe:").unwrap();
        let (readiness, _) = readiness.split_once("livenessProbe:").unwrap();
        let seconds = |text: &str, name: &str| Duration::from_secs(number_after(text, name));
        assert!(readiness.contains("path: /readyz"), "{readiness}");
        // One more first, and never one less: this is the order of things below.
        assert_eq!(number_after(&text, "maxSurge: "), 1);
        assert_eq!(number_after(&text, "maxUnavailable: "), 0);
        Self {
            probe_period: seconds(readiness, "periodSeconds: "),
            probe_timeout: seconds(readiness, "timeoutSeconds: "),
            failures_max: number_after(readiness, "failureThreshold: "),
            pre_stop: seconds(&text, "sleep: {seconds: "),
            grace: seconds(&text, "terminationGracePeriodSeconds: "),
        }
    }
}

/// As every node has it: a connection stays with its pod, whatever becomes of that.
#[derive(Clone)]
struct Service {
    address: SocketAddr,
    ready: Arc<Mutex<Vec<SocketAddr>>>,
}

impl Service {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let service = Self {
            address: listener.local_addr().unwrap(),
            ready: Arc::default(),
        };
        let ready = Arc::clone(&service.ready);
        tokio::spawn(async move {
            let mut turn = 0;
            while let Ok((mut client, _)) = listener.accept().await {
                turn += 1;
                let ready = ready.lock().unwrap().clone();
                // Nobody is ready: refused, as there.
                let Some(pod) = ready.get(turn % ready.len().max(1)).copied() else {
                    continue;
                };
                tokio::spawn(async move {
                    if let Ok(mut pod) = TcpStream::connect(pod).await {
                        let _ = copy_bidirectional(&mut client, &mut pod).await;
                    }
                });
            }
        });
        service
    }

    fn set(&self, pod: SocketAddr, is_ready: bool) {
        let mut ready = self.ready.lock().unwrap();
        ready.retain(|it| *it != pod);
        if is_ready {
            ready.push(pod);
        }
    }

    async fn until_ready(&self, pods: usize) {
        eventually(&format!("{pods} pods are ready"), SOON, async || {
            self.ready.lock().unwrap().len() == pods
        })
        .await;
    }
}

/// A process, and the kubelet that looks after it.
struct Pod {
    app: TestApp,
    probes: JoinHandle<()>,
}

impl Pod {
    async fn start(database: &Arc<Database>, service: &Service, orders: Orders) -> Self {
        let mut app = TestApp::on(Arc::clone(database)).wait_for("/livez");
        for (variable, value) in settings() {
            // The port is the test's own.
            if variable != "BIND" {
                app = app.set(&variable, value);
            }
        }
        let app = app.start().await;
        let probes = probe(
            Client::new(app.address()),
            app.address(),
            service.clone(),
            orders,
        );
        Self {
            app,
            probes: tokio::spawn(probes),
        }
    }

    /// As when somebody deletes it: out of the Service, preStop, SIGTERM, and its time.
    async fn end(mut self, service: &Service, orders: Orders) {
        self.probes.abort();
        let (service, address) = (service.clone(), self.app.address());
        tokio::spawn(async move {
            sleep(WORD_SPREADS).await;
            service.set(address, false);
        });
        sleep(orders.pre_stop).await;
        let (status, took) = self.app.terminate().await;
        assert_eq!(status.code(), Some(0), "{}", self.app.stderr());
        assert!(
            took < orders.grace - orders.pre_stop,
            "killed after {took:?}"
        );
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.probes.abort();
    }
}

async fn probe(client: Client, pod: SocketAddr, service: Service, orders: Orders) {
    let mut failures = 0;
    loop {
        let status = timeout(orders.probe_timeout, client.status("/readyz")).await;
        if status.is_ok_and(|status| status == Some(200)) {
            failures = 0;
            service.set(pod, true);
        } else {
            failures += 1;
            if failures == orders.failures_max {
                service.set(pod, false);
            }
        }
        sleep(orders.probe_period).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_are_rolled_over_without_a_refusal_and_one_that_stands_still_is_left_out() {
    let orders = Orders::read();
    let postgres = PostgresServer::start().await;
    let database = Arc::new(Database::at(postgres.url("postgres")));
    let service = Service::start().await;
    let mut pods = Vec::new();
    for _ in 0..PODS {
        pods.push(Pod::start(&database, &service, orders).await);
    }
    service.until_ready(PODS).await;
    let load = Load::start(seed(), CLIENTS, vec![format!("http://{}", service.address)]);
    load.answers(100).await;

    for _ in 0..PODS {
        pods.push(Pod::start(&database, &service, orders).await);
        service.until_ready(PODS + 1).await;
        pods.remove(0).end(&service, orders).await;
        service.until_ready(PODS).await;
        load.answers(100).await;
    }
    assert_eq!(load.ledger.refusals(), BTreeMap::new());
    // A pod that ends closes connections on which nothing is asked. What is on its way to it just then is
    // lost and sent again: once for each client and pod, if at all.
    let lost = load.ledger.sums().errors;
    eprintln!(
        "{} answered, {lost} connections lost in the rollout",
        load.answered()
    );
    assert!(
        lost <= CLIENTS * PODS as u64,
        "{:#?}",
        load.ledger.first_errors()
    );

    // A node hangs: its pod is left out after so many probes, and whoever was with it asks again.
    pods[0].app.signal(Signal::STOP);
    service.until_ready(PODS - 1).await;
    load.answers(100).await;
    pods[0].app.signal(Signal::CONT);
    service.until_ready(PODS).await;
    load.answers(100).await;

    let ledger = load.finish().await;
    assert_the_accounts_agree(&pods[1].app, &ledger, Allowance::default()).await;
}
