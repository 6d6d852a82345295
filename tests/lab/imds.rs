//! The services a container talks to: the instance metadata service, the ECS agent, and one that
//! is none of its business.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use super::http::{Handler, Request, Response, Server};
use super::namespace::Namespace;

/// The metadata service's address.
pub const IMDS: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254));
/// The same on IPv6.
pub const IMDS6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254));
/// Where a task asks for its own credentials: no interface has this address, the host redirects it.
pub const CREDENTIALS: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2));
/// The agent's credentials port, on the loopback address alone.
pub const CREDENTIALS_PORT: u16 = 51679;
/// The agent's introspection port, on every address.
pub const INTROSPECTION_PORT: u16 = 51678;
/// A service of the host's own that trusts every client that reaches it, as Consul's agent does.
pub const SECRET_PORT: u16 = 8500;
/// What the secret service says.
pub const SECRET: &str = "loopback only\n";

/// The instance role's name.
pub const ROLE: &str = "ecsInstanceRole";
/// A credentials id the agent knows, as it would stand in AWS_CONTAINER_CREDENTIALS_RELATIVE_URI.
pub const CREDENTIALS_ID: &str = "b5bd2f4b-5f1c-4a1b-9a83-0d1c8a5a4e0f";

const TOKEN_PATH: &str = "/latest/api/token";
/// Below it, by the role's name, are the role's credentials.
pub const ROLES_PATH: &str = "/latest/meta-data/iam/security-credentials/";
const TOKEN_HEADER: &str = "x-aws-ec2-metadata-token";
const TOKEN_TTL_HEADER: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const TOKEN: &str = "AQAEALabLabLabLabLabLabLabLabLabLabLabLabLabLabLabLabLabLw==";

/// Starts the metadata service on both of its addresses.
pub(super) fn start_imds(ns: &Namespace) -> io::Result<Vec<Server>> {
    let handler: Arc<Handler> = Arc::new(|request, _| imds(request));
    [IMDS, IMDS6]
        .into_iter()
        .map(|addr| Server::start(ns, SocketAddr::new(addr, 80), Arc::clone(&handler)))
        .collect()
}

/// Starts the ECS agent's two services, and the secret one.
pub(super) fn start_host(ns: &Namespace) -> io::Result<Vec<Server>> {
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, INTROSPECTION_PORT));
    Ok(vec![
        Server::start(
            ns,
            local(CREDENTIALS_PORT),
            Arc::new(|request, _| credentials(request)),
        )?,
        Server::start(ns, any, Arc::new(|request, _| introspection(request)))?,
        Server::start(
            ns,
            local(SECRET_PORT),
            Arc::new(|_, _| Response::ok(SECRET)),
        )?,
    ])
}

/// IMDSv1 and v2. A token is needed for nothing, but a wrong one opens nothing: as on an instance
/// with `HttpTokens=optional`.
fn imds(request: &Request) -> Response {
    if request.path == TOKEN_PATH {
        let ttl = request
            .headers
            .get(TOKEN_TTL_HEADER)
            .and_then(|text| text.parse::<u32>().ok());
        return match (request.method.as_str(), ttl) {
            ("PUT", Some(1..=21600)) => Response::ok(TOKEN),
            ("PUT", _) => Response::status(400),
            _ => Response::status(405),
        };
    }
    if request
        .headers
        .get(TOKEN_HEADER)
        .is_some_and(|token| token != TOKEN)
    {
        return Response::status(401);
    }
    if request.method != "GET" {
        return Response::status(405);
    }
    match request.path.strip_prefix(ROLES_PATH) {
        Some("") => Response::ok(ROLE),
        Some(ROLE) => Response::ok(
            r#"{
  "Code" : "Success",
  "LastUpdated" : "2026-11-01T12:00:00Z",
  "Type" : "AWS-HMAC",
  "AccessKeyId" : "ASIAINSTANCEROLE0000",
  "SecretAccessKey" : "wJalrXUtnFEMI/K7MDENG/bPxRfiCYINSTANCEROLE",
  "Token" : "IQoJb3JpZ2luX2VjINSTANCE",
  "Expiration" : "2026-11-01T18:00:00Z"
}"#,
        ),
        _ if request.path == "/latest/meta-data/instance-id" => Response::ok("i-0123456789abcdef0"),
        _ => Response::status(404),
    }
}

/// The agent's answer to a task that asks for its credentials.
fn credentials(request: &Request) -> Response {
    match request.path.strip_prefix("/v2/credentials/") {
        Some(CREDENTIALS_ID) => Response::ok(
            r#"{"RoleArn":"arn:aws:iam::123456789012:role/labTaskRole","AccessKeyId":"ASIATASKROLE00000000","SecretAccessKey":"wJalrXUtnFEMI/K7MDENG/bPxRfiCYTASKROLE","Token":"IQoJb3JpZ2luX2VjTASK","Expiration":"2026-11-01T18:00:00Z"}"#,
        ),
        _ => Response::status(400),
    }
}

fn introspection(request: &Request) -> Response {
    match request.path.as_str() {
        "/v1/metadata" => Response::ok(
            r#"{"Cluster":"lab","ContainerInstanceArn":"arn:aws:ecs:us-east-1:123456789012:container-instance/lab/0123456789abcdef0123456789abcdef","Version":"Amazon ECS Agent - v1.99.0 (lab)"}"#,
        ),
        _ => Response::status(404),
    }
}

impl Namespace {
    /// Steals the instance role's credentials as any container can: by IMDSv1, from `imds`.
    pub fn role_credentials_v1(&self, imds: IpAddr) -> io::Result<Response> {
        let role = self.http(imds, 80, Request::get(ROLES_PATH))?;
        self.http(
            imds,
            80,
            Request::get(&format!("{ROLES_PATH}{}", role.body)),
        )
    }

    /// The same by IMDSv2: a token first.
    pub fn role_credentials_v2(&self, imds: IpAddr) -> io::Result<Response> {
        let token = self.http(
            imds,
            80,
            Request::put(TOKEN_PATH).header(TOKEN_TTL_HEADER, "21600"),
        )?;
        let get = |path: &str| Request::get(path).header(TOKEN_HEADER, &token.body);
        let role = self.http(imds, 80, get(ROLES_PATH))?;
        self.http(imds, 80, get(&format!("{ROLES_PATH}{}", role.body)))
    }

    /// Asks for the task's own credentials, as an AWS SDK in a task does.
    pub fn task_credentials(&self) -> io::Result<Response> {
        self.http(
            CREDENTIALS,
            80,
            Request::get(&format!("/v2/credentials/{CREDENTIALS_ID}")),
        )
    }
}
