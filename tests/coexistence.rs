//! The guard beside other programs that change a host's rules: the real ones, in the lab's host.
//!
//! Each case runs with the seal and without it, while three containers ask for IMDS all the time.
//! With the seal no packet may arrive at any moment; without it those that do are counted and reported
//! (`cargo test --test integration -- --nocapture coexistence`), and nothing is expected of their number. After
//! each step the guard's rules stand on top, once each, `check` says what it should, credentials work
//! where they worked before, and the other program's own rules do what they are there for.

mod docker;
mod ecs_init;
mod fail2ban;
mod firewalld;
mod found;
mod nftables;
mod persistent;
mod scene;
mod ufw;
