//! Whether cloud-init may still write ecs.config at this boot.
//!
//! User data sets `ECS_AWSVPC_BLOCK_IMDS` late in boot: until then that it is not set means nothing.
//! cloud-init says that it is done by `/run/cloud-init/result.json`, which it removes when it begins
//! and writes at the end of its last stage, with or without errors (`status_wrapper()`,
//! cloudinit/cmd/main.py). `/var/lib/cloud/instance/boot-finished` is no answer: it lies on the disk,
//! and may be that of the boot before. That it will not run at all is decided before any unit starts,
//! and written to `/run/cloud-init/disabled` (systemd/cloud-init-generator.tmpl).

use std::path::{Path, PathBuf};

/// Where cloud-init leaves its marks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudInitPaths {
    /// Written at the end of its last stage.
    pub result: PathBuf,
    enabled: PathBuf,
    disabled: [PathBuf; 2],
    program: PathBuf,
}

impl CloudInitPaths {
    /// The usual places below `root`.
    #[must_use]
    pub fn below(root: &Path) -> Self {
        let run = root.join("run/cloud-init");
        Self {
            result: run.join("result.json"),
            enabled: run.join("enabled"),
            disabled: [
                run.join("disabled"),
                root.join("etc/cloud/cloud-init.disabled"),
            ],
            program: root.join("usr/bin/cloud-init"),
        }
    }

    /// Whether cloud-init is going to run, and has not finished.
    #[must_use]
    pub fn pending(&self) -> bool {
        Marks {
            installed: self.program.exists() || self.enabled.exists(),
            disabled: self.disabled.iter().any(|path| path.exists()),
            finished: self.result.exists(),
        }
        .pending()
    }
}

/// What cloud-init's marks say.
#[derive(Debug, Clone, Copy)]
struct Marks {
    installed: bool,
    disabled: bool,
    finished: bool,
}

impl Marks {
    const fn pending(self) -> bool {
        self.installed && !self.disabled && !self.finished
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pending_is_what_is_installed_and_neither_off_nor_done() {
        let dir = tempfile::tempdir().unwrap();
        let paths = CloudInitPaths::below(dir.path());
        let touch = |path: &Path| {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        };
        assert!(!paths.pending(), "not installed");
        touch(&paths.enabled);
        assert!(paths.pending(), "the generator has decided");
        std::fs::remove_file(&paths.enabled).unwrap();
        touch(&paths.program);
        assert!(paths.pending());
        for off in &paths.disabled {
            touch(off);
            assert!(!paths.pending(), "{off:?}");
            std::fs::remove_file(off).unwrap();
        }
        // As cloud-init does it: a link to where the result lies on the disk.
        let result = dir.path().join("var/lib/cloud/data/result.json");
        std::os::unix::fs::symlink(&result, &paths.result).unwrap();
        assert!(paths.pending(), "a link to nothing is no result");
        touch(&result);
        assert!(!paths.pending());
    }
}
