//! Addresses of requests: of the address the domain is left, of which `*` stands for all subdomains (docs.sentry.io, "Requests").

use std::net::Ipv4Addr;

/// Methods that a description begins with (develop.sentry.dev, "Requests Module").
const METHODS: [&str; 9] = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];

/// Labels that belong to the suffix where a country's follows them: `co.uk`.
const SECOND_LEVEL: [&str; 11] = ["ac", "co", "com", "edu", "gob", "gov", "go", "ne", "net", "or", "org"];

/// The method and the domain of `GET https://www.example.com/a?b`; `None` where the text has no method or is not of HTTP. The host
/// of an address without one is where the request was sent to, if that is known.
pub(super) fn request(text: &str, host: Option<&str>) -> Option<String> {
    let (method, address) = text.trim().split_once(' ')?;
    let method = METHODS.into_iter().find(|known| known.eq_ignore_ascii_case(method))?;
    let address = address.trim();
    if let Some((scheme, rest)) = scheme(address) {
        return Some(format!("{method} {scheme}://{}", domain(authority(rest))));
    }
    if address.contains("://") {
        return None;
    }
    Some(host.map_or_else(|| format!("{method} *"), |host| format!("{method} {}", domain(authority(host)))))
}

/// The scheme of an address of HTTP, and what follows it.
pub(super) fn scheme(address: &str) -> Option<(&'static str, &str)> {
    ["https", "http"].into_iter().find_map(|scheme| {
        let (start, rest) = address.split_at_checked(scheme.len())?;
        Some((scheme, rest.strip_prefix("://").filter(|_| start.eq_ignore_ascii_case(scheme))?))
    })
}

/// The host and port that an address begins with, and not the user's name.
pub(super) fn authority(address: &str) -> &str {
    let end = address.find(['/', '?', '#', '\\']).unwrap_or(address.len());
    let authority = &address[..end];
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// The domain without its subdomains, in lower case: `www.example.com:8080` is `*.example.com:8080`.
pub(super) fn domain(authority: &str) -> String {
    let authority = authority.to_ascii_lowercase();
    if authority.starts_with('[') {
        return "*".to_owned();
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) if port.bytes().all(|c| c.is_ascii_digit()) => (host, Some(port).filter(|port| !port.is_empty())),
        _ => (authority.as_str(), None),
    };
    let mut domain = registered(host.trim_end_matches('.'));
    if let Some(port) = port {
        domain.push(':');
        domain.push_str(port);
    }
    domain
}

fn registered(host: &str) -> String {
    if host.is_empty() || host.contains(':') {
        return "*".to_owned();
    }
    // The machine itself says something, any other number of a machine does not (getsentry/relay#3383).
    if let Ok(machine) = host.parse::<Ipv4Addr>() {
        return if machine == Ipv4Addr::LOCALHOST { host } else { "*.*.*.*" }.to_owned();
    }
    let labels: Vec<&str> = host.split('.').collect();
    let kept = match labels.as_slice() {
        [.., second, top] if top.len() == 2 && SECOND_LEVEL.contains(second) => 3,
        _ => 2,
    };
    match labels.len().checked_sub(kept) {
        None | Some(0) => host.to_owned(),
        Some(sub) => format!("*.{}", labels[sub..].join(".")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        let check = |text: &str, host: Option<&str>, want: Option<&str>| assert_eq!(request(text, host).as_deref(), want, "{text}");
        check("GET https://www.example.com/a/1?b=2#c", None, Some("GET https://*.example.com"));
        check("post http://example.com", None, Some("POST http://example.com"));
        check("GET HTTPS://a.b.c.example.com:8080/x", None, Some("GET https://*.example.com:8080"));
        check("GET https://user:secret@shop.example.co.uk/", None, Some("GET https://*.example.co.uk"));
        check("GET https://example.co.uk", None, Some("GET https://example.co.uk"));
        check("GET http://localhost:3000/x", None, Some("GET http://localhost:3000"));
        check("GET http://10.0.0.1:3000/x", None, Some("GET http://*.*.*.*:3000"));
        check("GET http://127.0.0.1:3000/x", None, Some("GET http://127.0.0.1:3000"));
        check("GET http://[::1]:3000/x", None, Some("GET http://*"));
        check("GET /data.json?user=1", Some("app.example.com"), Some("GET *.example.com"));
        check("GET /data.json", None, Some("GET *"));
        check("GET ftp://example.com", None, None);
        check("https://example.com", None, None);
        check("FETCH https://example.com", None, None);
        check("", None, None);
    }
}
