#!/usr/bin/env bash
# Kills a process that serves as often as one likes, and checks what must hold: `docs/proof.md`.
# `tests/kill.sh [KILLS] [SEED]`, for each durability. Takes about a second for three kills.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --quiet --example program
cargo test --quiet --test end_to_end --no-run
export KILL_ROUNDS=${1:-300}
[ -z "${2:-}" ] || export KILL_SEED=$2
for durability in step run relaxed; do
    KILL_DURABILITY=$durability cargo test --quiet --test end_to_end -- --ignored --nocapture --exact kill::as_long_as_one_likes
done
KILL_BY=TERM cargo test --quiet --test end_to_end -- --ignored --nocapture --exact kill::as_long_as_one_likes
