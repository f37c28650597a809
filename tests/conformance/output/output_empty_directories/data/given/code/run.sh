mkdir -p /opt/ml/processing/out/o/x/y
echo 1 > /opt/ml/processing/out/o/f
