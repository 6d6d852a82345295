//! The program on a real kernel, in network namespaces that each test makes: one program for nearly all tests, so that
//! they run side by side and are linked once. A test that makes what every daemon of the machine would see (a task's
//! cgroup), or counts what there is on the machine, stands in a program of its own, since those run one after the other.

#![allow(missing_docs, reason = "tests")]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests are tests"
)]

mod across;
mod architecture;
mod bad_days;
mod coexistence;
mod commands;
mod edge;
mod exporter;
mod fixtures;
mod host_tasks;
mod hostile;
mod inputs;
mod install;
mod ipv6_only;
mod journal;
mod kills;
mod lifecycle;
mod links;
mod man;
mod mutated;
mod native;
mod nftables;
mod oracle;
mod packets;
mod probe;
mod prometheus;
mod proof;
mod sandbox;
mod saved;
mod seal;
mod sentinel;
mod snippets;
mod status;
mod systemd;
mod words;
