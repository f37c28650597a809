for epoch in 0 1 2; do
  cat /opt/ml/processing/in/raw/raw_$epoch
  echo
done > /opt/ml/processing/out/o/all
