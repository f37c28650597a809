head -c 1023 /dev/zero | tr '\0' a > /opt/ml/output/message
printf ü >> /opt/ml/output/message
