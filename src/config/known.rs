//! The variables that ecs-init and the agent read, to tell a misspelt one from an unknown one.
//!
//! From aws/amazon-ecs-agent at 8dfceca: the table in its README, agent/config, ecs-init/config and the logger.

/// Still in the agent's README, but no code reads it any more: the introspection rule matches the loopback
/// interface since the rule was turned round (`! -i lo`).
pub(crate) const DEAD: &str = "ECS_OFFHOST_INTROSPECTION_INTERFACE_NAME";

#[rustfmt::skip]
static KNOWN: &[&str] = &[
    "AWS_DEFAULT_REGION",
    "CREDENTIALS_FETCHER_HOST",
    "DOCKER_HOST",
    "ECS_AGENT_APPARMOR_PROFILE",
    "ECS_AGENT_CONFIG_FILE_PATH",
    "ECS_AGENT_HEALTHCHECK_HOST",
    "ECS_AGENT_LABELS",
    "ECS_AGENT_PID_NAMESPACE_HOST",
    "ECS_AGENT_RUN_PRIVILEGED",
    "ECS_ALLOW_OFFHOST_INTROSPECTION_ACCESS",
    "ECS_ALTERNATE_CREDENTIAL_PROFILE",
    "ECS_APPARMOR_CAPABLE",
    "ECS_AUDIT_LOGFILE",
    "ECS_AUDIT_LOGFILE_DISABLED",
    "ECS_AVAILABLE_LOGGING_DRIVERS",
    "ECS_AWSVPC_ADDITIONAL_LOCAL_ROUTES",
    "ECS_AWSVPC_BLOCK_IMDS",
    "ECS_BACKEND_HOST",
    "ECS_CGROUP_CPU_PERIOD",
    "ECS_CGROUP_PATH",
    "ECS_CHECKPOINT",
    "ECS_CLUSTER",
    "ECS_CNI_PLUGINS_PATH",
    "ECS_CONTAINER_CREATE_TIMEOUT",
    "ECS_CONTAINER_INSTANCE_PROPAGATE_TAGS_FROM",
    "ECS_CONTAINER_INSTANCE_TAGS",
    "ECS_CONTAINER_START_TIMEOUT",
    "ECS_CONTAINER_STOP_TIMEOUT",
    "ECS_DATADIR",
    "ECS_DETAILED_OS_FAMILY",
    "ECS_DISABLE_DOCKER_HEALTH_CHECK",
    "ECS_DISABLE_IMAGE_CLEANUP",
    "ECS_DISABLE_METRICS",
    "ECS_DISABLE_PRIVILEGED",
    "ECS_DISABLE_TASK_METADATA_AZ",
    "ECS_DOMAIN_JOINED_LINUX_INSTANCE",
    "ECS_DYNAMIC_HOST_PORT_RANGE",
    "ECS_EBSTA_SUPPORTED",
    "ECS_ENABLE_AWSLOGS_EXECUTIONROLE_OVERRIDE",
    "ECS_ENABLE_CONTAINER_METADATA",
    "ECS_ENABLE_CPU_UNBOUNDED_WINDOWS_WORKAROUND",
    "ECS_ENABLE_FIRELENS_ASYNC",
    "ECS_ENABLE_GPU_SUPPORT",
    "ECS_ENABLE_HIGH_DENSITY_ENI",
    "ECS_ENABLE_INF_SUPPORT",
    "ECS_ENABLE_MEMORY_UNBOUNDED_WINDOWS_WORKAROUND",
    "ECS_ENABLE_PROMETHEUS_METRICS",
    "ECS_ENABLE_RUNTIME_STATS",
    "ECS_ENABLE_SPOT_INSTANCE_DRAINING",
    "ECS_ENABLE_TASK_CPU_MEM_LIMIT",
    "ECS_ENABLE_TASK_ENI",
    "ECS_ENABLE_TASK_IAM_ROLE",
    "ECS_ENABLE_TASK_IAM_ROLE_NETWORK_HOST",
    "ECS_ENABLE_UNTRACKED_IMAGE_CLEANUP",
    "ECS_ENGINE_AUTH_DATA",
    "ECS_ENGINE_AUTH_TYPE",
    "ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION",
    "ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION_JITTER",
    "ECS_EXCLUDE_IPV6_PORTBINDING",
    "ECS_EXCLUDE_UNTRACKED_IMAGE",
    "ECS_EXTERNAL",
    "ECS_FSX_WINDOWS_FILE_SERVER_SUPPORTED",
    "ECS_GMSA_SUPPORTED",
    "ECS_HOST_DATA_DIR",
    "ECS_IMAGE_CLEANUP_INTERVAL",
    "ECS_IMAGE_MINIMUM_CLEANUP_AGE",
    "ECS_IMAGE_PULL_BEHAVIOR",
    "ECS_IMAGE_PULL_INACTIVITY_TIMEOUT",
    "ECS_IMAGE_PULL_TIMEOUT",
    "ECS_INIT_DOCKER_LOG_FILE_NUM",
    "ECS_INIT_DOCKER_LOG_FILE_SIZE",
    "ECS_INSTANCE_ATTRIBUTES",
    "ECS_INSTANCE_IP_COMPATIBILITY",
    "ECS_LOGFILE",
    "ECS_LOGLEVEL",
    "ECS_LOGLEVEL_ON_INSTANCE",
    "ECS_LOG_DRIVER",
    "ECS_LOG_MAX_FILE_SIZE_MB",
    "ECS_LOG_MAX_ROLL_COUNT",
    "ECS_LOG_OPTS",
    "ECS_LOG_OUTPUT_FORMAT",
    "ECS_LOG_ROLLOVER_TYPE",
    "ECS_MANIFEST_PULL_TIMEOUT",
    "ECS_NUM_IMAGES_DELETE_PER_CYCLE",
    "ECS_NVIDIA_RUNTIME",
    "ECS_PAUSE_LABELS",
    "ECS_POLLING_METRICS_WAIT_DURATION",
    "ECS_POLL_METRICS",
    "ECS_PROPAGATE_TASK_MEMORY_LIMIT_CGROUPV2",
    "ECS_PULL_DEPENDENT_CONTAINERS_UPFRONT",
    "ECS_RESERVED_MEMORY",
    "ECS_RESERVED_PORTS",
    "ECS_RESERVED_PORTS_UDP",
    "ECS_SELINUX_CAPABLE",
    "ECS_SHARED_VOLUME_MATCH_FULL_CONFIG",
    "ECS_SKIP_LOCALHOST_TRAFFIC_FILTER",
    "ECS_TASK_METADATA_RPS_LIMIT",
    "ECS_TASK_PIDS_LIMIT",
    "ECS_UPDATES_ENABLED",
    "ECS_UPDATE_DOWNLOAD_DIR",
    "ECS_VOLUME_PLUGIN_CAPABILITIES",
    "ECS_WARM_POOLS_CHECK",
    "NONECS_NUM_CONTAINERS_DELETE_PER_CYCLE",
    "NON_ECS_IMAGE_MINIMUM_CLEANUP_AGE",
];

/// What is longer is no slip of any of them, and measuring it would cost time in proportion.
const LONGEST: usize = 64;

/// Whether the ECS software reads a variable of this name.
pub(crate) fn is_known(name: &str) -> bool {
    KNOWN.binary_search(&name).is_ok()
}

/// The known variable that `name` was probably meant to be.
///
/// Only names that begin like an ECS variable are judged: anything else in the file may be meant for something
/// else. An ECS name that is near to none is left alone too; newer agents learn new variables.
pub(crate) fn nearest(name: &str) -> Option<&'static str> {
    if name.len() > LONGEST {
        return None;
    }
    let prefixed = format!("ECS_{name}");
    if let Ok(at) = KNOWN.binary_search(&prefixed.as_str()) {
        return KNOWN.get(at).copied();
    }
    if !name.starts_with("ECS") && !name.starts_with("EC_") && !name.starts_with("ESC_") {
        return None;
    }
    // Whatever speaks of blocking the metadata service is a wish that must not pass unnoticed, however far its
    // spelling is from the real one.
    let words = |all: &[&str]| all.iter().any(|w| name.contains(w));
    if words(&["BLOCK"]) && words(&["IMDS", "METADATA"]) {
        return Some(super::variables::BLOCK_IMDS.name);
    }
    KNOWN
        .iter()
        .filter(|known| known.len().abs_diff(name.len()) <= tolerance(known))
        .map(|known| (strsim::damerau_levenshtein(name, known), *known))
        .min()
        .filter(|&(distance, known)| distance <= tolerance(known))
        .map(|(_, known)| known)
}

/// Whether [`nearest`] can find `known` for a name, at a small part of its cost.
pub(crate) fn may_mean(name: &str, known: &str) -> bool {
    let (name, known) = (name.trim().to_ascii_uppercase(), known.to_ascii_uppercase());
    ["BLOCK", "IMDS", "METADATA"]
        .iter()
        .any(|word| name.contains(word))
        || known.ends_with(&name)
        || (known.len().abs_diff(name.len()) <= tolerance(&known)
            && strsim::damerau_levenshtein(&name, &known) <= tolerance(&known))
}

/// About one slip in seven characters; more would take one real variable for another.
fn tolerance(known: &str) -> usize {
    (known.len() / 7).clamp(1, 4)
}

/// Whether the ECS software, or the README that people copy from, knows the name.
pub(super) fn is_meant(name: &str) -> bool {
    is_known(name) || name == DEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_can_be_searched() {
        assert!(KNOWN.is_sorted());
        assert!(KNOWN.len() > 90);
        for variable in crate::config::variables::ALL {
            assert!(is_known(variable.name), "{}", variable.name);
        }
        assert!(!is_known(DEAD));
    }

    #[test]
    fn slips_are_found() {
        for (slip, meant) in [
            ("ECS_AWSVPC_BLOCK_IMD", "ECS_AWSVPC_BLOCK_IMDS"),
            ("ECS_AWSVPC_BLCOK_IMDS", "ECS_AWSVPC_BLOCK_IMDS"),
            ("ECS_AWS_VPC_BLOCK_IMDS", "ECS_AWSVPC_BLOCK_IMDS"),
            ("ECS_BLOCK_IMDS", "ECS_AWSVPC_BLOCK_IMDS"),
            (
                "ECS_AWSVPC_BLOCK_INSTANCE_METADATA",
                "ECS_AWSVPC_BLOCK_IMDS",
            ),
            ("AWSVPC_BLOCK_IMDS", "ECS_AWSVPC_BLOCK_IMDS"),
            ("ESC_CLUSTER", "ECS_CLUSTER"),
            ("ECS_ENABLE_TASK_IAM_ROLES", "ECS_ENABLE_TASK_IAM_ROLE"),
            (
                "ECS_ENABLE_TASK_IAM_ROLE_HOST_NETWORK",
                "ECS_ENABLE_TASK_IAM_ROLE_NETWORK_HOST",
            ),
        ] {
            let found = nearest(slip);
            if slip.ends_with("HOST_NETWORK") {
                // Two words exchanged are too far; it is not guessed.
                assert_eq!(found, None);
            } else {
                assert_eq!(found, Some(meant), "{slip}");
            }
        }
    }

    #[test]
    fn what_is_merely_unknown_is_left_alone() {
        for name in [
            "ECS_SOMETHING_NEW_ALTOGETHER",
            "HTTP_PROXY",
            "NO_PROXY",
            "PATH",
            "",
            "ECS_",
        ] {
            assert_eq!(nearest(name), None, "{name}");
        }
    }
}
