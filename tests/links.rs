//! What is heard of interfaces that come and go.

use std::collections::BTreeSet;
use std::os::fd::AsFd as _;

use ecs_netguard::os::links::{Link, LinkChange, Links};
use ecs_netguard::os::nsid::Peers;
use lab::Lab;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};

fn readable(links: &Links) -> bool {
    let mut fds = [PollFd::new(links.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).unwrap() > 0
}

/// The interfaces, as they are listed.
fn all(lab: &Lab) -> Vec<Link> {
    lab.host.run(|| Peers::open().unwrap().links().unwrap())
}

/// Whether a change may come late, and be the lab's: the kernel tells of carriers and states up to a second after they
/// changed (`linkwatch_schedule_work()`).
fn is_late(change: &LinkChange) -> bool {
    matches!(change, LinkChange::Changed(_))
}

/// What was heard of one interface.
fn about(changes: &[LinkChange], index: u32) -> Vec<&LinkChange> {
    let of = |change: &&LinkChange| match change {
        LinkChange::Appeared(link) | LinkChange::Changed(link) | LinkChange::Gone(link) => {
            link.index == index
        }
        LinkChange::Lost => true,
    };
    changes.iter().filter(of).collect()
}

#[test]
fn a_bridge_is_heard_with_its_name_and_kind() {
    let lab = Lab::new();
    let mut links = lab.host.run(Links::open).unwrap();
    let all = all(&lab);
    let docker0 = all.iter().find(|link| link.name == "docker0").unwrap();
    assert_eq!(docker0.kind.as_deref(), Some("bridge"));
    let lo = all.iter().find(|link| link.name == "lo").unwrap();
    assert_eq!((lo.index, &lo.kind), (1, &None));
    let _of_the_labs_making = links.drain().unwrap();

    lab.host.sh("ip link add br-fedcba987654 type bridge");
    assert!(readable(&links));
    let changes = links.drain().unwrap();
    let bridge = changes.iter().find_map(|change| match change {
        LinkChange::Appeared(link) if link.name == "br-fedcba987654" => Some(link),
        _ => None,
    });
    let bridge = bridge.unwrap_or_else(|| panic!("{changes:?}"));
    assert_eq!(bridge.kind.as_deref(), Some("bridge"));
    let again = links.drain().unwrap();
    assert!(again.iter().all(is_late), "{again:?}");

    lab.host.sh("ip link set br-fedcba987654 name br-other");
    let changes = links.drain().unwrap();
    let other = Link {
        name: "br-other".into(),
        raw_name: b"br-other".to_vec(),
        ..bridge.clone()
    };
    let heard = about(&changes, bridge.index);
    assert_eq!(heard.last(), Some(&&LinkChange::Changed(other.clone())));

    // A cable whose end is taken from the bridge has not gone.
    lab.host
        .sh("ip link add cable type veth peer name end; ip link set cable master br-other");
    let changes = links.drain().unwrap();
    let cable = changes.iter().find_map(|change| match change {
        LinkChange::Appeared(link) if link.name == "cable" => Some(link.clone()),
        _ => None,
    });
    let cable = cable.unwrap();
    assert_eq!(cable.kind.as_deref(), Some("veth"));
    lab.host.sh("ip link set cable nomaster");
    let changes = links.drain().unwrap();
    let heard = about(&changes, cable.index);
    assert!(!heard.is_empty());
    assert!(
        heard
            .iter()
            .all(|change| matches!(change, LinkChange::Changed(_))),
        "{heard:?}"
    );

    lab.host.sh("ip link del br-other");
    let changes = links.drain().unwrap();
    assert_eq!(about(&changes, bridge.index), [&LinkChange::Gone(other)]);
}

#[test]
fn what_did_not_fit_is_said_to_be_lost_and_read_again() {
    let lab = Lab::new();
    let mut links = lab.host.run(Links::open).unwrap();
    setsockopt(&links.as_fd(), sockopt::RcvBuf, &4096).unwrap();
    lab.host
        .sh("for n in $(seq 40); do ip link add br-$n type bridge; done; ip link del br-7");
    let changes = links.drain().unwrap();
    assert_eq!(changes.last(), Some(&LinkChange::Lost));
    let again = links.drain().unwrap();
    assert!(again.iter().all(is_late), "{again:?}");
    lab.host.sh("ip link set br-40 up");
    let changes = links.drain().unwrap();
    let of = |change: &LinkChange| match change {
        LinkChange::Changed(link) => link.name == "br-40",
        _ => false,
    };
    assert!(changes.iter().any(of), "{changes:?}");
    assert!(changes.iter().all(is_late), "{changes:?}");
}

/// A list that changes while it is read is read again on the same socket; the kernel goes on with the first
/// reading until that is read to its end.
#[test]
fn a_list_that_changes_meanwhile_is_read_again() {
    // More than fits into one datagram, which is all that the kernel makes ready at once.
    const MANY: usize = 150;
    let lab = Lab::new();
    let add = |n| format!("link add many{n} type bridge");
    lab.write("many", (0..MANY).map(add).collect::<Vec<_>>().join("\n"));
    let change = "link add other type bridge\nlink del other\n";
    lab.write("change", change.repeat(60));
    let batch = |name| format!("ip -batch {}", lab.inside(name).display());
    lab.host.sh(&batch("many"));
    let mut peers = lab.host.run(Peers::open).unwrap();
    let (mut whole, mut gave_up) = (0, 0);
    std::thread::scope(|threads| {
        let changing = threads.spawn(|| lab.host.sh(&batch("change")));
        while !changing.is_finished() {
            match peers.links() {
                Ok(links) => {
                    whole += 1;
                    let many = links.iter().filter(|link| link.name.starts_with("many"));
                    assert_eq!(many.count(), MANY);
                }
                Err(error) if error.to_string().contains("changed during each") => gave_up += 1,
                Err(error) => panic!("after {whole} readings and {gave_up} given up: {error}"),
            }
        }
    });
    println!("{whole} readings, {gave_up} given up");
    assert!(whole + gave_up > 0);
    peers.links().unwrap();
}

/// Gives an interface as many alternative names as the kernel takes: its message is larger than 64 KiB.
fn name_again(lab: &Lab, interface: &str) {
    let name = |n| {
        let name = format!("{n:04}{}", "x".repeat(120));
        format!("link property add dev {interface} altname {name}\n")
    };
    lab.write("names", (0..496).map(name).collect::<String>());
    lab.host
        .sh(&format!("ip -batch {}", lab.inside("names").display()));
}

#[test]
fn an_interface_with_hundreds_of_names_hides_no_other() {
    let lab = Lab::new();
    for name in ["first", "named", "last"] {
        lab.host.sh(&format!("ip link add {name} type bridge"));
    }
    let mut links = lab.host.run(Links::open).unwrap();
    let before = all(&lab);
    name_again(&lab, "named");
    let after = all(&lab);
    let numbers = |of: &[Link]| of.iter().map(|link| link.index).collect::<BTreeSet<_>>();
    assert_eq!(numbers(&after), numbers(&before));
    for name in ["first", "named", "last"] {
        let found = after.iter().find(|link| link.name == name);
        assert_eq!(found.unwrap().kind.as_deref(), Some("bridge"), "{name}");
    }
    // The event is larger than the buffer.
    lab.host.sh("ip link set named up");
    let changes = links.drain().unwrap();
    assert_eq!(changes.last(), Some(&LinkChange::Lost));
    lab.host.sh("ip link del last");
    let of_last =
        |change: &LinkChange| matches!(change, LinkChange::Gone(link) if link.name == "last");
    assert!(links.drain().unwrap().iter().any(of_last));
}

#[test]
fn a_name_that_is_no_text_is_shown_escaped() {
    let lab = Lab::new();
    lab.host
        .sh("ip link add \"$(printf 'br-\\377')\" type bridge");
    assert!(all(&lab).iter().any(|link| link.name == "br-\\xff"));
}
