//! Which door a path leads to, however its slashes are doubled or left out.

use axum::http::Method;

use weir_protocol::ids::ProjectId;

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door<'a> {
    /// `/api/{project}/envelope/`
    Envelope {
        /// The project as written.
        project: &'a str,
    },
    /// `/api/{project}/store/`, or the legacy `/api/store/` where the key alone says which project.
    Store {
        /// The project as written.
        project: Option<&'a str>,
    },
    /// `/_health/`
    Health,
    /// `/metrics`
    Metrics,
    /// `/api/relay/healthcheck/live/` and `/api/0/relays/live/`: whether the program runs at all.
    Live,
    /// `/api/relay/healthcheck/ready/`: whether it takes requests.
    Ready,
}

/// Segments of the longest path that leads anywhere.
const SEGMENTS_MAX: usize = 4;

impl<'a> Door<'a> {
    /// The door of a path; `None` where there is none. Empty segments do not count (`spec/ingest.md` section 1.1).
    pub(crate) fn of_path(path: &'a str) -> Option<Self> {
        let mut segments = [""; SEGMENTS_MAX];
        let mut count = 0;
        for segment in path.split('/').filter(|s| !s.is_empty()) {
            *segments.get_mut(count)? = segment;
            count += 1;
        }
        match segments[..count] {
            ["_health"] => Some(Self::Health),
            ["metrics"] => Some(Self::Metrics),
            ["api", "store"] => Some(Self::Store { project: None }),
            ["api", project, "envelope"] => Some(Self::Envelope { project }),
            ["api", project, "store"] => Some(Self::Store { project: Some(project) }),
            ["api", "relay", "healthcheck", "live"] | ["api", "0", "relays", "live"] => Some(Self::Live),
            ["api", "relay", "healthcheck", "ready"] => Some(Self::Ready),
            _ => None,
        }
    }

    /// The name that metrics have for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Envelope { .. } => "envelope",
            Self::Store { .. } => "store",
            Self::Health | Self::Live | Self::Ready => "health",
            Self::Metrics => "metrics",
        }
    }

    /// The methods it takes, as the `Allow` header lists them.
    pub(crate) fn allow(self) -> &'static str {
        match self {
            Self::Envelope { .. } => "POST, OPTIONS",
            Self::Store { .. } => "GET, POST, OPTIONS",
            Self::Health | Self::Metrics | Self::Live | Self::Ready => "GET, HEAD",
        }
    }

    /// Whether it takes a method.
    pub(crate) fn takes(self, method: &Method) -> bool {
        self.allow().split(", ").any(|name| name == method.as_str())
    }
}

/// The project that a path names; `None` unless it is a decimal id.
pub(crate) fn project_id(segment: &str) -> Option<ProjectId> {
    // The parser of integers would also take a plus sign.
    segment.bytes().all(|c| c.is_ascii_digit()).then(|| segment.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_doors() {
        let check = |path: &str, want: Option<Door<'_>>| assert_eq!(Door::of_path(path), want, "{path}");
        check("/api/1/envelope/", Some(Door::Envelope { project: "1" }));
        check("/api/1/envelope", Some(Door::Envelope { project: "1" }));
        check("//api///1//envelope//", Some(Door::Envelope { project: "1" }));
        check("/api/abc/envelope/", Some(Door::Envelope { project: "abc" }));
        check("/api/7/store/", Some(Door::Store { project: Some("7") }));
        check("/api/7/store//", Some(Door::Store { project: Some("7") }));
        check("/api/store/", Some(Door::Store { project: None }));
        check("/_health/", Some(Door::Health));
        check("/_health", Some(Door::Health));
        check("/metrics", Some(Door::Metrics));
        check("/api/relay/healthcheck/live/", Some(Door::Live));
        check("/api/relay/healthcheck/ready/", Some(Door::Ready));
        check("/api/0/relays/live/", Some(Door::Live));
        check("/", None);
        check("", None);
        check("*", None);
        check("/api/1/nowhere/", None);
        check("/api/1/envelope/more", None);
        check("/api/1/envelope/more/and/more/still", None);
        check("/API/1/envelope/", None);
    }

    #[test]
    fn projects_are_decimal() {
        let check = |segment: &str, want: Option<ProjectId>| assert_eq!(project_id(segment), want, "{segment}");
        check("1", Some(1));
        check("0042", Some(42));
        check("abc", None);
        check("+1", None);
        check("-1", None);
        check("", None);
        check("18446744073709551616", None);
    }

    #[test]
    fn methods() {
        let check = |path: &str, method: Method, want: bool| assert_eq!(Door::of_path(path).map(|d| d.takes(&method)), Some(want), "{method} {path}");
        check("/api/1/envelope/", Method::POST, true);
        check("/api/1/envelope/", Method::OPTIONS, true);
        check("/api/1/envelope/", Method::GET, false);
        check("/api/1/store/", Method::GET, true);
        check("/api/1/store/", Method::PUT, false);
        check("/_health/", Method::HEAD, true);
        check("/_health/", Method::POST, false);
    }
}
