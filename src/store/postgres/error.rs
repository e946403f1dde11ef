//! The one place that knows SQLSTATEs: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.

use crate::store::StoreError;
use sqlx::migrate::MigrateError;

pub(super) fn translate(error: sqlx::Error) -> StoreError {
    let Some(code) = error.as_database_error().and_then(|e| e.code()) else {
        return match error {
            sqlx::Error::Configuration(_) | sqlx::Error::Tls(_) => {
                misconfigured("cannot be used to connect", error)
            }
            // The server was reached and said no before it could say why in SQL, or not at all.
            other => StoreError::Unavailable(other),
        };
    };
    match code.as_ref() {
        // deadlock_detected, serialization_failure
        "40P01" | "40001" => StoreError::Contention(error),
        // invalid_password, invalid_authorization_specification
        "28P01" | "28000" => misconfigured("the database refused the user or the password", error),
        // invalid_catalog_name
        "3D000" => misconfigured("the database does not exist on this server", error),
        // insufficient_privilege
        "42501" => misconfigured("the database user lacks a privilege", error),
        // data_exception, integrity_constraint_violation, program_limit_exceeded: the data's fault.
        code if code.starts_with("22") || code.starts_with("23") || code.starts_with("54") => {
            StoreError::Refused(error)
        }
        // Connections, resources, operator intervention, I/O, read-only after a failover,
        // a dropped table: a later attempt may find it mended.
        _ => StoreError::Unavailable(error),
    }
}

pub(super) fn translate_migration(error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => translate(error),
        other => StoreError::misconfigured(format!("the database's schema is not ours: {other}")),
    }
}

fn misconfigured(reason: &str, source: sqlx::Error) -> StoreError {
    StoreError::Misconfigured {
        reason: reason.to_owned(),
        source: Some(source),
    }
}
