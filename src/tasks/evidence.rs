//! Which network namespaces are those of ECS tasks: decided by what the host controls, and never
//! guessed. Pure.

/// What is known of a network namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Clues {
    /// It is the host's own.
    pub host: bool,
    /// A port of a bridge of the ECS agent's leads into it.
    pub ecs_port: bool,
    /// A port of another bridge of the host leads into it.
    pub other_port: bool,
    /// It was recognised before, and is the same one still.
    pub remembered: bool,
    /// The task in whose cgroup one of its processes is.
    pub cgroup: Option<String>,
    /// The task whose pause container has it, by the container's labels.
    pub label: Option<String>,
    /// The task for which the agent of a managed instance made it, by the name of its handle.
    pub handle: Option<String>,
    /// It has an interface that is neither the loopback nor a veth pair: an ENI, or a VLAN or macvlan of
    /// one.
    pub own_interface: bool,
}

/// Why a namespace is taken for a task's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// The bridge that the ECS agent's plugins make has a port that leads there. The task cannot
    /// change that: what is done to its own end renames nothing on the host.
    Port,
    /// It was recognised before. A task that deletes its `ecs-eth0` takes the port away with it.
    Remembered,
    /// A process in it is in the cgroup of an ECS task, no bridge of the host but the agent's leads
    /// there, and it has an interface of its own.
    Cgroup,
    /// Docker's labels say that it is that of an ECS task's pause container, and the rest as with the
    /// cgroup. Only Docker's users, which are root, gives a container its labels.
    Label,
    /// Its handle bears a task's name, and the rest as with the cgroup. Only root makes handles.
    Handle,
}

/// Why this is a task's namespace; `None` where it is not, and is none of the guard's business.
#[must_use]
pub fn weigh(clues: &Clues) -> Option<Evidence> {
    if clues.host {
        None
    } else if clues.ecs_port {
        Some(Evidence::Port)
    } else if clues.remembered {
        Some(Evidence::Remembered)
    } else if !clues.own_interface || clues.other_port {
        None
    } else if clues.cgroup.is_some() {
        Some(Evidence::Cgroup)
    } else {
        let label = clues.label.as_ref().map(|_| Evidence::Label);
        label.or_else(|| clues.handle.as_ref().map(|_| Evidence::Handle))
    }
}

/// Whether this could be a task's namespace, and only labels can tell.
#[must_use]
pub fn unsure(clues: &Clues) -> bool {
    let labelled = Clues {
        label: Some(String::new()),
        ..clues.clone()
    };
    weigh(clues).is_none() && weigh(&labelled).is_some()
}

/// The ECS task in whose cgroup a process directly is, from its `/proc/PID/cgroup`: on cgroup v2
/// `/ecstasks.slice/ecstasks-<id>.slice/docker-<container>.scope`, on v1 `/ecs/<id>/<container>`
/// (aws/amazon-ecs-agent, agent/taskresource/cgroup). What lies deeper was made by the task itself.
#[must_use]
pub fn task_of(cgroup: &str) -> Option<String> {
    cgroup.lines().find_map(|line| {
        let (hierarchy, rest) = line.split_once(':')?;
        let (_, path) = rest.split_once(':')?;
        let mut parts = path.strip_prefix('/')?.split('/');
        let id = match (hierarchy, parts.next()?) {
            ("0", "ecstasks.slice") => {
                let slice = parts.next()?.strip_prefix("ecstasks-")?;
                let id = slice.strip_suffix(".slice")?;
                let container = parts.next()?.strip_prefix("docker-")?;
                container.strip_suffix(".scope")?;
                id
            }
            (number, "ecs") if number != "0" => {
                let id = parts.next()?;
                parts.next().filter(|container| !container.is_empty())?;
                id
            }
            _ => return None,
        };
        (parts.next().is_none() && is_id(id)).then(|| id.to_owned())
    })
}

/// The task of a handle that the agent of a managed instance made: `<id>-<interface>` (aws/amazon-ecs-agent,
/// ecs-agent/netlib/model/networkinterface, `NetNSName`).
#[must_use]
pub fn task_in(handle: &str) -> Option<String> {
    let (id, interface) = handle.split_once('-')?;
    let is_task = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_task && !interface.is_empty()).then(|| id.to_owned())
}

/// The id in a task's ARN: `arn:aws:ecs:<region>:<account>:task/<cluster>/<id>`, in the old form
/// without the cluster.
#[must_use]
pub fn task_of_arn(arn: &str) -> Option<String> {
    let resource = arn.strip_prefix("arn:")?.splitn(5, ':').nth(4)?;
    let id = resource.strip_prefix("task/")?.rsplit('/').next()?;
    is_id(id).then(|| id.to_owned())
}

/// Task ids are 32 hexadecimal digits, or a UUID in the old form; systemd has the dashes escaped.
fn is_id(id: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '\\';
    !id.is_empty() && id.len() <= 64 && id.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_host_says_makes_a_task() {
        let none = Clues::default();
        assert_eq!(weigh(&none), None);
        let with = |change: fn(&mut Clues)| {
            let mut clues = none.clone();
            change(&mut clues);
            weigh(&clues)
        };
        assert_eq!(with(|c| c.ecs_port = true), Some(Evidence::Port));
        assert_eq!(with(|c| c.remembered = true), Some(Evidence::Remembered));
        // A bridge container and a task on the host's network may be in a task's cgroup as well.
        assert_eq!(with(|c| c.cgroup = Some("a".into())), None);
        let cgroup = |c: &mut Clues| {
            c.cgroup = Some("a".into());
            c.own_interface = true;
        };
        assert_eq!(with(cgroup), Some(Evidence::Cgroup));
        assert_eq!(with(|c| c.label = Some("a".into())), None);
        let label = |c: &mut Clues| {
            c.label = Some("a".into());
            c.own_interface = true;
        };
        assert_eq!(with(label), Some(Evidence::Label));
        assert_eq!(with(|c| c.handle = Some("a".into())), None);
        let handle = |c: &mut Clues| {
            c.handle = Some("a".into());
            c.own_interface = true;
        };
        assert_eq!(with(handle), Some(Evidence::Handle));
        let mut clues = none.clone();
        label(&mut clues);
        clues.other_port = true;
        assert_eq!(weigh(&clues), None, "a bridge container with labels");
        let mut clues = none.clone();
        cgroup(&mut clues);
        clues.other_port = true;
        assert_eq!(weigh(&clues), None, "a bridge container");
        clues.host = true;
        (clues.ecs_port, clues.remembered) = (true, true);
        assert_eq!(weigh(&clues), None, "the host, whatever else is true");
        assert_eq!(
            with(|c| c.own_interface = true),
            None,
            "another program's VLAN"
        );
    }

    #[test]
    fn labels_are_read_only_of_what_nothing_else_tells() {
        let own = Clues {
            own_interface: true,
            ..Clues::default()
        };
        assert!(unsure(&own));
        let not = |change: fn(&mut Clues)| {
            let mut clues = own.clone();
            change(&mut clues);
            assert!(!unsure(&clues), "{clues:?}");
        };
        not(|c| c.own_interface = false);
        not(|c| c.other_port = true);
        not(|c| c.host = true);
        not(|c| c.ecs_port = true);
        not(|c| c.remembered = true);
        not(|c| c.cgroup = Some("a".into()));
        not(|c| c.label = Some("a".into()));
    }

    #[test]
    fn the_handle_of_a_managed_instance_names_its_task() {
        let id = "0123456789abcdef0123456789abcdef";
        assert_eq!(task_in(&format!("{id}-eth1")).as_deref(), Some(id));
        for other in [
            "host-daemon",
            "cni-0123",
            id,
            &id[1..],
            &format!("{id}-"),
            "0123456789ab",
        ] {
            assert_eq!(task_in(other), None, "{other}");
        }
    }

    #[test]
    fn a_task_is_known_by_its_cgroup_and_nothing_below() {
        let id = "0123456789abcdef0123456789abcdef";
        let v2 = format!("0::/ecstasks.slice/ecstasks-{id}.slice/docker-77aa.scope\n");
        assert_eq!(task_of(&v2).as_deref(), Some(id));
        let v1 = format!("12:pids:/ecs/{id}/77aa\n1:name=systemd:/docker/1\n0::/\n");
        assert_eq!(task_of(&v1).as_deref(), Some(id));
        for other in [
            "0::/system.slice/ecs.service\n".to_owned(),
            "0::/ecstasks.slice/docker-77aa.scope\n".to_owned(),
            format!("0::/ecstasks.slice/ecstasks-{id}.slice\n"),
            format!("0::/ecstasks.slice/ecstasks-{id}.slice/docker-77aa.scope/docker/99\n"),
            format!("0::/user.slice/ecstasks.slice/ecstasks-{id}.slice/docker-77aa.scope\n"),
            format!("0::/ecs/{id}/77aa\n"),
            format!("12:pids:/ecs/{id}\n"),
            format!("12:pids:/docker/1/ecs/{id}/77aa\n"),
            format!("12:pids:/ecs/{id}/77aa/docker/1\n"),
            "12:pids:/ecs/a b/77aa\n".to_owned(),
            "12:pids:/ecs//\n".to_owned(),
            String::new(),
        ] {
            assert_eq!(task_of(&other), None, "{other}");
        }
    }

    #[test]
    fn the_id_is_the_last_part_of_the_arn() {
        let id = "0123456789abcdef0123456789abcdef";
        let of = |resource: &str| task_of_arn(&format!("arn:aws-cn:ecs:cn-north-1:1:{resource}"));
        assert_eq!(of(&format!("task/main/{id}")).as_deref(), Some(id));
        let old = "8e5b5b5c-3c2f-4a4e-9a2e-b8a5d3d0f2a1";
        assert_eq!(of(&format!("task/{old}")).as_deref(), Some(old));
        for other in [
            "task/",
            "task",
            "task/main/",
            "cluster/main",
            "task/a b",
            "",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
        assert_eq!(of(&format!("task/main/{}", "a".repeat(65))), None);
        for other in ["", "arn:", "arn:aws:ecs", id, "task/main/0123"] {
            assert_eq!(task_of_arn(other), None, "{other}");
        }
    }
}
