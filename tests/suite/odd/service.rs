//! The service that the rows are sent to, and what has to hold of all rows together.

use super::{exchange::Exchange, kept::Kept, request::Request, row::Row};
use crate::support::{Answer, TestApp};
use futures_util::{StreamExt, stream};
use reqwest::Method;
use std::collections::BTreeSet;

/// Rows that are on their way at the same time.
const AT_A_TIME: usize = 8;

/// An instance, and the token that it wants of the requests around the rows.
pub(super) struct Service<'a> {
    app: &'a TestApp,
    token: Option<&'static str>,
}

impl<'a> Service<'a> {
    pub(super) fn open(app: &'a TestApp) -> Self {
        Self { app, token: None }
    }

    /// One that wants this token.
    pub(super) fn guarded(app: &'a TestApp, token: &'static str) -> Self {
        let token = Some(token);
        Self { app, token }
    }

    pub(super) async fn connect(&self) -> Exchange {
        Exchange::open(self.app.address()).await
    }

    /// The request with the token.
    pub(super) fn signed(&self, request: Request) -> Request {
        match self.token {
            Some(token) => request.header("Authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    /// Sends every row, and fails with all that is wrong.
    pub(super) async fn holds(&self, rows: Vec<Row>) {
        let checks = stream::iter(&rows).map(|row| row.check(self));
        let faults: Vec<Vec<String>> = checks.buffer_unordered(AT_A_TIME).collect().await;
        let faults = faults.concat();
        assert!(
            faults.is_empty(),
            "{} of {} rows:\n{}",
            faults.len(),
            rows.len(),
            faults.join("\n")
        );
        self.has_stored_what_it_accepted(&rows).await;
    }

    /// What a row is to store, a good event behind each, and nothing else.
    async fn has_stored_what_it_accepted(&self, rows: &[Row]) {
        let request = self.app.request(Method::GET, "/stats");
        let request = match self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let stats = Answer::of(request).await.ok();
        self.app.assert_exact(&stats).await;
        let kept = rows.iter().flat_map(|row| row.expected.kept());
        let keys: Vec<(String, String)> = kept.map(Kept::key).collect();
        let received = rows.len() + keys.len();
        // A batch may have an event twice.
        let keys: BTreeSet<(String, String)> = keys.into_iter().collect();
        assert_eq!(
            stats["unique_processed_count"],
            rows.len() + keys.len(),
            "{stats}"
        );
        assert_eq!(stats["received_count"], received, "{stats}");
        assert_eq!(stats["conflict_count"], 0, "{stats}");
    }
}
