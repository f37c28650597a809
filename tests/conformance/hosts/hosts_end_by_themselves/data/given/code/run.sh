set -e
h=$(python3 -c "import json; print(json.load(open('/opt/ml/config/resourceconfig.json'))['current_host'][:6])"); trap 'exit 143' TERM; case $h in algo-2*) sleep 5 & wait;; *) sleep 1;; esac; echo end > /opt/ml/processing/out/o/$h
