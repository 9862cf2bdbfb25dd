# What the cloud would say, where a test reads it.

mock_resource "google_api_gateway_gateway" {
  defaults = { default_hostname = "onmemos-abc123.ew.gateway.dev" }
}

mock_resource "google_project_service_identity" {
  defaults = { member = "serviceAccount:service-123456789@gcp-sa-cloudtasks.iam.gserviceaccount.com" }
}
