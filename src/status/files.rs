//! Files for other programs, replaced as a whole: a reader sees the old one or the new one.

use std::fs::Permissions;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Replaces `path` by a file with this content and mode. Whether the disk has it yet does not matter
/// here; what must outlive a power cut is written by [`crate::state`]. The error is the same one each
/// time: it does not hold the temporary file's random name.
pub(super) fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let dir = path
        .parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .ok_or_else(|| io::Error::other("it is not the path of a file in a directory"))?;
    let unnamed = |error: io::Error| io::Error::from(error.kind());
    let mut temporary = tempfile::NamedTempFile::new_in(dir).map_err(unnamed)?;
    temporary.write_all(content)?;
    temporary
        .as_file()
        .set_permissions(Permissions::from_mode(mode))?;
    temporary.persist(path).map_err(|error| error.error)?;
    Ok(())
}
