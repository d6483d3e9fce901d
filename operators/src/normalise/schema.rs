//! What a field takes: its kind, and how much of it. The tables are in [`super::fields`].

use weir_protocol::json::Json;

use super::note::Notes;
use super::path::Path;

/// Reads a field that has a form of its own.
pub type Reader = for<'a> fn(&mut Json<'a>, Path<'_>, &mut Notes<'a>);

/// The kind of value that a field takes.
#[derive(Clone, Copy)]
pub enum Kind {
    /// A text.
    Text,
    /// A text; numbers and truth values become one.
    Primitive,
    /// A text; anything else becomes its JSON.
    AnyAsText,
    /// A truth value.
    Bool,
    /// A whole number that is not negative; what a number has after the point is dropped.
    Unsigned,
    /// A whole number.
    Signed,
    /// A number.
    Number,
    /// A point in time, RFC 3339 or seconds since 1970.
    Time,
    /// A UUID without hyphens.
    EventId,
    /// A UUID with hyphens.
    Uuid,
    /// Sixteen hexadecimal digits.
    SpanId,
    /// Thirty-two hexadecimal digits.
    TraceId,
    /// How a span ended.
    Status,
    /// An address in memory.
    Address,
    /// The value of a register, written as an address.
    Register,
    /// A number or a text.
    ThreadId,
    /// An address in a network.
    Ip,
    /// A level.
    Level,
    /// How a lock was held: a bit.
    LockType,
    /// Anything.
    Any,
    /// An object of anything.
    Bag,
    /// An object of anything; a list becomes one with the indexes as keys.
    Vars,
    /// An object or list of anything.
    Params,
    /// An object with values of one kind.
    Map(&'static Field),
    /// A list with values of one kind.
    List(&'static Field),
    /// An object with fields.
    Object(&'static Struct),
    /// A list, `{"values": list}`, or one object, which become `{"values": list}`.
    Values(&'static Field),
    /// A form of its own.
    Special(Reader),
}

/// The characters that a text may have.
#[derive(Clone, Copy)]
pub enum Chars {
    /// All.
    Any,
    /// All but these.
    Without(&'static str),
    /// ASCII letters and digits, and these.
    Word(&'static str),
    /// All from `!` to `~`.
    Visible,
}

/// A field.
#[derive(Clone, Copy)]
pub struct Field {
    /// Its key; that of an element is empty.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// A text is cut to this many characters; 0 is without end.
    pub chars_max: usize,
    /// A text that is longer by no more than this stays whole.
    pub chars_allowance: usize,
    /// A value with everything below it is cut to this size; 0 is without end.
    pub bytes_max: usize,
    /// Levels of structure, the value itself the first of them; what lies deeper becomes its JSON text. 0 is without end.
    pub depth_max: usize,
    /// The characters of a text.
    pub chars: Chars,
    /// It has to be there.
    pub is_required: bool,
    /// A text or list must not be empty.
    pub is_nonempty: bool,
    /// White space around a text goes.
    pub is_trimmed: bool,
    /// An empty value is left out.
    pub skips_empty: bool,
}

/// What becomes of members that no field is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Other {
    /// They go.
    Dropped,
    /// They stay, but for those that are null.
    Kept,
    /// They stay.
    KeptWithNull,
    /// They become null, and are remarked on.
    Refused,
}

/// An object with fields.
pub struct Struct {
    /// What it is called where something else stands in its place.
    pub name: &'static str,
    /// Its fields in the order in which limits are spent on them.
    pub fields: &'static [Field],
    /// Its other members.
    pub other: Other,
}

impl Struct {
    /// The field of a key.
    pub fn field(&self, key: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == key)
    }
}

impl Field {
    /// A field of a kind without limits.
    pub const fn new(name: &'static str, kind: Kind) -> Self {
        Self {
            name,
            kind,
            chars_max: 0,
            chars_allowance: 0,
            bytes_max: 0,
            depth_max: 0,
            chars: Chars::Any,
            is_required: false,
            is_nonempty: false,
            is_trimmed: false,
            skips_empty: false,
        }
    }

    /// A text field.
    pub const fn text(name: &'static str) -> Self {
        Self::new(name, Kind::Text)
    }

    /// Cut to so many characters, where it is longer by more than the allowance.
    pub const fn max(mut self, chars_max: usize, chars_allowance: usize) -> Self {
        (self.chars_max, self.chars_allowance) = (chars_max, chars_allowance);
        self
    }

    /// Cut to this size and depth.
    pub const fn bag(mut self, bytes_max: usize, depth_max: usize) -> Self {
        (self.bytes_max, self.depth_max) = (bytes_max, depth_max);
        self
    }

    /// Of these characters.
    pub const fn of(mut self, chars: Chars) -> Self {
        self.chars = chars;
        self
    }

    /// Has to be there.
    pub const fn required(mut self) -> Self {
        self.is_required = true;
        self
    }

    /// Must not be empty.
    pub const fn nonempty(mut self) -> Self {
        self.is_nonempty = true;
        self
    }

    /// Without white space around it.
    pub const fn trimmed(mut self) -> Self {
        self.is_trimmed = true;
        self
    }

    /// Left out where it is empty.
    pub const fn skipped(mut self) -> Self {
        self.skips_empty = true;
        self
    }
}

impl Chars {
    /// The first character of a text that is not allowed.
    pub fn first_refused(self, text: &str) -> Option<char> {
        match self {
            Self::Any => None,
            Self::Without(refused) => text.chars().find(|c| refused.contains(*c)),
            Self::Word(others) => text.chars().find(|c| !c.is_ascii_alphanumeric() && !others.contains(*c)),
            Self::Visible => text.chars().find(|c| !('!'..='~').contains(c)),
        }
    }
}
