//! One setting: where its text comes from, and the line that says what is wrong with it. Used by
//! `config`; the grammars of the values are in `values`.

use super::{
    broker::RedisUrl,
    files,
    network::{self, Network},
    retention, tail,
    values::{self, ApiToken, DatabaseUrl, Engine, Secret},
};
use crate::{
    domain::{RetentionRules, Timestamp},
    telemetry::LogFormat,
    tls,
};
use rustls::pki_types::CertificateDer;
use std::{ffi::OsString, net::SocketAddr, ops::RangeInclusive, path::PathBuf, time::Duration};
use url::Url;

/// Looks up an environment variable.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The longest part of a wrong value that an error repeats.
const SHOWN_CHARS_MAX: usize = 80;

/// Why the process cannot start as it was asked to. The text is one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The value of a setting is none of those it can have.
    #[error("{variable} ({}): {shown} {expected}", flag_of(variable))]
    Value {
        /// The environment variable.
        variable: &'static str,
        /// The value in quotes, or words in its place where it is a secret.
        shown: String,
        /// What it must be.
        expected: String,
    },
    /// The value of an environment variable is no text.
    #[error("{variable} ({}): must be UTF-8", flag_of(variable))]
    NotUtf8 {
        /// The environment variable.
        variable: &'static str,
    },
    /// Two settings make sense together only, and one is not there.
    #[error("{variable} ({}): must be set where {beside} is", flag_of(variable))]
    Missing {
        /// The environment variable.
        variable: &'static str,
        /// The one that is set.
        beside: &'static str,
    },
    /// A secret that everybody can read in the repository protects nothing.
    #[error(
        "{}: must not be the published secret, set your own, or {} where this is for development",
        with_flag(variable),
        "DEVELOPMENT=true"
    )]
    PublishedSecret {
        /// The environment variable.
        variable: &'static str,
    },
    /// A flag stands without its value.
    #[error(
        "{variable} ({}): must be followed by a value in UTF-8",
        flag_of(variable)
    )]
    NoValue {
        /// The environment variable.
        variable: String,
    },
    /// There is no such flag or argument.
    #[error("{argument:?} is no argument of oncelog, see oncelog --help")]
    UnknownArgument {
        /// What was given.
        argument: String,
    },
    /// There is no such subcommand.
    #[error(
        "{argument:?} is no subcommand, must be serve, tail or healthcheck, see oncelog --help"
    )]
    UnknownSubcommand {
        /// What was given.
        argument: String,
    },
    /// The command line is wrong in another way.
    #[error("the command line is wrong: {reason}, see oncelog --help")]
    CommandLine {
        /// In clap's words.
        reason: &'static str,
    },
}

/// What sqlx takes for a password where a Postgres URL has none.
pub(super) const PGPASSWORD: &str = "PGPASSWORD";

/// `http-workers` is `HTTP_WORKERS`.
pub(super) fn variable_of(flag: &str) -> String {
    flag.replace('-', "_").to_ascii_uppercase()
}

/// `HTTP_WORKERS` is `--http-workers`.
fn flag_of(variable: &str) -> String {
    format!("--{}", variable.replace('_', "-").to_ascii_lowercase())
}

/// The driver's own variable is no setting of ours, and has no flag.
fn with_flag(variable: &str) -> String {
    match variable {
        PGPASSWORD => variable.to_owned(),
        _ => format!("{variable} ({})", flag_of(variable)),
    }
}

/// A setting that was looked up.
pub(super) struct Setting {
    variable: &'static str,
    text: Option<String>,
}

impl Setting {
    /// The flag's text, else the variable's; empty is as unset.
    pub(super) fn find(
        variable: &'static str,
        flag: Option<String>,
        env: Environment<'_>,
    ) -> Result<Self, ConfigError> {
        let given = |text: &String| !text.trim().is_empty();
        let text = match flag.filter(given) {
            Some(text) => Some(text),
            None => env(variable)
                .map(OsString::into_string)
                .transpose()
                .map_err(|_| ConfigError::NotUtf8 { variable })?
                .filter(given),
        };
        Ok(Self {
            variable,
            text: text.map(|text| text.trim().to_owned()),
        })
    }

    pub(super) fn number<N>(self, range: RangeInclusive<N>) -> Result<Option<N>, ConfigError>
    where
        N: TryFrom<u64> + PartialOrd + std::fmt::Display,
    {
        let expected = format!("must be a number from {} to {}", range.start(), range.end());
        self.shown(|text| {
            text.parse()
                .ok()
                .and_then(|number: u64| N::try_from(number).ok())
                .filter(|number| range.contains(number))
                .ok_or(expected)
        })
    }

    pub(super) fn boolean(self) -> Result<Option<bool>, ConfigError> {
        self.shown(|text| {
            text.to_ascii_lowercase()
                .parse()
                .map_err(|_| "must be true or false".to_owned())
        })
    }

    pub(super) fn bytes(self, range: RangeInclusive<usize>) -> Result<Option<usize>, ConfigError> {
        let expected = format!(
            "must be a size from {} to {} bytes, such as 8388608, 8192KiB or 8MiB",
            range.start(),
            range.end()
        );
        self.shown(|text| {
            values::bytes(text)
                .filter(|bytes| range.contains(bytes))
                .ok_or(expected)
        })
    }

    pub(super) fn address(self) -> Result<Option<SocketAddr>, ConfigError> {
        self.shown(values::address)
    }

    pub(super) fn host_names(self) -> Result<Option<Vec<String>>, ConfigError> {
        self.shown(network::host_names)
    }

    pub(super) fn networks(self) -> Result<Option<Vec<Network>>, ConfigError> {
        self.shown(network::networks)
    }

    pub(super) fn name(self) -> Result<Option<String>, ConfigError> {
        self.name_where(|_| Ok(()))
    }

    /// A name of which more is expected.
    pub(super) fn name_where(
        self,
        holds: impl FnOnce(&str) -> Result<(), String>,
    ) -> Result<Option<String>, ConfigError> {
        self.shown(|text| {
            let name = values::name(text)?;
            holds(&name)?;
            Ok(name)
        })
    }

    pub(super) fn path(self) -> Result<Option<PathBuf>, ConfigError> {
        self.shown(values::path)
    }

    pub(super) fn directory(self) -> Result<Option<PathBuf>, ConfigError> {
        self.shown(values::directory)
    }

    pub(super) fn log_format(self) -> Result<Option<LogFormat>, ConfigError> {
        self.shown(values::log_format)
    }

    pub(super) fn log_filter(self) -> Result<Option<String>, ConfigError> {
        self.shown(values::log_filter)
    }

    pub(super) fn retention(self) -> Result<Option<RetentionRules>, ConfigError> {
        self.shown(retention::rules)
    }

    pub(super) fn dead_letter_age(self) -> Result<Option<Duration>, ConfigError> {
        let age = self.shown(retention::dead_letter_age)?;
        Ok(age.flatten())
    }

    pub(super) fn since(self, now: Timestamp) -> Result<Option<Timestamp>, ConfigError> {
        self.shown(|text| tail::since(text, now))
    }

    /// Hidden, as people put passwords into URLs, also where they are not taken.
    pub(super) fn server_url(mut self) -> Result<Url, ConfigError> {
        let text = self.text.take();
        self.text = text.or_else(|| Some("http://127.0.0.1:8080".to_owned()));
        let variable = self.variable;
        let url = self.hidden("the URL", tail::server_url)?;
        url.ok_or_else(|| ConfigError::NoValue {
            variable: variable.to_owned(),
        })
    }

    pub(super) fn redis_url(self) -> Result<Option<RedisUrl>, ConfigError> {
        self.hidden("the URL", RedisUrl::parse)
    }

    pub(super) fn database_url(self) -> Result<DatabaseUrl, ConfigError> {
        let url = self.hidden("the URL", DatabaseUrl::parse)?;
        Ok(url.unwrap_or_default())
    }

    /// Of a replica of that engine's database.
    pub(super) fn replica_url(self, engine: Engine) -> Result<Option<DatabaseUrl>, ConfigError> {
        self.hidden("the URL", |text| match engine {
            Engine::Postgres => DatabaseUrl::parse_replica(text),
            Engine::Sqlite => Err("needs a DATABASE_URL of Postgres beside it".to_owned()),
        })
    }

    /// Whether the pooler is one that has to be reckoned with.
    pub(super) fn pooler(self) -> Result<Option<bool>, ConfigError> {
        self.shown(|text| match text.to_ascii_lowercase().as_str() {
            "none" => Ok(false),
            "transaction" => Ok(true),
            _ => Err("must be none or transaction".to_owned()),
        })
    }

    pub(super) fn secret(self) -> Result<Option<Secret>, ConfigError> {
        self.hidden("the token", Secret::parse)
    }

    pub(super) fn api_tokens(self) -> Result<Option<Vec<ApiToken>>, ConfigError> {
        self.hidden("the list", ApiToken::parse_list)
    }

    /// The content of the file, less the white space around it, as is the setting's own.
    pub(super) fn secret_file(self) -> Result<Option<Secret>, ConfigError> {
        self.hidden("the file", |path| {
            Secret::parse(files::read_text(path)?.trim())
        })
    }

    pub(super) fn api_tokens_file(self) -> Result<Option<Vec<ApiToken>>, ConfigError> {
        self.hidden("the file", |path| {
            ApiToken::parse_lines(&files::read_text(path)?)
        })
    }

    pub(super) fn certificates(self) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
        let certificates = self.hidden("the file", |path| {
            tls::read_certificates(path.as_ref())
                .map_err(|error| format!("must hold certificates in PEM: {error}"))
        })?;
        Ok(certificates.unwrap_or_default())
    }

    /// Fails where the other is set, too: nobody could tell which of them is meant.
    pub(super) fn excludes(&self, other: &Self) -> Result<(), ConfigError> {
        if self.text.is_none() || other.text.is_none() {
            return Ok(());
        }
        Err(ConfigError::Value {
            variable: self.variable,
            shown: "the file".to_owned(),
            expected: format!("must not be named where {} is set", other.variable),
        })
    }

    /// Parses a value that an error may show.
    fn shown<T>(
        self,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        self.parse(quoted, parse)
    }

    /// Parses a value that holds a secret: an error has `words` in its place.
    fn hidden<T>(
        self,
        words: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        self.parse(|_| words.to_owned(), parse)
    }

    fn parse<T>(
        self,
        show: impl FnOnce(&str) -> String,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(text) = self.text else {
            return Ok(None);
        };
        parse(&text)
            .map(Some)
            .map_err(|expected| ConfigError::Value {
                variable: self.variable,
                shown: show(&text),
                expected,
            })
    }
}

/// In quotes and escaped, so that a value of several lines stays on one.
fn quoted(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", &text[..end]),
    }
}
