cd /opt/ml/processing/in/raw
cat a A > /opt/ml/processing/out/p/f
