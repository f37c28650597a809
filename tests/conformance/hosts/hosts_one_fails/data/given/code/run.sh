set -e
h=$(python3 -c "import json; print(json.load(open('/opt/ml/config/resourceconfig.json'))['current_host'][:6])"); case $h in algo-2*) echo only here >&2; exit 9;; esac; sleep 1
