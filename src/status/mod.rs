//! Asking the daemon: what it knows is put on a [`board`] by the guard, and read from there by the
//! status socket, metrics, files for other programs, and commands.

pub mod board;
mod files;
pub mod history;
pub mod model;
pub mod published;
