//! What can go wrong with a database, told apart by what a caller can do about it. Made by the two
//! engines, each of which translates its own codes in one place.

/// A failure of the store. In every case nothing of the call is stored, but for a commit that
/// ends in [`Self::Unavailable`]: that one is unknown until it is settled.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database is out of reach, refuses service or has run out of something. A new connection
    /// may help, later.
    #[error("database is unavailable")]
    Unavailable(#[source] sqlx::Error),
    /// The database did not answer in time. A new connection may help.
    #[error("database did not answer in time: {0}")]
    TimedOut(&'static str),
    /// Another transaction was in the way. The same call again will do.
    #[error("transaction lost against another one")]
    Contention(#[source] sqlx::Error),
    /// The database will never take this data. Only the request that holds it can be helped, by
    /// telling its sender.
    #[error("database refused the data")]
    Refused(#[source] sqlx::Error),
    /// The settings do not fit the database: password, name, rights, schema. An operator has to act.
    #[error("{reason}")]
    Misconfigured {
        /// One line that says what to mend, without any secret.
        reason: String,
        /// Where the database itself said so.
        #[source]
        source: Option<sqlx::Error>,
    },
}

impl StoreError {
    /// With its causes, for logs.
    pub fn on_one_line(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }

    pub(super) fn misconfigured(reason: impl Into<String>) -> Self {
        Self::Misconfigured {
            reason: reason.into(),
            source: None,
        }
    }
}
