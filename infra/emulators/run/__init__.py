"""Cloud Run on one machine: google.cloud.run.v2, whose services, instances and jobs run as local sandboxes."""
