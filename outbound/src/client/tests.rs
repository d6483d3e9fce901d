//! The client against servers of the test's own.

use super::*;
use crate::receivers::{Answer, Receiver};

fn loopback() -> Client {
    Client::new(Reach::allowing(Reach::networks("127.0.0.0/8").unwrap())).unwrap()
}

fn request(method: Method, url: &str) -> Request {
    let body = if method == Method::GET { Bytes::new() } else { Bytes::from_static(b"{}") };
    Request { method, url: url.parse().unwrap(), headers: HeaderMap::new(), body, bounds: Bounds::default() }
}

fn to(location: String, status: u16) -> Answer {
    Answer::Whole(status, vec![("location", location)], String::new())
}

/// Names that the test makes up.
struct MadeUp(Vec<(&'static str, Vec<&'static str>)>);

impl Names for MadeUp {
    fn addresses(&self, name: String) -> std::pin::Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> {
        let found = self.0.iter().find(|(other, _)| *other == name).map(|(_, addresses)| addresses.iter().map(|a| a.parse().unwrap()).collect());
        Box::pin(async move { found.ok_or_else(|| io::Error::other("no such name")) })
    }
}

#[tokio::test]
async fn what_is_not_public_is_not_connected_to_however_it_is_written() {
    let receiver = Receiver::start(|_, _| Answer::Status(200)).await;
    let port = receiver.address.port();
    let client = Client::new(Reach::default()).unwrap();
    for host in ["127.0.0.1", "localhost", "0.0.0.0", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"] {
        let error = client.send(request(Method::POST, &format!("http://{host}:{port}/"))).await.unwrap_err();
        assert!(matches!(error, ClientError::Restricted { .. }) && !error.is_transient(), "{host}: {error}");
        assert!(error.to_string().contains("outbound.allow"), "{error}");
    }
    assert_eq!(receiver.arrived().len(), 0);
    assert_eq!(loopback().send(request(Method::POST, &receiver.url("/"))).await.unwrap().status, 200);
    assert_eq!(loopback().send(request(Method::POST, &format!("http://[::ffff:127.0.0.1]:{port}/"))).await.map(|r| r.status).ok(), Some(StatusCode::OK));
}

#[tokio::test]
async fn of_a_name_only_the_permitted_addresses_are_used() {
    let receiver = Receiver::start(|_, _| Answer::Status(204)).await;
    let names = MadeUp(vec![("both.test", vec!["10.0.0.1", "127.0.0.1"]), ("inside.test", vec!["10.0.0.1", "::ffff:192.168.0.1"]), ("empty.test", vec![])]);
    let reach = Reach::allowing(Reach::networks("127.0.0.0/8").unwrap());
    let client = Client::resolving_with(reach, Arc::new(names)).unwrap();
    let port = receiver.address.port();
    assert_eq!(client.send(request(Method::POST, &format!("http://both.test:{port}/"))).await.unwrap().status, 204);
    let error = client.send(request(Method::POST, &format!("http://inside.test:{port}/"))).await.unwrap_err();
    assert!(matches!(&error, ClientError::Restricted { host, address } if host == "inside.test" && address.to_string() == "10.0.0.1"), "{error}");
    for name in ["empty.test", "unknown.test"] {
        let error = client.send(request(Method::POST, &format!("http://{name}:{port}/"))).await.unwrap_err();
        assert!(matches!(error, ClientError::Connect(_)) && error.is_transient(), "{name}: {error}");
    }
}

#[tokio::test]
async fn every_hop_of_a_redirect_is_checked() {
    let inside = Receiver::start(|_, _| Answer::Status(200)).await;
    let port = inside.address.port();
    // 127.0.0.1 is allowed here and the rest of the loopback network is not.
    for place in [format!("http://127.0.0.2:{port}/"), format!("http://[::1]:{port}/"), format!("//127.0.0.2:{port}/"), format!("http://inside.test:{port}/")] {
        let told = place.clone();
        let door = Receiver::start(move |_, _| to(told.clone(), 307)).await;
        let names = MadeUp(vec![("inside.test", vec!["127.0.0.2"])]);
        let client = Client::resolving_with(Reach::allowing(Reach::networks("127.0.0.1").unwrap()), Arc::new(names)).unwrap();
        let error = client.send(request(Method::POST, &door.url("/"))).await.unwrap_err();
        assert!(matches!(error, ClientError::Restricted { .. }), "{place}: {error}");
    }
    assert_eq!(inside.arrived().len(), 0);
    let door = Receiver::start(|_, _| to("file:///etc/passwd".to_owned(), 302)).await;
    assert!(matches!(loopback().send(request(Method::POST, &door.url("/"))).await, Err(ClientError::Scheme(_))));
}

#[tokio::test]
async fn redirects_keep_what_was_not_delivered_and_end() {
    for (status, method, body) in [(301, "POST", "{}"), (302, "POST", "{}"), (307, "POST", "{}"), (308, "POST", "{}"), (303, "GET", "")] {
        let receiver = Receiver::start(move |arrived, _| if arrived.path == "/from" { to("/to?x=1".to_owned(), status) } else { Answer::Status(200) }).await;
        assert_eq!(loopback().send(request(Method::POST, &receiver.url("/from"))).await.unwrap().status, 200);
        let last = receiver.arrived().pop().unwrap();
        assert_eq!((last.method.as_str(), last.path.as_str(), last.body.as_str()), (method, "/to?x=1", body), "{status}");
    }
    let circle = Receiver::start(|_, _| to("/again".to_owned(), 307)).await;
    let error = loopback().send(request(Method::POST, &circle.url("/"))).await.unwrap_err();
    assert!(matches!(error, ClientError::Redirect(_)), "{error}");
    assert_eq!(circle.arrived().len(), Bounds::default().redirects_max + 1);
    let nowhere = Receiver::start(|_, _| Answer::Status(302)).await;
    assert!(matches!(loopback().send(request(Method::POST, &nowhere.url("/"))).await, Err(ClientError::Redirect(_))));
}

#[test]
fn a_body_is_not_redirected_into_the_clear() {
    let headers = |place: &str| HeaderMap::from_iter([(LOCATION, place.parse().unwrap())]);
    let secure = |method| request(method, "https://example.org/");
    redirect(&secure(Method::POST), StatusCode::PERMANENT_REDIRECT, &headers("http://example.org/")).unwrap_err();
    redirect(&secure(Method::POST), StatusCode::PERMANENT_REDIRECT, &headers("https://example.com/")).unwrap().unwrap();
    redirect(&secure(Method::GET), StatusCode::PERMANENT_REDIRECT, &headers("http://example.org/")).unwrap().unwrap();
}

#[tokio::test]
async fn responses_and_waiting_are_bounded() {
    let long = Receiver::start(|_, _| Answer::Whole(500, vec![("retry-after", "7".to_owned())], "x".repeat(1 << 20))).await;
    let reply = loopback().send(request(Method::POST, &long.url("/"))).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.body.len(), reply.retry_after), (500, Bounds::default().response_bytes_max, Some(Duration::from_secs(7))));
    let silent = Receiver::start(|_, _| Answer::Silence).await;
    let bounds = Bounds { time: Duration::from_millis(50), ..Bounds::default() };
    let error = loopback().send(Request { bounds, ..request(Method::POST, &silent.url("/")) }).await.unwrap_err();
    assert!(matches!(error, ClientError::Timeout(_)) && error.is_transient(), "{error}");
    let gone = Receiver::start(|_, _| Answer::HangUp).await;
    let error = loopback().send(request(Method::POST, &gone.url("/?token=hunter2"))).await.unwrap_err();
    assert!(matches!(error, ClientError::Exchange(_)) && error.is_transient() && !error.to_string().contains("hunter2"), "{error}");
    let closed = TcpListenerThatCloses::url().await;
    let error = loopback().send(request(Method::POST, &closed)).await.unwrap_err();
    assert!(matches!(error, ClientError::Connect(_)) && error.is_transient(), "{error}");
}

/// A port that nobody listens on.
struct TcpListenerThatCloses;

impl TcpListenerThatCloses {
    async fn url() -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}/", listener.local_addr().unwrap())
    }
}

#[tokio::test]
async fn user_and_password_become_a_header() {
    let receiver = Receiver::start(|_, _| Answer::Status(200)).await;
    let url = receiver.url("/").replace("http://", "http://me:hunter2@");
    loopback().send(request(Method::POST, &url)).await.unwrap();
    assert_eq!(receiver.arrived()[0].header("authorization"), Some("Basic bWU6aHVudGVyMg=="));
}

#[test]
fn retry_after_is_seconds_or_a_date_and_bounded() {
    let now = httpdate::parse_http_date("Sun, 22 Nov 2026 10:00:00 GMT").unwrap();
    let seconds = |text: &str| retry_after(text, now).map(|d| d.as_secs());
    assert_eq!(
        [seconds("120"), seconds("0"), seconds("Sun, 22 Nov 2026 10:00:30 GMT"), seconds("Sun, 22 Nov 2026 09:00:00 GMT")],
        [Some(120), Some(0), Some(30), Some(0)]
    );
    assert_eq!([seconds("999999999"), seconds("soon"), seconds("-1")], [Some(3600), None, None]);
}
