truncate -s 1M /opt/ml/processing/out/o/f
