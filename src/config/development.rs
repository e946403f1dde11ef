//! The secret that the development setup publishes, found where it is still in use: refused, unless
//! the settings say that this is development. Asked by `app` too, which then warns of it.

use super::{Config, DatabaseUrl, Secret};
use crate::store::PostgresHosts;
use url::Url;

/// It stands in the repository, so everybody knows it.
const DEVELOPMENT_SECRET: &str = "oncelog-development-only";

impl Config {
    /// The settings, by their variables, whose secret is the published one.
    pub fn development_secrets(&self) -> Vec<&'static str> {
        let is_known = |secret: &Secret| secret.expose() == DEVELOPMENT_SECRET;
        let read_url = self.database_read_url.as_ref();
        let redis_url = self.redis_url.as_ref();
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
                "REDIS_URL",
                redis_url.is_some_and(|url| url.nodes().any(has_known_password)),
            ),
        ]
        .into_iter()
        .filter_map(|(variable, is_known)| is_known.then_some(variable))
        .collect()
    }
}

fn has_known_password(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| url.password() == Some(DEVELOPMENT_SECRET))
}

/// Each of several servers has the URL's one password.
fn has_known_database_password(url: &DatabaseUrl) -> bool {
    PostgresHosts::for_reading(url.expose())
        .is_ok_and(|hosts| hosts.urls().iter().any(|url| has_known_password(url)))
}
