//! The grammars of the settings and the types they give. Used by `config` and by whoever gets a
//! setting from it. An error here says what is expected and never repeats the value.

use crate::{store::PostgresHosts, telemetry::LogFormat};
use std::{fmt, net::SocketAddr, path::PathBuf};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};
use url::Url;

/// A text that must never be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        // Anything else cannot be sent in an Authorization header.
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) || text.is_empty() {
            return Err("must have only visible ASCII characters".to_owned());
        }
        Ok(Self(text.to_owned()))
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether this is the text. Takes as long for a wrong text as for one that is wrong only at
    /// its end, so that a secret cannot be found out character by character.
    pub fn is(&self, candidate: &[u8]) -> bool {
        let secret = self.0.as_bytes();
        let differences = secret
            .iter()
            .zip(candidate)
            .fold(0, |differences, (one, other)| differences | (one ^ other));
        std::hint::black_box(differences) == 0 && secret.len() == candidate.len()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// To publish events.
    Publish,
    /// To read events and numbers.
    Read,
    /// To look at and crash actors.
    Admin,
}

/// One of `API_TOKENS`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiToken {
    /// Whose it is, for logs; a plain token has no name.
    pub name: Option<String>,
    /// What it allows; at least one.
    pub scopes: Vec<Scope>,
    /// What the caller sends.
    pub secret: Secret,
}

impl ApiToken {
    /// Whether it allows this.
    pub fn allows(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }

    /// Reads `token` and `name:scope+scope:token`, separated by commas.
    pub(super) fn parse_list(text: &str) -> Result<Vec<Self>, String> {
        let entries = (1..).zip(text.split(','));
        Self::parse_entries(entries.map(|(number, entry)| (format!("in entry {number}"), entry)))
    }

    /// Reads the same, one a line. A line that is empty or begins with `#` says nothing.
    pub(super) fn parse_lines(text: &str) -> Result<Vec<Self>, String> {
        let lines = (1..).zip(text.lines());
        let lines = lines.filter(|(_, line)| !line.trim_start().starts_with('#'));
        if let Some((number, _)) = lines.clone().find(|(_, line)| line.contains(',')) {
            // The list of `API_TOKENS`, put into a file as it is, would be one long token.
            return Err(format!(
                "must hold one token a line and no comma, has one in line {number}"
            ));
        }
        Self::parse_entries(lines.map(|(number, line)| (format!("in line {number}"), line)))
    }

    /// Reads entries, each with the words for where it stands; empty ones are none.
    fn parse_entries<'a>(
        entries: impl Iterator<Item = (String, &'a str)>,
    ) -> Result<Vec<Self>, String> {
        let mut tokens: Vec<Self> = Vec::new();
        for (at, entry) in entries {
            let entry = entry.trim();
            if entry.is_empty() {
                continue;
            }
            let token = Self::parse(entry, &at)?;
            if tokens.iter().any(|other| other.secret == token.secret) {
                return Err(format!("must not hold the same token twice, does so {at}"));
            }
            tokens.push(token);
        }
        if tokens.is_empty() {
            // Somebody meant to close the service: commas or comments alone must not leave it open.
            return Err("must hold at least one token".to_owned());
        }
        Ok(tokens)
    }

    fn parse(entry: &str, at: &str) -> Result<Self, String> {
        let secret =
            |text: &str| Secret::parse(text).map_err(|expected| format!("{expected} {at}"));
        let Some((name, rest)) = entry.split_once(':') else {
            return Ok(Self {
                name: None,
                scopes: vec![Scope::Publish, Scope::Read],
                secret: secret(entry)?,
            });
        };
        let form = || format!("must have the form token or name:scope+scope:token {at}");
        let (scopes, token) = rest.split_once(':').ok_or_else(form)?;
        if name.trim().is_empty() || token.trim().is_empty() {
            return Err(form());
        }
        let scopes = scopes
            .split('+')
            .map(|scope| match scope.trim() {
                "publish" => Ok(Scope::Publish),
                "read" => Ok(Scope::Read),
                "admin" => Ok(Scope::Admin),
                _ => Err(format!(
                    "must name scopes out of publish, read and admin {at}"
                )),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            name: Some(name.trim().to_owned()),
            scopes,
            secret: secret(token.trim())?,
        })
    }
}

/// How often a client may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Events, and calls that bring none, a second.
    pub per_s: u32,
    /// As many at once after a pause.
    pub burst: u32,
}

/// A database engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// Postgres.
    Postgres,
    /// SQLite.
    Sqlite,
}

/// Where events are stored. Shows its password to nobody who does not ask for it.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    url: String,
    engine: Engine,
    redacted: String,
}

impl Default for DatabaseUrl {
    fn default() -> Self {
        let url = "sqlite://data/oncelog.db".to_owned();
        Self {
            redacted: url.clone(),
            url,
            engine: Engine::Sqlite,
        }
    }
}

impl DatabaseUrl {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (engine, redacted) = match text.split_once(':').map(|(scheme, _)| scheme) {
            Some("postgres" | "postgresql") if text.contains("://") => {
                let hosts = PostgresHosts::for_writing(text)?;
                (Engine::Postgres, redact_all(hosts.urls())?)
            }
            Some("sqlite") => {
                let file = text.split_once('?').map_or(text, |(file, _)| file);
                if text
                    .trim_start_matches("sqlite:")
                    .trim_matches('/')
                    .is_empty()
                {
                    return Err("must name a file, such as sqlite://data/oncelog.db".to_owned());
                }
                (Engine::Sqlite, file.to_owned())
            }
            _ => {
                return Err(format!(
                    "must start with postgres:// or sqlite://{}",
                    but_starts_with(text)
                ));
            }
        };
        Ok(Self {
            url: text.to_owned(),
            engine,
            redacted,
        })
    }

    pub(super) fn parse_replica(text: &str) -> Result<Self, String> {
        if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
            return Err(format!(
                "must start with postgres://{}",
                but_starts_with(text)
            ));
        }
        let hosts = PostgresHosts::for_reading(text)?;
        Ok(Self {
            url: text.to_owned(),
            engine: Engine::Postgres,
            redacted: redact_all(hosts.urls())?,
        })
    }

    /// The engine it names.
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// The whole URL, password and all.
    pub fn expose(&self) -> &str {
        &self.url
    }

    /// The URL without user, password and parameters.
    pub fn redacted(&self) -> &str {
        &self.redacted
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({})", self.redacted)
    }
}

pub(super) fn parse_url(text: &str) -> Result<Url, String> {
    Url::parse(text).map_err(|error| {
        format!("must be a URL, with special characters of a password as %XX, and is not: {error}")
    })
}

pub(super) fn redact(url: &Url) -> String {
    format!("{}://{}{}", url.scheme(), server_of(url), url.path())
}

/// URLs that differ in their servers, as one that has them all.
fn redact_all(urls: &[String]) -> Result<String, String> {
    let urls: Vec<Url> = urls
        .iter()
        .map(|url| parse_url(url))
        .collect::<Result<_, _>>()?;
    let servers: Vec<String> = urls.iter().map(server_of).collect();
    let (scheme, path) = urls
        .first()
        .map_or(("postgres", ""), |url| (url.scheme(), url.path()));
    Ok(format!("{scheme}://{}{path}", servers.join(",")))
}

fn server_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url
        .port()
        .map(|port| format!(":{port}"))
        .unwrap_or_default();
    format!("{host}{port}")
}

/// The scheme of a URL is no secret. A text without one may be a password, so it stays hidden.
pub(super) fn but_starts_with(text: &str) -> String {
    match text.split_once("://") {
        Some((scheme, _)) if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            format!(", starts with {scheme:?}")
        }
        _ => String::new(),
    }
}

/// A key or name in the broker.
pub(super) fn name(text: &str) -> Result<String, String> {
    if text.len() <= 255 && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(text.to_owned());
    }
    Err("must have at most 255 printable ASCII characters and no blanks".to_owned())
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text.to_ascii_lowercase().as_str() {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("must be text or json".to_owned()),
    }
}

/// `localhost` is the only name: others would have to be asked for, and the answer may change.
/// `:8080` is refused, because it means all interfaces to some and loopback to others.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    let numeric = text
        .strip_prefix("localhost:")
        .map(|port| format!("127.0.0.1:{port}"));
    numeric
        .as_deref()
        .unwrap_or(text)
        .parse()
        .map_err(|_| "must be an IP address and a port, such as 127.0.0.1:8080".to_owned())
}

pub(super) fn log_filter(text: &str) -> Result<String, String> {
    // A word alone may also be a target, of which all would be logged, and nothing else: `warning`, say.
    let is_level = |word: &str| word.parse::<LevelFilter>().is_ok();
    let mut parts = text.split(',').map(str::trim);
    let are_clear = parts.all(|part| part.contains(['=', '[', ']', '{', '}']) || is_level(part));
    match EnvFilter::try_new(text) {
        Ok(_) if are_clear => Ok(text.to_owned()),
        _ => Err("must be a log filter, such as info or oncelog=debug,sqlx=warn".to_owned()),
    }
}

/// Plain bytes, or a number of KiB or MiB.
pub(super) fn bytes(text: &str) -> Option<usize> {
    let lower = text.to_ascii_lowercase();
    let (number, unit) = if let Some(number) = lower.strip_suffix("kib") {
        (number, 1024)
    } else if let Some(number) = lower.strip_suffix("mib") {
        (number, 1024 * 1024)
    } else {
        (lower.as_str(), 1)
    };
    number.trim_end().parse::<usize>().ok()?.checked_mul(unit)
}

/// A path that can stand in a line of the log.
pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    match text.chars().any(char::is_control) {
        true => Err("must be the path of a file, without control characters".to_owned()),
        false => Ok(PathBuf::from(text)),
    }
}

/// As [`path`].
pub(super) fn directory(text: &str) -> Result<PathBuf, String> {
    match text.chars().any(char::is_control) {
        true => Err("must be the path of a directory, without control characters".to_owned()),
        false => Ok(PathBuf::from(text)),
    }
}
