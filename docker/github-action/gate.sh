#!/bin/sh
# Asks the gate with the client of this repository, which a runner checks out whole beside the action.
set -eu
printf '%s' "$TOUCHSTONE_KEY" | python3 -I "$(dirname "$0")/../../app/gate_client.py" \
  "--url=$TOUCHSTONE_URL" "--model=$TOUCHSTONE_MODEL" "--base=$TOUCHSTONE_BASE" \
  "--policy=$TOUCHSTONE_POLICY" "--max-age=$TOUCHSTONE_MAX_AGE" "--sarif=$TOUCHSTONE_SARIF" \
  "--summary=$GITHUB_STEP_SUMMARY" "--output=$GITHUB_OUTPUT"
