cd /opt/ml/processing/in/raw
echo changed > a.csv
rm sub/b.csv
echo new > new
find . -type f | LC_ALL=C sort > /opt/ml/processing/out/o/list
cat a.csv > /opt/ml/processing/out/o/a
