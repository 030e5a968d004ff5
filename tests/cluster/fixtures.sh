#!/usr/bin/env bash
# The fixtures themselves: hosts whose link is cut and mended, a Slurm that runs a step on every node; two sets of each side by side;
# and nothing left when they are down. The third argument: nodes or slurm.
. "$(dirname "$0")/../e2e/lib.sh"
here=$(cd "$(dirname "$0")" && pwd)
trap '"$here/$3.sh" down "$work/a" 2> /dev/null; "$here/$3.sh" down "$work/b" 2> /dev/null; rm -rf "$work"' EXIT
fixture=$here/$3.sh
chmod 711 "$work"
"$fixture" check || exit $?

# Listening and connecting as ranks do: the listener prints what came.
listen() { "$fixture" in "$1" "$2" python3 -c '
import socket
s = socket.create_server(("", 4711))
print("listening", flush=True)
print(s.accept()[0].recv(100).decode(), flush=True)'; }
say_hello() { "$fixture" in "$1" "$2" timeout 1 bash -c "echo hello from \$(hostname) > /dev/tcp/$3/4711"; }
await() {
    local end=$((SECONDS + 20))
    until grep -q "$2" "$1" 2> /dev/null; do
        [ $SECONDS -lt $end ] || fail "no '$2' in $1"
        sleep 0.02
    done
}

try_nodes() {
    ok "$fixture" up 3 "$work/a"
    ok "$fixture" up 2 "$work/b"
    local set
    for set in a b; do
        listen "$work/$set" h2 > "$work/heard.$set" &
        await "$work/heard.$set" listening
        ok "$fixture" cut "$work/$set" h1
        say_hello "$work/$set" h1 h2 2> /dev/null && fail "a cut link carries"
        ok "$fixture" mend "$work/$set" h1
        until say_hello "$work/$set" h1 h2 2> /dev/null; do
            [ $SECONDS -lt 60 ] || fail "a mended link does not carry"
        done
        await "$work/heard.$set" "hello from h1"
    done
    "$fixture" in "$work/a" h1 sleep 1000 &
    held=$!
    ok "$fixture" down "$work/a"
    wait $held 2> /dev/null && fail "what ran on a host was not ended with it"
    ok "$fixture" in "$work/b" h1 true
    ok "$fixture" down "$work/b"
    [ "$(ls /sys/class/net | grep -c '^port')" = 0 ] || fail "links are left behind"
}

try_slurm() {
    ok "$fixture" up 4 "$work/a"
    ok "$fixture" up 1 "$work/b"
    (. "$work/a/env" && srun -N4 -n4 bash -c 'echo $SLURM_PROCID $SLURMD_NODENAME') | sort > "$work/steps"
    printf '%s\n' '0 n1' '1 n2' '2 n3' '3 n4' | cmp - "$work/steps" || fail "a step on four nodes: $(cat "$work/steps")"
    (. "$work/a/env" && cd "$work" && sbatch -o "$work/job" --wrap 'trap "" TERM; echo started; srun sleep 1000' > /dev/null)
    await "$work/job" started
    ok "$fixture" down "$work/a"
    (. "$work/b/env" && srun true) || fail "the other cluster went down too"
    ok "$fixture" down "$work/b"
    pgrep -f "$work/[ab]/" > "$work/left" && fail "left behind: $(xargs ps -o pid,args -p < "$work/left")"
    return 0
}

try_"$3"
