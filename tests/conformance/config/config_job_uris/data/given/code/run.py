import json

c = json.load(open('/opt/ml/config/processingjobconfig.json'))


def dump(name, value):
    open('/opt/ml/processing/out/o/' + name, 'w').write(json.dumps(value, sort_keys=True))


dump('i', c['ProcessingInputs'][0]['S3Input']['S3Uri']); dump('o', c['ProcessingOutputConfig']['Outputs'][0]['S3Output']['S3Uri'])
