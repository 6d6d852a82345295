//! The sentinel: what is changed on the host is put right before it matters.

pub mod fight;
