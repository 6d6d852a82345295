//! The daemon's status socket, spoken to byte by byte: a test may be as rude as it likes.

use std::io::{self, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use super::Lab;
use super::wait::{LONG, uninterrupted};

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The head as it came.
    pub head: String,
    /// What follows it, without the marks of chunks.
    pub body: String,
}

impl Lab {
    /// A connection to the status socket.
    pub fn connect(&self) -> io::Result<UnixStream> {
        let stream = UnixStream::connect(self.dir().join("run/status.sock"))?;
        // Far longer than the daemon gives any client.
        stream.set_read_timeout(Some(LONG))?;
        stream.set_write_timeout(Some(LONG))?;
        Ok(stream)
    }

    /// Asks as a client should.
    #[track_caller]
    pub fn get(&self, target: &str) -> Reply {
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        self.send(request.as_bytes())
            .unwrap_or_else(|| panic!("{target}: closed without an answer"))
    }

    /// The answer to any bytes; `None` where the daemon closes without one.
    #[track_caller]
    pub fn send(&self, bytes: &[u8]) -> Option<Reply> {
        let mut stream = self.connect().expect("the daemon listens");
        // It may answer and close before all has been sent, and that is an answer too.
        let _ = stream.write_all(bytes);
        reply(stream)
    }

    /// As [`Lab::send`], and then says that no more will come.
    #[track_caller]
    pub fn send_and_end(&self, bytes: &[u8]) -> Option<Reply> {
        let mut stream = self.connect().expect("the daemon listens");
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        reply(stream)
    }
}

/// Reads an answer to its end.
pub fn reply(mut stream: impl io::Read) -> Option<Reply> {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match uninterrupted(|| stream.read(&mut buffer)) {
            Ok(0) => break,
            Ok(n) => text.extend_from_slice(&buffer[..n]),
            // What was unread on the other side when it closed; what came before is there.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("the daemon neither answers nor closes: {error}"),
        }
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let chunked = head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked");
    Some(Reply {
        status,
        head: head.to_owned(),
        body: if chunked {
            unchunked(body)
        } else {
            body.to_owned()
        },
    })
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a chunk's size");
        whole.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    whole
}
