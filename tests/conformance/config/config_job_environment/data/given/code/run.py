import json

c = json.load(open('/opt/ml/config/processingjobconfig.json'))


def dump(name, value):
    open('/opt/ml/processing/out/o/' + name, 'w').write(json.dumps(value, sort_keys=True))


dump('e', c['Environment']); dump('a', c['AppSpecification']['ContainerArguments'])
