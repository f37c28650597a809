echo > /opt/ml/processing/out/a/x
echo > /opt/ml/processing/out/a/good
echo > /opt/ml/processing/out/b/y
