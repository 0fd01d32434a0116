#!/usr/bin/env bash
# The clock is put forward and back under a process that serves: a tick makes one run, what was passed over is
# missed, and delays come to their end.
# Needs `faketime` (Debian: apt-get install faketime). `cargo build --examples` comes first.
set -euo pipefail
program=$(realpath "${1:-$(dirname "$0")/../target/debug/examples/program}")
library=$(ls /usr/lib/*/faketime/libfaketime.so.1 2>/dev/null | head -1 || true)
if [ -z "$library" ]; then
    echo "NOT TESTED: faketime is not installed" >&2
    exit 0
fi
dir=$(mktemp -d)
pid=
clean() {
    [ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true
    wait 2>/dev/null || true
    cd /
    rm -rf "$dir"
}
trap clean EXIT
cd "$dir"
export COWORKS_SECRET_API_TOKEN=of-nobody-at-all
# The clock of the process is the machine's, and so much more; what it says of time that has passed stays.
step() {
    echo "$1" >offset.new
    mv offset.new offset
}
ticks() { "$program" runs ticking --limit 100000 --output json 2>/dev/null | grep -c '"logical_date"' || true; }
until_() {
    for _ in $(seq 300); do
        if "$@"; then return; fi
        sleep 0.1
    done
    echo "never: $*" >&2
    tail -5 log >&2
    return 1
}
more() { [ "$(ticks)" -gt "$1" ]; }
succeeded() { [ "$("$program" runs ordered --output json 2>/dev/null | grep -c '"state": "success"')" -ge "$1" ]; }

step +0
LD_PRELOAD=$library FAKETIME_TIMESTAMP_FILE=$dir/offset FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1 \
    "$program" serve 2>log &
pid=$!
until_ test -S .coworks-biz/biz.db.sock
until_ more 1

# An hour forward: 3,600 ticks are passed over, and the schedule catches up on none of them.
before=$(ticks)
step +3600
until_ more $((before + 1))
after=$(ticks)
if [ $((after - before)) -gt 60 ]; then
    echo "the ticks of an hour that never was have made $((after - before)) runs" >&2
    exit 1
fi
"$program" trigger ordered --conf '{"customer": 1}' >/dev/null
until_ succeeded 1

# Back to where it was: these ticks have had their runs, and until the clock is there again there is no other.
step +0
until_ grep -q "the clock was put back" log
"$program" trigger ordered --conf '{"customer": 2}' >/dev/null
until_ succeeded 2
kill -0 "$pid"

# A restart makes none twice either.
kill "$pid"
wait "$pid"
unique=$("$program" runs ticking --limit 100000 --output json | grep '"logical_date"' | sort | uniq -d | wc -l)
if [ "$unique" != 0 ]; then
    echo "$unique ticks have two runs" >&2
    exit 1
fi
pid=
"$program" db verify
echo "steps of the clock were survived"
