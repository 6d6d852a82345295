//! `ecs-netguard exporter`: metrics on TCP, for Prometheus.

use std::net::SocketAddr;

use anyhow::Context as _;
use clap::Args;

use super::common::{Common, Exit, Patience, asking};
use crate::config::settings::Log;
use crate::log;
use crate::os::memory;
use crate::status::exporter::Exporter;
use crate::systemd;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The address and port to listen on; [::]:9877 means every address of the host
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        env = "ECS_NETGUARD_LISTEN",
        value_parser = address,
        default_value = "127.0.0.1:9877"
    )]
    listen: SocketAddr,
    #[command(flatten)]
    patience: Patience,
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    let expected = "expected an IP address and a port: 127.0.0.1:9877, [::1]:9877";
    text.parse().map_err(|_| expected)
}

pub(super) fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<Exit> {
    memory::spare();
    let client = arguments.patience.client(common);
    let _logging = log::start(&Log::default()).context("start the thread that writes the log")?;
    asking(async {
        let socket = client.path().display().to_string();
        let bound = Exporter::bind(arguments.listen, client).await;
        let exporter = bound.with_context(|| {
            let address = arguments.listen;
            format!("cannot listen on {address}; choose another address with --listen")
        })?;
        let address = exporter.address()?;
        tracing::info!("/metrics and /healthz of {socket} are served on http://{address}");
        systemd::ready()?;
        match exporter.run().await {}
    })
}
