//! The settings of `oncelog tail`. Flags of that subcommand only; where the server is and the token
//! for it can be variables as well, under names that no other program's are.

use super::{
    ConfigError, Secret,
    flags::TailFlags,
    setting::{Environment, Setting},
};
use crate::domain::Timestamp;
use rustls::pki_types::CertificateDer;
use url::Url;

/// What `oncelog tail` needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailConfig {
    /// The server, by http or https. `http://127.0.0.1:8080`.
    pub url: Url,
    /// Only this topic.
    pub topic: Option<String>,
    /// Only this source.
    pub source: Option<String>,
    /// Only what happened then or later. Without it: everything, or, when following, what is stored
    /// from now on.
    pub since: Option<Timestamp>,
    /// Whether to go on with what is stored later.
    pub follows: bool,
    /// NDJSON instead of lines for people.
    pub is_json: bool,
    /// What an https server's certificate has to be, or to be signed by; empty = what the system trusts.
    pub ca: Vec<CertificateDer<'static>>,
    /// What the server may ask for.
    pub token: Option<Secret>,
}

impl TailConfig {
    pub(super) fn resolve(
        flags: TailFlags,
        env: Environment<'_>,
        now: Timestamp,
    ) -> Result<Self, ConfigError> {
        let url = Setting::find("URL", flags.url, &|_| env("ONCELOG_URL"))?.server_url()?;
        // White space is part of a name.
        let given = |name: &String| !name.is_empty();
        Ok(Self {
            url,
            topic: flags.topic.filter(given),
            source: flags.source.filter(given),
            since: Setting::find("SINCE", flags.since, &|_| None)?.since(now)?,
            follows: flags.follow,
            is_json: flags.json,
            ca: Setting::find("CA_FILE", flags.ca_file, &|_| env("ONCELOG_CA_FILE"))?
                .certificates()?,
            token: Setting::find("TOKEN", flags.token, &|_| env("ONCELOG_TOKEN"))?.secret()?,
        })
    }
}

/// The base of the API.
pub(super) fn server_url(text: &str) -> Result<Url, String> {
    Url::parse(text)
        .ok()
        .filter(|url| {
            ["http", "https"].contains(&url.scheme()) && url.has_host() && !url.cannot_be_a_base()
        })
        .filter(|url| url.query().is_none() && url.fragment().is_none())
        .filter(|url| url.username().is_empty() && url.password().is_none())
        .ok_or_else(|| "must be an address such as http://127.0.0.1:8080".to_owned())
}

/// An instant, or how long ago it was.
pub(super) fn since(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let expected = "must be an RFC 3339 timestamp, or a duration such as 30s, 10m, 2h or 1d";
    let Some(ago_s) = duration_s(text) else {
        return Timestamp::parse(text).map_err(|_| expected.to_owned());
    };
    i64::try_from(ago_s)
        .ok()
        .and_then(|ago_s| ago_s.checked_mul(1_000_000))
        .and_then(|ago_us| now.unix_us().checked_sub(ago_us))
        .and_then(Timestamp::from_unix_us)
        .ok_or_else(|| "goes back too far".to_owned())
}

fn duration_s(text: &str) -> Option<u64> {
    let unit = text.chars().last()?;
    let unit_s = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return None,
    };
    let digits = text.strip_suffix(unit)?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // What is too large for a number goes back too far.
    Some(
        digits
            .parse::<u64>()
            .map_or(u64::MAX, |number| number.saturating_mul(unit_s)),
    )
}
