set -e
for h in algo-1 algo-2; do getent hosts $h > /dev/null && echo $h; done > /opt/ml/processing/out/o/$(python3 -c "import json; print(json.load(open('/opt/ml/config/resourceconfig.json'))['current_host'][:6])"); sleep 1
