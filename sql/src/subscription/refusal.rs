//! Why a subscription is refused: what is wrong, where it stands, and what to write instead.

use std::fmt;

use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, Tokenizer};

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Line and column of the statement, from 1, where it is known.
    pub position: Option<(u64, u64)>,
    /// What is wrong, why, and what to write instead.
    pub message: String,
}

impl std::error::Error for Refusal {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Some((line, column)) => write!(f, "line {line}, column {column}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl Refusal {
    /// A refusal of the whole.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { position: None, message: message.into() }
    }

    /// A refusal of what stands at a place.
    pub(crate) fn at(location: Location, message: impl Into<String>) -> Self {
        Self { position: Some((location.line, location.column)), message: message.into() }
    }

    /// A refusal that points at the first use of a word in a query, if there is one.
    pub(crate) fn of(sql: &str, word: &str, message: impl Into<String>) -> Self {
        Self { position: locate(sql, word), message: message.into() }
    }
}

/// What DataFusion says of a query, in one line; it points where DataFusion knows a place, or at the name that it speaks of.
pub(crate) fn from_planning(sql: &str, error: &DataFusionError) -> Refusal {
    let text = crate::error::one_line(&error.strip_backtrace());
    let quoted = text.split(['\'', '`', '"']).nth(1).map(|name| name.rsplit('.').next().unwrap_or(name).to_owned());
    let position = quoted.as_deref().filter(|name| !name.is_empty()).and_then(|name| locate(sql, name));
    Refusal { position, message: text }
}

/// Where a word stands first in a text, outside of quotes of text.
pub(crate) fn locate(sql: &str, word: &str) -> Option<(u64, u64)> {
    let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location().ok()?;
    let found = tokens.iter().find(|token| match &token.token {
        Token::Word(written) => written.value.eq_ignore_ascii_case(word),
        Token::SingleQuotedString(text) => text == word,
        _ => false,
    })?;
    Some((found.span.start.line, found.span.start.column))
}
