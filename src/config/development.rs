//! The secret that the development setup publishes, found where it is still in use: refused, unless
//! the settings say that this is development. Asked by `app` too, which then warns of it.

use super::{Config, DatabaseUrl, Engine, Secret, setting::PGPASSWORD};
use crate::store::PostgresHosts;
use percent_encoding::percent_decode_str;
use std::ffi::OsStr;
use url::Url;

/// It stands in the repository, so everybody knows it.
const DEVELOPMENT_SECRET: &str = "oncelog-development-only";

impl Config {
    /// The settings, by their variables, whose secret is the published one.
    pub fn development_secrets(&self) -> Vec<&'static str> {
        let is_known = |secret: &Secret| secret.expose() == DEVELOPMENT_SECRET;
        let read_url = self.database_read_url.as_ref();
        let redis_url = self.redis_url.as_ref();
        let mut database_urls = [Some(&self.database_url), read_url].into_iter().flatten();
        [
            (
                "ADMIN_TOKEN",
                self.admin_token.as_ref().is_some_and(is_known),
            ),
            (
                "API_TOKENS",
                self.api_tokens.iter().any(|token| is_known(&token.secret)),
            ),
            (
                "DATABASE_URL",
                has_known_database_password(&self.database_url),
            ),
            (
                "DATABASE_READ_URL",
                read_url.is_some_and(has_known_database_password),
            ),
            (
                PGPASSWORD,
                self.has_published_pgpassword && database_urls.any(has_no_password),
            ),
            (
                "REDIS_URL",
                redis_url.is_some_and(|url| url.nodes().any(has_known_password)),
            ),
        ]
        .into_iter()
        .filter_map(|(variable, is_known)| is_known.then_some(variable))
        .collect()
    }
}

/// Whether this value of a variable is it.
pub(super) fn is_published(value: impl AsRef<OsStr>) -> bool {
    value.as_ref() == DEVELOPMENT_SECRET
}

fn has_known_password(url: &str) -> bool {
    passwords(url).iter().any(|it| it == DEVELOPMENT_SECRET)
}

/// Each of several servers has the URL's one password.
fn has_known_database_password(url: &DatabaseUrl) -> bool {
    servers(url).iter().any(|url| has_known_password(url))
}

fn has_no_password(url: &DatabaseUrl) -> bool {
    url.engine() == Engine::Postgres && servers(url).iter().all(|url| passwords(url).is_empty())
}

fn servers(url: &DatabaseUrl) -> Vec<String> {
    let hosts = PostgresHosts::for_reading(url.expose());
    hosts.map_or_else(|_| Vec::new(), |hosts| hosts.urls().to_vec())
}

/// What the drivers take for a password: that before the host, percent-encoded, and sqlx the parameter
/// of that name as well.
fn passwords(url: &str) -> Vec<String> {
    let Ok(url) = Url::parse(url) else {
        return Vec::new();
    };
    let before_host = url.password().map(|password| {
        let decoded = percent_decode_str(password).decode_utf8_lossy();
        decoded.into_owned()
    });
    let parameters = url.query_pairs().filter(|(name, _)| name == "password");
    let values = parameters.map(|(_, value)| value.into_owned());
    before_host.into_iter().chain(values).collect()
}
