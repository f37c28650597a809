cd /opt/ml/processing/in/raw
find . -type f | xargs cat | LC_ALL=C sort > /opt/ml/processing/out/o/content
