#!/usr/bin/env bash
# A disk that is full and then is not: nothing is lost, and every face says so meanwhile.
# Needs root, for a disk of its own in memory: 77 is the exit code where it may not have one. `cargo build --examples`
# comes first.
set -euo pipefail
program=${1:-$(dirname "$0")/../target/debug/examples/program}
program=$(realpath "$program")
dir=$(mktemp -d)
disk=$dir/disk log=$dir/log
pid=
clean() {
    [ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true
    wait 2>/dev/null || true
    cd /
    umount "$disk" 2>/dev/null || true
    rm -rf "$dir"
}
trap clean EXIT
mkdir "$disk"
if ! why=$(mount -t tmpfs -o size=4m tmpfs "$disk" 2>&1); then
    echo "this user may not mount a disk in memory (${why%%$'\n'*})" >&2
    exit 77
fi
cd "$disk"
export COWORKS_SECRET_API_TOKEN=of-nobody-at-all

# Until something holds, for 30 seconds.
until_() {
    for _ in $(seq 300); do
        if "$@"; then return; fi
        sleep 0.1
    done
    echo "never: $*" >&2
    tail -20 "$log" >&2
    return 1
}
ended() { ! kill -0 "$pid" 2>/dev/null; }
says() { "$program" runs 2>&1 | grep -q "$1"; }
succeeded() { [ "$("$program" runs ordered --limit 1000 --output json 2>/dev/null | grep -c '"state": "success"')" = "$1" ]; }

"$program" pause ticking >/dev/null
"$program" serve 2>"$log" &
pid=$!
until_ test -S .coworks-biz/biz.db.sock
"$program" trigger ordered --conf '{"customer": 1}' >/dev/null
until_ succeeded 1

dd if=/dev/zero of=filler bs=4k 2>/dev/null || true
# What fits into the log that is there already is done; one finds no room, and waits for it.
asked=1
while timeout 2 "$program" trigger ordered --conf '{"customer": 2}' >/dev/null 2>&1; do
    asked=$((asked + 1))
done
until_ says "nothing goes on until there is room on the disk"
if "$program" trigger ordered --conf '{"customer": 3}' >/dev/null 2>&1; then
    echo "a trigger was taken on a full disk" >&2
    exit 1
fi
kill -0 "$pid"

rm filler
# Those that were answered, and the one that was waiting.
until_ succeeded $((asked + 1))
"$program" db verify

# Room for a run and its log, and none for the megabyte that its task puts out.
large() { [ "$("$program" runs large --output json 2>/dev/null | grep -c "\"state\": \"$1\"")" = "$2" ]; }
room=$(df --output=avail -k . | tail -1)
dd if=/dev/zero of=filler bs=1k count=$((room - 700)) 2>/dev/null
"$program" trigger large >/dev/null
until_ grep -q "an output waits for room on the disk" "$log"
large running 1
# Killed there, it is tried again by the next one, which waits in its turn.
kill -9 "$pid"
wait "$pid" 2>/dev/null || true
dd if=/dev/zero of=rest bs=1k 2>/dev/null || true
"$program" serve 2>"$log" &
pid=$!
until_ grep -q "room on the disk" "$log"
rm filler rest
until_ large success 1
values=$(ls .coworks-biz/biz.db.blobs)
if [ "$(wc -l <<<"$values")" != 1 ]; then
    echo "left of a value that was half written: $values" >&2
    exit 1
fi
"$program" db verify
kill "$pid"
until_ ended
wait "$pid"
pid=
echo "a full disk was waited out"
