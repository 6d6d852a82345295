//! As much of Docker's API as tells containers apart, on its socket in the host's own /run.

use std::io::{self, BufReader};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use serde_json::{Value, json};

use super::Lab;
use super::http::{Request, Response, wait_readable};

/// A container that runs.
#[derive(Debug, Clone)]
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its labels.
    pub labels: Value,
    /// Where Docker keeps the handle on its network namespace.
    pub sandbox_key: String,
}

#[derive(Debug, Default)]
struct State {
    containers: Vec<Container>,
    /// Says this instead, to everybody.
    instead: Option<String>,
    /// What was asked for.
    asked: Vec<String>,
}

/// A stand-in for Docker's daemon; it ends when dropped.
#[derive(Debug)]
pub struct DockerApi {
    state: Arc<Mutex<State>>,
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Lab {
    /// Listens on Docker's socket.
    #[track_caller]
    pub fn docker_api(&self) -> DockerApi {
        let path = self.host.root().join("run/docker.sock");
        let listener = UnixListener::bind(&path).expect("no other program has Docker's socket");
        let (stop, stopped) = UnixStream::pair().expect("a pair of sockets");
        let state = Arc::default();
        let thread = {
            let state = Arc::clone(&state);
            thread::spawn(move || {
                while wait_readable(&listener, &stopped, None) {
                    if let Ok((stream, _)) = listener.accept() {
                        // A client that hung up needs no answer.
                        let _ = answer(stream, &state);
                    }
                }
            })
        };
        DockerApi {
            state,
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl DockerApi {
    /// One more container runs.
    pub fn add(&self, container: Container) {
        lock(&self.state).containers.push(container);
    }

    /// Answers with this text from now on, or properly again.
    pub fn say_instead(&self, text: Option<&str>) {
        lock(&self.state).instead = text.map(str::to_owned);
    }

    /// What was asked for.
    pub fn asked(&self) -> Vec<String> {
        lock(&self.state).asked.clone()
    }
}

impl Drop for DockerApi {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(mut stream: UnixStream, state: &Mutex<State>) -> io::Result<()> {
    let request = Request::read(&mut BufReader::new(&stream))?;
    let mut state = lock(state);
    state.asked.push(request.path.clone());
    let response = match &state.instead {
        Some(text) => Response::ok(text),
        None => state.answer(&request.path),
    };
    drop(state);
    response.write(&mut stream)
}

impl State {
    fn answer(&self, target: &str) -> Response {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if path == "/containers/json" {
            let Some(filter) = label_filter(query) else {
                return Response::status(400);
            };
            let wanted = |c: &&Container| c.labels[&filter.0] == filter.1.as_str();
            let listed = self.containers.iter().filter(wanted);
            let listed = listed.map(|c| json!({"Id": c.id, "Labels": c.labels}));
            return Response::ok(Value::from_iter(listed).to_string());
        }
        let id = path.strip_prefix("/containers/");
        let id = id.and_then(|rest| rest.strip_suffix("/json"));
        match self.containers.iter().find(|c| Some(c.id.as_str()) == id) {
            Some(container) => {
                let network = json!({"SandboxKey": container.sandbox_key});
                Response::ok(json!({"Id": container.id, "NetworkSettings": network}).to_string())
            }
            None => Response::status(404),
        }
    }
}

/// The label that a query asks for by `filters={"label":["name=value"]}`.
fn label_filter(query: &str) -> Option<(String, String)> {
    let text = unescaped(query.strip_prefix("filters=")?);
    let filters: Value = serde_json::from_str(&text).ok()?;
    let (name, value) = filters["label"][0].as_str()?.split_once('=')?;
    Some((name.to_owned(), value.to_owned()))
}

fn unescaped(text: &str) -> String {
    let mut parts = text.split('%');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at(2);
        let byte = u8::from_str_radix(digits, 16).expect("two digits after a per cent sign");
        plain.push(char::from(byte));
        plain.push_str(rest);
    }
    plain
}
