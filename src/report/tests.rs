use super::*;

#[test]
fn the_headline_says_from_whom_the_host_is_not_protected() {
    let container = PrivilegedContainer {
        id: "0f".into(),
        name: None,
        task: None,
        powers: Vec::new(),
    };
    for (state, containers, expected) in [
        (Overall::Protected, 0, "PROTECTED"),
        (
            Overall::Protected,
            1,
            "PROTECTED, except from 1 privileged container",
        ),
        (
            Overall::Protected,
            2,
            "PROTECTED, except from 2 privileged containers",
        ),
        (Overall::NotProtected, 2, "NOT PROTECTED"),
        (Overall::Undecided, 1, "UNDECIDED"),
    ] {
        let report = Report {
            state,
            privileged: vec![container.clone(); containers],
            ..Report::new(SystemTime::UNIX_EPOCH, Vec::new())
        };
        assert_eq!(report.headline(), expected);
    }
}
