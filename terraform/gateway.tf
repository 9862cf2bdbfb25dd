locals {
  # Every operation, and its `options`, at its own function.
  openapi = templatefile("${path.module}/openapi.json", { address = local.addresses })

  gateway_region = coalesce(var.gateway_region, var.region)
  gateway_url    = "https://${google_api_gateway_gateway.gateway.default_hostname}"
  url            = local.has_domain ? "https://${var.domain}" : local.gateway_url

  # cloud.google.com/api-gateway/docs/deployment-model
  known_gateway_regions = [
    "asia-northeast1", "australia-southeast1", "europe-west1", "europe-west2", "us-central1", "us-east1", "us-east4",
    "us-west2", "us-west3", "us-west4",
  ]
}

resource "google_api_gateway_api" "api" {
  provider     = google-beta
  api_id       = var.name
  display_name = "OnMemOS"

  depends_on = [time_sleep.apis]
}

# Cannot be changed: another document is another configuration, made before the gateway turns to it.
resource "google_api_gateway_api_config" "config" {
  provider      = google-beta
  api           = google_api_gateway_api.api.api_id
  api_config_id = "${var.name}-${substr(md5(local.openapi), 0, 12)}"

  openapi_documents {
    document {
      path     = "openapi.json"
      contents = base64encode(local.openapi)
    }
  }

  gateway_config {
    backend_config {
      google_service_account = google_service_account.account["gateway"].email
    }
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "google_api_gateway_gateway" "gateway" {
  provider     = google-beta
  gateway_id   = var.name
  region       = local.gateway_region
  api_config   = google_api_gateway_api_config.config.id
  display_name = "OnMemOS"
}

check "gateway_region" {
  assert {
    condition     = contains(local.known_gateway_regions, local.gateway_region)
    error_message = "gateway_region: got ${local.gateway_region}, where API Gateway may not be offered; known are ${join(", ", local.known_gateway_regions)}. The functions stay in ${var.region} wherever it is."
  }
}
