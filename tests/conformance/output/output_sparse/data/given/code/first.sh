truncate -s 1K /opt/ml/processing/out/o/f
