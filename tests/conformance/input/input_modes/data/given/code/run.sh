cd /opt/ml/processing/in
stat -c '%n %a' raw raw/* raw/sub/* > /opt/ml/processing/out/o/modes
if ./raw/tool; then echo executed; else echo refused; fi > /opt/ml/processing/out/o/tool
echo more >> raw/tool
