cd /opt/ml/processing/in/one
find . -type f | LC_ALL=C sort > /opt/ml/processing/out/o/f
