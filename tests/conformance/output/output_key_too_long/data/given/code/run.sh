echo > /opt/ml/processing/out/a/good
cd /opt/ml/processing/out/b
x=$(printf 'd%.0s' $(seq 210))
mkdir -p $x/$x/$x/$x
echo > $x/$x/$x/$x/f
