"""Cloud Workstations on one machine: google.cloud.workstations.v1 whose workstations are local sandboxes."""
