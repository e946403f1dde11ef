//! A private Redis Cluster: three masters with a replica each, real servers on loopback, made by the
//! same commands that `redis-cli --cluster create` sends.

use super::{
    eventually,
    process::{Process, free_port},
};
use redis::{FromRedisValue, RedisResult};
use rustix::process::Signal;
use std::{process::Command, time::Duration};
use tempfile::TempDir;

const MASTERS: usize = 3;
const SLOTS: usize = 16384;
const START_MAX: Duration = Duration::from_secs(60);
const ANSWER_MAX: Duration = Duration::from_secs(5);
const STARTS_MAX: usize = 10;
/// How long a node may be silent before the others replace it: longer than a busy machine stalls one.
const NODE_TIMEOUT_MS: &str = "2000";

/// A cluster, gone when dropped.
pub(crate) struct RedisCluster {
    nodes: Vec<Node>,
}

struct Node {
    // Before the directory: fields are dropped in this order.
    process: Option<Process>,
    port: u16,
    bus_port: u16,
    id: String,
    data: TempDir,
}

impl RedisCluster {
    pub(crate) async fn start() -> Self {
        let mut nodes = Vec::new();
        for _ in 0..2 * MASTERS {
            nodes.push(Node::start().await);
        }
        let cluster = Self { nodes };
        cluster.join();
        cluster.settled().await;
        cluster
    }

    /// As `REDIS_URL` takes it.
    pub(crate) fn urls(&self) -> String {
        let url = |node: &Node| format!("redis://127.0.0.1:{}", node.port);
        let urls: Vec<String> = self.nodes.iter().map(url).collect();
        urls.join(",")
    }

    /// A way to the nodes for another task.
    pub(crate) fn ports(&self) -> ClusterPorts {
        ClusterPorts(self.nodes.iter().map(|node| node.port).collect())
    }

    /// The node that serves a key, by its number; `None` while nobody does.
    pub(crate) fn home(&self, key: &str) -> Option<usize> {
        self.ports().home(key)
    }

    /// Entries of a stream at one node; 0 where it does not say.
    pub(crate) fn length(&self, node: usize, key: &str) -> u64 {
        self.nodes[node].ask(&["XLEN", key]).unwrap_or(0)
    }

    /// Waits until all other masters know that a node is gone: before that they vote for no successor.
    pub(crate) async fn missed(&self, node: usize) {
        let line = format!("{} ", self.nodes[node].id);
        eventually("the node is missed", START_MAX, async || {
            self.masters().into_iter().all(|master| {
                let nodes = self.nodes[master].ask(&["CLUSTER", "NODES"]);
                let nodes: String = nodes.unwrap_or_default();
                let mut entries = nodes.lines().filter(|entry| entry.starts_with(&line));
                entries.any(|entry| entry.contains(",fail "))
            })
        })
        .await;
    }

    /// Ends a node at once.
    pub(crate) async fn kill(&mut self, node: usize) {
        let mut process = self.nodes[node].process.take().expect("a running node");
        process.signal(Signal::KILL);
        process.wait(START_MAX).await;
    }

    /// Stops a node's clock: connections stay, answers do not come. Nothing here may ask it meanwhile.
    pub(crate) fn pause(&self, node: usize) {
        self.signal(node, Signal::STOP);
    }

    /// Lets it go on.
    pub(crate) fn resume(&self, node: usize) {
        self.signal(node, Signal::CONT);
    }

    fn signal(&self, node: usize, signal: Signal) {
        let process = self.nodes[node].process.as_ref();
        process.expect("a running node").signal(signal);
    }

    /// Whether a node is a master now.
    pub(crate) fn is_master(&self, node: usize) -> bool {
        self.nodes[node].info().contains("role:master")
    }

    /// The replica of a master.
    pub(crate) fn replica_of(&self, master: usize) -> usize {
        let line = format!("master_port:{}\r\n", self.nodes[master].port);
        let mut nodes = self.nodes.iter();
        let replica = nodes.position(|node| node.info().contains(&line));
        replica.expect("a replica of the master")
    }

    /// Starts it with the data and the ports it had.
    pub(crate) fn start_again(&mut self, node: usize) {
        self.nodes[node].spawn();
    }

    /// Moves the slot of a key to another master, as `redis-cli --cluster reshard` does; `meanwhile`
    /// is waited for when the key has moved and the slot has not.
    pub(crate) async fn move_slot(&self, key: &str, meanwhile: impl Future<Output = ()>) {
        let source = self.home(key).expect("a master that serves the key");
        let target = self.masters().into_iter().find(|node| *node != source);
        let (source, target) = (&self.nodes[source], &self.nodes[target.unwrap()]);
        let slot = source.must::<u16>(&["CLUSTER", "KEYSLOT", key]).to_string();
        let set_slot = ["CLUSTER", "SETSLOT", &slot];
        target.must::<()>(&[&set_slot[..], &["IMPORTING", &source.id]].concat());
        source.must::<()>(&[&set_slot[..], &["MIGRATING", &target.id]].concat());
        let port = target.port.to_string();
        source.must::<()>(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]);
        meanwhile.await;
        // The new owner first: no node may be the last to know that it has the slot.
        target.must::<()>(&[&set_slot[..], &["NODE", &target.id]].concat());
        source.must::<()>(&[&set_slot[..], &["NODE", &target.id]].concat());
        assert!(target.ask::<u64>(&["XLEN", key]).is_ok(), "it has moved");
    }

    /// Gives a master's first slots, up to that of a key, to another master, by the program that operators have for
    /// it; says how many those are.
    pub(crate) async fn reshard(&self, key: &str) -> usize {
        // It refuses to begin where some node has not heard of all yet.
        eventually("all nodes agree", START_MAX, async || {
            self.by_program("check", &[]).await.0
        })
        .await;
        let source = self.home(key).expect("a master that serves the key");
        let target = self.masters().into_iter().find(|node| *node != source);
        let (source, target) = (&self.nodes[source], &self.nodes[target.unwrap()]);
        let slot = source.must::<usize>(&["CLUSTER", "KEYSLOT", key]);
        let slots = slot + 1 - source.first_slot();
        let count = slots.to_string();
        let arguments = [
            &["--cluster-from", &source.id, "--cluster-to", &target.id][..],
            &["--cluster-slots", &count, "--cluster-yes"],
        ];
        let (is_done, output) = self.by_program("reshard", &arguments.concat()).await;
        assert!(is_done, "{output}");
        // The plan that comes before has its lines further in.
        let moved = output
            .lines()
            .filter(|line| line.starts_with("Moving slot "));
        let moved = moved.count();
        assert_eq!(moved, slots, "{output}");
        assert!(target.ask::<u64>(&["XLEN", key]).is_ok(), "it has moved");
        slots
    }

    /// `redis-cli --cluster`: whether it has ended well, and what it says.
    async fn by_program(&self, command: &str, arguments: &[&str]) -> (bool, String) {
        let mut program = Command::new("redis-cli");
        program
            .arg("--cluster")
            .arg(command)
            .arg(format!("127.0.0.1:{}", self.nodes[0].port))
            .args(arguments);
        let mut process = Process::spawn(program, None, Signal::KILL);
        let (status, _) = process.wait(START_MAX).await;
        let output = format!("{}{}", process.stdout(), process.stderr());
        (status.success(), output)
    }

    /// The nodes that are masters now, by their numbers.
    pub(crate) fn masters(&self) -> Vec<usize> {
        (0..self.nodes.len())
            .filter(|node| self.is_master(*node))
            .collect()
    }

    fn join(&self) {
        for (number, node) in self.nodes.iter().enumerate() {
            let epoch = (number + 1).to_string();
            node.must::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]);
            let first = &self.nodes[0];
            let (port, bus_port) = (first.port.to_string(), first.bus_port.to_string());
            if number > 0 {
                node.must::<()>(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus_port]);
            }
        }
        for (number, node) in self.nodes[..MASTERS].iter().enumerate() {
            let from = (number * SLOTS).div_ceil(MASTERS).to_string();
            let to = (((number + 1) * SLOTS).div_ceil(MASTERS) - 1).to_string();
            node.must::<()>(&["CLUSTER", "ADDSLOTSRANGE", &from, &to]);
        }
    }

    /// Waits until every slot is served and every master has a replica with all of its data.
    pub(crate) async fn settled(&self) {
        eventually("the cluster is whole", START_MAX, async || {
            self.become_replicas();
            let all_know = self.nodes.iter().all(|node| {
                let info: String = node.ask(&["CLUSTER", "INFO"]).unwrap_or_default();
                info.contains("cluster_state:ok")
            });
            let infos: Vec<String> = self.nodes.iter().map(Node::info).collect();
            let with = |text: &str| infos.iter().filter(|info| info.contains(text)).count();
            all_know
                && with("role:master") == MASTERS
                && with("state=online") == MASTERS
                && with("master_link_status:up") == MASTERS
        })
        .await;
    }

    /// A node that is a master without slots becomes a replica, as soon as it knows its master.
    fn become_replicas(&self) {
        for (number, node) in self.nodes[MASTERS..].iter().enumerate() {
            let own: String = node.ask(&["CLUSTER", "NODES"]).unwrap_or_default();
            let myself = own.lines().find(|line| line.contains("myself"));
            // Its slots would stand after the eighth field.
            let is_idle = |line: &str| line.contains("master") && line.split(' ').count() == 8;
            if myself.is_some_and(is_idle) {
                let _ = node.ask::<()>(&["CLUSTER", "REPLICATE", &self.nodes[number].id]);
            }
        }
    }
}

impl Node {
    async fn start() -> Self {
        for _ in 0..STARTS_MAX {
            let data = tempfile::Builder::new()
                .prefix("oncelog-cluster-")
                .tempdir();
            let mut node = Self {
                process: None,
                port: free_port(),
                bus_port: free_port(),
                id: String::new(),
                data: data.unwrap(),
            };
            node.spawn();
            let mut has_ended = false;
            eventually("a node answers", START_MAX, async || {
                has_ended = node.process.as_mut().unwrap().try_wait().is_some();
                has_ended || node.has_started()
            })
            .await;
            // Somebody else was faster to take a port.
            if !has_ended {
                node.id = node.must(&["CLUSTER", "MYID"]);
                return node;
            }
        }
        panic!("no free ports in {STARTS_MAX} attempts");
    }

    /// Whether it is this process that answers.
    fn has_started(&self) -> bool {
        let info: String = self.ask(&["INFO", "server"]).unwrap_or_default();
        let pid = self.process.as_ref().map(Process::pid);
        pid.is_some_and(|pid| info.contains(&format!("process_id:{pid}\r\n")))
    }

    fn spawn(&mut self) {
        let mut redis = Command::new("redis-server");
        redis
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--cluster-enabled", "yes"])
            .args(["--cluster-port", &self.bus_port.to_string()])
            .args(["--cluster-node-timeout", NODE_TIMEOUT_MS])
            // The streams of other masters go on while one is being replaced.
            .args(["--cluster-require-full-coverage", "no"])
            // A replica may take its master's place also where it has been away: with less data.
            .args(["--cluster-replica-validity-factor", "0"])
            // By default a master waits 5 s for further replicas before it sends its data to one.
            .args(["--repl-diskless-sync-delay", "0"])
            .args(["--appendonly", "yes", "--save", ""])
            .arg("--dir")
            .arg(self.data.path());
        self.process = Some(Process::spawn(redis, None, Signal::KILL));
    }

    fn ask<T: FromRedisValue>(&self, command: &[&str]) -> RedisResult<T> {
        let mut call = redis::cmd(command[0]);
        call.arg(&command[1..]).query(&mut connect(self.port)?)
    }

    fn must<T: FromRedisValue>(&self, command: &[&str]) -> T {
        self.ask(command)
            .unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// Where its slots begin.
    fn first_slot(&self) -> usize {
        let nodes = self.must::<String>(&["CLUSTER", "NODES"]);
        let myself = nodes.lines().find(|line| line.contains("myself")).unwrap();
        // Slots and ranges of slots stand behind the eighth field.
        let first = myself.split(' ').nth(8).expect("a master with slots");
        let first = first.split('-').next().unwrap_or_default();
        first.parse().unwrap_or_else(|_| panic!("{myself}"))
    }

    fn info(&self) -> String {
        self.ask(&["INFO", "replication"]).unwrap_or_default()
    }
}

/// The nodes as a client finds them.
#[derive(Clone)]
pub(crate) struct ClusterPorts(Vec<u16>);

impl ClusterPorts {
    fn home(&self, key: &str) -> Option<usize> {
        let serves = |port: &u16| {
            let connection = connect(*port);
            connection.is_ok_and(|mut open| {
                let length = redis::cmd("XLEN").arg(key).query::<u64>(&mut open);
                length.is_ok()
            })
        };
        self.0.iter().position(serves)
    }

    /// A connection to the node that serves a key; `None` while nobody does.
    pub(crate) fn connect(&self, key: &str) -> Option<redis::Connection> {
        connect(self.0[self.home(key)?]).ok()
    }
}

fn connect(port: u16) -> RedisResult<redis::Connection> {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}"))?;
    let connection = client.get_connection_with_timeout(ANSWER_MAX)?;
    connection.set_read_timeout(Some(ANSWER_MAX))?;
    connection.set_write_timeout(Some(ANSWER_MAX))?;
    Ok(connection)
}
