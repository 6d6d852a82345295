//! As much of HTTP/1.1 as the metadata services and their clients speak, on the standard library.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::namespace::Namespace;
use super::wait::uninterrupted;

/// A request, on either side.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET`, `PUT`
    pub method: String,
    /// With its query, as sent.
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
}

impl Request {
    /// A GET request.
    pub fn get(path: &str) -> Self {
        Self {
            method: "GET".into(),
            path: path.into(),
            headers: BTreeMap::new(),
        }
    }

    /// A PUT request without a body.
    pub fn put(path: &str) -> Self {
        Self {
            method: "PUT".into(),
            ..Self::get(path)
        }
    }

    /// With a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.insert(name.to_ascii_lowercase(), value.into());
        self
    }

    /// Sends it and reads the whole answer. `patience` bounds every single wait.
    pub fn send(&self, to: SocketAddr, patience: Duration) -> io::Result<Response> {
        let mut stream = TcpStream::connect_timeout(&to, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        let mut text = format!("{} {} HTTP/1.1\r\nhost: {to}\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("content-length: 0\r\nconnection: close\r\n\r\n");
        stream.write_all(text.as_bytes())?;
        Response::read(&mut BufReader::new(stream))
    }

    /// Reads one, without a body.
    pub fn read(stream: &mut impl io::BufRead) -> io::Result<Self> {
        let (first, headers) = read_head(stream)?;
        let mut words = first.split_ascii_whitespace();
        let (Some(method), Some(path)) = (words.next(), words.next()) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("no request: {first}"),
            ));
        };
        Ok(Self {
            method: method.into(),
            path: path.into(),
            headers,
        })
    }
}

/// An answer, on either side.
#[derive(Clone, Debug)]
pub struct Response {
    /// 200, 401, 404
    pub status: u16,
    /// What the body is, where the client needs to know.
    pub content_type: Option<&'static str>,
    /// The body.
    pub body: String,
}

impl Response {
    /// 200, with this body.
    pub fn ok(body: impl Into<String>) -> Self {
        Self {
            status: 200,
            content_type: None,
            body: body.into(),
        }
    }

    /// A bare status.
    pub fn status(status: u16) -> Self {
        Self {
            status,
            content_type: None,
            body: String::new(),
        }
    }

    /// The body as JSON; panics where it is none.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    fn read(stream: &mut impl io::BufRead) -> io::Result<Self> {
        let (first, headers) = read_head(stream)?;
        let status = first
            .split_ascii_whitespace()
            .nth(1)
            .and_then(|word| word.parse().ok());
        let length = headers
            .get("content-length")
            .and_then(|text| text.parse().ok());
        let (Some(status), Some(length)) = (status, length) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("no answer: {first}"),
            ));
        };
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        Ok(Self {
            status,
            content_type: None,
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    }

    /// Sends it.
    pub fn write(&self, stream: &mut impl io::Write) -> io::Result<()> {
        let (status, body) = (self.status, &self.body);
        let length = body.len();
        let content_type = self
            .content_type
            .map_or_else(String::new, |of| format!("content-type: {of}\r\n"));
        // One write, so one segment: a test that counts packets counts few.
        let text = format!(
            "HTTP/1.1 {status} -\r\n{content_type}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
        stream.write_all(text.as_bytes())
    }
}

fn read_head(stream: &mut impl io::BufRead) -> io::Result<(String, BTreeMap<String, String>)> {
    // Neither side of the lab sends more; a limit keeps a mistake from filling the memory.
    let mut lines = stream.take(64 * 1024).lines();
    let first = lines.next().ok_or(io::ErrorKind::UnexpectedEof)??;
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line?;
        if line.is_empty() {
            return Ok((first, headers));
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// What a server says to a request of a client.
pub type Handler = dyn Fn(&Request, SocketAddr) -> Response + Send + Sync;

/// An HTTP server on threads inside a namespace; it ends, with all its threads, when dropped.
#[derive(Debug)]
pub struct Server {
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens on `addr` inside `ns` and answers with `handler`.
    pub fn start(ns: &Namespace, addr: SocketAddr, handler: Arc<Handler>) -> io::Result<Self> {
        // A client whose packets are cut off keeps a thread for as long.
        Self::patient(ns, addr, Duration::from_millis(200), handler)
    }

    /// The same, with so much time for each read and write.
    pub fn patient(
        ns: &Namespace,
        addr: SocketAddr,
        patience: Duration,
        handler: Arc<Handler>,
    ) -> io::Result<Self> {
        let (stop, stopped) = UnixStream::pair()?;
        let listener = ns.run(move || TcpListener::bind(addr)).map_err(|e| {
            io::Error::new(
                e.kind(),
                format!("listening on {addr} in {}: {e}", ns.name()),
            )
        })?;
        listener.set_nonblocking(true)?;
        let thread = ns.thread(move || serve(&listener, &stopped, patience, &*handler));
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take()); // Every thread of the server polls the other end.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One thread a connection: a client whose packets are cut off in the middle must not keep the
/// others from being served, or a test would see a block where there is none.
fn serve(listener: &TcpListener, stopped: &UnixStream, patience: Duration, handler: &Handler) {
    thread::scope(|scope| {
        while wait_readable(listener, stopped, None) {
            if let Ok((stream, peer)) = listener.accept() {
                scope.spawn(move || {
                    // The client hung up, or was cut off: its business.
                    let _ = converse(stream, peer, stopped, patience, handler);
                });
            }
        }
    });
}

fn converse(
    mut stream: TcpStream,
    peer: SocketAddr,
    stopped: &UnixStream,
    patience: Duration,
    handler: &Handler,
) -> io::Result<()> {
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    if !wait_readable(&stream, stopped, Some(patience * 10)) {
        return Ok(());
    }
    let request = Request::read(&mut BufReader::new(&stream))?;
    handler(&request, peer).write(&mut stream)
}

/// Waits until there is something to read; false when the server is to stop, or time is up.
pub fn wait_readable(
    source: &impl std::os::fd::AsFd,
    stopped: &UnixStream,
    limit: Option<Duration>,
) -> bool {
    let limit = limit.map_or(PollTimeout::NONE, |limit| {
        PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX)
    });
    let mut fds = [
        PollFd::new(source.as_fd(), PollFlags::POLLIN),
        PollFd::new(stopped.as_fd(), PollFlags::POLLIN),
    ];
    match uninterrupted(|| poll(&mut fds, limit)) {
        Err(_) | Ok(0) => false,
        Ok(_) => !fds[1].any().unwrap_or(true),
    }
}
