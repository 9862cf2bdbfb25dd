"""Cloud Storage on one machine: fake-gcs-server's buckets are folders, and here every file in one is an object."""
