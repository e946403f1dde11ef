//! The one place that knows SQLite's result codes: <https://www.sqlite.org/rescode.html>.

use crate::store::StoreError;
use sqlx::migrate::MigrateError;

pub(super) fn translate(error: sqlx::Error) -> StoreError {
    match primary_code(&error) {
        // SQLITE_BUSY, SQLITE_LOCKED: another writer, perhaps of another process.
        Some(5 | 6) => StoreError::Contention(error),
        // SQLITE_TOOBIG, SQLITE_CONSTRAINT, SQLITE_MISMATCH, SQLITE_RANGE: the data's fault.
        Some(18 | 19 | 20 | 25) => StoreError::Refused(error),
        // A full disk, a failed write, a file that is gone: a later attempt may find it mended.
        _ => StoreError::Unavailable(error),
    }
}

/// What keeps a first connection from being made is mostly the operator's to mend.
pub(super) fn at_start(error: StoreError) -> StoreError {
    let StoreError::Unavailable(source) = error else {
        return error;
    };
    let reason = match primary_code(&source) {
        // SQLITE_PERM, SQLITE_CANTOPEN
        Some(3 | 14) => "the database file cannot be opened or made",
        // SQLITE_READONLY
        Some(8) => "the database file cannot be written",
        // SQLITE_CORRUPT, SQLITE_NOTADB
        Some(11 | 26) => "the file is no SQLite database, or a broken one",
        _ => return StoreError::Unavailable(source),
    };
    StoreError::Misconfigured {
        reason: reason.to_owned(),
        source: Some(source),
    }
}

pub(super) fn translate_migration(error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            at_start(translate(error))
        }
        other => StoreError::misconfigured(format!("the database's schema is not ours: {other}")),
    }
}

/// The low byte of the code; the rest only says more of the same.
fn primary_code(error: &sqlx::Error) -> Option<u32> {
    let code = error.as_database_error()?.code()?;
    code.parse::<u32>().ok().map(|code| code & 0xff)
}
