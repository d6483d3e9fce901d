//! The address of the client: the first of the chain that proxies report, else the peer of the connection.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;

/// Headers that report the chain; the first that has a value counts (`spec/ingest.md` section 1.2).
const FORWARDED: [&str; 4] = ["cf-connecting-ip", "x-vercel-forwarded-for", "x-sentry-forwarded-for", "x-forwarded-for"];

/// The client's address. Without `trust_forwarded` only the peer counts, since anybody can write these headers.
///
/// A chain that begins with something other than an address (`unknown`) has no client: the peer would be a proxy.
pub(crate) fn client_ip(headers: &HeaderMap, peer: Option<IpAddr>, trust_forwarded: bool) -> Option<IpAddr> {
    let chain = FORWARDED.iter().filter(|_| trust_forwarded).filter_map(|name| headers.get(*name)?.to_str().ok());
    let mut firsts = chain.filter_map(|chain| chain.split(',').map(str::trim).find(|element| !element.is_empty()));
    let address = match firsts.next() {
        Some(first) => parse(first),
        None => peer,
    };
    address.map(|ip| ip.to_canonical())
}

/// Some proxies add the port.
fn parse(text: &str) -> Option<IpAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_the_chain() {
        let check = |headers: &[(&'static str, &str)], want: Option<&str>| {
            let map: HeaderMap = headers.iter().map(|(name, value)| (axum::http::HeaderName::from_static(name), value.parse().unwrap())).collect();
            let peer = "192.0.2.9".parse().ok();
            assert_eq!(client_ip(&map, peer, true).map(|ip| ip.to_string()).as_deref(), want, "{headers:?}");
            assert_eq!(client_ip(&map, peer, false), peer, "{headers:?} not trusted");
        };
        check(&[], Some("192.0.2.9"));
        check(&[("x-forwarded-for", "1.2.3.4, 5.6.7.8")], Some("1.2.3.4"));
        check(&[("x-forwarded-for", "1.2.3.4:5678")], Some("1.2.3.4"));
        check(&[("x-forwarded-for", "[2001:db8::1]:80")], Some("2001:db8::1"));
        check(&[("x-forwarded-for", "[2001:db8::1]")], Some("2001:db8::1"));
        check(&[("x-forwarded-for", "2001:DB8::1")], Some("2001:db8::1"));
        check(&[("x-forwarded-for", "::ffff:1.2.3.4")], Some("1.2.3.4"));
        check(&[("x-forwarded-for", " , 1.2.3.4")], Some("1.2.3.4"));
        check(&[("x-forwarded-for", "")], Some("192.0.2.9"));
        check(&[("x-forwarded-for", "unknown, 1.2.3.4")], None);
        check(&[("x-forwarded-for", "1.1.1.1"), ("x-sentry-forwarded-for", "2.2.2.2")], Some("2.2.2.2"));
        check(&[("x-sentry-forwarded-for", "2.2.2.2"), ("x-vercel-forwarded-for", "3.3.3.3")], Some("3.3.3.3"));
        check(&[("x-vercel-forwarded-for", "3.3.3.3"), ("cf-connecting-ip", "4.4.4.4")], Some("4.4.4.4"));
    }
}
