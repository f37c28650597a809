ls /opt/ml/processing/in/raw > /opt/ml/processing/out/o/names
test -p /opt/ml/processing/in/raw/raw_0
cat /opt/ml/processing/in/raw/raw_0 > /opt/ml/processing/out/o/all
