//! What belongs to the broker alone: its URL, or those of a cluster's nodes, and what its streams may be
//! called. Used by `config`.

use super::{
    ConfigError,
    setting::Setting,
    values::{but_starts_with, parse_url, redact},
};
use std::fmt;
use url::Url;

/// Nodes that can be named; a cluster names the others itself.
const NODES_MAX: usize = 64;

/// The broker: one Redis, or several nodes of a cluster. Shows its password to nobody who does not ask
/// for it.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    nodes: Vec<String>,
    redacted: String,
}

impl RedisUrl {
    /// One URL, or several with commas between them.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let nodes = split(text);
        if nodes.len() > NODES_MAX {
            return Err(format!("must name at most {NODES_MAX} nodes"));
        }
        let urls: Vec<Url> = nodes
            .iter()
            .map(|node| parse_node(node))
            .collect::<Result<_, _>>()?;
        if let [first, others @ ..] = &urls[..]
            && !others.is_empty()
        {
            // A cluster has one database, and its nodes send us on to nodes that have no URL here.
            if urls.iter().any(|url| !["", "0"].contains(&database(url))) {
                return Err("must choose no database where it names several nodes".to_owned());
            }
            let login = |url: &Url| (url.username().to_owned(), url.password().map(str::to_owned));
            if others.iter().any(|other| login(other) != login(first)) {
                return Err("must have the same user and password for each node".to_owned());
            }
        }
        let redacted: Vec<String> = urls.iter().map(redact).collect();
        Ok(Self {
            redacted: redacted.join(","),
            nodes,
        })
    }

    /// The whole URLs, passwords and all. Several are nodes of a cluster.
    pub fn nodes(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().map(String::as_str)
    }

    /// Whether it names several nodes.
    pub fn is_cluster(&self) -> bool {
        self.nodes.len() > 1
    }

    /// The URLs without user, password and parameters.
    pub fn redacted(&self) -> &str {
        &self.redacted
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({})", self.redacted)
    }
}

/// A comma ends a URL only where another scheme follows: a password may have one.
fn split(text: &str) -> Vec<String> {
    let begins_a_url = |piece: &str| {
        piece
            .trim_start()
            .split_once("://")
            .is_some_and(|(scheme, _)| {
                !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())
            })
    };
    let mut nodes: Vec<String> = Vec::new();
    for piece in text.split(',') {
        match nodes.last_mut() {
            Some(node) if !begins_a_url(piece) => {
                node.push(',');
                node.push_str(piece);
            }
            _ => nodes.push(piece.trim_start().to_owned()),
        }
    }
    for node in &mut nodes {
        node.truncate(node.trim_end().len());
    }
    nodes
}

fn parse_node(text: &str) -> Result<Url, String> {
    if !text.starts_with("redis://") {
        return Err(format!("must start with redis://{}", but_starts_with(text)));
    }
    let url = parse_url(text)?;
    let host = url.host_str().unwrap_or_default();
    if host.is_empty() {
        return Err("must name a host, as redis://127.0.0.1:6379 does".to_owned());
    }
    if host.contains(',') {
        return Err(
            "must have redis:// before each node, as redis://a:1,redis://b:1 does".to_owned(),
        );
    }
    if !database(&url).is_empty() && database(&url).parse::<u16>().is_err() {
        return Err("must name a database by its number, as redis://127.0.0.1/0 does".to_owned());
    }
    Ok(url)
}

fn database(url: &Url) -> &str {
    url.path().trim_matches('/')
}

/// The first stream's key. The names of further ones have braces, which say in a cluster where a stream
/// is; those of the first name would take their place, and all streams would be on one node.
pub(super) fn stream(setting: Setting, streams: usize) -> Result<String, ConfigError> {
    let name = setting.name_where(|name| match streams > 1 && name.contains('{') {
        true => Err("must have no { where BROKER_STREAMS is more than 1".to_owned()),
        false => Ok(()),
    })?;
    Ok(name.unwrap_or_else(|| "oncelog:events".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(text: &str) -> Result<Vec<String>, String> {
        RedisUrl::parse(text).map(|url| url.nodes().map(str::to_owned).collect())
    }

    #[test]
    fn several_nodes_are_told_from_a_password_with_a_comma() {
        for (text, expected) in [
            ("redis://h", &["redis://h"][..]),
            ("redis://:a,b@h:1/2", &["redis://:a,b@h:1/2"]),
            ("redis://a:1,redis://b:2", &["redis://a:1", "redis://b:2"]),
            (
                "redis://u:a,b@a:1 , redis://u:a,b@b:2/0",
                &["redis://u:a,b@a:1", "redis://u:a,b@b:2/0"],
            ),
        ] {
            assert_eq!(nodes(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_cluster_is_refused_and_no_password_is_shown() {
        for (text, expected) in [
            ("redis://a:1,b:2", "must be a URL"),
            ("redis://a,b:2", "must have redis:// before each"),
            ("redis://a,", "must have redis:// before each"),
            ("redis://a,rediss://b", "must start with redis://, starts"),
            ("redis://a,redis://b/1", "must choose no database"),
            ("redis://:s3cret@a,redis://b", "the same user and password"),
            ("redis://u:p@a,redis://v:p@b", "the same user and password"),
        ] {
            let error = nodes(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
        assert!(nodes(&["redis://a"; NODES_MAX].join(",")).is_ok());
        assert!(nodes(&["redis://a"; NODES_MAX + 1].join(",")).is_err());
        let shown = format!(
            "{:?}",
            RedisUrl::parse("redis://:s3cret@a:1,redis://:s3cret@b:2").unwrap()
        );
        assert_eq!(shown, "RedisUrl(redis://a:1,redis://b:2)");
    }
}
