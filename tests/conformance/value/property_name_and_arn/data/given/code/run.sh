exec > /opt/ml/processing/out/o/f
case $NAME in pipelines-????????????-Job-*) echo a name ;; esac
case $ARN in arn:aws:sagemaker:*:processing-job/$(echo $NAME | tr A-Z a-z)) echo its arn ;; esac
echo $STATUS
