echo > /opt/ml/processing/out/a/good
echo > "/opt/ml/processing/out/b/$(printf 'bad\377')"
