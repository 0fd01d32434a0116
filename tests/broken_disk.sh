#!/usr/bin/env bash
# A disk that answers with errors, and one that is made read-only under a process that serves: it stops and says
# why, and when the disk is whole again nothing that was acknowledged is lost.
# Needs root, for disks of its own: 77 is the exit code where it may not have them, and 78 where a tool is missing.
# `cargo build --examples` comes first.
set -euo pipefail
for needed in mkfs.ext4 fsck.ext4 losetup; do
    if ! command -v $needed >/dev/null; then
        echo "$needed is not installed" >&2
        exit 78
    fi
done
program=$(realpath "${1:-$(dirname "$0")/../target/debug/examples/program}")
dir=$(mktemp -d)
device=
pid=
clean() {
    [ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true
    wait 2>/dev/null || true
    cd /
    umount "$dir/disk" 2>/dev/null || true
    [ -z "$device" ] || losetup -d "$device" || true
    umount "$dir/below" 2>/dev/null || true
    rm -rf "$dir"
}
trap clean EXIT
mkdir "$dir/below" "$dir/disk"
export COWORKS_SECRET_API_TOKEN=of-nobody-at-all

# A disk that is a file on another one, which has less room than it promises. It has a journal, and its blocks are as
# large as a page of memory, as those of any disk of today: without one, or where they are smaller, a write that fails
# takes with it what was on the disk before.
disk() {
    mount -t tmpfs -o size=24m tmpfs "$dir/below" &&
        truncate -s 64M "$dir/below/image" &&
        mkfs.ext4 -q -b 4096 -E lazy_itable_init=0,nodiscard "$@" "$dir/below/image" &&
        device=$(losetup -f --show "$dir/below/image") &&
        mount "$device" "$dir/disk"
}
serve() {
    "$program" serve 2>>"$dir/log" &
    pid=$!
    until_ test -S .coworks-biz/biz.db.sock
}
# Until something holds, for 30 seconds.
until_() {
    for _ in $(seq 300); do
        if "$@"; then return; fi
        sleep 0.1
    done
    echo "never: $*" >&2
    cat "$dir/log" >&2
    return 1
}
trigger() { timeout 10 "$program" trigger ordered --conf '{"customer": 1}' >/dev/null 2>&1; }
succeeded() { [ "$("$program" runs ordered --limit 10000 --output json 2>/dev/null | grep -c '"state": "success"')" -ge "$1" ]; }
# It ends by itself, with the exit code of a database that fails, and says this.
stops() {
    for _ in $(seq 300); do
        kill -0 "$pid" 2>/dev/null || break
        trigger && asked=$((asked + 1))
        sleep 0.02
    done
    until_ ended
    local code=0
    wait "$pid" || code=$?
    pid=
    if [ "$code" != 3 ] || ! grep -q "$1" "$dir/log"; then
        echo "it ended with $code, and not with 3 and $1:" >&2
        tail -3 "$dir/log" >&2
        exit 1
    fi
    echo "it stopped: $(grep "$1" "$dir/log" | tail -1)"
    # The next one has to say so itself.
    : >"$dir/log"
}
ended() { ! kill -0 "$pid" 2>/dev/null; }
# All that was acknowledged is there, and comes to its end.
whole() {
    serve
    until_ succeeded "$asked"
    "$program" db verify
    kill "$pid"
    until_ ended
    wait "$pid"
    pid=
}

if ! disk 2>"$dir/log"; then
    echo "this user may not mount a disk in a file ($(head -1 "$dir/log"))" >&2
    exit 77
fi
cd "$dir/disk"
"$program" pause ticking >/dev/null 2>&1
serve
asked=0
trigger && asked=1
until_ succeeded 1
dd if=/dev/zero of="$dir/below/filler" bs=4k 2>/dev/null || true
stops "error:"
rm "$dir/below/filler"
cd /
umount "$dir/disk"
fsck.ext4 -fy "$device" >/dev/null 2>&1 || true
mount "$device" "$dir/disk"
cd "$dir/disk"
whole
cd /
umount "$dir/disk"
losetup -d "$device"
device=
umount "$dir/below"

disk
cd "$dir/disk"
"$program" pause ticking >/dev/null 2>&1
serve
asked=0
trigger && asked=1
until_ succeeded 1
# What the system does with a disk that it does not trust any more.
mount -o remount,abort "$dir/disk"
stops "error:"
cd /
umount "$dir/disk"
fsck.ext4 -fy "$device" >/dev/null 2>&1 || true
mount "$device" "$dir/disk"
cd "$dir/disk"
whole
echo "broken disks were survived"
