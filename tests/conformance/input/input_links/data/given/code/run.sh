cd /opt/ml/processing
{ stat -c %F in/raw/link; cat in/raw/link; } > out/o/link
