//! What the types of settings alone do not say.

use std::collections::HashSet;

use super::super::sanitize::sanitize;
use super::{MAX_INTERVAL, MIN_INTERVAL, Mode, Settings, cgroup, pattern};

impl Settings {
    /// What types alone do not say: the key and the problem.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        let interval = self.verify.interval;
        if !(MIN_INTERVAL..=MAX_INTERVAL).contains(&interval) {
            return Err((
                "verify.interval",
                format!(
                    "is {}; expected at least {} and at most {}",
                    humantime::format_duration(interval),
                    humantime::format_duration(MIN_INTERVAL),
                    humantime::format_duration(MAX_INTERVAL)
                ),
            ));
        }
        let files = [
            ("metrics.textfile", &self.metrics.textfile, "prom"),
            ("fleet.ssm_inventory", &self.fleet.ssm_inventory, "json"),
        ];
        for (key, path, extension) in files {
            let Some(path) = path else { continue };
            if !path.is_absolute() || path.extension().is_none_or(|is| is != extension) {
                let shown = sanitize(&path.to_string_lossy());
                return Err((
                    key,
                    format!(
                        "is \"{shown}\"; expected an absolute path that ends in .{extension}, since nothing \
                         else is read there"
                    ),
                ));
            }
        }
        let patterns = &self.imds.interfaces;
        if patterns.is_empty() && self.imds.block != Mode::Never {
            return Err((
                "imds.interfaces",
                "is empty, which would block nothing; name interfaces, or write block = \"never\" to say so"
                    .to_owned(),
            ));
        }
        let cgroup = &self.imds.host_tasks_cgroup;
        cgroup::check(cgroup).map_err(|problem| {
            let shown = sanitize(cgroup);
            (
                "imds.host_tasks_cgroup",
                format!("is \"{shown}\", which {problem}"),
            )
        })?;
        let mut seen = HashSet::new();
        for name in patterns {
            pattern::check(name).map_err(|problem| {
                let shown = sanitize(name);
                (
                    "imds.interfaces",
                    format!("holds \"{shown}\", which {problem}"),
                )
            })?;
            if !seen.insert(name) {
                return Err((
                    "imds.interfaces",
                    format!("holds {name:?} twice; remove one"),
                ));
            }
        }
        self.check_allowed()
    }

    /// The interfaces of `[edge] allow`: what the seal drops or has no rule for would not pass.
    fn check_allowed(&self) -> Result<(), (&'static str, String)> {
        const KEY: &str = "edge.allow";
        for name in &self.edge.allow {
            let shown = sanitize(name);
            pattern::check(name)
                .map_err(|problem| (KEY, format!("holds \"{shown}\", which {problem}")))?;
            let blocked = self.imds.interfaces.iter();
            if let Some(blocked) = blocked.into_iter().find(|of| pattern::overlap(of, name)) {
                return Err((
                    KEY,
                    format!(
                        "holds \"{shown}\", from which \"{blocked}\" in imds.interfaces blocks; name the bridge of \
                         the proxy so that no pattern there fits"
                    ),
                ));
            }
        }
        let layers = self.seal.enabled && self.edge.enabled;
        if !layers && !self.edge.allow.is_empty() {
            let problem = "needs the seal and the edge: the seal marks what the edge lets pass";
            return Err((KEY, problem.to_owned()));
        }
        Ok(())
    }
}
