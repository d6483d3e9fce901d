//! What the server says of itself and of its SQL (GetSqlInfo).

use std::collections::BTreeMap;

use arrow_flight::sql::SqlInfo;
use arrow_flight::sql::metadata::{SqlInfoData, SqlInfoDataBuilder};
use datafusion::functions::{datetime, math, string, unicode};

use super::answer::internal;
use crate::statement::SQL_BYTES_MAX;

/// What `Cancel`, `Transaction` and the like are numbered with by the specification.
mod value {
    /// No transactions.
    pub(super) const NO_TRANSACTIONS: i32 = 0;
    /// Names that are not quoted are turned into lower case.
    pub(super) const LOWER_CASE: i32 = 3;
    /// Quoted names are as they are written.
    pub(super) const CASE_SENSITIVE: i32 = 1;
    /// Nulls come last, in ascending order.
    pub(super) const NULLS_SORTED_HIGH: i32 = 0;
    /// GROUP BY may name columns that are not selected, and expressions.
    pub(super) const GROUP_BY: i32 = 0b11;
    /// Core grammar.
    pub(super) const GRAMMAR: i32 = 0b111;
    /// Entry level of the standard of 1992.
    pub(super) const ANSI92: i32 = 0b1;
    /// Outer joins, all of them.
    pub(super) const OUTER_JOINS: i32 = 0b110;
    /// Subqueries in comparisons, EXISTS and IN.
    pub(super) const SUBQUERIES: i32 = 0b111;
    /// UNION and UNION ALL.
    pub(super) const UNIONS: i32 = 0b11;
}

/// Everything that is told.
pub(super) fn sql_info(query_time_max: std::time::Duration) -> Result<SqlInfoData, tonic::Status> {
    let mut info = SqlInfoDataBuilder::new();
    info.append(SqlInfo::FlightSqlServerName, "Weir");
    info.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    info.append(SqlInfo::FlightSqlServerArrowVersion, "1.3");
    info.append(SqlInfo::FlightSqlServerReadOnly, false);
    info.append(SqlInfo::FlightSqlServerSql, true);
    info.append(SqlInfo::FlightSqlServerSubstrait, false);
    info.append(SqlInfo::FlightSqlServerTransaction, value::NO_TRANSACTIONS);
    info.append(SqlInfo::FlightSqlServerCancel, true);
    info.append(SqlInfo::FlightSqlServerBulkIngestion, false);
    info.append(SqlInfo::FlightSqlServerIngestTransactionsSupported, false);
    info.append(SqlInfo::FlightSqlServerStatementTimeout, i32::try_from(query_time_max.as_millis()).unwrap_or(i32::MAX));
    info.append(SqlInfo::FlightSqlServerTransactionTimeout, 0i32);
    info.append(SqlInfo::SqlDdlCatalog, false);
    info.append(SqlInfo::SqlDdlSchema, false);
    info.append(SqlInfo::SqlDdlTable, false);
    names(&mut info);
    functions(&mut info);
    grammar(&mut info);
    info.build().map_err(internal)
}

fn names(info: &mut SqlInfoDataBuilder) {
    info.append(SqlInfo::SqlIdentifierCase, value::LOWER_CASE);
    info.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    info.append(SqlInfo::SqlQuotedIdentifierCase, value::CASE_SENSITIVE);
    info.append(SqlInfo::SqlAllTablesAreSelectable, true);
    info.append(SqlInfo::SqlExtraNameCharacters, "");
    info.append(SqlInfo::SqlSearchStringEscape, "\\");
    info.append(SqlInfo::SqlSchemaTerm, "schema");
    info.append(SqlInfo::SqlCatalogTerm, "catalog");
    info.append(SqlInfo::SqlProcedureTerm, "procedure");
    info.append(SqlInfo::SqlCatalogAtStart, true);
    info.append(SqlInfo::SqlMaxCharLiteralLength, SQL_BYTES_MAX as i64);
}

fn functions(info: &mut SqlInfoDataBuilder) {
    let named = |functions: Vec<std::sync::Arc<datafusion::logical_expr::ScalarUDF>>| {
        let mut names: Vec<String> = functions.iter().map(|f| f.name().to_uppercase()).collect();
        names.sort();
        names
    };
    info.append(SqlInfo::SqlNumericFunctions, named(math::functions()));
    info.append(SqlInfo::SqlStringFunctions, named([string::functions(), unicode::functions()].concat()));
    info.append(SqlInfo::SqlDatetimeFunctions, named(datetime::functions()));
    info.append(SqlInfo::SqlSystemFunctions, &["COALESCE", "NULLIF", "VERSION"][..]);
    info.append(SqlInfo::SqlKeywords, &["EXPLAIN", "FILTER", "ILIKE", "KILL", "QUALIFY", "SHOW"][..]);
}

fn grammar(info: &mut SqlInfoDataBuilder) {
    info.append(SqlInfo::SqlNullOrdering, value::NULLS_SORTED_HIGH);
    for supported in [
        SqlInfo::SqlSupportsColumnAliasing,
        SqlInfo::SqlNullPlusNullIsNull,
        SqlInfo::SqlSupportsTableCorrelationNames,
        SqlInfo::SqlSupportsExpressionsInOrderBy,
        SqlInfo::SqlSupportsOrderByUnrelated,
        SqlInfo::SqlSupportsLikeEscapeClause,
        SqlInfo::SqlSupportsNonNullableColumns,
        SqlInfo::SqlCorrelatedSubqueriesSupported,
    ] {
        info.append(supported, true);
    }
    for missing in [
        SqlInfo::SqlSupportsDifferentTableCorrelationNames,
        SqlInfo::SqlSupportsIntegrityEnhancementFacility,
        SqlInfo::SqlSelectForUpdateSupported,
        SqlInfo::SqlStoredProceduresSupported,
        SqlInfo::SqlTransactionsSupported,
    ] {
        info.append(missing, false);
    }
    for (what, bits) in [
        (SqlInfo::SqlSupportedGroupBy, value::GROUP_BY),
        (SqlInfo::SqlSupportedGrammar, value::GRAMMAR),
        (SqlInfo::SqlAnsi92SupportedLevel, value::ANSI92),
        (SqlInfo::SqlOuterJoinsSupportLevel, value::OUTER_JOINS),
        (SqlInfo::SqlSupportedSubqueries, value::SUBQUERIES),
        (SqlInfo::SqlSupportedUnions, value::UNIONS),
        (SqlInfo::SqlSchemasSupportedActions, 0),
        (SqlInfo::SqlCatalogsSupportedActions, 0),
        (SqlInfo::SqlSupportedPositionedCommands, 0),
    ] {
        info.append(what, bits);
    }
    info.append(SqlInfo::SqlSupportsConvert, BTreeMap::<i32, Vec<i32>>::new());
}
