open('/opt/ml/processing/out/o/all ü', 'wb').write(bytes(range(256)) * 8)
open('/opt/ml/processing/out/o/none', 'w')
