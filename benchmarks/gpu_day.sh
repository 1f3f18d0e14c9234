#!/usr/bin/env bash
# Everything that only a GPU can tell, in one command of at most nine minutes, on a machine that has nothing but Python.
#
#     benchmarks/gpu_day.sh OUT --wheels WHEELS --data-dir DATA
#     benchmarks/gpu_day.sh OUT --dry        all of it on the CPU with tiny sizes, before the day
#
# WHEELS: a folder of wheels to install first (docs/speed.md has the command that fills it); without it the Python that
# runs this has all it needs. DATA: a folder with the data set cifar10; without it the drawn shapes are measured.
# PYTHON names another Python.
#
# In OUT: steps.jsonl, one line per step as it ends; logs/; gpu_day.json; gpu_day.md. Exit code 0 if every step was done,
# 1 if one was not, 2 for a wrong command. Then: python benchmarks/gpu_day.py merge OUT
set -u
started=$(date +%s)
python=${PYTHON:-python3}
for needed in timeout "$python"; do
  command -v "$needed" >/dev/null || { echo "error: expected the program $needed, found none: install it" >&2; exit 2; }
done
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  { echo "error: expected Python 3.11 or newer, got $("$python" -V): say which with PYTHON=python3.12" >&2; exit 2; }
exec "$python" "$(dirname "$0")/gpu_day.py" run "$@" --started "$started"
