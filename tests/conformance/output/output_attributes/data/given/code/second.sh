cd /opt/ml/processing/in/raw
stat -c '%n %a' . d d/* > /opt/ml/processing/out/p/modes
find . -type f ! -newermt 2002-01-01 > /opt/ml/processing/out/p/old
