# shellcheck shell=bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Helpers of the scripts that take long.

say() { printf '%s\n' "$*" >&2; }

# Run a command with its output in a log, and print a sign of life every few seconds. If it fails, show the end of the log.
# with_progress TITLE LOG COMMAND...
with_progress() {
  local title=$1 log=$2 started=$SECONDS next=5 pid
  shift 2
  "$@" >>"$log" 2>&1 &
  pid=$!
  while kill -0 "$pid" 2>/dev/null; do
    if [ $((SECONDS - started)) -ge $next ]; then
      say "$title ... $next s"
      next=$((next + 5))
    fi
    sleep 0.2
  done
  wait "$pid" && return
  say "$title failed; the end of $log:"
  tail -n 15 "$log" >&2
  return 1
}
