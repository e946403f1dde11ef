//! How a writer's session begins: so that nothing of an earlier one can still commit, and with a slot for
//! its counters. Used by the writer.

use super::turn::Setup;
use sqlx::PgConnection;
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};
use tokio::time::sleep;

/// First key of the advisory locks by which writers claim their slots: "once" in ASCII.
const SLOT_LOCK_CLASS: i32 = 0x6f6e_6365;
/// Slots beyond the writers that one database serves.
pub(super) const SLOTS_MAX: i32 = 512;
/// How often a predecessor's connection is looked for while it is still ending.
const PREDECESSOR_POLL: Duration = Duration::from_millis(20);

const FORGET_OTHERS: &str =
    "delete from writer_transactions where committed_at < now() - interval '1 day'";

/// Claims a slot that no other writer has.
pub(super) async fn claim_slot(connection: &mut PgConnection) -> Result<Option<i32>, sqlx::Error> {
    sqlx::query(FORGET_OTHERS).execute(&mut *connection).await?;
    // Held as long as the connection lives. A slot is only there to keep writers from
    // waiting for one another: two in one slot would be slow, not wrong.
    sqlx::query_scalar::<_, i32>(
        "select slot from generate_series(1, $2) as slot \
         where pg_try_advisory_lock($1, slot) limit 1",
    )
    .bind(SLOT_LOCK_CLASS)
    .bind(SLOTS_MAX)
    .fetch_optional(connection)
    .await
}

/// Behind a pooler: a slot that no other writer is likely to have.
pub(super) fn slot_of(name: &str) -> i32 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    let slots = u64::from(SLOTS_MAX.unsigned_abs());
    i32::try_from(hasher.finish() % slots).map_or(SLOTS_MAX, |slot| slot + 1)
}

/// Behind a pooler: waits for a transaction of an earlier session that is under way, and keeps those
/// from committing that come later. Gives the number of this session.
pub(super) async fn begin_fenced(
    connection: &mut PgConnection,
    setup: &Setup,
    name: &str,
) -> Result<i64, sqlx::Error> {
    let mut turn = setup.turn(connection).await?;
    sqlx::query(FORGET_OTHERS)
        .persistent(false)
        .execute(turn.connection())
        .await?;
    let fence = sqlx::query_scalar(
        "insert into writer_transactions as w (writer, txn, xid, committed_at, fence) \
         values ($1, 0, 0, now(), 1) \
         on conflict (writer) do update set fence = w.fence + 1, committed_at = now() \
         returning fence",
    )
    .persistent(false)
    .bind(name)
    .fetch_one(turn.connection())
    .await?;
    turn.end().await?;
    Ok(fence)
}

/// Waits until no earlier connection of this name is left: from then on nothing of theirs can commit.
pub(super) async fn end_predecessors(
    connection: &mut PgConnection,
    name: &str,
) -> Result<(), sqlx::Error> {
    loop {
        let ended = sqlx::query(
            "select pg_terminate_backend(pid) from pg_stat_activity \
             where application_name = $1 and datname = current_database() \
             and pid <> pg_backend_pid()",
        )
        .bind(name)
        .fetch_all(&mut *connection)
        .await?;
        if ended.is_empty() {
            return Ok(());
        }
        sleep(PREDECESSOR_POLL).await;
    }
}
