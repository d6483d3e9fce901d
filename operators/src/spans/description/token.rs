//! Tokens of SQL in whatever dialect: what is a value, and what a name.
//!
//! A statement may be cut off anywhere, so what is not ended ends with the text.

/// How quotes are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Names stand in double quotes, and a backslash is a character like others.
    Standard,
    /// Texts stand in double quotes as well, and a backslash takes its meaning from what follows.
    Mysql,
    /// It is not known which.
    Any,
}

impl Dialect {
    /// The dialect of a `db.system`, as OpenTelemetry names them.
    pub(super) fn of(system: &str) -> Self {
        match system {
            "mysql" | "mariadb" | "tidb" | "hive" | "spark" | "databricks" | "gcp.spanner" | "bigquery" => Self::Mysql,
            "postgresql"
            | "cockroachdb"
            | "redshift"
            | "sqlite"
            | "mssql"
            | "microsoft.sql_server"
            | "oracle"
            | "oracle.db"
            | "db2"
            | "ibm.db2"
            | "cassandra" => Self::Standard,
            _ => Self::Any,
        }
    }

    fn has_escapes(self) -> bool {
        self != Self::Standard
    }
}

/// A part of a statement. Comments are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'t> {
    /// A keyword, or a name without quotes.
    Word(&'t str),
    /// What stands in quotes that make it a name.
    Name(&'t str),
    /// A literal, or a place for one.
    Value,
    /// An operator, or any other character.
    Symbol(&'t str),
    /// `(`
    Open,
    /// `)`
    Close,
    /// `[` of an array
    OpenSquare,
    /// `]`
    CloseSquare,
    /// `,`
    Comma,
    /// `.`
    Dot,
    /// `;`
    Semicolon,
}

impl<'t> Token<'t> {
    /// Whether it is this keyword.
    pub(super) fn is(self, keyword: &str) -> bool {
        matches!(self, Token::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    /// Whether it is one of these keywords.
    pub(super) fn is_any(self, keywords: &[&str]) -> bool {
        keywords.iter().any(|keyword| self.is(keyword))
    }

    /// A word or a name.
    pub(super) fn name(self) -> Option<&'t str> {
        match self {
            Token::Word(name) | Token::Name(name) => Some(name),
            _ => None,
        }
    }
}

/// A token, and whether white space or a comment stood before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spaced<'t> {
    /// The token.
    pub(super) token: Token<'t>,
    /// Whether something separates it from the one before.
    pub(super) is_apart: bool,
}

/// The tokens of a text.
pub(super) fn tokens(text: &str, dialect: Dialect) -> Vec<Spaced<'_>> {
    let mut reader = Reader { text, bytes: text.as_bytes(), at: 0, dialect };
    let mut tokens: Vec<Spaced<'_>> = Vec::with_capacity(text.len() / 2);
    loop {
        let before = reader.at;
        reader.skip();
        if reader.at >= text.len() {
            return tokens;
        }
        let is_apart = reader.at > before;
        let token = reader.token(tokens.last().map(|last| last.token), is_apart);
        tokens.push(Spaced { token, is_apart });
    }
}

/// Every place that a token starts or ends at is beside an ASCII character, and so between characters.
struct Reader<'t> {
    text: &'t str,
    bytes: &'t [u8],
    at: usize,
    dialect: Dialect,
}

impl<'t> Reader<'t> {
    fn byte(&self, offset: usize) -> u8 {
        self.bytes.get(self.at + offset).copied().unwrap_or_default()
    }

    /// Goes on past the next occurrence, or to the end.
    fn past(&mut self, needle: &str) {
        self.at = self.text[self.at..].find(needle).map_or(self.text.len(), |found| self.at + found + needle.len());
    }

    /// Goes on while the bytes are of this kind.
    fn run(&mut self, is_of_run: impl Fn(u8) -> bool) {
        self.at += self.bytes[self.at..].iter().take_while(|byte| is_of_run(**byte)).count();
    }

    /// Goes on past white space and comments.
    fn skip(&mut self) {
        loop {
            match (self.byte(0), self.byte(1)) {
                _ if self.at >= self.bytes.len() => return,
                (byte, _) if byte.is_ascii_whitespace() || byte == 0x0b => self.at += 1,
                (b'-', b'-') => self.past("\n"),
                (b'#', b' ' | b'\t') => self.past("\n"),
                (b'/', b'*') => {
                    self.at += 2;
                    self.past("*/");
                }
                _ => return,
            }
        }
    }

    fn token(&mut self, last: Option<Token<'t>>, is_apart: bool) -> Token<'t> {
        let start = self.at;
        let single = |token| (token, 1);
        let (token, length) = match (self.byte(0), self.byte(1)) {
            (b'(', _) => single(Token::Open),
            (b')', _) => single(Token::Close),
            (b',', _) => single(Token::Comma),
            (b';', _) => single(Token::Semicolon),
            (b']', _) => single(Token::CloseSquare),
            (b'.', b'.') => (Token::Symbol(".."), 2),
            (b'.', next) if !next.is_ascii_digit() || last.is_some_and(|last| !is_apart && last.name().is_some()) => single(Token::Dot),
            (b'[', next) => {
                // `a[1]` and `ARRAY[1]` are of arrays, `[a]` is a name.
                let is_array = !is_apart && last.is_some_and(|last| last.name().is_some() || matches!(last, Token::Close | Token::CloseSquare | Token::Value));
                if is_array || !(next.is_ascii_alphabetic() || next == b'_') {
                    single(Token::OpenSquare)
                } else {
                    return self.quoted(b']', false, true);
                }
            }
            (b'\'', _) => return self.quoted(b'\'', self.dialect.has_escapes(), false),
            (b'`', _) => return self.quoted(b'`', false, true),
            (b'"', _) => {
                let token = self.quoted(b'"', self.dialect.has_escapes(), self.dialect != Dialect::Mysql);
                return match token {
                    Token::Name(name) if self.dialect == Dialect::Any && !is_plain(name) => Token::Value,
                    token => token,
                };
            }
            (b'0'..=b'9', _) | (b'.', _) => return self.number(),
            (b'?', b'|' | b'&') => (Token::Symbol(&self.text[start..start + 2]), 2),
            (b'?', _) => {
                self.at += 1;
                self.run(|byte| byte.is_ascii_digit());
                return Token::Value;
            }
            (b'%', b's') if !is_word(self.byte(2)) => (Token::Value, 2),
            (b'%', b'(') => {
                let rest = &self.text[start..];
                let name = rest[2..].bytes().take_while(|byte| is_word(*byte)).count();
                match rest[2 + name..].starts_with(")s") {
                    true => (Token::Value, name + 4),
                    false => (Token::Symbol("%"), 1),
                }
            }
            (b'$', _) => return self.dollar(),
            (b':', b':') => (Token::Symbol("::"), 2),
            (b':' | b'@', next) if is_word(next) => {
                self.at += 1;
                self.run(is_word);
                return Token::Value;
            }
            (b'@', b'@') | (b'#', b'a'..=b'z' | b'A'..=b'Z' | b'#') => {
                self.at += 2;
                self.run(is_word);
                return Token::Word(&self.text[start..self.at]);
            }
            (byte, _) if is_word(byte) => return self.word(),
            (byte, _) if is_operator(byte) => return self.operator(),
            // No byte of a longer character is left: those are of words.
            _ => (Token::Symbol(&self.text[start..start + 1]), 1),
        };
        self.at = start + length;
        token
    }

    /// What stands in quotes; a quote that is doubled is one of its characters.
    fn quoted(&mut self, end: u8, has_escapes: bool, is_name: bool) -> Token<'t> {
        let start = self.at + 1;
        self.at = start;
        loop {
            self.run(|byte| byte != end && (byte != b'\\' || !has_escapes));
            match (self.byte(0), self.byte(1)) {
                (b'\\', _) if has_escapes => self.at = (self.at + 2).min(self.bytes.len()),
                (quote, next) if quote == end && next == end && self.at + 1 < self.bytes.len() => self.at += 2,
                _ => break,
            }
        }
        // What a backslash stood before may be the start of a longer character.
        let content = self.text.get(start..self.at).unwrap_or_default();
        self.at = (self.at + 1).min(self.bytes.len());
        if is_name { Token::Name(content) } else { Token::Value }
    }

    fn number(&mut self) -> Token<'t> {
        loop {
            self.run(|byte| is_word(byte) || byte == b'.');
            let is_exponent = matches!(self.bytes[self.at - 1], b'e' | b'E') && matches!(self.byte(0), b'+' | b'-') && self.byte(1).is_ascii_digit();
            if !is_exponent {
                return Token::Value;
            }
            self.at += 1;
        }
    }

    /// `$1`, `$name`, or a text between two `$tag$`.
    fn dollar(&mut self) -> Token<'t> {
        let start = self.at;
        self.at += 1;
        self.run(is_word);
        if self.byte(0) == b'$' && !self.bytes[start + 1..self.at].first().is_some_and(u8::is_ascii_digit) {
            self.at += 1;
            let tag = &self.text[start..self.at];
            self.past(tag);
        } else if self.at == start + 1 {
            return Token::Symbol("$");
        }
        Token::Value
    }

    fn word(&mut self) -> Token<'t> {
        let start = self.at;
        self.run(|byte| is_word(byte) || byte == b'$' || byte == b'#');
        let word = &self.text[start..self.at];
        // The kind of a text may stand before it: `N'…'`, `E'…'`, `x'…'`, `_utf8'…'`.
        if self.byte(0) == b'\'' && (word.len() == 1 || word.starts_with('_')) {
            let has_escapes = self.dialect.has_escapes() || word.eq_ignore_ascii_case("e");
            return self.quoted(b'\'', has_escapes, false);
        }
        Token::Word(word)
    }

    fn operator(&mut self) -> Token<'t> {
        let start = self.at;
        self.at += 1;
        loop {
            let is_comment = matches!((self.byte(0), self.byte(1)), (b'-', b'-') | (b'/', b'*'));
            // A sign belongs to what follows, and `*` stands alone but in `~*`.
            let goes_on = match self.byte(0) {
                b'-' => self.byte(1) == b'>',
                b'+' => false,
                b'*' => self.bytes[self.at - 1] == b'~',
                byte => is_operator(byte),
            };
            if is_comment || !goes_on {
                return Token::Symbol(&self.text[start..self.at]);
            }
            self.at += 1;
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn is_operator(byte: u8) -> bool {
    matches!(byte, b'=' | b'<' | b'>' | b'!' | b'~' | b'+' | b'-' | b'*' | b'/' | b'|' | b'&' | b'^' | b'#' | b'@')
}

/// Whether a name needs no quotes.
pub(super) fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| is_word(byte) || byte == b'$' || byte == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens in one line: `v` is a value, `"a"` a name.
    fn check(dialect: Dialect, text: &str, want: &str) {
        let said = |spaced: &Spaced<'_>| match spaced.token {
            Token::Word(text) | Token::Symbol(text) => text.to_owned(),
            Token::Name(text) => format!("{text:?}"),
            Token::Value => "v".to_owned(),
            other => format!("{other:?}"),
        };
        assert_eq!(tokens(text, dialect).iter().map(said).collect::<Vec<_>>().join(" "), want, "{dialect:?} {text}");
    }

    #[test]
    fn values() {
        let check = |text: &str, want: &str| check(Dialect::Standard, text, want);
        check("1 1.5 .5 1e-5 0x1F 1.", "v v v v v v");
        check("'a' 'it''s' '' 'open", "v v v v");
        check(r"'a\' b", "v b");
        check(r"E'a\' b' N'x' x'1F' _utf8'a'", "v v v v");
        check("? ?1 %s %(name)s $1 $name :c0 @p0", "v v v v v v v v");
        check("$$a 'b$$ $t$ $$ $t$ $x$ open", "v v v");
        check("a::int a@>b a->>'b' a ?| b @@x #t", "a :: int a @> b a ->> v a ?| b @@x #t");
        check("a=-1 b- -1 c!~*'x' d<>1 count(*)", "a = - v b - - v c !~* v d <> v count Open * Close");
        check("é'x'ü", "é v ü");
    }

    #[test]
    fn names() {
        check(Dialect::Standard, r#""a"."b c" `d` [e].[f g] h[1]"#, r#""a" Dot "b c" "d" "e" Dot "f g" h OpenSquare v CloseSquare"#);
        check(Dialect::Mysql, r#""a\"b" `c`"#, r#"v "c""#);
        check(Dialect::Any, r#""a" "b c" "d\" e"#, r#""a" v v"#);
    }

    #[test]
    fn comments() {
        check(Dialect::Standard, "a -- b\nc /* d */ e # f\ng", "a c e g");
        check(Dialect::Standard, "/* open", "");
        check(Dialect::Standard, "a--b", "a");
    }
}
