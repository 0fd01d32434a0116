#!/usr/bin/env bash
# Lets each call that changes the disk fail, or be the last, and the power go at many moments: `docs/proof.md`.
# Takes about ten minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --quiet --example program
cargo test --quiet --test end_to_end -- --ignored --nocapture --exact disk::each_call_and_many_moments
