#!/usr/bin/env bash
# The clock is put forward and back under a process that serves: a tick makes one run, what was passed over is
# missed, and delays come to their end.
# Needs `faketime` (Debian: apt-get install faketime): 78 is the exit code where it is missing. `cargo build --examples`
# comes first.
set -euo pipefail
program=$(realpath "${1:-$(dirname "$0")/../target/debug/examples/program}")
library=$(ls /usr/lib/*/faketime/libfaketime.so.1 2>/dev/null | head -1 || true)
if [ -z "$library" ]; then
    echo "faketime is not installed" >&2
    exit 78
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
# Nobody listens there: ticks call a service, and what they come to is not what this is about.
export COWORKS_SECRET_API_TOKEN=of-nobody-at-all COWORKS_GATEWAY_URL=http://127.0.0.1:9
# The clock of the process is the machine's, and so much more; what it says of time that has passed stays.
step() {
    echo "$1" >offset.new
    mv offset.new offset
}
dates() { "$program" runs ticking --limit 100000 --output json 2>/dev/null | sed -n 's/.*"logical_date": "\(.*\)".*/\1/p'; }
ticks() { dates | wc -l; }
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

serve() {
    LD_PRELOAD=$library FAKETIME_TIMESTAMP_FILE=$dir/offset FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1 \
        "$program" serve 2>>log &
    pid=$!
    until_ test -S .coworks-biz/biz.db.sock
}
# It comes to its end when it is asked to.
stop() {
    kill "$pid"
    until_ ended
    wait "$pid"
    pid=
}
ended() { ! kill -0 "$pid" 2>/dev/null; }
delayed() { [ "$("$program" runs delayed --output json 2>/dev/null | grep -c '"state": "success"')" -ge "$1" ]; }
is_delayed() { "$program" show --biz delayed --output json 2>/dev/null | grep -q '"state": "up_for_retry"'; }
# Whether a tick at this moment, and one behind it, has a run.
beyond() { [[ $(dates | sort | tail -1) > $1 ]]; }

step +0
serve
until_ more 1

# An hour forward: 3,600 ticks are passed over, and the schedule catches up on none of them.
"$program" trigger delayed >/dev/null
until_ is_delayed
before=$(ticks)
began=$SECONDS
step +3600
until_ more $((before + 1))
after=$(ticks)
if [ $((after - before)) -gt 60 ]; then
    echo "the ticks of an hour that never was have made $((after - before)) runs" >&2
    exit 1
fi
"$program" trigger ordered --conf '{"customer": 1}' >/dev/null
until_ succeeded 1
until_ delayed 1

# Back to where it was, while something is delayed: it does not wait for the hour to come again, nor do those ticks
# that were passed over.
"$program" trigger delayed >/dev/null
until_ is_delayed
step +0
until_ grep -q "the clock was put back" log
"$program" trigger ordered --conf '{"customer": 2}' >/dev/null
until_ succeeded 2
until_ delayed 2
until_ more "$after"

# Through the seconds whose ticks have had their runs, in this process and in another: none has a second one, and those
# behind them have theirs.
for again in here there; do
    last=$(dates | sort | tail -1)
    step +$((3600 - (SECONDS - began)))
    [ $again = here ] || { stop; serve; }
    until_ beyond "$last"
    kill -0 "$pid"
done
stop
"$program" db verify
echo "steps of the clock were survived"
