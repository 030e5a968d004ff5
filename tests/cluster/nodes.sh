#!/usr/bin/env bash
# Hosts on one machine: each a network namespace with its own link to a switch, its own name, /etc/hosts and /dev/shm. All share the
# file system, as the hosts of a cluster do.
#   tests/cluster/nodes.sh up N FOLDER         hosts h1..hN and `head`, the switch, where a launcher runs; addresses 10.77.0.1..N and .254
#   tests/cluster/nodes.sh down FOLDER         ends them with all that runs in them
#   tests/cluster/nodes.sh in FOLDER HOST COMMAND...    runs a command there
#   tests/cluster/nodes.sh cut|mend FOLDER HOST         takes the host's link away at the switch; gives it back
#   tests/cluster/nodes.sh check               77 and the reason where this machine allows none
# A host is held by a process of its own that sleeps; FOLDER/HOST names it. Nothing outside the namespaces is changed, and addresses are
# theirs alone, so several sets of hosts live side by side.
set -uo pipefail
say() { echo "nodes.sh: $*" >&2; }

check() {
    local program
    for program in ip unshare nsenter setsid; do
        PATH=$PATH:/usr/sbin:/sbin command -v "$program" > /dev/null || { say "$program is not installed: scripts/setup cluster"; exit 77; }
    done
    unshare --net --mount --uts true 2> /dev/null || { say "this machine allows no namespaces to this user"; exit 77; }
    unshare --net --mount sh -c 'ip link add br0 type bridge && ip link add veth0 type veth peer name veth1' 2> /dev/null ||
        { say "this kernel has no bridge or no veth links"; exit 77; }
}

# hold NAME FOLDER: a host without a link. Its /dev/shm is its own: Open MPI talks through it to what it takes for the same host.
hold() {
    env -u SEODANG_NODES setsid unshare --net --mount --uts bash -c '
        hostname "$1" && mount -t tmpfs tmpfs /dev/shm && mount --bind "$2/hosts" /etc/hosts && ip link set lo up || exit 1
        echo $$ > "$2/$1.new" && mv "$2/$1.new" "$2/$1" && exec sleep infinity' hold "$1" "$2" \
        < /dev/null > "$2/$1.out" 2>&1 &
}

enter() { # enter FOLDER HOST COMMAND...
    local holder
    holder=$(cat "$1/$2") || return 1
    shift 2
    ${exec:-} nsenter -t "$holder" --net --uts --mount --wd="$PWD" -- "$@"
}

up() {
    local n=$1 dir i end name
    check
    mkdir -p "$2" && dir=$(cd "$2" && pwd -P) || exit 1
    { echo "127.0.0.1 localhost"; echo "10.77.0.254 head"; for ((i = 1; i <= n; i++)); do echo "10.77.0.$i h$i"; done; } > "$dir/hosts"
    hold head "$dir"
    for ((i = 1; i <= n; i++)); do hold "h$i" "$dir"; done
    end=$((SECONDS + 20))
    for name in head $(seq -f 'h%g' "$n"); do
        until [ -s "$dir/$name" ]; do
            [ $SECONDS -lt $end ] || { say "host $name does not come up: $(cat "$dir/$name.out")"; down "$dir"; exit 1; }
            sleep 0.02
        done
    done
    {
        enter "$dir" head ip link add switch type bridge && enter "$dir" head ip addr add 10.77.0.254/24 dev switch &&
            enter "$dir" head ip link set switch up
    } || { down "$dir"; exit 1; }
    for ((i = 1; i <= n; i++)); do
        {
            enter "$dir" head ip link add "port$i" type veth peer name eth0 netns "$(cat "$dir/h$i")" &&
                enter "$dir" head ip link set "port$i" master switch up && enter "$dir" "h$i" ip addr add "10.77.0.$i/24" dev eth0 &&
                enter "$dir" "h$i" ip link set eth0 up
        } || { down "$dir"; exit 1; }
    done
}

# The processes in the network namespaces of FOLDER's hosts.
members() {
    local holder proc spaces=" "
    for holder in $(cat "$1"/head "$1"/h[0-9] "$1"/h[0-9][0-9] 2> /dev/null); do
        spaces+="$(readlink "/proc/$holder/ns/net") "
    done
    for proc in /proc/[0-9]*; do
        case "$spaces" in *" $(readlink "$proc/ns/net" 2> /dev/null || echo none) "*) echo "${proc#/proc/}" ;; esac
    done
}

down() {
    local dir pids
    dir=$(cd "$1" && pwd -P) || exit 1
    pids=$(members "$dir")
    [ -z "$pids" ] || kill -KILL $pids 2> /dev/null # the last process of a namespace takes its links with it
    rm -f "$dir"/head "$dir"/h[0-9]*
}

case "${1:-}" in
up) up "${2:?hosts}" "${3:?folder}" ;;
down) down "${2:?folder}" ;;
in) shift; exec=exec; enter "$@" ;;
cut) enter "${2:?folder}" head ip link set "port${3#h}" down ;;
mend) enter "${2:?folder}" head ip link set "port${3#h}" up ;;
check) check ;;
*) echo "usage: nodes.sh up N FOLDER | down FOLDER | in FOLDER HOST COMMAND... | cut|mend FOLDER HOST | check" >&2; exit 2 ;;
esac
