import json

c = json.load(open('/opt/ml/config/processingjobconfig.json'))


def dump(name, value):
    open('/opt/ml/processing/out/o/' + name, 'w').write(json.dumps(value, sort_keys=True))


r = c['ProcessingResources']['ClusterConfig']; dump('r', [r['InstanceType'], r['InstanceCount'], r['VolumeSizeInGB']]); dump('s', c['StoppingCondition'])
