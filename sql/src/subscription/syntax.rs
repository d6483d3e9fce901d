//! The statements about subscriptions, from their text.
//!
//! ```text
//! CREATE SUBSCRIPTION name [WITH (key = value, …)] AS query
//! ALTER SUBSCRIPTION name [SET (key = value, …)] [RESET (key, …)] [AS query]
//! DROP SUBSCRIPTION [IF EXISTS] name
//! SHOW SUBSCRIPTIONS
//! EXPLAIN SUBSCRIPTION name
//! BACKTEST SUBSCRIPTION FROM TIMESTAMP '…' TO TIMESTAMP '…' [WITH (key = value, …)] AS query
//! SUBSCRIBE name
//! ```

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};
use weir_protocol::limits::SUBSCRIPTION_NAME_BYTES_MAX;
use weir_protocol::subscription::SubscriptionOptions;

use super::options::{self, Setting};
use super::refusal::Refusal;

/// A statement about subscriptions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// `CREATE SUBSCRIPTION`
    Create {
        /// Its name.
        name: String,
        /// What is given with it.
        options: SubscriptionOptions,
        /// Its query.
        query: Query,
    },
    /// `ALTER SUBSCRIPTION`
    Alter {
        /// Which.
        name: String,
        /// What becomes of its options.
        settings: Vec<Setting>,
        /// Its new query.
        query: Option<Query>,
    },
    /// `DROP SUBSCRIPTION`
    Drop {
        /// Which.
        name: String,
        /// Whether it may be missing.
        if_exists: bool,
    },
    /// `SHOW SUBSCRIPTIONS`
    Show,
    /// `EXPLAIN SUBSCRIPTION`
    Explain {
        /// Which.
        name: String,
    },
    /// `BACKTEST SUBSCRIPTION`
    Backtest {
        /// The first tick, in Unix milliseconds.
        from_ms: u64,
        /// The last tick, in Unix milliseconds.
        to_ms: u64,
        /// What is given with it.
        options: SubscriptionOptions,
        /// The query.
        query: Query,
    },
    /// `SUBSCRIBE`
    Subscribe {
        /// To which.
        name: String,
    },
}

/// A query as it stands in a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Query {
    /// Its text.
    pub(crate) sql: String,
    /// The same behind as many blanks as the statement has characters before it: what is said of it points into the statement.
    pub(crate) in_place: String,
}

/// The statement about subscriptions that a text is; `None` where it is another statement.
pub(crate) fn parse(sql: &str) -> Result<Option<Command>, Refusal> {
    if !is_ours(sql) {
        return Ok(None);
    }
    let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location().map_err(|error| Refusal::at(error.location, error.message))?;
    let tokens: Vec<TokenWithSpan> = tokens.into_iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).collect();
    Reader { sql, tokens: &tokens, next: 0 }.command().map(Some)
}

/// Whether a text begins as our statements do. Comments may stand before it.
fn is_ours(sql: &str) -> bool {
    let mut words = without_comments(sql).split(|c: char| c.is_whitespace()).filter(|word| !word.is_empty());
    let (Some(verb), Some(noun)) = (words.next(), words.next()) else { return false };
    let noun = noun.trim_end_matches(';');
    match verb.to_ascii_uppercase().as_str() {
        "CREATE" | "ALTER" | "DROP" | "EXPLAIN" | "BACKTEST" => noun.eq_ignore_ascii_case("SUBSCRIPTION"),
        "SHOW" => noun.eq_ignore_ascii_case("SUBSCRIPTIONS") || noun.eq_ignore_ascii_case("SUBSCRIPTION"),
        "SUBSCRIBE" => true,
        _ => false,
    }
}

fn without_comments(sql: &str) -> &str {
    let mut rest = sql.trim_start();
    loop {
        let after = if rest.starts_with("--") {
            rest.split_once('\n').map(|(_, after)| after)
        } else if rest.starts_with("/*") {
            rest.split_once("*/").map(|(_, after)| after)
        } else {
            return rest;
        };
        rest = after.unwrap_or_default().trim_start();
    }
}

struct Reader<'a> {
    sql: &'a str,
    tokens: &'a [TokenWithSpan],
    next: usize,
}

impl<'a> Reader<'a> {
    fn command(mut self) -> Result<Command, Refusal> {
        let verb = self.word("a statement")?.to_ascii_uppercase();
        let command = match verb.as_str() {
            "CREATE" => {
                self.keyword("SUBSCRIPTION")?;
                let name = self.name()?;
                let options = self.with()?;
                Command::Create { name, options, query: self.query()? }
            }
            "ALTER" => self.alter()?,
            "DROP" => {
                self.keyword("SUBSCRIPTION")?;
                let if_exists = self.takes("IF");
                if if_exists {
                    self.keyword("EXISTS")?;
                }
                Command::Drop { name: self.name()?, if_exists }
            }
            "SHOW" => {
                self.keyword("SUBSCRIPTIONS")?;
                Command::Show
            }
            "EXPLAIN" => {
                self.keyword("SUBSCRIPTION")?;
                Command::Explain { name: self.name()? }
            }
            "SUBSCRIBE" => Command::Subscribe { name: self.name()? },
            _ => self.backtest()?,
        };
        self.end()?;
        Ok(command)
    }

    fn alter(&mut self) -> Result<Command, Refusal> {
        self.keyword("SUBSCRIPTION")?;
        let name = self.name()?;
        let mut settings = Vec::new();
        if self.takes("SET") {
            settings = self.pairs()?.into_iter().map(|(at, key, value)| options::set(at, &key, &value)).collect::<Result<_, _>>()?;
        }
        if self.takes("RESET") {
            self.symbol(&Token::LParen)?;
            loop {
                let at = self.location();
                let key = self.word("the name of an option")?.to_ascii_lowercase();
                settings.push(options::reset(at, &key)?);
                if !self.takes_symbol(&Token::Comma) {
                    break;
                }
            }
            self.symbol(&Token::RParen)?;
        }
        let query = if self.peek_keyword("AS") { Some(self.query()?) } else { None };
        if settings.is_empty() && query.is_none() {
            return Err(self.expected("SET (option = value, …), RESET (option, …) or AS query"));
        }
        Ok(Command::Alter { name, settings, query })
    }

    fn backtest(&mut self) -> Result<Command, Refusal> {
        self.keyword("SUBSCRIPTION")?;
        self.keyword("FROM")?;
        let from_ms = self.timestamp()?;
        self.keyword("TO")?;
        let at = self.location();
        let to_ms = self.timestamp()?;
        if to_ms <= from_ms {
            return Err(Refusal::at(at, "the end of a backtest must lie after its beginning"));
        }
        let options = self.with()?;
        Ok(Command::Backtest { from_ms, to_ms, options, query: self.query()? })
    }

    /// `WITH (key = value, …)`, which may be left out.
    fn with(&mut self) -> Result<SubscriptionOptions, Refusal> {
        let mut given = SubscriptionOptions::default();
        if self.takes("WITH") {
            for (at, key, value) in self.pairs()? {
                options::set(at, &key, &value)?.apply(&mut given);
            }
        }
        Ok(given)
    }

    /// `(key = value, …)`, each key once.
    fn pairs(&mut self) -> Result<Vec<(Location, String, String)>, Refusal> {
        self.symbol(&Token::LParen)?;
        let mut pairs: Vec<(Location, String, String)> = Vec::new();
        loop {
            let at = self.location();
            let key = self.word("the name of an option")?.to_ascii_lowercase();
            if pairs.iter().any(|(_, given, _)| *given == key) {
                return Err(Refusal::at(at, format!("the option {key} is given twice")));
            }
            self.symbol(&Token::Eq)?;
            let value = self.value(&key)?;
            pairs.push((at, key, value));
            if !self.takes_symbol(&Token::Comma) {
                break;
            }
        }
        self.symbol(&Token::RParen)?;
        Ok(pairs)
    }

    /// A value of an option: text in single quotes, with or without `INTERVAL` or `TIMESTAMP` before it, or a number.
    fn value(&mut self, key: &str) -> Result<String, Refusal> {
        let _ = self.takes("INTERVAL") || self.takes("TIMESTAMP");
        match self.token() {
            Some(Token::SingleQuotedString(text) | Token::Number(text, _)) => {
                let text = text.clone();
                self.next += 1;
                Ok(text)
            }
            _ => Err(self.expected(&format!("the value of {key} in single quotes"))),
        }
    }

    fn timestamp(&mut self) -> Result<u64, Refusal> {
        self.keyword("TIMESTAMP")?;
        let at = self.location();
        let text = self.value("TIMESTAMP")?;
        options::instant(&text).ok_or_else(|| Refusal::at(at, format!("{text:?} is no time: write 2026-11-24 22:00:00, in UTC")))
    }

    /// `AS query`: all that follows.
    fn query(&mut self) -> Result<Query, Refusal> {
        self.keyword("AS")?;
        let Some(first) = self.tokens.get(self.next) else { return Err(self.expected("a query")) };
        let start = byte_offset(self.sql, first.span.start);
        let text = self.sql[start..].trim_end().trim_end_matches(';').trim_end();
        let blank: String = self.sql[..start].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        self.next = self.tokens.len();
        Ok(Query { sql: text.to_owned(), in_place: blank + text })
    }

    /// The name of a subscription: lower-cased unless in double quotes, as SQL has it.
    fn name(&mut self) -> Result<String, Refusal> {
        let at = self.location();
        let name = match self.token() {
            Some(Token::Word(word)) => {
                if word.quote_style.is_some() {
                    word.value.clone()
                } else {
                    word.value.to_lowercase()
                }
            }
            _ => return Err(self.expected("the name of a subscription")),
        };
        self.next += 1;
        if name.is_empty() || name.len() > SUBSCRIPTION_NAME_BYTES_MAX || name.chars().any(char::is_control) {
            return Err(Refusal::at(at, format!("the name of a subscription has 1 to {SUBSCRIPTION_NAME_BYTES_MAX} bytes and no control characters")));
        }
        Ok(name)
    }

    fn word(&mut self, what: &str) -> Result<&'a str, Refusal> {
        match self.token() {
            Some(Token::Word(word)) => {
                self.next += 1;
                Ok(&word.value)
            }
            _ => Err(self.expected(what)),
        }
    }

    fn keyword(&mut self, keyword: &str) -> Result<(), Refusal> {
        if self.takes(keyword) { Ok(()) } else { Err(self.expected(keyword)) }
    }

    fn peek_keyword(&self, keyword: &str) -> bool {
        matches!(self.token(), Some(Token::Word(word)) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(keyword))
    }

    fn takes(&mut self, keyword: &str) -> bool {
        let takes = self.peek_keyword(keyword);
        self.next += usize::from(takes);
        takes
    }

    fn symbol(&mut self, symbol: &Token) -> Result<(), Refusal> {
        if self.takes_symbol(symbol) { Ok(()) } else { Err(self.expected(&symbol.to_string())) }
    }

    fn takes_symbol(&mut self, symbol: &Token) -> bool {
        let takes = self.token() == Some(symbol);
        self.next += usize::from(takes);
        takes
    }

    fn end(&mut self) -> Result<(), Refusal> {
        while self.takes_symbol(&Token::SemiColon) {}
        if self.next < self.tokens.len() { Err(self.expected("the end of the statement")) } else { Ok(()) }
    }

    fn token(&self) -> Option<&'a Token> {
        self.tokens.get(self.next).map(|token| &token.token)
    }

    fn location(&self) -> Location {
        match self.tokens.get(self.next).or(self.tokens.last()) {
            Some(token) if self.next < self.tokens.len() => token.span.start,
            Some(last) => last.span.end,
            None => Location { line: 1, column: 1 },
        }
    }

    fn expected(&self, what: &str) -> Refusal {
        let found = self.token().map_or("the end of the statement".to_owned(), ToString::to_string);
        Refusal::at(self.location(), format!("expected {what}, found {found}"))
    }
}

/// Where a place is, in bytes.
fn byte_offset(sql: &str, location: Location) -> usize {
    let (mut line, mut column) = (1, 1);
    for (offset, c) in sql.char_indices() {
        if (line, column) == (location.line, location.column) {
            return offset;
        }
        if c == '\n' {
            (line, column) = (line + 1, 1);
        } else {
            column += 1;
        }
    }
    sql.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_read() {
        let create = "CREATE SUBSCRIPTION Busy WITH (severity = 'warning', for = '2 minutes', notify = 'webhook:https://a.example/x, email:a@example.org')\nAS SELECT 1;";
        let Some(Command::Create { name, options, query }) = parse(create).unwrap() else { panic!() };
        assert_eq!((name.as_str(), options.severity.as_deref(), options.for_ms), ("busy", Some("warning"), 120_000));
        assert_eq!(options.notify, ["webhook:https://a.example/x", "email:a@example.org"]);
        assert_eq!(query.sql, "SELECT 1");
        assert_eq!(query.in_place.len(), create.len() - 1);
        assert!(query.in_place.starts_with("   ") && query.in_place.contains("\n   SELECT 1"));

        let check = |sql: &str, want: Command| assert_eq!(parse(sql).unwrap().unwrap(), want, "{sql}");
        check("drop subscription \"A b\"", Command::Drop { name: "A b".to_owned(), if_exists: false });
        check("-- go\nDROP SUBSCRIPTION IF EXISTS x;", Command::Drop { name: "x".to_owned(), if_exists: true });
        check("SHOW SUBSCRIPTIONS;", Command::Show);
        check("explain subscription x", Command::Explain { name: "x".to_owned() });
        check("SUBSCRIBE x", Command::Subscribe { name: "x".to_owned() });
        let Some(Command::Alter { settings, query, .. }) = parse("ALTER SUBSCRIPTION x SET (severity = 'info') RESET (notify, for) AS SELECT 2").unwrap()
        else {
            panic!()
        };
        assert_eq!((settings.len(), query.unwrap().sql.as_str()), (3, "SELECT 2"));
        let backtest = "BACKTEST SUBSCRIPTION FROM TIMESTAMP '2026-11-24 00:00:00' TO TIMESTAMP '2026-11-24T01:00:00Z' AS SELECT 3";
        let Some(Command::Backtest { from_ms, to_ms, .. }) = parse(backtest).unwrap() else { panic!() };
        assert_eq!(to_ms - from_ms, 3_600_000);
        for other in ["SELECT 1", "SHOW TABLES", "EXPLAIN SELECT 1", "CREATE TABLE subscription (a int)", ""] {
            assert_eq!(parse(other).unwrap(), None, "{other}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_where_it_stands() {
        for (sql, want) in [
            ("CREATE SUBSCRIPTION", "line 1, column 20: expected the name of a subscription"),
            ("CREATE SUBSCRIPTION x SELECT 1", "line 1, column 23: expected AS, found SELECT"),
            ("CREATE SUBSCRIPTION x WITH (colour = 'red') AS SELECT 1", "line 1, column 29: there is no option colour"),
            ("CREATE SUBSCRIPTION x WITH (severity = 'loud') AS SELECT 1", "severity is info, warning, error or critical"),
            ("CREATE SUBSCRIPTION x WITH (for = '2 fortnights') AS SELECT 1", "is no length of time"),
            ("CREATE SUBSCRIPTION x\nWITH (for = '1 minute', for = '2 minutes') AS SELECT 1", "line 2, column 25: the option for is given twice"),
            ("CREATE SUBSCRIPTION x WITH (notify = 'pigeon:coo') AS SELECT 1", "webhook:URL, slack:URL or email:ADDRESS"),
            ("CREATE SUBSCRIPTION x WITH (severity = loud) AS SELECT 1", "in single quotes"),
            ("CREATE SUBSCRIPTION x AS", "expected a query"),
            ("CREATE SUBSCRIPTION x AS SELECT 'open", "nterminated"),
            ("ALTER SUBSCRIPTION x", "expected SET"),
            ("ALTER SUBSCRIPTION x RESET (colour)", "there is no option colour"),
            ("DROP SUBSCRIPTION x, y", "expected the end of the statement"),
            ("SHOW SUBSCRIPTION x", "expected SUBSCRIPTIONS"),
            ("BACKTEST SUBSCRIPTION FROM TIMESTAMP 'soon' TO TIMESTAMP '2026-01-01' AS SELECT 1", "is no time"),
            ("BACKTEST SUBSCRIPTION FROM TIMESTAMP '2026-01-02' TO TIMESTAMP '2026-01-01' AS SELECT 1", "must lie after"),
        ] {
            let said = parse(sql).unwrap_err().to_string();
            assert!(said.contains(want), "{sql}: {said}");
        }
    }
}
