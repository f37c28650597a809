set -e
h=$(python3 -c "import json; print(json.load(open('/opt/ml/config/resourceconfig.json'))['current_host'][:6])"); trap 'exit 143' TERM; if [ $h = algo-1 ]; then sleep 1; echo $h > /opt/ml/processing/out/o/f; else echo $h > /opt/ml/processing/out/o/f; sleep 4 & wait; fi
