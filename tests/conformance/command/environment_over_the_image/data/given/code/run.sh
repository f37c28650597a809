set -e
echo $PYTHONUNBUFFERED > /opt/ml/processing/out/o/f
