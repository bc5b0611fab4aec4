#!/usr/bin/env bash
# Random, nearly full volumes at random sizes: test-rework.sh [FIRST-LAST],
# seeds 1-20 if not said. Needs root, mkntfs, ntfs-3g and python3.
set -euo pipefail
cd "$(dirname "$0")/.."
NTBAK_REWORK_SEEDS=${1:-1-20} cargo test --locked --test rework random_volumes -- --nocapture
