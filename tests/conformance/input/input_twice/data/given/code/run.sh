cd /opt/ml/processing
echo more >> in/one/a
cp in/one/a out/o/a
cp in/two/a out/o/b
