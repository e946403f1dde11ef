//! Where the broker is: one Redis, or the nodes of a Redis Cluster, of which the one that serves a
//! key is found. Makes connections for the bridge and for HTTP's client; knows no commands of theirs.
//!
//! A cluster's nodes say themselves who serves a key: `MOVED` with an address. A connection that was
//! made here stays with its node, unlike one of the crate's cluster client: `WAIT` counts what its
//! own connection has written, and a blocking read stalls all who share one.

use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo,
    RedisError, ServerErrorKind, Value, aio::MultiplexedConnection,
};
use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::timeout;

/// The longest a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest one node of a cluster may take to say who serves a key, connecting included.
const HOP_TIMEOUT: Duration = Duration::from_millis(700);
/// Nodes that may send us on to another one before we give up.
const HOPS_MAX: usize = 5;
/// Nodes that are remembered.
const NODES_MAX: usize = 256;

/// The way to the broker, shared by all who need a connection.
#[derive(Clone)]
pub struct BrokerNodes(Arc<Nodes>);

enum Nodes {
    One(Client),
    Cluster(Cluster),
}

struct Cluster {
    /// User, password and whatever else is the same for all nodes.
    login: ConnectionInfo,
    /// Those of the settings, and those that others have named.
    known: Mutex<Vec<ConnectionAddr>>,
    /// Which is asked first, so that a node that hangs holds up one attempt only.
    next: AtomicUsize,
}

impl BrokerNodes {
    /// One URL is one Redis, several are nodes of a cluster. Connects to none of them.
    ///
    /// # Errors
    /// Where a URL is none, or there is none.
    pub fn new<'a>(urls: impl IntoIterator<Item = &'a str>) -> Result<Self, RedisError> {
        let mut nodes = Vec::new();
        for url in urls {
            nodes.push(url.into_connection_info()?);
        }
        let nodes = match <[ConnectionInfo; 1]>::try_from(nodes) {
            Ok([only]) => Nodes::One(Client::open(only)?),
            Err(nodes) => Nodes::Cluster(Cluster::new(&nodes)?),
        };
        Ok(Self(Arc::new(nodes)))
    }

    /// Whether a key may move from one node to another.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(*self.0, Nodes::Cluster(_))
    }

    /// A connection of its own to the node that serves the key now.
    pub(super) async fn connect(
        &self,
        key: &str,
        response_timeout: Duration,
    ) -> Result<MultiplexedConnection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(response_timeout));
        match &*self.0 {
            Nodes::One(client) => {
                client
                    .get_multiplexed_async_connection_with_config(&config)
                    .await
            }
            Nodes::Cluster(cluster) => cluster.find(key, &config).await,
        }
    }
}

impl Cluster {
    fn new(nodes: &[ConnectionInfo]) -> Result<Self, RedisError> {
        let Some(login) = nodes.first() else {
            return Err(failure("there is no node to connect to"));
        };
        let mut known = Vec::new();
        for node in nodes {
            if !known.contains(node.addr()) {
                known.push(node.addr().clone());
            }
        }
        Ok(Self {
            login: login.clone(),
            known: Mutex::new(known),
            next: AtomicUsize::new(0),
        })
    }

    /// Asks one known node after the other.
    async fn find(
        &self,
        key: &str,
        config: &AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, RedisError> {
        let mut known = self.known().clone();
        let first = self.next.fetch_add(1, Ordering::Relaxed) % known.len();
        known.rotate_left(first);
        let mut last = failure("there is no node to connect to");
        for node in known {
            match self.follow(node, key, config).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Asks a node, and whom it names, until one serves the key.
    async fn follow(
        &self,
        mut node: ConnectionAddr,
        key: &str,
        config: &AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, RedisError> {
        for _ in 0..HOPS_MAX {
            let asked = timeout(HOP_TIMEOUT, self.ask(node.clone(), key, config));
            let error = match asked.await {
                Ok(Ok(connection)) => {
                    self.remember(node);
                    return Ok(connection);
                }
                Ok(Err(error)) => error,
                Err(_) => return Err(io::Error::from(io::ErrorKind::TimedOut).into()),
            };
            // ASK is no new home but a move that is under way: it ends, and then there is one.
            node = match error.kind() {
                ErrorKind::Server(ServerErrorKind::Moved) => named(&error, &node).ok_or(error)?,
                _ => return Err(error),
            };
        }
        Err(failure("the nodes of the cluster send us in a circle"))
    }

    /// Connects to the node; an error where it does not serve the key.
    async fn ask(
        &self,
        node: ConnectionAddr,
        key: &str,
        config: &AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, RedisError> {
        let client = Client::open(self.login.clone().set_addr(node))?;
        let mut connection = client
            .get_multiplexed_async_connection_with_config(config)
            .await?;
        let mut question = redis::cmd("XLEN");
        question.arg(key);
        question.query_async::<Value>(&mut connection).await?;
        Ok(connection)
    }

    fn remember(&self, node: ConnectionAddr) {
        let mut known = self.known();
        if known.len() < NODES_MAX && !known.contains(&node) {
            known.push(node);
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Vec<ConnectionAddr>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The node that an answer sends us to. An empty host is that of the node which answered.
fn named(error: &RedisError, answered: &ConnectionAddr) -> Option<ConnectionAddr> {
    let (address, _) = error.redirect_node()?;
    let (host, port) = address.rsplit_once(':')?;
    let host = match (host, answered) {
        ("?", _) => return None,
        ("", ConnectionAddr::Tcp(host, _)) => host,
        (host, _) => host.trim_matches(['[', ']']),
    };
    Some(ConnectionAddr::Tcp(host.to_owned(), port.parse().ok()?))
}

fn failure(what: &'static str) -> RedisError {
    RedisError::from((ErrorKind::Io, what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{SocketAddr, TcpListener};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// A node that gives the same answer to whatever it is asked, until it is asked for too much.
    fn node(answer: String) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                let answer = answer.clone();
                tokio::spawn(async move {
                    let mut asked = Vec::new();
                    while connection.read_buf(&mut asked).await.is_ok_and(|n| n > 0) {
                        // One answer for each command: `*` begins one, and no argument holds it.
                        let commands = asked.iter().filter(|byte| **byte == b'*').count();
                        asked.clear();
                        let answers = answer.repeat(commands);
                        if connection.write_all(answers.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        address
    }

    async fn found(nodes: &[SocketAddr]) -> Result<(), RedisError> {
        let urls: Vec<String> = nodes.iter().map(|node| format!("redis://{node}")).collect();
        let nodes = BrokerNodes::new(urls.iter().map(String::as_str)).unwrap();
        nodes.connect("k", Duration::from_secs(5)).await.map(|_| ())
    }

    #[tokio::test]
    async fn a_node_that_serves_the_key_is_found_by_way_of_others() {
        let home = node(":0\r\n".to_owned());
        let other = node(format!("-MOVED 7 {home}\r\n"));
        let same_host = node(format!("-MOVED 7 :{}\r\n", home.port()));
        let lost = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        for nodes in [
            [other, other],
            [same_host, same_host],
            [home, other],
            [lost, other],
        ] {
            found(&nodes).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_circle_and_a_move_that_is_under_way_are_errors() {
        let asking = node("-ASK 7 127.0.0.1:1\r\n".to_owned());
        let error = found(&[asking, asking]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Server(ServerErrorKind::Ask));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let unknown = node(format!("-MOVED 7 ?:{port}\r\n"));
        assert!(found(&[unknown, unknown]).await.is_err());
    }
}
