def clean(event, context):
    return {"rows": event["rows"] + 1, "label": {"of": [event["name"], 1]}}


def approve(arguments):
    return {"answer": "yes"}


def cluster(arguments):
    return None
