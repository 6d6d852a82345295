//! What the daemon and the process that goes into tasks' namespaces say to each other.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::model::Task;
use super::sandboxes::Labels;
use super::task_netns::Wish;

/// What the daemon says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Said {
    /// What it wants.
    Order(Order),
    /// What Docker's labels say of those that were reported as unsure.
    Labelled(Labels),
}

/// What the daemon wants. Every order asks for a look at everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Counts up, for the answer.
    pub number: u64,
    /// What is wanted from now on.
    pub wish: Wish,
}

/// What is reported to the daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Told {
    /// A task is new, or something of it is different.
    Task(Task),
    /// The task with this namespace is gone.
    Gone(u64),
    /// Something happened.
    Happened(Happened),
    /// Docker's sandboxes that could be tasks', or are those of tasks without an id, and only Docker
    /// can say so.
    Unsure(BTreeSet<String>),
    /// The look at everything that an order asked for is over.
    Complete {
        /// The order's number.
        number: u64,
        /// What could not be found out.
        troubles: Vec<String>,
    },
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Happened {
    /// Something was restored.
    Repaired(Repaired),
    /// The task with this namespace undoes again and again what is restored.
    Fight(u64),
    /// This was taken out of a task's namespace.
    Released(String),
    /// This could not be done.
    Trouble(String),
}

/// What was restored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Repaired {
    /// The inode of the namespace.
    pub netns: u64,
    /// What was missing.
    pub objects: Vec<String>,
    /// From hearing of it until it was back, in microseconds.
    pub micros: u64,
    /// The process that removed it, where the kernel tells: its number and name.
    pub by: Option<(u32, String)>,
    /// How many more repairs of this namespace there were since the last one that was reported.
    pub more: u64,
}
