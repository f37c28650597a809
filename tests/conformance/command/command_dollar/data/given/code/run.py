import json, sys
open('/opt/ml/processing/out/o/argv', 'w').write(json.dumps(sys.argv[1:], ensure_ascii=False))
