set -e
cd /opt/ml/processing/in/raw; ls | wc -l > /opt/ml/processing/out/o/$(python3 -c "import json; print(json.load(open('/opt/ml/config/resourceconfig.json'))['current_host'][:6])"); cp -r . /opt/ml/processing/out/all
