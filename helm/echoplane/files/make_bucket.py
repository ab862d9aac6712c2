"""Makes the bucket BUCKET where it is missing, waiting two minutes for the object store."""

import os
import time

import boto3
import botocore.exceptions

client, last = boto3.client("s3"), None
for _ in range(60):
    try:
        client.head_bucket(Bucket=os.environ["BUCKET"])
        break
    except botocore.exceptions.ClientError as error:
        if error.response["Error"]["Code"] != "404":
            raise
        client.create_bucket(Bucket=os.environ["BUCKET"])
    except botocore.exceptions.BotoCoreError as error:
        last = error
        time.sleep(2)
else:
    raise SystemExit(f"the object store did not answer in two minutes: {type(last).__name__}")
