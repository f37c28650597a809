cd /opt/ml/processing/in/raw
find . -type f | LC_ALL=C sort > ../../out/o/found
