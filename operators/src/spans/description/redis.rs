//! Commands of Redis: all that follows the command is `*` (getsentry/relay#2283, #3643: keys hold ids, and values anything).

/// A first word that is longer is no command.
const COMMAND_CHARS_MAX: usize = 32;

/// The command in upper case, and `*` for what it was called with.
pub(super) fn normalised(text: &str) -> String {
    let text = text.trim();
    let (command, arguments) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let is_command = command.len() <= COMMAND_CHARS_MAX && command.bytes().all(|c| c.is_ascii_alphabetic() || c == b'.' || c == b'_');
    match (is_command, arguments.is_empty()) {
        (false, _) => "*".to_owned(),
        (true, true) => command.to_ascii_uppercase(),
        (true, false) => format!("{} *", command.to_ascii_uppercase()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        let check = |text: &str, want: &str| assert_eq!(normalised(text), want, "{text}");
        check("SET foo:123 my_val", "SET *");
        check("get 'foo'", "GET *");
        check("PING", "PING");
        check("JSON.SET a $ 1", "JSON.SET *");
        check("user:1", "*");
        check("CONFIG GET x\nSET y 1", "CONFIG *");
        check("", "");
    }
}
