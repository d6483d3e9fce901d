//! Query strings: names and values with their escapes undone.

/// The pairs of a query string in their order. Bytes that are no UTF-8 become the replacement character.
pub(crate) fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (unescape(name), unescape(value))
    })
}

/// The first value of a name.
pub(crate) fn value(query: Option<&str>, name: &str) -> Option<String> {
    pairs(query?).find(|(n, _)| n == name).map(|(_, value)| value)
}

/// Undoes `%41` and `+`; an escape that is none stays as it is written.
fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escaped = bytes.get(at + 1..at + 3).filter(|_| byte == b'%').and_then(|digits| Some((hex_digit(digits[0])? << 4) | hex_digit(digits[1])?));
        out.push(match (byte, escaped) {
            (_, Some(byte)) => byte,
            (b'+', None) => b' ',
            (byte, None) => byte,
        });
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8(out).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

fn hex_digit(byte: u8) -> Option<u8> {
    (byte as char).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone() {
        let check = |query: &str, want: &[(&str, &str)]| {
            let got: Vec<_> = pairs(query).collect();
            let got: Vec<_> = got.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            assert_eq!(got, want, "{query}");
        };
        check("", &[]);
        check("a=1&b=2", &[("a", "1"), ("b", "2")]);
        check("a&&b=", &[("a", ""), ("b", "")]);
        check("a=x%2Fy+z", &[("a", "x/y z")]);
        check("a=b=c", &[("a", "b=c")]);
        check("a=100%&b=%4&c=%zz", &[("a", "100%"), ("b", "%4"), ("c", "%zz")]);
        check("a=%ff", &[("a", "\u{fffd}")]);
        check("a=%é1", &[("a", "%é1")]);
    }

    #[test]
    fn the_first_value_of_a_name() {
        assert_eq!(value(Some("a=1&b=2&a=3"), "a").as_deref(), Some("1"));
        assert_eq!(value(Some("a=1"), "c"), None);
        assert_eq!(value(None, "a"), None);
    }
}
