//! What a look at the tasks' namespaces comes to.

use std::collections::BTreeSet;
use std::time::Duration;

use super::model::Task;

/// What came of a look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct News {
    /// Tasks that are new, or of which something is different.
    pub changed: Vec<Task>,
    /// The namespaces of tasks that are gone.
    pub gone: Vec<u64>,
    /// What was restored.
    pub repairs: Vec<Repair>,
    /// What was taken out because nothing is wanted any more.
    pub released: Vec<String>,
    /// What could not be found out.
    pub troubles: Vec<String>,
    /// What an operator should know of Docker's files, once.
    pub warnings: Vec<String>,
    /// Docker's sandboxes of which labels could tell whether they are tasks', or which task's, and do not yet.
    pub unsure: BTreeSet<String>,
}

/// Something that was restored in a task's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// The inode of the namespace.
    pub netns: u64,
    /// What.
    pub objects: Vec<String>,
    /// How long the look took until it was restored.
    pub took: Duration,
}
