//! Real connections on loopback: slow ones, refused ones, and the end of the program.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::world::{World, auth};
use crate::{Connections, Options, serve_within};

struct Served {
    world: World,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<std::io::Result<()>>,
}

async fn served(options: Options, connections: Connections) -> Served {
    let world = World::new(options);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async move {
        let _ = stopped.await;
    };
    let served = tokio::spawn(serve_within(listener, world.router.clone(), connections, shutdown));
    Served { world, address, stop, served }
}

fn head(path: &str, length: usize) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{}\r\nContent-Length: {length}\r\n\r\n", auth())
}

/// Reads to the end and returns the status; 0 where the connection closed without one.
async fn status(stream: &mut TcpStream) -> u16 {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn a_request_in_flight_is_finished_when_the_program_stops() {
    let served = served(Options::default(), Connections::default()).await;
    let idle = TcpStream::connect(served.address).await.unwrap();
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let body = "{\"message\":\"m\"}";
    stream.write_all(format!("{}{}", head("/api/1/store/", body.len()), &body[..5]).as_bytes()).await.unwrap();
    // A second request on a third connection shows that the server has been reading by now.
    let mut third = TcpStream::connect(served.address).await.unwrap();
    third.write_all(format!("{}{body}", head("/api/1/store/", body.len())).as_bytes()).await.unwrap();
    assert_eq!(status(&mut third).await, 200);
    served.stop.send(()).unwrap();
    stream.write_all(&body.as_bytes()[5..]).await.unwrap();
    assert_eq!(status(&mut stream).await, 200);
    served.served.await.unwrap().unwrap();
    assert_eq!(served.world.intakes().len(), 2);
    assert!(TcpStream::connect(served.address).await.is_err(), "nothing is accepted any more");
    drop(idle);
}

#[tokio::test]
async fn a_request_that_never_ends_does_not_hold_the_program() {
    let connections = Connections { finish: Duration::from_millis(50), ..Connections::default() };
    let served = served(Options::default(), connections).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(head("/api/1/store/", 100).as_bytes()).await.unwrap();
    served.stop.send(()).unwrap();
    served.served.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_body_that_stands_still_is_given_up() {
    let options = Options { body_idle: Duration::from_millis(50), drain_time: Duration::from_millis(50), ..Options::default() };
    let served = served(options, Connections::default()).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(format!("{}{{", head("/api/1/store/", 100)).as_bytes()).await.unwrap();
    assert_eq!(status(&mut stream).await, 408);
}

#[tokio::test]
async fn a_head_that_stands_still_is_given_up() {
    let connections = Connections { head: Duration::from_millis(50), ..Connections::default() };
    let served = served(Options::default(), connections).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(b"POST /api/1/store/ HTTP/1.1\r\nHost:").await.unwrap();
    assert_eq!(status(&mut stream).await, 0);
}

#[tokio::test]
async fn the_client_of_a_refused_body_reads_the_status() {
    let options = Options { drain_bytes_max: 64 << 20, ..Options::default() };
    let served = served(options, Connections::default()).await;
    for (path, want) in [("/api/1/store/", 413), ("/api/7/store/", 403), ("/api/1/nowhere/", 404)] {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        let body = vec![b'x'; 16 << 20];
        stream.write_all(head(path, body.len()).as_bytes()).await.unwrap();
        stream.write_all(&body).await.unwrap();
        assert_eq!(status(&mut stream).await, want, "{path}");
    }
}

#[tokio::test]
async fn connections_past_the_bound_wait() {
    let connections = Connections { count_max: 1, ..Connections::default() };
    let served = served(Options::default(), connections).await;
    let body = "{}";
    let mut first = TcpStream::connect(served.address).await.unwrap();
    first.write_all(&head("/api/1/store/", body.len()).as_bytes()[..10]).await.unwrap();
    let mut second = TcpStream::connect(served.address).await.unwrap();
    second.write_all(format!("{}{body}", head("/api/1/store/", body.len())).as_bytes()).await.unwrap();
    let waits = tokio::time::timeout(Duration::from_millis(100), second.readable()).await;
    assert!(waits.is_err(), "the second connection is not served beside the first");
    drop(first);
    assert_eq!(status(&mut second).await, 200);
}
