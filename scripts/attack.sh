#!/bin/sh
# Attacks the daemon with what a container, a local user or a broken file can do, each in namespaces of
# its own, and prints what came of it: the attack, what version 1 did, and whether its test passes now.
set -eu
cd "$(dirname "$0")/.."

cargo=${CARGO:-cargo}
"$cargo" test --locked --no-run --quiet
failed=0

# attack NAME OF THE TEST, WHAT IT DOES, WHAT VERSION 1 DID
attack() {
    case $1 in
        awsvpc::*) program=awsvpc ;;
        *) program=integration ;;
    esac
    if out=$("$cargo" test --locked --quiet --test $program -- --exact "${1#awsvpc::}" 2>&1) &&
        printf '%s\n' "$out" | grep -q '^test result: ok. 1 passed'; then
        now=stopped
    else
        now=FAILED
        failed=1
        printf '%s\n' "$out" >&2
    fi
    printf '%-72s  %-24s  %s\n' "$2" "$3" "$now"
}

printf '%-72s  %-24s  %s\n' "ATTACK" "VERSION 1" "NOW"
attack awsvpc::attacks::large_events_of_a_task_end_nothing_and_other_tasks_are_repaired_meanwhile \
    "a task: routes and interfaces whose events are over 64 KiB" "the daemon ended"
attack awsvpc::attacks::thousands_of_interfaces_and_a_table_that_the_task_owns_end_nothing \
    "a task: 4,600 interfaces and a table that it owns" "it ended at every start"
attack awsvpc::attacks::a_copy_of_the_table_that_the_task_owns_counts_for_nothing_and_is_replaced_when_it_goes \
    "a task: an owned copy of the guard's table, then gone without an event" "held for ever"
attack awsvpc::attacks::a_chain_of_another_type_is_no_block_and_is_replaced \
    "a task: a chain with the right rules and the type nat" "counted as whole"
attack awsvpc::attacks::what_the_tasks_root_deletes_is_back \
    "a task: deletes the guard's tables" "stopped"
attack awsvpc::attacks::a_socket_that_names_its_interface_gets_past_blackholes_and_not_past_the_guard \
    "a task: a socket that names its interface" "stopped"
attack awsvpc::apart::a_worker_that_ends_is_started_again_and_a_task_over_which_it_ends_is_left_alone \
    "a task over which the worker ends, again and again" "the daemon ended each time"
attack links::an_interface_with_hundreds_of_names_hides_no_other \
    "an interface with hundreds of names, which cuts the kernel's list short" "others were not listed"
attack nftables::a_table_that_goes_without_a_commit_is_seen_to_have_gone \
    "a table that goes with its owner's socket, without a generation" "not seen"
attack seal::a_table_in_which_anything_else_stands_is_not_intact \
    "a set, a chain's flag or an object in the guard's table" "counted as whole"
attack edge::raw_frames_do_not_leave_whatever_their_protocol_is_said_to_be \
    "raw frames, with and without tags and PACKET_QDISC_BYPASS" "15 of 15 arrived"
attack edge::what_a_container_makes_in_the_hosts_namespace_by_rtnetlink_leads_nowhere \
    "CAP_NET_ADMIN: a macvlan or a veth made in the host" "arrived"
attack edge::ways::what_other_rules_rewrite_copy_or_route_does_not_leave \
    "rewritten, copied, translated back, source-routed packets" "arrived, some as held"
attack commands::nothing_that_is_printed_moves_the_cursor \
    "an interface name that is an escape sequence" "moved the cursor"
attack inputs::the_last_good_settings_stay_over_a_restart_with_a_config_toml_that_says_nothing \
    "config.toml broken, emptied or deleted before a restart" "the host was open"
attack inputs::where_the_state_was_lost_and_the_files_are_gone_the_rules_stay \
    "ecs.config gone and every copy of the state damaged" "the block was removed"
attack sandbox::the_unit_gives_away_no_socket_behind_a_link \
    "a link where the status socket should be" "chgrp followed it"
attack sandbox::a_daemon_that_is_taken_over_does_not_become_root \
    "a daemon that was taken over: Docker's socket, ptrace, a mount" "was root by Docker's"
attack journal::a_stuck_journald_holds_up_nothing_and_what_it_missed_is_counted \
    "a journald that does not read" "repairs and SIGTERM waited"
attack across::a_disk_that_fills_up_later_costs_no_more \
    "a full disk below the state" "stopped"
attack bad_days::a_disk_that_hangs_holds_up_no_answer_and_not_the_end \
    "a disk that hangs" "not tried"
attack commands::a_daemon_that_is_silent_is_waited_for_as_long_as_was_asked \
    "a daemon that is stopped: status answers or fails in 2 s" "20 s"
attack hostile::a_thousand_silent_clients_keep_no_other_out_and_nothing_waits_for_them \
    "a thousand silent clients on the status socket" "stopped"
exit $failed
