mkdir -p /opt/ml/processing/out/o/x/y
echo 1 > /opt/ml/processing/out/o/x/y/z
echo 2 > /opt/ml/processing/out/o/x/a
echo 3 > /opt/ml/processing/out/o/b
