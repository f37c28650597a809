ls -A /opt/ml/processing/out/o | wc -l > /tmp/n
cp /tmp/n /opt/ml/processing/out/o/f
