//! The HTTP client for addresses that somebody else names: bounded in every way, and kept from the network behind it.
//!
//! A name is resolved once, by this client, and only the addresses that [`Reach`] permits are connected to, so that a name that
//! changes its address between a check and the connection gains nothing. Redirects are followed here and not by the library
//! below: each hop is checked as the first was. No proxy is taken from the environment, since it would resolve names itself.

use std::error::Error as _;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Method, Response, StatusCode};
use rustls::{ClientConfig, RootCertStore};
use url::{Host, Url};

use crate::reach::Reach;

/// A request.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET`, `POST` and the like.
    pub method: Method,
    /// Where to; `http` or `https`. A user and a password in it become basic authentication.
    pub url: Url,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// Its bounds.
    pub bounds: Bounds,
}

/// How much a request may take.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Everything together: names, connections, redirects, the reading of the response.
    pub time: Duration,
    /// Redirects that are followed.
    pub redirects_max: usize,
    /// Bytes of the response's body that are read; the rest is left.
    pub response_bytes_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { time: Duration::from_secs(10), redirects_max: 5, response_bytes_max: 64 << 10 }
    }
}

/// What came back from the last hop.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// What `Retry-After` asks for.
    pub retry_after: Option<Duration>,
    /// The beginning of the body.
    pub body: Vec<u8>,
}

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// An address that may not be reached.
    #[error("{host} is restricted: {address} is not a public address, and outbound.allow does not name its network")]
    Restricted {
        /// What was to be reached.
        host: String,
        /// Its first address.
        address: IpAddr,
    },
    /// The scheme is neither `http` nor `https`.
    #[error("the URL has the scheme {0:?}: only https and http are sent to")]
    Scheme(String),
    /// A redirect that is not followed.
    #[error("a redirect is not followed: {0}")]
    Redirect(String),
    /// The time was over.
    #[error("no answer within {} s", .0.as_secs_f64())]
    Timeout(Duration),
    /// No connection, or no TLS.
    #[error("no connection: {0}")]
    Connect(String),
    /// The exchange broke.
    #[error("no response: {0}")]
    Exchange(String),
    /// The client itself cannot be made.
    #[error("the HTTP client cannot be made: {0}")]
    Setup(String),
}

impl ClientError {
    /// Whether the same request may succeed another time.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Timeout(_) | Self::Connect(_) | Self::Exchange(_) => true,
            Self::Restricted { .. } | Self::Scheme(_) | Self::Redirect(_) | Self::Setup(_) => false,
        }
    }
}

/// The client. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    reach: Arc<Reach>,
}

const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
const IDLE_TIME_MAX: Duration = Duration::from_secs(30);
const IDLE_CONNECTIONS_PER_HOST_MAX: usize = 4;
/// A longer `Retry-After` counts as this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

impl Client {
    /// A client that reaches what it may.
    ///
    /// # Errors
    /// [`ClientError::Setup`]
    pub fn new(reach: Reach) -> Result<Self, ClientError> {
        Self::resolving_with(reach, Arc::new(SystemNames))
    }

    fn resolving_with(reach: Reach, names: Arc<dyn Names>) -> Result<Self, ClientError> {
        let reach = Arc::new(reach);
        let http = reqwest::Client::builder()
            .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .referer(false)
            .redirect(Policy::none())
            .dns_resolver(Arc::new(GuardedNames { names, reach: reach.clone() }))
            .connect_timeout(CONNECT_TIME_MAX)
            .pool_idle_timeout(IDLE_TIME_MAX)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_PER_HOST_MAX)
            .tls_backend_preconfigured(tls()?)
            .build()
            .map_err(|e| ClientError::Setup(chain(&e)))?;
        Ok(Self { http, reach })
    }

    /// Sends a request, follows its redirects, and reads the response.
    ///
    /// A redirect of a `GET` is a `GET`. Of another method 301, 302, 307 and 308 repeat method and body, since a receiver that moved
    /// has not seen it yet, and 303 becomes a `GET`. A redirect from https to http is followed for `GET` alone: a body is not sent in
    /// the clear where it was to be encrypted.
    ///
    /// # Errors
    /// [`ClientError`]; a status that says failure is a reply.
    pub async fn send(&self, request: Request) -> Result<Reply, ClientError> {
        let time = request.bounds.time;
        tokio::time::timeout(time, self.follow(request)).await.unwrap_or(Err(ClientError::Timeout(time)))
    }

    async fn follow(&self, mut request: Request) -> Result<Reply, ClientError> {
        for _ in 0..=request.bounds.redirects_max {
            let response = self.hop(&request).await?;
            match redirect(&request, response.status(), response.headers())? {
                Some((method, url)) => {
                    if method != request.method {
                        request.body = Bytes::new();
                    }
                    (request.method, request.url) = (method, url);
                }
                None => return read(response, request.bounds.response_bytes_max).await,
            }
        }
        Err(ClientError::Redirect(format!("there were {} before it", request.bounds.redirects_max)))
    }

    async fn hop(&self, request: &Request) -> Result<Response, ClientError> {
        if !matches!(request.url.scheme(), "http" | "https") {
            return Err(ClientError::Scheme(request.url.scheme().to_owned()));
        }
        // The library asks no resolver for an address, so addresses are checked here and names in `GuardedNames`.
        let literal = match request.url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            Some(Host::Domain(_)) | None => None,
        };
        if let Some(address) = literal.filter(|address| !self.reach.permits(*address)) {
            return Err(ClientError::Restricted { host: request.url.host_str().unwrap_or_default().to_owned(), address });
        }
        let sent = self.http.request(request.method.clone(), request.url.clone()).headers(request.headers.clone()).body(request.body.clone()).send().await;
        sent.map_err(|e| in_words(e, request.bounds.time))
    }
}

/// Where a response leads, if it leads somewhere else.
fn redirect(request: &Request, status: StatusCode, headers: &HeaderMap) -> Result<Option<(Method, Url)>, ClientError> {
    let method = match status.as_u16() {
        301 | 302 | 307 | 308 => request.method.clone(),
        303 if request.method == Method::HEAD => Method::HEAD,
        303 => Method::GET,
        _ => return Ok(None),
    };
    let location = headers.get(LOCATION).ok_or_else(|| ClientError::Redirect(format!("the {} names no place", status.as_u16())))?;
    let wrong = || ClientError::Redirect(format!("the {} names a place that is no URL", status.as_u16()));
    let url = location.to_str().ok().and_then(|location| request.url.join(location).ok()).ok_or_else(wrong)?;
    if request.url.scheme() == "https" && url.scheme() == "http" && method != Method::GET {
        return Err(ClientError::Redirect("it leads from https to http".to_owned()));
    }
    Ok(Some((method, url)))
}

async fn read(mut response: Response, bytes_max: usize) -> Result<Reply, ClientError> {
    let status = response.status();
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).and_then(|text| retry_after(text, SystemTime::now()));
    let mut body = Vec::new();
    // The status has been received: a body that breaks off does not change what it says.
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = bytes_max - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == bytes_max {
            break;
        }
    }
    Ok(Reply { status, retry_after, body })
}

/// Seconds, or a date (RFC 9110 section 10.2.3).
fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let asked = match text.trim().parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text.trim()).ok()?.duration_since(now).unwrap_or_default(),
    };
    Some(asked.min(RETRY_AFTER_MAX))
}

fn tls() -> Result<ClientConfig, ClientError> {
    let mut roots = RootCertStore::empty();
    // Certificates of the system that cannot be read are left out; if none is left, every https request says so.
    let (_added, _ignored) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| ClientError::Setup(e.to_string()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// What went wrong, without the URL, which may hold a secret.
fn in_words(error: reqwest::Error, time: Duration) -> ClientError {
    let error = error.without_url();
    if let Some(ClientError::Restricted { host, address }) = restriction(&error) {
        return ClientError::Restricted { host: host.clone(), address: *address };
    }
    if error.is_connect() {
        ClientError::Connect(chain(&error))
    } else if error.is_timeout() {
        ClientError::Timeout(time)
    } else {
        ClientError::Exchange(chain(&error))
    }
}

/// The refusal of [`GuardedNames`], somewhere below the library's own errors.
fn restriction(error: &reqwest::Error) -> Option<&ClientError> {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(found) = error.downcast_ref::<ClientError>() {
            return Some(found);
        }
        source = error.source();
    }
    None
}

/// The innermost cause, which is the one that says something.
fn chain(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// Turns a name into addresses.
trait Names: Send + Sync + 'static {
    fn addresses(&self, name: String) -> std::pin::Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;
}

/// The resolver of the operating system.
struct SystemNames;

impl Names for SystemNames {
    fn addresses(&self, name: String) -> std::pin::Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect()) })
    }
}

/// Names, of which only the permitted addresses are told.
struct GuardedNames {
    names: Arc<dyn Names>,
    reach: Arc<Reach>,
}

impl Resolve for GuardedNames {
    fn resolve(&self, name: Name) -> Resolving {
        let (host, names, reach) = (name.as_str().to_owned(), self.names.clone(), self.reach.clone());
        Box::pin(async move {
            let addresses = names.addresses(host.clone()).await?;
            let permitted: Vec<SocketAddr> = addresses.iter().filter(|a| reach.permits(**a)).map(|a| SocketAddr::new(*a, 0)).collect();
            match addresses.first() {
                Some(first) if permitted.is_empty() => Err(ClientError::Restricted { host, address: *first }.into()),
                _ => Ok(Box::new(permitted.into_iter()) as Addrs),
            }
        })
    }
}

#[cfg(test)]
mod tests;
