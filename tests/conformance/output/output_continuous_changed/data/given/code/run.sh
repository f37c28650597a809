mkdir /opt/ml/processing/out/o/d
echo 1 > /opt/ml/processing/out/o/d/f
sleep 2
echo 2 >> /opt/ml/processing/out/o/d/f
