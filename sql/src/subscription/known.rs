//! Statements that differ from a known one in their literals alone are compiled without being planned again.
//!
//! Which literal of a statement becomes which constant is found out once, by trying: each literal is changed, the statement is
//! compiled, and what changed is compared. A literal that makes another shape must be the same again. Where a literal changed nothing, or a
//! constant that is not the literal itself, its value has been reckoned with, and nothing is learned.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use weir_protocol::subscription::SubscriptionOptions;

use super::compile::{CompiledQuery, one_row};
use super::lower::Lowered;
use crate::scope::Scope;

/// Statements that are known.
const STATEMENTS_MAX: usize = 1_000;
/// Statements with more literals are planned each time.
const LITERALS_MAX: usize = 24;

/// What is known of statements, by their text without literals.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<BTreeMap<String, Statement>>);

#[derive(Debug, Clone)]
enum Statement {
    /// It came once; whoever comes first finds nothing worth learning yet.
    Once,
    /// Nothing can be learned of it.
    Opaque,
    Learned(Arc<Learned>),
}

#[derive(Debug)]
struct Learned {
    compiled: CompiledQuery,
    roles: Vec<Role>,
}

/// What a literal becomes.
#[derive(Debug)]
enum Role {
    /// A part of the shape: it must be this.
    Fixed(Literal),
    /// Constants: positions in the key, then in the constants behind it.
    Constants(Vec<usize>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Literal {
    Number(String),
    Text(String),
}

impl Literal {
    /// As a value of a type, where it is that value without any rounding.
    fn value(&self, data_type: &DataType) -> Option<ScalarValue> {
        match (self, data_type) {
            (Self::Text(text), DataType::Utf8) => Some(ScalarValue::from(text.as_str())),
            (Self::Text(_), _) => None,
            (Self::Number(text), DataType::Int64) => Some(ScalarValue::from(text.parse::<i64>().ok()?)),
            (Self::Number(text), DataType::Int32) => Some(ScalarValue::from(text.parse::<i32>().ok()?)),
            (Self::Number(text), DataType::Int16) => Some(ScalarValue::from(text.parse::<i16>().ok()?)),
            (Self::Number(text), DataType::Float64) => Some(ScalarValue::from(text.parse::<f64>().ok()?)),
            _ => None,
        }
    }

    /// Another one of the same kind.
    fn other(&self) -> Self {
        match self {
            Self::Number(text) => Self::Number(format!("1{text}")),
            Self::Text(text) => Self::Text(format!("{text}x")),
        }
    }

    fn sql(&self) -> String {
        match self {
            Self::Number(text) => text.clone(),
            Self::Text(text) => format!("'{}'", text.replace('\'', "''")),
        }
    }
}

/// A statement taken apart: its text around the literals, and these.
struct Apart {
    pieces: Vec<String>,
    literals: Vec<Literal>,
    /// The options that have literals too, in one text behind the query's.
    options: SubscriptionOptions,
}

/// Stand behind the parts of a statement, behind those that are absent, and in place of literals. A statement with one of them in it
/// is planned each time.
const BETWEEN_ANY: [char; 3] = ['\u{1}', '\u{2}', '\u{3}'];

impl Apart {
    fn of(sql: &str, options: &SubscriptionOptions) -> Option<Self> {
        let mut apart = Self { pieces: vec![String::new()], literals: Vec::new(), options: options.clone() };
        for part in [Some(sql), options.resolve_when.as_deref(), options.escalate_when.as_deref()] {
            if let Some(text) = part {
                let tokens = Tokenizer::new(&GenericDialect {}, text).tokenize().ok()?;
                for token in tokens {
                    apart.token(&token)?;
                }
            }
            apart.last().push(if part.is_some() { BETWEEN_ANY[0] } else { BETWEEN_ANY[1] });
        }
        (apart.literals.len() <= LITERALS_MAX).then_some(apart)
    }

    /// The piece behind the last literal.
    fn last(&mut self) -> &mut String {
        let end = self.pieces.len() - 1;
        &mut self.pieces[end]
    }

    fn token(&mut self, token: &Token) -> Option<()> {
        let literal = match token {
            // What a pattern becomes depends on what is in it: one without wildcards is compared as it stands.
            Token::Number(_, false) | Token::SingleQuotedString(_) if self.is_after_pattern_word() => {
                let text = token.to_string();
                if text.contains(BETWEEN_ANY) {
                    return None;
                }
                self.last().push_str(&text);
                return Some(());
            }
            Token::Number(text, false) => Literal::Number(text.clone()),
            Token::SingleQuotedString(text) if text.contains(BETWEEN_ANY) => return None,
            Token::SingleQuotedString(text) => Literal::Text(text.clone()),
            Token::Whitespace(_) => {
                if !self.last().ends_with(' ') {
                    self.last().push(' ');
                }
                return Some(());
            }
            // Strings of other kinds are rare: they are not looked into.
            Token::NationalStringLiteral(_) | Token::EscapedStringLiteral(_) | Token::HexStringLiteral(_) | Token::DollarQuotedString(_) => return None,
            other => {
                let text = other.to_string();
                if text.contains(BETWEEN_ANY) {
                    return None;
                }
                self.last().push_str(&text);
                return Some(());
            }
        };
        self.pieces.push(String::new());
        self.literals.push(literal);
        Some(())
    }

    /// Whether what stands before is an operator whose right side is a pattern.
    fn is_after_pattern_word(&mut self) -> bool {
        let before = self.last().trim_end().to_ascii_uppercase();
        before.ends_with(['~', '*'])
            || ["LIKE", "TO", "REGEXP", "RLIKE", "ESCAPE"].contains(&before.rsplit(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default())
    }

    /// The text without literals, for a scope.
    fn key(&self, scope: &Scope) -> String {
        let kinds: String = self.literals.iter().map(|literal| if matches!(literal, Literal::Number(_)) { 'n' } else { 't' }).collect();
        format!("{} {:?} {:?} {kinds} {}", scope.org_id, scope.projects, self.options.lateness_ms, self.pieces.join(&BETWEEN_ANY[2].to_string()))
    }

    /// The statement with one literal in another's place.
    fn with(&self, index: usize, literal: &Literal) -> (String, SubscriptionOptions) {
        let mut text = String::new();
        for (at, piece) in self.pieces.iter().enumerate() {
            if at > 0 {
                let put = if at - 1 == index { literal } else { &self.literals[at - 1] };
                text.push_str(&put.sql());
            }
            text.push_str(piece);
        }
        let mut parts = text.split(&BETWEEN_ANY[..2]);
        let sql = parts.next().unwrap_or_default().to_owned();
        let mut options = self.options.clone();
        for option in [&mut options.resolve_when, &mut options.escalate_when] {
            let part = parts.next().unwrap_or_default();
            if option.is_some() {
                *option = Some(part.to_owned());
            }
        }
        (sql, options)
    }
}

impl Known {
    /// Compiles a statement: by what is known of such statements, or with `plan`.
    pub(crate) fn compile(
        &self,
        scope: &Scope,
        sql: &str,
        options: &SubscriptionOptions,
        plan: impl Fn(&str, &SubscriptionOptions) -> Lowered<CompiledQuery>,
    ) -> Lowered<CompiledQuery> {
        let Some(apart) = Apart::of(sql, options) else { return plan(sql, options) };
        let key = apart.key(scope);
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        match known {
            Some(Statement::Learned(learned)) => match learned.apply(&apart.literals) {
                Some(compiled) => Ok(compiled),
                None => plan(sql, options),
            },
            Some(Statement::Opaque) => plan(sql, options),
            Some(Statement::Once) => {
                let compiled = plan(sql, options)?;
                let learned = Learned::of(&apart, &compiled, plan);
                self.keep(key, learned.map_or(Statement::Opaque, |learned| Statement::Learned(Arc::new(learned))));
                Ok(compiled)
            }
            None => {
                let compiled = plan(sql, options)?;
                self.keep(key, Statement::Once);
                Ok(compiled)
            }
        }
    }

    fn keep(&self, key: String, statement: Statement) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= STATEMENTS_MAX && !known.contains_key(&key) {
            known.clear();
        }
        known.insert(key, statement);
    }
}

/// The constants of a statement: those of the key, then the others.
fn values(compiled: &CompiledQuery) -> Option<Vec<ScalarValue>> {
    let of = |batch: &RecordBatch| batch.columns().iter().map(|column| ScalarValue::try_from_array(column, 0).ok()).collect::<Option<Vec<_>>>();
    Some(of(&compiled.key)?.into_iter().chain(of(&compiled.constants)?).collect())
}

impl Learned {
    /// Finds out what each literal becomes.
    fn of(apart: &Apart, compiled: &CompiledQuery, plan: impl Fn(&str, &SubscriptionOptions) -> Lowered<CompiledQuery>) -> Option<Self> {
        let before = values(compiled)?;
        let mut claimed = vec![false; before.len()];
        let mut roles = Vec::new();
        for (index, literal) in apart.literals.iter().enumerate() {
            let other = literal.other();
            let (sql, options) = apart.with(index, &other);
            let changed = match plan(&sql, &options) {
                Ok(tried) if tried.shape == compiled.shape => {
                    let after = values(&tried)?;
                    let changed: Vec<usize> = (0..before.len()).filter(|at| before[*at] != after[*at]).collect();
                    // Of two bounds the narrower one alone is a constant, and which that is depends on both.
                    if changed.is_empty() || changed.iter().any(|at| std::mem::replace(&mut claimed[*at], true)) {
                        return None;
                    }
                    let is_itself = |at: &usize| {
                        literal.value(&before[*at].data_type()).as_ref() == Some(&before[*at])
                            && other.value(&after[*at].data_type()).as_ref() == Some(&after[*at])
                    };
                    // Two conditions on one column may have become one, whose constant is whichever is stricter.
                    if !changed.iter().all(is_itself) {
                        return None;
                    }
                    Some(changed)
                }
                _ => None,
            };
            roles.push(changed.map_or_else(|| Role::Fixed(literal.clone()), Role::Constants));
        }
        Some(Self { compiled: compiled.clone(), roles })
    }

    /// The same with other literals; `None` where they make another shape.
    fn apply(&self, literals: &[Literal]) -> Option<CompiledQuery> {
        let mut constants = values(&self.compiled)?;
        for (role, literal) in self.roles.iter().zip(literals) {
            match role {
                Role::Fixed(fixed) if fixed == literal => {}
                Role::Fixed(_) => return None,
                Role::Constants(places) => {
                    for at in places {
                        constants[*at] = literal.value(&constants[*at].data_type())?;
                    }
                }
            }
        }
        let (key, others) = constants.split_at(self.compiled.key.num_columns());
        Some(CompiledQuery {
            key: one_row(self.compiled.key.schema(), key).ok()?,
            constants: one_row(self.compiled.constants.schema(), others).ok()?,
            ..self.compiled.clone()
        })
    }
}
