//! What the bridge holds of the dead letters: keep them. Idempotent, so it needs no actor.

use crate::{
    domain::NewDeadLetter,
    store::{DeadLetterStore, StoreError},
};
use std::sync::Arc;

/// A way to the dead letters.
#[derive(Clone)]
pub struct DeadLetterClient(Arc<dyn DeadLetterStore>);

/// They could not be kept; the same call may be repeated.
#[derive(Debug, thiserror::Error)]
#[error("dead letters could not be kept")]
pub struct KeepError(#[source] StoreError);

impl DeadLetterClient {
    /// A way to the dead letters of this store.
    pub fn new(store: Arc<dyn DeadLetterStore>) -> Self {
        Self(store)
    }

    /// Keeps letters; those that are kept already stay as they are.
    ///
    /// # Errors
    /// [`KeepError`] where the database is out of reach.
    pub async fn keep(&self, letters: &[NewDeadLetter]) -> Result<(), KeepError> {
        self.0.keep(letters).await.map_err(KeepError)
    }
}
