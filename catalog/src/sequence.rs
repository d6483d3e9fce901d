//! Numbers that are given once: portable where databases differ in how they count.

use sqlx::AnyConnection;

use crate::error::CatalogError;

/// Takes numbers of a kind; returns the first. Numbers of a transaction that fails are given again.
///
/// The row of the kind is locked until the transaction ends, so that a reader who has seen a number will never see a lower one
/// appear.
pub(crate) async fn take(connection: &mut AnyConnection, kind: &'static str, count: usize) -> Result<i64, CatalogError> {
    let last: i64 = sqlx::query_scalar("UPDATE weir_sequence SET last_value = last_value + $2 WHERE name = $1 RETURNING last_value")
        .bind(kind)
        .bind(count as i64)
        .fetch_one(connection)
        .await?;
    Ok(last - count as i64 + 1)
}
