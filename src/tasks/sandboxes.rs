//! Docker's sandboxes: their names, and the tasks that they belong to, as values.

use std::collections::BTreeMap;

use super::evidence::is_id;

/// The most sandboxes that are asked about or answered, so that they fit into a message. An instance
/// has room for about 120 tasks with an interface of their own.
pub const MOST: usize = 256;

/// Sandboxes of tasks, each with the task's id. A sandbox is the name of Docker's handle on a
/// container's network namespace: it is random, and not given again.
pub type Labels = BTreeMap<String, String>;

/// Whether a handle has the name of a container's sandbox: twelve hexadecimal digits of its id
/// (moby/moby, libnetwork/osl: `GenerateKey`).
#[must_use]
pub fn is_sandbox(name: &str) -> bool {
    name.len() == 12 && is_hex(name)
}

/// Takes out of labels what no daemon of this program says.
#[must_use]
pub fn sound(mut labels: Labels) -> Labels {
    labels.retain(|sandbox, id| is_sandbox(sandbox) && is_id(id));
    labels
}

/// Whether a text is hexadecimal digits alone.
pub(super) fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
