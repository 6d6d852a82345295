//! The examples at the end of each command's help.

pub(super) const ALL: &str = "Examples:
  ecs-netguard check                                      is this host safe, and why not?
  ecs-netguard status                                     the same, from the running daemon
  ecs-netguard events --since 2h                          what happened?
  ecs-netguard explain --iif docker0 --dst 169.254.169.254   why does a packet get through?
  ecs-netguard config                                     what do the files ask for?";

pub(super) const RUN: &str = "Examples:
  systemctl enable --now ecs-netguard                     as the package's unit does
  ecs-netguard run --log-level debug                      in a terminal; Ctrl-C leaves the rules
  ecs-netguard run --log-format json 2>>netguard.jsonl    for a log shipper";

pub(super) const APPLY: &str = "Examples:
  ecs-netguard apply --dry-run                            what would change?
  ecs-netguard apply                                      change it, and prove the result
  ecs-netguard apply --json | jq -r .state                for scripts";

pub(super) const CHECK: &str = "Examples:
  ecs-netguard check                                      prove this host's rules
  ecs-netguard check --require imds-block >/dev/null || echo unsafe   by exit code
  ecs-netguard check --json | jq '.guarantees[].standing'   for programs
  ecs-netguard check --ruleset v4 --ruleset6 v6           what iptables-save and ip6tables-save wrote,
                                                          of any host, without root
  ssh HOST sudo nft -j list ruleset | ecs-netguard check --ruleset -   native rules of a host";

pub(super) const EXPLAIN: &str = "Examples:
  ecs-netguard explain --iif docker0 --dst 169.254.169.254
  ecs-netguard explain --iif docker0 --dst 169.254.169.254 --proto tcp --dport 80
  ecs-netguard explain --cgroup ecstasks.slice --dst 169.254.169.254
  ecs-netguard explain --ruleset saved.rules --iif docker0 --dst 169.254.169.254
  ssh HOST sudo iptables-save | ecs-netguard explain --ruleset - --iif docker0 --dst 169.254.169.254";

pub(super) const PROBE: &str = "Examples:
  ecs-netguard probe                                      from everywhere
  ecs-netguard probe --only tasks                         from the tasks that run
  ecs-netguard probe --record                             and let the daemon report the outcome";

pub(super) const STATUS: &str = "Examples:
  ecs-netguard status
  ecs-netguard status --watch                             redraw on every event
  ecs-netguard status --json | jq -r .seal.state          for programs
  ecs-netguard status --require imds-block >/dev/null     a health check by exit code";

pub(super) const EVENTS: &str = "Examples:
  ecs-netguard events --since 2h
  ecs-netguard events --since '2026-11-26 14:00' --kind drift --kind not-repaired
  ecs-netguard events --guarantee imds-block --limit 20
  ecs-netguard events --follow --json";

pub(super) const EXPORTER: &str = "Examples:
  systemctl enable --now ecs-netguard-exporter            as the package's unit does
  ecs-netguard exporter --listen 10.0.0.10:9877           on one address of the host
  curl -s http://127.0.0.1:9877/metrics | promtool check metrics";

pub(super) const CONFIG: &str = "Examples:
  ecs-netguard config                                     what is asked for, and by which line
  ecs-netguard config --check                             every error and trap; exit code 0, 1 or 2
  ecs-netguard config --check --ecs-config ./ecs.config   a file on trial";

pub(super) const RELEASE: &str = "Examples:
  systemctl disable --now ecs-netguard && ecs-netguard release
  ecs-netguard release --image                            the last step of building an image";

pub(super) const REPORT: &str = "Examples:
  ecs-netguard report                                     ecs-netguard-report-<time>.txt, here
  ecs-netguard report -o - | less                         to read it first";
