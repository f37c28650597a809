set -e
ls /opt/ml/processing/in/raw | wc -l > /opt/ml/processing/out/o/$(python3 -c "import json; print(json.load(open('/opt/ml/config/resourceconfig.json'))['current_host'][:6])"); ls /opt/ml/processing/in/all | wc -l >> /opt/ml/processing/out/o/$(python3 -c "import json; print(json.load(open('/opt/ml/config/resourceconfig.json'))['current_host'][:6])")
