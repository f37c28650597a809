import json
c = json.load(open('/opt/ml/config/processingjobconfig.json'))
open('/opt/ml/processing/out/o/keys', 'w').write('\n'.join(sorted(c)))
