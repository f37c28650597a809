mkdir -p /opt/ml/processing/out/o
echo mine > /opt/ml/processing/out/o/f
