import json

c = json.load(open('/opt/ml/config/processingjobconfig.json'))


def dump(name, value):
    open('/opt/ml/processing/out/o/' + name, 'w').write(json.dumps(value, sort_keys=True))


i = c['ProcessingInputs'][0]; dump('n', i['InputName']); dump('i', {k: i['S3Input'][k] for k in ('LocalPath', 'S3DataType', 'S3InputMode', 'S3DataDistributionType', 'S3CompressionType')})
