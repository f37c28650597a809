set -e
cd /opt/ml/processing/in/raw; find . -type f | LC_ALL=C sort | xargs -r cat > /opt/ml/processing/out/o/$(python3 -c "import json; print(json.load(open('/opt/ml/config/resourceconfig.json'))['current_host'][:6])")
