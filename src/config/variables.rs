//! The variables that decide what this program does, and how the ECS software reads each.

/// Which program reads a variable, and how. The difference decides what quotes, blanks and an empty value mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// The agent, into a value that knows "not set" (`parseBooleanDefault…Config`, agent/config/parse.go): trimmed,
    /// `ParseBool`; empty or unparsable is "not set", and then the JSON file counts, and then the agent's default.
    Agent,
    /// The agent, into a plain Go `bool` (`utils.ParseBool`). Its "false" cannot be distinguished from "not set", so that
    /// `true` in the JSON file wins over `false` in ecs.config (agent/config/config.go, `Merge`).
    AgentPlain,
    /// ecs-init, from the environment systemd gave it (ecs-init/exec/iptables/iptables.go): `ParseBool`, not
    /// trimmed; anything else is false.
    EcsInit,
}

/// One variable.
#[derive(Debug)]
pub(crate) struct Variable {
    pub(crate) name: &'static str,
    /// Its key in ecs.config.json: the name of the field of the agent's `Config` (agent/config/types.go).
    pub(crate) json: Option<&'static str>,
    /// What ecs-init puts into the agent's environment where the files say nothing (ecs-init/docker/docker.go,
    /// `getContainerConfig`, and docker_config.go).
    pub(crate) init_default: Option<bool>,
    /// What applies where nothing is set (agent/config/config_unix.go, `DefaultConfig`).
    pub(crate) default: bool,
    pub(crate) reader: Reader,
}

const fn agent(name: &'static str, json: &'static str) -> Variable {
    Variable {
        name,
        json: Some(json),
        init_default: None,
        default: false,
        reader: Reader::Agent,
    }
}

const fn ecs_init(name: &'static str) -> Variable {
    Variable {
        name,
        json: None,
        init_default: None,
        default: false,
        reader: Reader::EcsInit,
    }
}

/// "Metdata" is the agent's own spelling.
pub(crate) const BLOCK_IMDS: Variable =
    agent("ECS_AWSVPC_BLOCK_IMDS", "AWSVPCBlockInstanceMetdata");

pub(crate) const TASK_IAM_ROLE: Variable = Variable {
    init_default: Some(true),
    ..agent("ECS_ENABLE_TASK_IAM_ROLE", "TaskIAMRoleEnabled")
};

pub(crate) const TASK_IAM_ROLE_NETWORK_HOST: Variable = Variable {
    init_default: Some(true),
    reader: Reader::AgentPlain,
    ..agent(
        "ECS_ENABLE_TASK_IAM_ROLE_NETWORK_HOST",
        "TaskIAMRoleEnabledForNetworkHost",
    )
};

pub(crate) const SKIP_LOCALHOST_TRAFFIC_FILTER: Variable =
    ecs_init("ECS_SKIP_LOCALHOST_TRAFFIC_FILTER");

pub(crate) const ALLOW_OFFHOST_INTROSPECTION: Variable =
    ecs_init("ECS_ALLOW_OFFHOST_INTROSPECTION_ACCESS");

pub(crate) const TASK_ENI: Variable = Variable {
    init_default: Some(true),
    ..agent("ECS_ENABLE_TASK_ENI", "TaskENIEnabled")
};

pub(crate) const TASK_CPU_MEM_LIMIT: Variable = Variable {
    default: true,
    ..agent("ECS_ENABLE_TASK_CPU_MEM_LIMIT", "TaskCPUMemLimit")
};

pub(crate) const EXTERNAL: Variable = agent("ECS_EXTERNAL", "External");

/// Where the agent looks for its JSON file; ecs-init passes /etc/ecs/ecs.config.json unless ecs.config names
/// another.
pub(crate) const JSON_PATH_VARIABLE: &str = "ECS_AGENT_CONFIG_FILE_PATH";

/// All of them, in the order of a report.
pub(crate) static ALL: [&Variable; 8] = [
    &BLOCK_IMDS,
    &TASK_IAM_ROLE,
    &TASK_IAM_ROLE_NETWORK_HOST,
    &SKIP_LOCALHOST_TRAFFIC_FILTER,
    &ALLOW_OFFHOST_INTROSPECTION,
    &TASK_ENI,
    &TASK_CPU_MEM_LIMIT,
    &EXTERNAL,
];

/// The variable of that name, if it is one of ours.
pub(crate) fn find(name: &str) -> Option<&'static Variable> {
    ALL.iter().copied().find(|v| v.name == name)
}
