//! The types of SQL as drivers ask for them (GetXdbcTypeInfo): those that columns of tables and results have.

use std::sync::LazyLock;

use arrow_flight::sql::metadata::{XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder};
use arrow_flight::sql::{Nullable, Searchable, XdbcDataType, XdbcDatetimeSubcode};

/// The types.
pub(super) static TYPES: LazyLock<XdbcTypeInfoData> = LazyLock::new(|| {
    let mut types = XdbcTypeInfoDataBuilder::new();
    // In ascending order of their numbers, as ODBC and JDBC want them.
    types.append(plain("BOOLEAN", XdbcDataType::XdbcBit, Some(1)).with_searchable(Searchable::Basic).into());
    types.append(plain("BIGINT", XdbcDataType::XdbcBigint, Some(19)).whole().into());
    types.append(plain("BYTEA", XdbcDataType::XdbcVarbinary, None).quoted("X'").with_searchable(Searchable::Basic).into());
    types.append(plain("DECIMAL", XdbcDataType::XdbcDecimal, Some(38)).scaled(0, 38).into());
    types.append(plain("INTEGER", XdbcDataType::XdbcInteger, Some(10)).whole().into());
    types.append(plain("SMALLINT", XdbcDataType::XdbcSmallint, Some(5)).whole().into());
    types.append(plain("REAL", XdbcDataType::XdbcReal, Some(24)).binary().into());
    types.append(plain("DOUBLE", XdbcDataType::XdbcDouble, Some(53)).binary().into());
    types.append(plain("VARCHAR", XdbcDataType::XdbcVarchar, Some(i32::MAX)).quoted("'").into());
    types.append(plain("DATE", XdbcDataType::XdbcDate, Some(10)).quoted("DATE '").dated(DATE).into());
    types.append(
        plain("TIMESTAMP", XdbcDataType::XdbcTimestamp, Some(29)).quoted("TIMESTAMP '").scaled(0, 9).dated(XdbcDatetimeSubcode::XdbcSubcodeTimestamp).into(),
    );
    types.build().expect("each type has every column")
});

/// The subcode of dates, which shares its number with that of years.
const DATE: XdbcDatetimeSubcode = XdbcDatetimeSubcode::XdbcSubcodeYear;

/// A type that is signed, may be null, and is compared with everything.
struct Type(XdbcTypeInfo);

fn plain(name: &str, data_type: XdbcDataType, column_size: Option<i32>) -> Type {
    Type(XdbcTypeInfo {
        type_name: name.to_owned(),
        data_type,
        column_size,
        literal_prefix: None,
        literal_suffix: None,
        create_params: None,
        nullable: Nullable::NullabilityNullable,
        case_sensitive: false,
        searchable: Searchable::Full,
        unsigned_attribute: Some(false),
        fixed_prec_scale: false,
        auto_increment: Some(false),
        local_type_name: Some(name.to_owned()),
        minimum_scale: None,
        maximum_scale: None,
        sql_data_type: data_type,
        datetime_subcode: None,
        num_prec_radix: None,
        interval_precision: None,
    })
}

impl Type {
    fn whole(self) -> Self {
        Self(XdbcTypeInfo { num_prec_radix: Some(10), fixed_prec_scale: true, minimum_scale: Some(0), maximum_scale: Some(0), ..self.0 })
    }

    fn binary(self) -> Self {
        Self(XdbcTypeInfo { num_prec_radix: Some(2), ..self.0 })
    }

    fn scaled(self, minimum: i32, maximum: i32) -> Self {
        Self(XdbcTypeInfo { minimum_scale: Some(minimum), maximum_scale: Some(maximum), num_prec_radix: Some(10), ..self.0 })
    }

    fn quoted(self, prefix: &str) -> Self {
        let quoted = XdbcTypeInfo { literal_prefix: Some(prefix.to_owned()), literal_suffix: Some("'".to_owned()), unsigned_attribute: None, ..self.0 };
        Self(XdbcTypeInfo { case_sensitive: prefix == "'", auto_increment: None, ..quoted })
    }

    fn dated(self, subcode: XdbcDatetimeSubcode) -> Self {
        Self(XdbcTypeInfo { datetime_subcode: Some(subcode), sql_data_type: XdbcDataType::XdbcDatetime, num_prec_radix: None, ..self.0 })
    }

    fn with_searchable(self, searchable: Searchable) -> Self {
        Self(XdbcTypeInfo { searchable, unsigned_attribute: None, ..self.0 })
    }
}

impl From<Type> for XdbcTypeInfo {
    fn from(made: Type) -> Self {
        made.0
    }
}
