wc -c < /opt/ml/processing/in/raw/f > /opt/ml/processing/out/p/f
head -c 1024 /dev/zero | cmp - /opt/ml/processing/in/raw/f
