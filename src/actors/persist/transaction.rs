//! One transaction of a persist actor, as its future: sent, answered, or settled after a crash.

use crate::{
    actors::{
        messages::{Crash, CrashPoint},
        status::ActorStatus,
    },
    domain::EventBatch,
    store::{EventWriter, GroupReceipts, StoreError, TxnId},
};
use std::{cell::Cell, future::poll_fn, sync::Arc, task::Poll};

/// Stores a group, or finds out that it is stored already.
pub(super) async fn store_group(
    writer: &mut dyn EventWriter,
    group: &[Arc<EventBatch>],
    txn: &Cell<Option<TxnId>>,
    at: impl Fn(CrashPoint),
) -> Result<GroupReceipts, StoreError> {
    if let Some(earlier) = txn.get()
        && let Some(receipts) = writer.settle(earlier, group).await?
    {
        return Ok(receipts);
    }
    let number = TxnId::random();
    txn.set(Some(number));
    let mut append = writer.append(number, group);
    // As far as it goes without waiting, which is: sent.
    let progress = poll_fn(|context| Poll::Ready(append.as_mut().poll(context))).await;
    at(CrashPoint::BeforeCommit);
    let result = match progress {
        Poll::Ready(result) => result,
        Poll::Pending => append.await,
    };
    if let Err(StoreError::Contention(_) | StoreError::Refused(_)) = result {
        txn.set(None);
    }
    let receipts = result?;
    at(CrashPoint::AfterCommit);
    Ok(receipts)
}

/// Panics where an operator asked for it; the transaction's future dies with the actor.
pub(super) fn sabotage(status: &ActorStatus, crash: Option<Crash>, point: CrashPoint) {
    if let Some(crash) = crash
        && crash.at == point
        && crash.incarnation == status.incarnation()
    {
        status.panic_now(point);
    }
}
