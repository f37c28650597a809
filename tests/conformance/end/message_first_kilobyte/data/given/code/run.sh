head -c 1024 /dev/zero | tr '\0' a > /opt/ml/output/message
echo more >> /opt/ml/output/message
