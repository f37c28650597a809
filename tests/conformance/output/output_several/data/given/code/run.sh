echo 1 > /opt/ml/processing/out/one/f
echo 2 > /opt/ml/processing/out/two/f
