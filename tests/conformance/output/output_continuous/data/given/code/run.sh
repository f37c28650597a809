echo early > /opt/ml/processing/out/o/early
sleep 3
rm /opt/ml/processing/out/o/early
echo late > /opt/ml/processing/out/o/late
