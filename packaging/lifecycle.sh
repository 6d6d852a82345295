# What the packages do to a machine. This is the end of every scriptlet of the RPM and of every maintainer
# script of the Debian package; what stands before it says which step this is:
#
#   step=installed, upgraded, removing (the files are still there) or removed
#   manage=the program that starts and restarts units
#   prefix=where the package is
#
# Nothing here fails: half a transaction is of no use.

# True on a running machine; not in the chroot in which an image is made, whether or not the builder's
# /proc and /run are there: nothing must be started, and the rules are those of the builder.
running=false
if [ -d /run/systemd/system ] && [ /proc/1/root -ef / ]; then
    running=true
fi
# Every unit that can be enabled, and those that are started and stopped with the package: strict mode is
# not, since Docker requires it and would be stopped with it.
units=$(cd "$prefix/lib/systemd/system" 2>/dev/null && grep -l '^\[Install\]' ecs-netguard*) || :
started=$(printf '%s\n' "$units" | grep -v '^ecs-netguard-strict\.') || :

case $step in
    installed | upgraded)
        # It says what it makes: that is worth no line where it worked.
        told=$(systemd-sysusers "$prefix/lib/sysusers.d/ecs-netguard.conf" 2>&1) || printf '%s\n' "$told" >&2
        journalctl --update-catalog || :
        if [ "$step" = installed ]; then
            # The preset enables the guard alone; one of the administrator's own wins.
            systemctl --quiet preset $units || :
        fi
        if $running; then
            systemctl daemon-reload || :
        fi
        for unit in $started; do
            if ! $running; then
                break
            elif [ "$step" = upgraded ]; then
                # Without a gap: the rules stay, and systemd holds the seal's socket meanwhile.
                "$manage" try-restart "$unit" || :
            elif systemctl --quiet is-enabled "$unit"; then
                # The guard's own returns after the first proof.
                "$manage" start "$unit" || :
            fi
        done
        ;;
    removing)
        if $running; then
            systemctl stop $started || :
            # Removes the rules, restores the sysctl, and forgets this host. It says only what failed. In the
            # machine's own network namespace: newer rpms may give scriptlets an empty one
            # (its macro __transaction_unshare_nonet), where there is nothing to remove.
            told=$(nsenter --target 1 --net "$prefix/sbin/ecs-netguard" release --image 2>&1) || printf '%s\n' "$told" >&2
            # The locks of network namespaces bear their numbers.
            rm -rf /run/ecs-netguard
        fi
        systemctl --quiet disable $units || :
        ;;
    removed)
        if $running; then
            systemctl daemon-reload || :
        fi
        journalctl --update-catalog || :
        ;;
esac
