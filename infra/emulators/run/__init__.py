"""Cloud Run on one machine: google.cloud.run.v2 Services and Revisions whose containers are local sandboxes."""
