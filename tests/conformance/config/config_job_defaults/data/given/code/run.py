import json
import os

config = json.load(open("/opt/ml/config/processingjobconfig.json"))
found = {
    "MaxRuntimeInSeconds": config["StoppingCondition"].get("MaxRuntimeInSeconds", "missing"),
    "Environment": config.get("Environment", "missing"),
    "ContainerArguments": config["AppSpecification"].get("ContainerArguments", "missing"),
    "KmsKeyId": config["ProcessingOutputConfig"].get("KmsKeyId", "missing"),
    "VolumeKmsKeyId": config["ProcessingResources"]["ClusterConfig"].get("VolumeKmsKeyId", "missing"),
    "S3DownloadMode": config["ProcessingInputs"][0]["S3Input"].get("S3DownloadMode", "missing"),
}
open("/opt/ml/processing/out/o/found", "w").write(json.dumps(found, indent=1))
