echo 1 > /opt/ml/processing/out/o/f
echo 2 > /tmp/g
ln -s /tmp/g /opt/ml/processing/out/o/link
ln -s f /opt/ml/processing/out/o/beside
