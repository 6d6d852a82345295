//! What putting the rules in place costs after a flush.

use crate::defence::{ECS_CONFIG, run_once};
use crate::options::Options;
use crate::report::Figure;
use crate::time::times_after;
use lab::Lab;
use lab::tamper::Backend;

pub(crate) const ID: &str = "apply";

type Put = fn(&Lab, Backend);

const WAYS: [(&str, Put); 3] = [
    ("iptables -I, four times", |lab, backend| {
        run_once(lab, "insert.sh", backend)
    }),
    ("iptables-restore --noflush", |lab, backend| {
        run_once(lab, "restore.sh", backend)
    }),
    ("ecs-netguard apply (proves)", |lab, backend| {
        drop(lab.netguard(["apply", "--backend", word(backend)]).run())
    }),
];

fn word(backend: Backend) -> &'static str {
    match backend {
        Backend::Nft => "nft",
        Backend::Legacy => "legacy",
    }
}

pub(crate) fn measure(_: &Options) -> Figure {
    let mut figure = Figure::new(ID, "putting the rules in place after a flush");
    for backend in Backend::ALL {
        for (who, put) in WAYS {
            let lab = Lab::new();
            lab.write("ecs.config", ECS_CONFIG);
            let flush = || {
                for table in ["filter", "nat"] {
                    lab.tamper(backend).flush(table, None);
                }
            };
            figure.add_times(
                who,
                &backend.iptables(),
                &times_after(flush, || put(&lab, backend)),
            );
        }
    }
    figure
        .notes
        .push("apply puts eight rules and a sysctl in place, the scripts four rules.".into());
    figure
}
