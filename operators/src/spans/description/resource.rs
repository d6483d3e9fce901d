//! Addresses of what a page loads (docs.sentry.io, "Assets"): versions, hashes and ids of a file's name are `*`, and so are the
//! folders but those that are common.

use super::address;

/// Folders that say what kind of file lies in them.
const COMMON: [&str; 32] = [
    "_next",
    "_nuxt",
    "assets",
    "build",
    "bundle",
    "bundles",
    "chunk",
    "chunks",
    "client",
    "css",
    "dist",
    "files",
    "fonts",
    "icons",
    "images",
    "img",
    "js",
    "lib",
    "libs",
    "media",
    "node_modules",
    "packs",
    "pages",
    "plugins",
    "public",
    "resources",
    "scripts",
    "static",
    "styles",
    "svg",
    "themes",
    "vendor",
];
/// A part of a name that is longer is an id, whatever it is made of.
const PART_CHARS_MAX: usize = 25;
/// More hexadecimal digits than this are a hash.
const HEX_CHARS_MAX: usize = 5;
/// So many hexadecimal digits are a hash though none of them is a number; fewer may be a word (`facade`).
const HEX_LETTERS_MIN: usize = 16;
/// Letters of both cases and so many numbers among so many characters are a hash in another notation.
const MIXED_DIGITS_MIN: usize = 2;
const MIXED_CHARS_MIN: usize = 8;
/// How many hexadecimal digits the parts of a UUID have.
const UUID: [usize; 5] = [8, 4, 4, 4, 12];

/// The address without what differs from release to release and from page to page.
pub(super) fn normalised(text: &str) -> String {
    let text = text.trim();
    let (origin, path) = match address::scheme(text) {
        Some((scheme, rest)) => {
            let origin = format!("{scheme}://{}", address::domain(address::authority(rest)));
            (origin, rest.find(['/', '?', '#']).map_or("", |at| &rest[at..]))
        }
        None => match text.split_once(':') {
            // What a page holds itself (`data:`), or what an extension of the browser brought.
            Some((scheme, _)) if !scheme.contains('/') => return format!("{}:*", short(scheme)),
            _ => (String::new(), text),
        },
    };
    let path = &path[..path.find(['?', '#']).unwrap_or(path.len())];
    let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
    let mut out = origin;
    let mut was_star = false;
    for folder in folders.split('/').filter(|folder| !folder.is_empty()) {
        let common = COMMON.into_iter().find(|common| common.eq_ignore_ascii_case(folder));
        if common.is_some() || !was_star {
            out.push('/');
            out.push_str(common.unwrap_or("*"));
        }
        was_star = common.is_none();
    }
    if path.contains('/') {
        out.push('/');
    }
    file(name, &mut out);
    out
}

fn short(scheme: &str) -> &str {
    if scheme.len() <= PART_CHARS_MAX { scheme } else { "*" }
}

/// Writes the name of a file without what is an id in it.
fn file(name: &str, out: &mut String) {
    let parts = parts(name);
    let mut at = 0;
    while let Some((part, separator)) = parts.get(at) {
        let ids = ids(&parts[at..]);
        out.push_str(if ids > 0 { "*" } else { part });
        at += ids.max(1);
        let separator = if ids > 0 { parts[at - 1].1 } else { *separator };
        out.extend(separator);
    }
}

/// The parts of a name, each with what separates it from the next.
fn parts(name: &str) -> Vec<(&str, Option<char>)> {
    let mut parts = Vec::new();
    for piece in name.split_inclusive('.') {
        let (text, dot) = piece.strip_suffix('.').map_or((piece, None), |text| (text, Some('.')));
        for part in text.split_inclusive(['-', '_', '~', '@', '+']) {
            match part.char_indices().next_back() {
                Some((at, separator @ ('-' | '_' | '~' | '@' | '+'))) => parts.push((&part[..at], Some(separator))),
                _ => parts.push((part, None)),
            }
        }
        if let Some((_, last @ None)) = parts.last_mut() {
            *last = dot;
        } else {
            parts.push(("", dot));
        }
    }
    parts
}

/// How many of the first parts are one id; 0 where the first is none.
fn ids(parts: &[(&str, Option<char>)]) -> usize {
    let is_of_uuid = |((part, _), digits): (&(&str, Option<char>), usize)| part.len() == digits && part.bytes().all(|c| c.is_ascii_hexdigit());
    if parts.len() >= UUID.len() && parts.iter().zip(UUID).all(is_of_uuid) {
        return UUID.len();
    }
    let Some((first, _)) = parts.first() else { return 0 };
    let number = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    let unmarked = first.strip_prefix(['v', 'V']).unwrap_or(first);
    if number(unmarked) {
        // A version is numbers with dots between them.
        let numbers = 1 + parts.windows(2).take_while(|pair| pair[0].1 == Some('.') && number(pair[1].0)).count();
        return if numbers > 1 { numbers } else { usize::from(first.len() > 1) };
    }
    let is_hex = first.len() > HEX_CHARS_MAX && first.bytes().all(|c| c.is_ascii_hexdigit());
    let is_hash = is_hex && (first.len() >= HEX_LETTERS_MIN || first.bytes().any(|c| c.is_ascii_digit()));
    let count = |is_of: fn(&u8) -> bool| first.bytes().filter(is_of).count();
    let is_mixed = first.len() >= MIXED_CHARS_MIN
        && count(u8::is_ascii_digit) >= MIXED_DIGITS_MIN
        && count(u8::is_ascii_uppercase) > 0
        && count(u8::is_ascii_lowercase) > 0;
    usize::from(is_hash || is_mixed || first.chars().count() > PART_CHARS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files() {
        let check = |name: &str, want: &str| assert_eq!(normalised(name), want, "{name}");
        check("myfile.v3.0.js", "myfile.*.js");
        check("myfile.7A9B3E.js", "myfile.*.js");
        check("1234.7A9B3E.js", "*.*.js");
        check("jquery-3.6.0.min.js", "jquery-*.min.js");
        check("app-550e8400-e29b-41d4-a716-446655440000.css", "app-*.css");
        check("550e8400-e29b-41d4-a716-446655440000.css", "*.css");
        check("facade.2.js", "facade.2.js");
        check("abcdefghijklmnopqrstuvwxyz.js", "*.js");
        check("UcCO3FwrK3iLTeHuS_fvQtMw2Cp50.woff2", "*_*.woff2");
        check("a_b-c~d.js", "a_b-c~d.js");
        check("app.", "app.");
        check("", "");
    }

    #[test]
    fn addresses() {
        let check = |text: &str, want: &str| assert_eq!(normalised(text), want, "{text}");
        check("https://cdn.example.com/u/7/static/js/app.3f9c2b1a.js?v=1#x", "https://*.example.com/*/static/js/app.*.js");
        check("http://shop.example.org/assets/app.js", "http://*.example.org/assets/app.js");
        check("/assets/app.js", "/assets/app.js");
        check("/a/b/c/app.js", "/*/app.js");
        check("https://example.com", "https://example.com");
        check("https://example.com/", "https://example.com/");
        check("https://example.com?x=1", "https://example.com");
        check("data:image/png;base64,AAAA", "data:*");
        check("chrome-extension://abc/x.js", "chrome-extension:*");
    }
}
