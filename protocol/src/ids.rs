//! Identifiers: 16-byte ids that read as lower-case hex, and the integers of the catalog.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The integer id of a project, as it stands in a DSN's path.
pub type ProjectId = u64;
/// The integer id of an organisation.
pub type OrgId = u64;
/// The integer id of a project key (a DSN).
pub type KeyId = u64;

/// Why a text is no 16-byte id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected 32 hexadecimal digits, with or without hyphens")]
pub struct InvalidHexId;

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// All bits zero.
            pub const NIL: Self = Self([0; 16]);

            /// Whether all bits are zero.
            pub fn is_nil(&self) -> bool {
                *self == Self::NIL
            }
        }

        impl FromStr for $name {
            type Err = InvalidHexId;

            fn from_str(text: &str) -> Result<Self, InvalidHexId> {
                parse_hex16(text).map(Self).ok_or(InvalidHexId)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

hex_id!(
    /// The id of an event: 32 hexadecimal digits, hyphens tolerated on input.
    EventId
);
hex_id!(
    /// The public part of a project key: what a DSN carries before the `@`.
    PublicKey
);

/// Reads 32 hexadecimal digits of either case; hyphens are skipped, as in a UUID.
pub fn parse_hex16(text: &str) -> Option<[u8; 16]> {
    let mut bytes = [0u8; 16];
    let mut digits = 0usize;
    for c in text.bytes() {
        if c == b'-' && digits > 0 && digits < 32 {
            continue;
        }
        let nibble = (c as char).to_digit(16)? as u8;
        let byte = bytes.get_mut(digits / 2)?;
        *byte = (*byte << 4) | nibble;
        digits += 1;
    }
    (digits == 32).then_some(bytes)
}

/// Reads 16 hexadecimal digits of either case: the id of a span.
pub fn parse_hex8(text: &str) -> Option<u64> {
    (text.len() == 16 && text.bytes().all(|c| c.is_ascii_hexdigit())).then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

/// Lower-case hexadecimal text of any bytes.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)] as char, DIGITS[usize::from(b & 15)] as char]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_ids_read_both_spellings_and_write_one() {
        let check = |text: &str, want: Option<&str>| assert_eq!(text.parse::<EventId>().ok().map(|id| id.to_string()).as_deref(), want, "{text}");
        check("9EC79C33EC9942AB8353589FCB2E04DC", Some("9ec79c33ec9942ab8353589fcb2e04dc"));
        check("9ec79c33-ec99-42ab-8353-589fcb2e04dc", Some("9ec79c33ec9942ab8353589fcb2e04dc"));
        check("9ec79c33ec9942ab8353589fcb2e04d", None);
        check("9ec79c33ec9942ab8353589fcb2e04dcc", None);
        check("-ec79c33ec9942ab8353589fcb2e04dc", None);
        check("xec79c33ec9942ab8353589fcb2e04dc", None);
        check("", None);
    }
}
