//! Servers for tests: an HTTP receiver and a mail server on the loopback address, each with answers that the test chooses.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Arrived {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Arrived {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// What the receiver does with a request.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Status(u16),
    /// Status, headers, body.
    Whole(u16, Vec<(&'static str, String)>, String),
    /// Closes the connection without an answer.
    HangUp,
    /// Answers nothing.
    Silence,
}

type Answers = Arc<dyn Fn(&Arrived, usize) -> Answer + Send + Sync>;

/// An HTTP server. It remembers what arrived; the answer is a function of the request and of how many arrived before it.
#[derive(Clone)]
pub(crate) struct Receiver {
    pub address: SocketAddr,
    arrived: Arc<Mutex<Vec<Arrived>>>,
}

impl Receiver {
    pub async fn start(answers: impl Fn(&Arrived, usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Self { address: listener.local_addr().unwrap(), arrived: Arc::default() };
        let (arrived, answers): (_, Answers) = (receiver.arrived.clone(), Arc::new(answers));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, arrived.clone(), answers.clone()));
            }
        });
        receiver
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn arrived(&self) -> Vec<Arrived> {
        self.arrived.lock().unwrap().clone()
    }

    /// Waits until so many requests arrived.
    pub async fn until(&self, count: usize) -> Vec<Arrived> {
        until(|| self.arrived(), |arrived| arrived.len() >= count).await
    }
}

/// Asks again and again until the answer is as wanted; a test that waits for half a minute has failed.
pub(crate) async fn until<T: std::fmt::Debug>(ask: impl Fn() -> T, wanted: impl Fn(&T) -> bool) -> T {
    for _ in 0..3_000 {
        let answer = ask();
        if wanted(&answer) {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("what was waited for did not come: {:?}", ask());
}

async fn serve(stream: TcpStream, arrived: Arc<Mutex<Vec<Arrived>>>, answers: Answers) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream).await {
        let before = {
            let mut arrived = arrived.lock().unwrap();
            arrived.push(request.clone());
            arrived.len() - 1
        };
        let (status, headers, body) = match answers(&request, before) {
            Answer::Status(status) => (status, Vec::new(), String::new()),
            Answer::Whole(status, headers, body) => (status, headers, body),
            Answer::HangUp => return,
            Answer::Silence => std::future::pending().await,
        };
        let mut head = format!("HTTP/1.1 {status} Said\r\ncontent-length: {}\r\n", body.len());
        headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        if stream.write_all(format!("{head}\r\n{body}").as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Arrived> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let mut first = lines.first()?.split(' ').map(str::to_owned);
    let headers: Vec<(String, String)> = lines[1..].iter().filter_map(|line| line.split_once(": ")).map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
    let length = headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Arrived { method: first.next()?, path: first.next()?, headers, body: String::from_utf8(body).unwrap() })
}

/// A mail as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct ArrivedMail {
    pub to: String,
    pub text: String,
}

/// A mail server. What it answers to the recipient and to the mail is chosen by how many mails were begun before.
#[derive(Clone)]
pub(crate) struct MailServer {
    pub address: SocketAddr,
    arrived: Arc<Mutex<Vec<ArrivedMail>>>,
}

type MailAnswers = Arc<dyn Fn(&str, usize) -> (&'static str, &'static str) + Send + Sync>;

impl MailServer {
    /// `answers` is given the recipient and a count, and gives the replies to RCPT and to the end of DATA.
    pub async fn start(answers: impl Fn(&str, usize) -> (&'static str, &'static str) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self { address: listener.local_addr().unwrap(), arrived: Arc::default() };
        let (arrived, answers, begun): (_, MailAnswers, Arc<Mutex<usize>>) = (server.arrived.clone(), Arc::new(answers), Arc::default());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(exchange(stream, arrived.clone(), answers.clone(), begun.clone()));
            }
        });
        server
    }

    pub fn arrived(&self) -> Vec<ArrivedMail> {
        self.arrived.lock().unwrap().clone()
    }
}

async fn exchange(stream: TcpStream, arrived: Arc<Mutex<Vec<ArrivedMail>>>, answers: MailAnswers, begun: Arc<Mutex<usize>>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let (mut to, mut end_of_data) = (String::new(), "250 taken");
    stream.write_all(b"220 test\r\n").await.ok()?;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let command = line.trim_end().to_ascii_uppercase();
        let reply = if command.starts_with("RCPT TO:") {
            to = line.trim_end()[8..].trim_matches(['<', '>']).to_owned();
            let before = {
                let mut begun = begun.lock().unwrap();
                *begun += 1;
                *begun - 1
            };
            let (recipient, end) = answers(&to, before);
            end_of_data = end;
            recipient
        } else if command == "DATA" {
            stream.write_all(b"354 go on\r\n").await.ok()?;
            let mut text = String::new();
            while !text.ends_with("\r\n.\r\n") {
                stream.read_line(&mut text).await.ok()?;
            }
            if end_of_data.starts_with('2') {
                arrived.lock().unwrap().push(ArrivedMail { to: to.clone(), text });
            }
            end_of_data
        } else if command == "QUIT" {
            stream.write_all(b"221 bye\r\n").await.ok()?;
            return None;
        } else {
            "250 well"
        };
        stream.write_all(format!("{reply}\r\n").as_bytes()).await.ok()?;
    }
}
