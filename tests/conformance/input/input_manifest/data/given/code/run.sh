cd /opt/ml/processing/in/raw
find . -type f | LC_ALL=C sort > /opt/ml/processing/out/o/list
find . -type f | LC_ALL=C sort | xargs cat > /opt/ml/processing/out/o/content
