//! An aggregate of the field: a name, its parameters, and what it stands for.
//!
//! Such a function has no accumulator. Planning writes it out ([`super::expand`]) as arithmetic over counts, sums, distinct
//! counts and sketches, so whatever runs a plan, in one go or by maintaining it, needs to know these alone.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, internal_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::type_coercion::binary::comparison_coercion;
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, DocSection, Documentation, Expr, Signature, Volatility};

use super::range::Around;

/// A definition.
#[derive(Debug)]
pub(crate) struct Definition {
    /// Its name in SQL.
    pub(crate) name: &'static str,
    /// What it takes.
    pub(crate) parameters: &'static [Parameter],
    /// What it returns.
    pub(crate) returns: Returns,
    /// What it means, with its answer where there are no rows.
    pub(crate) meaning: &'static str,
    /// A use of it.
    pub(crate) example: &'static str,
    /// What it stands for.
    pub(crate) expansion: fn(&[Expr], &Around<'_>) -> Result<Expr>,
}

/// What an argument must be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// What it is where it is left out, in words.
    pub(crate) default: Option<&'static str>,
}

/// Kinds of arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A number.
    Number,
    /// Text.
    Text,
    /// A condition.
    Condition,
    /// A time.
    Time,
    /// Whatever can be compared.
    Any,
    /// Whatever can be compared with the first argument.
    LikeFirst,
}

/// Types of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Returns {
    /// A whole number, never null.
    Count,
    /// A floating-point number.
    Number,
    /// A value of the first argument.
    First,
}

pub(crate) const fn parameter(name: &'static str, kind: Kind) -> Parameter {
    Parameter { name, kind, default: None }
}

pub(crate) const fn optional(name: &'static str, kind: Kind, default: &'static str) -> Parameter {
    Parameter { name, kind, default: Some(default) }
}

impl Definition {
    /// `apdex(duration, threshold = 300)`
    pub(crate) fn syntax(&self) -> String {
        let parameters = self.parameters.iter().map(|p| p.default.map_or_else(|| p.name.to_owned(), |default| format!("{} = {default}", p.name)));
        format!("{}({})", self.name, parameters.collect::<Vec<_>>().join(", "))
    }

    fn check(&self, given: &[DataType]) -> Result<()> {
        let least = self.parameters.iter().filter(|p| p.default.is_none()).count();
        if !(least..=self.parameters.len()).contains(&given.len()) {
            return plan_err!("{} was given {} arguments", self.syntax(), given.len());
        }
        let first = given.first().cloned().unwrap_or(DataType::Null);
        for (p, given) in self.parameters.iter().zip(given) {
            if !p.kind.accepts(given, &first) {
                return plan_err!("{}: {} must be {}, not {given}", self.syntax(), p.name, p.kind.words());
            }
        }
        Ok(())
    }
}

impl Kind {
    fn accepts(self, given: &DataType, first: &DataType) -> bool {
        *given == DataType::Null
            || match self {
                Self::Number => given.is_numeric(),
                Self::Text => is_text(given),
                Self::Condition => *given == DataType::Boolean,
                Self::Time => given.is_temporal(),
                Self::Any => true,
                Self::LikeFirst => comparison_coercion(first, given).is_some(),
            }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Number => "a number",
            Self::Text => "text",
            Self::Condition => "a condition",
            Self::Time => "a time",
            Self::Any => "a value",
            Self::LikeFirst => "comparable with the first argument",
        }
    }
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, value) => is_text(value),
        _ => false,
    }
}

/// A definition as DataFusion knows functions.
#[derive(Debug)]
pub(crate) struct FieldFunction {
    pub(crate) definition: &'static Definition,
    documentation: Documentation,
}

/// The heading of these functions in documentation.
pub(super) const SECTION: DocSection = DocSection { include: true, label: "Functions of the field", description: None };

static SIGNATURE: LazyLock<Signature> = LazyLock::new(|| Signature::user_defined(Volatility::Immutable));

impl FieldFunction {
    pub(super) fn new(definition: &'static Definition) -> Self {
        let mut documentation = Documentation::builder(SECTION, definition.meaning, definition.syntax()).with_sql_example(definition.example);
        for p in definition.parameters {
            documentation =
                documentation.with_argument(p.name, p.default.map_or_else(|| p.kind.words().to_owned(), |d| format!("{}; {d} by default", p.kind.words())));
        }
        Self { definition, documentation: documentation.build() }
    }
}

impl PartialEq for FieldFunction {
    fn eq(&self, other: &Self) -> bool {
        self.definition.name == other.definition.name
    }
}

impl Eq for FieldFunction {}

impl Hash for FieldFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.definition.name.hash(state);
    }
}

impl AggregateUDFImpl for FieldFunction {
    fn name(&self) -> &str {
        self.definition.name
    }

    fn signature(&self) -> &Signature {
        &SIGNATURE
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(match self.definition.returns {
            Returns::Count => DataType::Int64,
            Returns::Number => DataType::Float64,
            Returns::First => arguments.first().cloned().unwrap_or(DataType::Null),
        })
    }

    fn return_field(&self, arguments: &[FieldRef]) -> Result<FieldRef> {
        let types: Vec<DataType> = arguments.iter().map(|f| f.data_type().clone()).collect();
        Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, self.is_nullable())))
    }

    fn is_nullable(&self) -> bool {
        self.definition.returns != Returns::Count
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        // Arguments stay as they are: what the call is written out to casts and compares them as any expression does.
        self.definition.check(given).map(|()| given.to_vec())
    }

    fn accumulator(&self, _arguments: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        internal_err!("{} is written out before a plan runs", self.name())
    }

    fn state_fields(&self, _arguments: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        internal_err!("{} is written out before a plan runs", self.name())
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}
