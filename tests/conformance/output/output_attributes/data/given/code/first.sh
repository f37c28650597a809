cd /opt/ml/processing/out/o
mkdir d
for mode in 600 755 444 4755; do echo > d/$mode; touch -d 2001-01-01 d/$mode; chmod $mode d/$mode; done
chmod 700 d
