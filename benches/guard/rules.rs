//! A host that already has many rules.

use lab::Lab;
use lab::tamper::Backend;

/// Rules that look at sources that no host has.
pub(crate) fn lines(chain: &str, rules: usize) -> String {
    let rule = |n| {
        format!(
            "-A {chain} -s 198.18.{}.{}/32 -j ACCEPT\n",
            n / 256,
            n % 256
        )
    };
    (0..rules).map(rule).collect()
}

/// Puts that many into the filter table, in a chain of their own that FORWARD jumps to.
pub(crate) fn fill(lab: &Lab, rules: usize) {
    let lines = lines("UNRELATED", rules);
    lab.tamper(Backend::Nft).restore_snapshot(&format!(
        "*filter\n:UNRELATED - [0:0]\n-A FORWARD -j UNRELATED\n{lines}COMMIT\n"
    ));
}
