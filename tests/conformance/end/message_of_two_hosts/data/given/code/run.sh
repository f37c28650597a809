python3 -c "import json; print(json.load(open('/opt/ml/config/resourceconfig.json'))['current_host'], end=';')" > /opt/ml/output/message
sleep 1
