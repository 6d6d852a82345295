//! Whether cloud-init may still write ecs.config at this boot.
//!
//! User data sets `ECS_AWSVPC_BLOCK_IMDS` late in boot: until then that it is not set means nothing.
//! cloud-init says that it is done by `/run/cloud-init/result.json`, which it removes when it begins
//! and writes at the end of its last stage, with or without errors (`status_wrapper()`,
//! cloudinit/cmd/main.py). `/var/lib/cloud/instance/boot-finished` is no answer: it lies on the disk,
//! and may be that of the boot before. That it will not run at all is decided before any unit starts,
//! and written to `/run/cloud-init/disabled` (systemd/cloud-init-generator.tmpl).
//!
//! A result that names no data source is none: user data was not read, whatever it says.

use std::path::{Path, PathBuf};

use crate::config::FileText;

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

    /// Why cloud-init may still have something to say about ecs.config, as a clause; `None` where it has had
    /// its chance, or never gets one.
    #[must_use]
    pub fn unfinished(&self) -> Option<&'static str> {
        Marks {
            installed: self.program.exists() || self.enabled.exists(),
            disabled: self.disabled.iter().any(|path| path.exists()),
            result: FileText::read(&self.result),
        }
        .unfinished()
    }
}

/// What cloud-init's marks say.
#[derive(Debug)]
struct Marks {
    installed: bool,
    disabled: bool,
    result: FileText,
}

impl Marks {
    fn unfinished(&self) -> Option<&'static str> {
        if !self.installed || self.disabled {
            return None;
        }
        match &self.result {
            FileText::Absent => Some(
                "cloud-init, which may still set it, has not finished (no /run/cloud-init/result.json)",
            ),
            FileText::Text(text) if has_data_source(text) => None,
            FileText::Text(_) | FileText::Unreadable(_) => Some(
                "cloud-init ended without a data source, so that user data which sets it was never read \
                 (/run/cloud-init/result.json)",
            ),
        }
    }
}

/// Whether the result names where user data came from. `DataSourceNone` is what is left where nothing was
/// found (cloudinit/sources/DataSourceNone.py); the ECS agent refuses to start then if there is user data.
fn has_data_source(result: &str) -> bool {
    let result: serde_json::Value = serde_json::from_str(result).unwrap_or_default();
    let name = result
        .pointer("/v1/datasource")
        .and_then(|name| name.as_str());
    name.is_some_and(|name| !name.is_empty() && !name.starts_with("DataSourceNone"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUND: &str = r#"{"v1": {"datasource": "DataSourceEc2Local", "errors": []}}"#;

    #[test]
    fn unfinished_is_what_is_installed_and_neither_off_nor_done() {
        let dir = tempfile::tempdir().unwrap();
        let paths = CloudInitPaths::below(dir.path());
        let write = |path: &Path, text: &str| {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let unfinished = || paths.unfinished().is_some();
        assert!(!unfinished(), "not installed");
        write(&paths.enabled, "");
        assert!(unfinished(), "the generator has decided");
        std::fs::remove_file(&paths.enabled).unwrap();
        write(&paths.program, "");
        assert!(unfinished());
        for off in &paths.disabled {
            write(off, "");
            assert!(!unfinished(), "{off:?}");
            std::fs::remove_file(off).unwrap();
        }
        // As cloud-init does it: a link to where the result lies on the disk.
        let result = dir.path().join("var/lib/cloud/data/result.json");
        std::os::unix::fs::symlink(&result, &paths.result).unwrap();
        assert!(unfinished(), "a link to nothing is no result");
        write(&result, FOUND);
        assert!(!unfinished());
    }

    #[test]
    fn a_result_without_a_data_source_is_no_result() {
        for (result, named) in [
            (FOUND, true),
            (
                r#"{"v1": {"datasource": "DataSourceNoCloud [seed=/dev/vda][dsmode=net]"}}"#,
                true,
            ),
            (
                r#"{"v1": {"datasource": "DataSourceNone", "errors": []}}"#,
                false,
            ),
            (r#"{"v1": {"datasource": null}}"#, false),
            (r#"{"v1": {}}"#, false),
            ("", false),
            ("{", false),
        ] {
            assert_eq!(has_data_source(result), named, "{result}");
        }
    }
}
