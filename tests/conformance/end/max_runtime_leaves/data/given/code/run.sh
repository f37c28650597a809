trap 'exit 1' TERM INT
cd /opt/ml/processing
printf 'so far' > /opt/ml/output/message
echo 1 > out/o/f
echo 1 > out/c/f
sleep 9 &
wait
