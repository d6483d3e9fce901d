//! Which addresses may be connected to when somebody else names them.
//!
//! Whoever writes a subscription chooses where the server sends to. Without a filter that is a way to the server's own network:
//! other programs on the host, the cloud's metadata service, routers. So only public addresses are reached, and networks that the
//! operator names in `outbound.allow`.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

pub use ipnet::IpNet;

/// The networks that are not public (`spec/subsystems.md` section 1): this host, private use, link-local, shared, documentation,
/// benchmarks, relays and translators to IPv4, multicast, reserved.
const NOT_PUBLIC: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    // Holds ::, which reaches the local host on Linux, ::1, and the deprecated IPv4-compatible addresses.
    "::/96",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "100::/64",
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
];

/// What may be reached: public addresses, and what is allowed besides.
#[derive(Debug, Clone)]
pub struct Reach {
    allowed: Vec<IpNet>,
    denied: Vec<IpNet>,
}

/// A text that names no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no network: write 10.1.0.0/16, fd00::/8 or a single address")]
pub struct NetworkError {
    /// The text.
    text: String,
}

impl Default for Reach {
    /// Public addresses only.
    fn default() -> Self {
        Self::allowing(Vec::new())
    }
}

impl Reach {
    /// Public addresses and these networks.
    pub fn allowing(allowed: Vec<IpNet>) -> Self {
        let denied = NOT_PUBLIC.iter().map(|network| network.parse().expect("the table holds networks")).collect();
        Self { allowed, denied }
    }

    /// The networks of a text, separated by commas; an address by itself is a network of one.
    ///
    /// # Errors
    /// Names the part that is no network.
    pub fn networks(text: &str) -> Result<Vec<IpNet>, NetworkError> {
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(network).collect()
    }

    /// Whether an address may be connected to. An IPv4 address that is mapped into IPv6 counts as what it is.
    pub fn permits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let within = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&address));
        within(&self.allowed) || !within(&self.denied)
    }

    /// The networks that are allowed besides public addresses.
    pub fn allowed(&self) -> &[IpNet] {
        &self.allowed
    }
}

fn network(text: &str) -> Result<IpNet, NetworkError> {
    let wrong = || NetworkError { text: text.to_owned() };
    let network = IpNet::from_str(text).or_else(|_| IpAddr::from_str(text).map(IpNet::from)).map_err(|_| wrong())?;
    // A mapped network would never match, since addresses are unwrapped before they are compared.
    match network {
        IpNet::V6(v6) if is_mapped(v6.addr()) => Err(wrong()),
        network => Ok(network),
    }
}

fn is_mapped(address: Ipv6Addr) -> bool {
    address.to_ipv4_mapped().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_addresses_are_reached_and_others_are_not() {
        let reach = Reach::default();
        let check = |addresses: &[&str], want: bool| {
            for address in addresses {
                assert_eq!(reach.permits(address.parse().unwrap()), want, "{address}");
            }
        };
        // Each network's first and last address, and its neighbours where these are public.
        check(&["0.0.0.0", "0.255.255.255", "10.0.0.0", "10.255.255.255", "100.64.0.0", "100.127.255.255", "127.0.0.1", "127.255.255.255"], false);
        check(&["1.0.0.0", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0"], true);
        check(&["169.254.169.254", "172.16.0.0", "172.31.255.255", "192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.0.0", "192.168.255.255"], false);
        check(
            &["169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.0.3.0", "192.88.98.255", "192.167.255.255", "192.169.0.0"],
            true,
        );
        check(&["198.18.0.0", "198.19.255.255", "198.51.100.7", "203.0.113.255", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"], false);
        check(&["198.17.255.255", "198.20.0.0", "198.51.99.255", "203.0.112.255", "203.0.114.0", "223.255.255.255", "8.8.8.8"], true);
        check(&["::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::1", "64:ff9b:1::1", "100::1"], false);
        check(&["2001::1", "2001:1ff::1", "2001:db8::1", "2002:7f00:1::1", "fc00::1", "fdff::1", "fe80::1", "febf::1", "fec0::1", "feff::1", "ff02::1"], false);
        check(&["2001:200::1", "2001:4860:4860::8888", "2606:4700::1111", "2003::1", "::ffff:8.8.8.8", "64:ff9b:2::1", "101::1"], true);
    }

    #[test]
    fn allowed_networks_are_reached_in_every_form_of_their_addresses() {
        let reach = Reach::allowing(Reach::networks("127.0.0.0/8, 10.1.0.0/16,fd00::/8, 192.168.1.5").unwrap());
        let permits = |address: &str| reach.permits(address.parse().unwrap());
        assert!(["127.0.0.1", "::ffff:127.0.0.1", "10.1.255.255", "fd00::1", "192.168.1.5", "8.8.8.8"].into_iter().all(permits));
        assert!(!["10.2.0.0", "::1", "192.168.1.6", "fc00::1", "::ffff:10.2.0.1"].into_iter().any(permits));
        assert!(Reach::networks("").unwrap().is_empty());
        for text in ["localhost", "10.0.0.0/33", "10.0.0", "10.0.0.0/8 127.0.0.0/8", "::ffff:127.0.0.1"] {
            assert_eq!(Reach::networks(text), Err(NetworkError { text: text.to_owned() }));
        }
    }
}
