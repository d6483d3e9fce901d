//! Where envelopes are sent: a project, by its DSN.

use anyhow::{Context, bail};
use hyper::header::{CONTENT_ENCODING, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Uri};
use weir_protocol::ProjectId;
use weir_protocol::dsn::Dsn;
use weir_protocol::encoding::Encoding;

use super::corpus::{Auth, Sample};

/// A project to send to.
#[derive(Debug, Clone)]
pub struct Target {
    /// The DSN as it was given.
    pub dsn: String,
    /// Its public key.
    pub key: String,
    /// Its project.
    pub project_id: ProjectId,
    /// Host and port.
    pub address: String,
    /// What stands before `/api/`.
    prefix: String,
}

/// The head of a request, made once for each sample, target and encoding.
#[derive(Debug, Clone)]
pub struct Head {
    uri: Uri,
    headers: HeaderMap,
}

impl Target {
    /// The target of a DSN.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let dsn: Dsn = text.parse().with_context(|| format!("the DSN {text:?}"))?;
        if dsn.scheme != "http" {
            bail!("the DSN {text:?}: load is sent over plain HTTP; name the server itself, not what terminates TLS before it");
        }
        let has_port = dsn.host.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|c| c.is_ascii_digit()));
        let address = if has_port { dsn.host.clone() } else { format!("{}:80", dsn.host) };
        let path = text.split_once('@').and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, path)| path);
        let prefix = path.trim_end_matches('/').rsplit_once('/').map(|(prefix, _)| format!("/{prefix}")).unwrap_or_default();
        Ok(Self { dsn: text.to_owned(), key: dsn.public_key.to_string(), project_id: dsn.project_id, address, prefix })
    }

    /// The head of a sample's request to this target.
    pub fn head(&self, sample: &Sample, encoding: Encoding) -> anyhow::Result<Head> {
        let query = match &sample.auth {
            Auth::Query(query) => format!("?{}", with_key(query, &self.key)),
            Auth::Header(_) | Auth::Envelope => String::new(),
        };
        let uri = format!("{}/api/{}/envelope/{query}", self.prefix, self.project_id).parse().with_context(|| format!("the path of {}", sample.name))?;
        let mut headers = HeaderMap::new();
        let value = |text: &str| HeaderValue::from_str(text).with_context(|| format!("a header of {}", sample.name));
        for (name, text) in &sample.headers {
            headers.append(HeaderName::from_bytes(name.as_bytes()).with_context(|| format!("a header of {}", sample.name))?, value(text)?);
        }
        if let Auth::Header(auth) = &sample.auth {
            headers.insert("x-sentry-auth", value(&with_key(auth, &self.key))?);
        }
        if encoding != Encoding::Identity {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding.name()));
        }
        headers.insert(HOST, value(&self.address)?);
        Ok(Head { uri, headers })
    }
}

impl Head {
    /// The request with a body.
    pub fn request<B>(&self, body: B) -> Request<B> {
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

/// The text with this key after `sentry_key=`.
fn with_key(text: &str, key: &str) -> String {
    const NAME: &str = "sentry_key=";
    let Some(at) = text.find(NAME).map(|at| at + NAME.len()) else { return text.to_owned() };
    let rest = text[at..].trim_start_matches(|c: char| c.is_ascii_hexdigit());
    format!("{}{key}{rest}", &text[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn dsns() {
        let check = |text: String, want: Option<(&str, &str)>| {
            let got = Target::parse(&text).ok();
            assert_eq!(got.as_ref().map(|t| (t.address.as_str(), t.prefix.as_str())), want, "{text}");
        };
        check(format!("http://{KEY}@127.0.0.1:9000/1"), Some(("127.0.0.1:9000", "")));
        check(format!("http://{KEY}@weir.example.org/1"), Some(("weir.example.org:80", "")));
        check(format!("http://{KEY}@[::1]:9000/1"), Some(("[::1]:9000", "")));
        check(format!("http://{KEY}@[::1]/1"), Some(("[::1]:80", "")));
        check(format!("http://{KEY}@h:1/some/path/42"), Some(("h:1", "/some/path")));
        check(format!("https://{KEY}@h/1"), None);
        check("http://h/1".to_owned(), None);
    }

    #[test]
    fn keys_are_put_in_place_of_the_recorded_ones() {
        let check = |text: &str, want: &str| assert_eq!(with_key(text, "NEW"), want);
        check("sentry_version=7&sentry_key=0123456789abcdef&sentry_client=a", "sentry_version=7&sentry_key=NEW&sentry_client=a");
        check("Sentry sentry_key=0123456789abcdef, sentry_version=7", "Sentry sentry_key=NEW, sentry_version=7");
        check("Sentry sentry_key=", "Sentry sentry_key=NEW");
        check("nothing", "nothing");
    }
}
