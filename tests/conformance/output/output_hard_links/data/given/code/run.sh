echo 1 > /opt/ml/processing/out/o/f
ln /opt/ml/processing/out/o/f /opt/ml/processing/out/o/g
