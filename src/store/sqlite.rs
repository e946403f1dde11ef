//! Placeholder until the next commit.
use super::{Store, StoreError, StoreOptions};
pub(super) fn open(_url: &str, _options: StoreOptions) -> Result<Store, StoreError> {
    Err(StoreError::misconfigured("not built yet"))
}
