cd /opt/ml/processing/out/o
echo small > a
echo capital > A
