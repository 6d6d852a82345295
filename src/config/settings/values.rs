//! How values that TOML has no type for stand in config.toml.

/// A path, or "" for none: TOML has no word for what is not there, and the default must be writable.
pub(super) mod optional_path {
    use std::path::PathBuf;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(in super::super) fn serialize<S: Serializer>(
        value: &Option<PathBuf>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        let path = value.as_deref().unwrap_or_else(|| "".as_ref());
        to.collect_str(&path.display())
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<PathBuf>, D::Error> {
        let path = PathBuf::deserialize(from)?;
        Ok(Some(path).filter(|path| !path.as_os_str().is_empty()))
    }
}

/// A duration as people write it. humantime's words for what is wrong are kept; what is right is added.
pub(super) mod interval {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(in super::super) fn serialize<S: Serializer>(
        value: &Duration,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_duration(*value))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        humantime::parse_duration(&text).map_err(|e| {
            let shown = crate::config::sanitize(&text);
            D::Error::custom(format!(
                "\"{shown}\" is no duration ({e}); expected one such as \"5s\" or \"2m\""
            ))
        })
    }
}
