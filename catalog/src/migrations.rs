//! The tables of the catalog, and bringing an older one up to date.
//!
//! The number of the last migration is the catalog's format, kept in `weir_meta`. A migration, once released, is not
//! changed any more.

use std::borrow::Cow;

use sqlx::{AnyConnection, AssertSqlSafe};

use crate::database::{CatalogLocation, Dialect};
use crate::error::CatalogError;

/// The migrations in their order; the format is how many were applied.
const MIGRATIONS: &[&str] = &[WEIR, DUCKLAKE, DELETIONS, SUBSCRIPTIONS, PROCESSES, CHECKSUMS];

/// The tables of Weir's own. Times are Unix milliseconds.
const WEIR: &str = "
CREATE TABLE weir_organization (id INTEGER PRIMARY KEY, slug TEXT NOT NULL UNIQUE, created_ms INTEGER NOT NULL);

CREATE TABLE weir_project (
    id INTEGER PRIMARY KEY,
    org_id INTEGER NOT NULL REFERENCES weir_organization (id),
    slug TEXT NOT NULL UNIQUE,
    retention_days INTEGER NOT NULL,
    allowed_domains TEXT NOT NULL, -- a JSON list
    created_ms INTEGER NOT NULL
);

CREATE TABLE weir_project_key (
    id INTEGER PRIMARY KEY,
    project_id INTEGER NOT NULL REFERENCES weir_project (id),
    public_key TEXT NOT NULL UNIQUE, -- 32 hexadecimal digits
    enabled INTEGER NOT NULL,
    created_ms INTEGER NOT NULL
);

CREATE TABLE weir_token (
    id INTEGER PRIMARY KEY,
    org_id INTEGER NOT NULL REFERENCES weir_organization (id),
    name TEXT NOT NULL,
    hash TEXT NOT NULL UNIQUE, -- BLAKE3 of the token, in hexadecimal
    every_project INTEGER NOT NULL, -- 1: all of the organisation; 0: those of weir_token_project
    created_ms INTEGER NOT NULL,
    revoked_ms INTEGER
);
CREATE UNIQUE INDEX weir_token_name ON weir_token (org_id, name) WHERE revoked_ms IS NULL;

CREATE TABLE weir_token_project (
    token_id INTEGER NOT NULL REFERENCES weir_token (id),
    project_id INTEGER NOT NULL REFERENCES weir_project (id),
    PRIMARY KEY (token_id, project_id)
) WITHOUT ROWID;

-- Which process may commit a partition of the journal: whoever raised the generation last.
CREATE TABLE weir_partition_owner (partition_id INTEGER PRIMARY KEY, generation INTEGER NOT NULL, taken_ms INTEGER NOT NULL);

-- How far the tables reach into the journal.
CREATE TABLE weir_commit (
    partition_id INTEGER PRIMARY KEY,
    next_offset INTEGER NOT NULL,
    tick_ms INTEGER NOT NULL,
    snapshot_id INTEGER NOT NULL
);

-- The state of the graph as of the commit: one row an issue, one row a grouping hash, one row a project that has events.
CREATE TABLE weir_issue_state (project_id INTEGER NOT NULL, group_id INTEGER NOT NULL, state TEXT NOT NULL, PRIMARY KEY (project_id, group_id)) WITHOUT ROWID;
CREATE TABLE weir_group_hash (project_id INTEGER NOT NULL, hash BLOB NOT NULL, group_id INTEGER NOT NULL, PRIMARY KEY (project_id, hash)) WITHOUT ROWID;
CREATE TABLE weir_project_state (project_id INTEGER PRIMARY KEY, state TEXT NOT NULL);
";

/// The catalog tables of DuckLake 1.0, in the column order in which other writers insert.
const DUCKLAKE: &str = "
CREATE TABLE ducklake_metadata (\"key\" VARCHAR NOT NULL, \"value\" VARCHAR NOT NULL, scope VARCHAR, scope_id BIGINT);
CREATE TABLE ducklake_snapshot (snapshot_id BIGINT PRIMARY KEY, snapshot_time VARCHAR, schema_version BIGINT, next_catalog_id BIGINT, next_file_id BIGINT);
CREATE TABLE ducklake_snapshot_changes (snapshot_id BIGINT PRIMARY KEY, changes_made VARCHAR, author VARCHAR, commit_message VARCHAR, commit_extra_info VARCHAR);
CREATE TABLE ducklake_schema (schema_id BIGINT PRIMARY KEY, schema_uuid VARCHAR, begin_snapshot BIGINT, end_snapshot BIGINT, schema_name VARCHAR, path VARCHAR, path_is_relative BIGINT);
CREATE TABLE ducklake_table (table_id BIGINT, table_uuid VARCHAR, begin_snapshot BIGINT, end_snapshot BIGINT, schema_id BIGINT, table_name VARCHAR, path VARCHAR, path_is_relative BIGINT);
CREATE TABLE ducklake_view (view_id BIGINT, view_uuid VARCHAR, begin_snapshot BIGINT, end_snapshot BIGINT, schema_id BIGINT, view_name VARCHAR, dialect VARCHAR, \"sql\" VARCHAR, column_aliases VARCHAR);
CREATE TABLE ducklake_tag (object_id BIGINT, begin_snapshot BIGINT, end_snapshot BIGINT, \"key\" VARCHAR, \"value\" VARCHAR);
CREATE TABLE ducklake_column_tag (table_id BIGINT, column_id BIGINT, begin_snapshot BIGINT, end_snapshot BIGINT, \"key\" VARCHAR, \"value\" VARCHAR);
CREATE TABLE ducklake_data_file (data_file_id BIGINT PRIMARY KEY, table_id BIGINT, begin_snapshot BIGINT, end_snapshot BIGINT, file_order BIGINT, path VARCHAR, path_is_relative BIGINT, file_format VARCHAR, record_count BIGINT, file_size_bytes BIGINT, footer_size BIGINT, row_id_start BIGINT, partition_id BIGINT, encryption_key VARCHAR, mapping_id BIGINT, partial_max BIGINT);
CREATE TABLE ducklake_file_column_stats (data_file_id BIGINT, table_id BIGINT, column_id BIGINT, column_size_bytes BIGINT, value_count BIGINT, null_count BIGINT, min_value VARCHAR, max_value VARCHAR, contains_nan BIGINT, extra_stats VARCHAR);
CREATE TABLE ducklake_file_variant_stats (data_file_id BIGINT, table_id BIGINT, column_id BIGINT, variant_path VARCHAR, shredded_type VARCHAR, column_size_bytes BIGINT, value_count BIGINT, null_count BIGINT, min_value VARCHAR, max_value VARCHAR, contains_nan BIGINT, extra_stats VARCHAR);
CREATE TABLE ducklake_delete_file (delete_file_id BIGINT PRIMARY KEY, table_id BIGINT, begin_snapshot BIGINT, end_snapshot BIGINT, data_file_id BIGINT, path VARCHAR, path_is_relative BIGINT, format VARCHAR, delete_count BIGINT, file_size_bytes BIGINT, footer_size BIGINT, encryption_key VARCHAR, partial_max BIGINT);
CREATE TABLE ducklake_column (column_id BIGINT, begin_snapshot BIGINT, end_snapshot BIGINT, table_id BIGINT, column_order BIGINT, column_name VARCHAR, column_type VARCHAR, initial_default VARCHAR, default_value VARCHAR, nulls_allowed BIGINT, parent_column BIGINT, default_value_type VARCHAR, default_value_dialect VARCHAR);
CREATE TABLE ducklake_table_stats (table_id BIGINT, record_count BIGINT, next_row_id BIGINT, file_size_bytes BIGINT);
CREATE TABLE ducklake_table_column_stats (table_id BIGINT, column_id BIGINT, contains_null BIGINT, contains_nan BIGINT, min_value VARCHAR, max_value VARCHAR, extra_stats VARCHAR);
CREATE TABLE ducklake_partition_info (partition_id BIGINT, table_id BIGINT, begin_snapshot BIGINT, end_snapshot BIGINT);
CREATE TABLE ducklake_partition_column (partition_id BIGINT, table_id BIGINT, partition_key_index BIGINT, column_id BIGINT, \"transform\" VARCHAR);
CREATE TABLE ducklake_file_partition_value (data_file_id BIGINT, table_id BIGINT, partition_key_index BIGINT, partition_value VARCHAR);
CREATE TABLE ducklake_files_scheduled_for_deletion (data_file_id BIGINT, path VARCHAR, path_is_relative BIGINT, schedule_start VARCHAR);
CREATE TABLE ducklake_inlined_data_tables (table_id BIGINT, table_name VARCHAR, schema_version BIGINT);
CREATE TABLE ducklake_column_mapping (mapping_id BIGINT, table_id BIGINT, \"type\" VARCHAR);
CREATE TABLE ducklake_name_mapping (mapping_id BIGINT, column_id BIGINT, source_name VARCHAR, target_field_id BIGINT, parent_column BIGINT, is_partition BIGINT);
CREATE TABLE ducklake_schema_versions (begin_snapshot BIGINT, schema_version BIGINT, table_id BIGINT);
CREATE TABLE ducklake_macro (schema_id BIGINT, macro_id BIGINT, macro_name VARCHAR, begin_snapshot BIGINT, end_snapshot BIGINT);
CREATE TABLE ducklake_macro_impl (macro_id BIGINT, impl_id BIGINT, dialect VARCHAR, \"sql\" VARCHAR, \"type\" VARCHAR);
CREATE TABLE ducklake_macro_parameters (macro_id BIGINT, impl_id BIGINT, column_id BIGINT, parameter_name VARCHAR, parameter_type VARCHAR, default_value VARCHAR, default_value_type VARCHAR);
CREATE TABLE ducklake_sort_info (sort_id BIGINT, table_id BIGINT, begin_snapshot BIGINT, end_snapshot BIGINT);
CREATE TABLE ducklake_sort_expression (sort_id BIGINT, table_id BIGINT, sort_key_index BIGINT, expression VARCHAR, dialect VARCHAR, sort_direction VARCHAR, null_order VARCHAR);
-- The files of a table as of now are looked up at every start and by every reader.
CREATE INDEX weir_lake_live_file ON ducklake_data_file (table_id, end_snapshot);
CREATE INDEX weir_lake_file_stats ON ducklake_file_column_stats (data_file_id);
";

/// Deletions, and what must be remembered of what is gone.
const DELETIONS: &str = "
-- Asked for by the command line and not yet in the journal; the body is JSON.
CREATE TABLE weir_deletion_request (id INTEGER PRIMARY KEY, body TEXT NOT NULL, requested_ms INTEGER NOT NULL);
-- In the journal and not yet carried out; the corrections are a JSON list, once they are known.
CREATE TABLE weir_deletion (seq INTEGER PRIMARY KEY, body TEXT NOT NULL, corrections TEXT);
-- What was deleted while a client might still send it again.
CREATE TABLE weir_deleted_identity (project_id INTEGER NOT NULL, identity BLOB NOT NULL, received_ms INTEGER NOT NULL, PRIMARY KEY (project_id, identity)) WITHOUT ROWID;
-- The last number of a short id, where the issue that had it may be gone.
CREATE TABLE weir_issue_number (project_id INTEGER PRIMARY KEY, last_number INTEGER NOT NULL);
CREATE INDEX weir_lake_partition_value ON ducklake_file_partition_value (data_file_id);
";

/// Subscriptions, their alerts, and what is sent of them. What is sealed is base64 of nonce and ciphertext (`secret.rs`).
const SUBSCRIPTIONS: &str = "
-- The last number given to a row of each kind: numbers are never used again, and their order is that of the commits.
CREATE TABLE weir_sequence (name TEXT PRIMARY KEY, last_value BIGINT NOT NULL);
INSERT INTO weir_sequence (name, last_value) VALUES ('subscription', 0), ('alert', 0), ('outbox', 0), ('delivery', 0);

CREATE TABLE weir_subscription (
    id BIGINT PRIMARY KEY,
    org_id BIGINT NOT NULL REFERENCES weir_organization (id),
    name TEXT NOT NULL,
    version BIGINT NOT NULL,
    query TEXT NOT NULL,
    options TEXT NOT NULL, -- JSON, without what is sealed
    sealed TEXT NOT NULL, -- the targets of notify, and the secret
    projects TEXT, -- a JSON list; NULL: all of the organisation
    created_by TEXT NOT NULL,
    created_ms BIGINT NOT NULL
);
CREATE UNIQUE INDEX weir_subscription_name ON weir_subscription (org_id, name);

-- How far into the journal the alerts reach.
CREATE TABLE weir_alert_commit (partition_id BIGINT PRIMARY KEY, next_offset BIGINT NOT NULL, tick_ms BIGINT NOT NULL);

-- The alerts that stand.
CREATE TABLE weir_alert_active (
    subscription_id BIGINT NOT NULL,
    key_hash TEXT NOT NULL, -- BLAKE3 of alert_key: keys may be longer than an index takes
    alert_key TEXT NOT NULL, -- a JSON object
    version BIGINT NOT NULL,
    escalated BIGINT NOT NULL,
    since_ms BIGINT NOT NULL,
    fired_ms BIGINT NOT NULL,
    notified_ms BIGINT NOT NULL,
    alert_row TEXT NOT NULL, -- a JSON object
    PRIMARY KEY (subscription_id, key_hash)
);

-- The history.
CREATE TABLE weir_alert (
    seq BIGINT PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    subscription_id BIGINT NOT NULL,
    subscription TEXT NOT NULL,
    version BIGINT NOT NULL,
    org_id BIGINT NOT NULL,
    project_id BIGINT,
    projects TEXT, -- those of the subscription then
    alert_key TEXT NOT NULL,
    kind TEXT NOT NULL,
    severity TEXT NOT NULL,
    alert_row TEXT NOT NULL,
    event_ms BIGINT NOT NULL,
    fired_ms BIGINT NOT NULL,
    delivered_ms BIGINT
);
CREATE INDEX weir_alert_fired ON weir_alert (fired_ms);

-- What is to be sent: one row for each transition and target, until the target has it or it is given up.
CREATE TABLE weir_outbox (
    seq BIGINT PRIMARY KEY,
    alert_id TEXT NOT NULL,
    receiver TEXT NOT NULL, -- a keyed hash of the target
    subscription_id BIGINT NOT NULL,
    key_hash TEXT NOT NULL,
    host TEXT NOT NULL,
    target TEXT NOT NULL, -- as it may be shown
    sealed TEXT NOT NULL, -- as it is
    attempts BIGINT NOT NULL,
    due_ms BIGINT NOT NULL,
    created_ms BIGINT NOT NULL
);
CREATE UNIQUE INDEX weir_outbox_target ON weir_outbox (alert_id, receiver);
CREATE INDEX weir_outbox_subscription ON weir_outbox (subscription_id);

-- The delivery log: one row an attempt.
CREATE TABLE weir_delivery (
    seq BIGINT PRIMARY KEY,
    alert_id TEXT NOT NULL,
    target TEXT NOT NULL, -- as it may be shown
    attempt BIGINT NOT NULL,
    at_ms BIGINT NOT NULL,
    duration_ms BIGINT NOT NULL,
    status TEXT NOT NULL,
    error TEXT
);
CREATE INDEX weir_delivery_at ON weir_delivery (at_ms);
";

/// The processes that share the catalog.
const PROCESSES: &str = "
CREATE TABLE weir_process (
    id TEXT PRIMARY KEY,
    beats INTEGER NOT NULL, -- counted up while it lives
    beat_ms INTEGER NOT NULL -- by its own clock, for people
);

CREATE TABLE weir_partition_holder (partition_id INTEGER PRIMARY KEY, process_id TEXT NOT NULL);
";

/// Checksums of the lake's files, block by block; files without are read unchecked.
const CHECKSUMS: &str = "
CREATE TABLE weir_file_checksum (data_file_id INTEGER PRIMARY KEY, checksums BLOB NOT NULL);
";

/// What PostgreSQL calls otherwise. The texts above are SQLite's; DuckLake's types are those that DuckDB gives a catalog in either.
const POSTGRES: &[(&str, &str)] = &[
    // The number of a row is the key itself in SQLite.
    (" id INTEGER PRIMARY KEY", " id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY"),
    ("(id INTEGER PRIMARY KEY", "(id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY"),
    (" INTEGER", " BIGINT"),
    (" BLOB", " BYTEA"),
    (") WITHOUT ROWID", ")"),
    ("path_is_relative BIGINT", "path_is_relative BOOLEAN"),
    ("nulls_allowed BIGINT", "nulls_allowed BOOLEAN"),
    ("contains_null BIGINT", "contains_null BOOLEAN"),
    ("contains_nan BIGINT", "contains_nan BOOLEAN"),
    ("is_partition BIGINT", "is_partition BOOLEAN"),
    ("snapshot_time VARCHAR", "snapshot_time TIMESTAMPTZ"),
    ("schedule_start VARCHAR", "schedule_start TIMESTAMPTZ"),
    ("schema_uuid VARCHAR", "schema_uuid UUID"),
    ("table_uuid VARCHAR", "table_uuid UUID"),
    ("view_uuid VARCHAR", "view_uuid UUID"),
];

fn text(migration: &'static str, dialect: Dialect) -> Cow<'static, str> {
    match dialect {
        Dialect::Sqlite => migration.into(),
        Dialect::Postgres => POSTGRES.iter().fold(migration.to_owned(), |text, (ours, theirs)| text.replace(ours, theirs)).into(),
    }
}

/// Applies what is missing, within a transaction.
pub(crate) async fn apply(connection: &mut AnyConnection, location: &CatalogLocation) -> Result<(), CatalogError> {
    let known = MIGRATIONS.len() as i64;
    sqlx::query("CREATE TABLE IF NOT EXISTS weir_meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)").execute(&mut *connection).await?;
    let format: Option<String> = sqlx::query_scalar("SELECT value FROM weir_meta WHERE key = 'format'").fetch_optional(&mut *connection).await?;
    let found = match format {
        None => 0,
        Some(text) => text.parse::<i64>().map_err(|_| CatalogError::Corrupt { what: format!("the format {text:?}") })?,
    };
    if found > known {
        return Err(CatalogError::Newer { location: location.to_string(), found, known });
    }
    let dialect = Dialect::of(connection);
    for migration in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or_default()) {
        sqlx::raw_sql(AssertSqlSafe(text(migration, dialect))).execute(&mut *connection).await?;
    }
    sqlx::query("INSERT INTO weir_meta (key, value) VALUES ('format', $1) ON CONFLICT (key) DO UPDATE SET value = excluded.value")
        .bind(known.to_string())
        .execute(&mut *connection)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Place, in_both_databases};

    async fn a_newer_catalog_is_refused_and_an_up_to_date_one_opens_again(place: Place) {
        place.open().await.close().await;
        let catalog = place.open().await;
        sqlx::query("UPDATE weir_meta SET value = '99' WHERE key = 'format'").execute(&catalog.pool).await.unwrap();
        catalog.close().await;
        let error = place.try_open().await.unwrap_err();
        assert!(matches!(error, CatalogError::Newer { found: 99, .. }), "{error}");
        assert!(!error.to_string().contains("weir:weir"), "{error}");
    }

    async fn an_older_catalog_is_brought_up_to_date(place: Place) {
        let (pool, dialect) = crate::database::tests::bare(&place.location).await;
        sqlx::raw_sql(AssertSqlSafe(text(WEIR, dialect))).execute(&pool).await.unwrap();
        sqlx::raw_sql("CREATE TABLE weir_meta (key TEXT PRIMARY KEY, value TEXT NOT NULL); INSERT INTO weir_meta VALUES ('format', '1')")
            .execute(&pool)
            .await
            .unwrap();
        pool.close().await;
        let catalog = place.open().await;
        assert!(catalog.create_first_project(1).await.unwrap());
        assert!(catalog.subscriptions().await.unwrap().is_empty());
    }

    in_both_databases!(a_newer_catalog_is_refused_and_an_up_to_date_one_opens_again, an_older_catalog_is_brought_up_to_date);

    /// As DuckDB's extension made them in a PostgreSQL catalog of its own (DuckLake 1.0, DuckDB 1.5).
    #[test]
    fn ducklake_tables_have_the_types_that_duckdb_gives_them() {
        let postgres = text(DUCKLAKE, Dialect::Postgres);
        for (name, kind, count) in [
            ("path_is_relative", "BOOLEAN", 5),
            ("contains_nan", "BOOLEAN", 3),
            ("schema_uuid", "UUID", 1),
            ("table_uuid", "UUID", 1),
            ("snapshot_time", "TIMESTAMPTZ", 1),
        ] {
            assert_eq!(postgres.matches(&format!("{name} {kind}")).count(), count, "{name}");
        }
        assert!(!text(WEIR, Dialect::Postgres).contains("INTEGER") && !postgres.contains("ROWID"));
    }
}
