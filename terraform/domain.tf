# One name for the API and for WebSockets, which API Gateway does not carry: a load balancer before the gateway and the
# relay. Both keep their own addresses, which cannot be closed: the limits hold for what comes by the name.

locals {
  has_domain  = var.domain != ""
  apis_domain = local.has_domain ? ["compute.googleapis.com"] : []

  environment_domain = local.has_domain ? { ONMEMOS_RELAY_URL = "https://${var.domain}" } : {}

  # functions/relay.py: what is no operation of the document, but a session's own.
  relay_paths = [
    "/v1/cloudrun/workspaces/*/shell",
    "/v1/sessions/*/agent/**",
    "/v1/sessions/*/shell",
    "/v1/sessions/*/terminal",
  ]

  # The first rule that matches decides. A key's limit is the same from everywhere; what comes without one, as
  # WebSockets with their tickets do, is counted by address.
  limits = {
    key = { priority = 1000, expression = "has(request.headers['x-api-key'])", by = "HTTP_HEADER", header = "X-API-Key", per_minute = var.rate_limits.per_key }
    ip  = { priority = 2000, expression = null, by = "IP", header = null, per_minute = var.rate_limits.per_ip }
  }
}

resource "google_compute_global_address" "domain" {
  count = local.has_domain ? 1 : 0
  name  = var.name

  depends_on = [time_sleep.apis]
}

# Issued once the name leads to the address: within an hour of that.
resource "google_compute_managed_ssl_certificate" "domain" {
  count = local.has_domain ? 1 : 0
  name  = "${var.name}-${substr(md5(var.domain), 0, 8)}"

  managed {
    domains = [var.domain]
  }

  lifecycle {
    create_before_destroy = true # one that is in use cannot be deleted
  }

  depends_on = [time_sleep.apis]
}

resource "google_compute_ssl_policy" "domain" {
  count           = local.has_domain ? 1 : 0
  name            = var.name
  profile         = "MODERN"
  min_tls_version = "TLS_1_2"

  depends_on = [time_sleep.apis]
}

resource "google_compute_region_network_endpoint_group" "gateway" {
  count                 = local.has_domain ? 1 : 0
  provider              = google-beta
  name                  = "${var.name}-gateway"
  region                = local.gateway_region
  network_endpoint_type = "SERVERLESS"

  serverless_deployment {
    platform = "apigateway.googleapis.com"
    resource = google_api_gateway_gateway.gateway.gateway_id
  }
}

resource "google_compute_region_network_endpoint_group" "relay" {
  count                 = local.has_domain ? 1 : 0
  name                  = "${var.name}-relay"
  region                = var.region
  network_endpoint_type = "SERVERLESS"

  cloud_run {
    service = google_cloud_run_v2_service.relay.name
  }
}

resource "google_compute_security_policy" "domain" {
  count       = local.has_domain ? 1 : 0
  name        = var.name
  description = "OnMemOS: how often one caller may call"

  dynamic "rule" {
    for_each = local.limits
    content {
      action      = "throttle"
      priority    = rule.value.priority
      description = "${rule.value.per_minute} a minute for each ${rule.key}"

      match {
        versioned_expr = rule.value.expression == null ? "SRC_IPS_V1" : null

        dynamic "expr" {
          for_each = rule.value.expression == null ? [] : [rule.value.expression]
          content {
            expression = expr.value
          }
        }
        dynamic "config" {
          for_each = rule.value.expression == null ? ["*"] : []
          content {
            src_ip_ranges = [config.value]
          }
        }
      }

      rate_limit_options {
        conform_action      = "allow"
        exceed_action       = "deny(429)"
        enforce_on_key      = rule.value.by
        enforce_on_key_name = rule.value.header

        rate_limit_threshold {
          count        = rule.value.per_minute
          interval_sec = 60
        }
      }
    }
  }

  rule {
    action      = "allow"
    priority    = 2147483647
    description = "Every policy has one for all that is left"

    match {
      versioned_expr = "SRC_IPS_V1"
      config {
        src_ip_ranges = ["*"]
      }
    }
  }

  depends_on = [time_sleep.apis]
}

# Without logs: they hold addresses, in which browsers send their tickets.
resource "google_compute_backend_service" "gateway" {
  count                 = local.has_domain ? 1 : 0
  name                  = "${var.name}-gateway"
  load_balancing_scheme = "EXTERNAL_MANAGED"
  protocol              = "HTTPS"
  security_policy       = google_compute_security_policy.domain[0].id

  backend {
    group = google_compute_region_network_endpoint_group.gateway[0].id
  }

  log_config {
    enable = false
  }
}

resource "google_compute_backend_service" "relay" {
  count                 = local.has_domain ? 1 : 0
  name                  = "${var.name}-relay"
  load_balancing_scheme = "EXTERNAL_MANAGED"
  protocol              = "HTTPS"
  security_policy       = google_compute_security_policy.domain[0].id

  backend {
    group = google_compute_region_network_endpoint_group.relay[0].id
  }

  log_config {
    enable = false
  }
}

resource "google_compute_url_map" "domain" {
  count           = local.has_domain ? 1 : 0
  name            = var.name
  default_service = google_compute_backend_service.gateway[0].id

  host_rule {
    hosts        = [var.domain]
    path_matcher = "onmemos"
  }

  path_matcher {
    name            = "onmemos"
    default_service = google_compute_backend_service.gateway[0].id

    route_rules {
      priority = 1
      service  = google_compute_backend_service.relay[0].id

      dynamic "match_rules" {
        for_each = local.relay_paths
        content {
          path_template_match = match_rules.value
        }
      }
    }
  }
}

resource "google_compute_url_map" "redirect" {
  count = local.has_domain ? 1 : 0
  name  = "${var.name}-redirect"

  default_url_redirect {
    https_redirect         = true
    strip_query            = false
    redirect_response_code = "PERMANENT_REDIRECT" # keeps the method and the body
  }

  depends_on = [time_sleep.apis]
}

resource "google_compute_target_https_proxy" "domain" {
  count            = local.has_domain ? 1 : 0
  name             = var.name
  url_map          = google_compute_url_map.domain[0].id
  ssl_certificates = [google_compute_managed_ssl_certificate.domain[0].id]
  ssl_policy       = google_compute_ssl_policy.domain[0].id
}

resource "google_compute_target_http_proxy" "redirect" {
  count   = local.has_domain ? 1 : 0
  name    = "${var.name}-redirect"
  url_map = google_compute_url_map.redirect[0].id
}

resource "google_compute_global_forwarding_rule" "domain" {
  count                 = local.has_domain ? 1 : 0
  name                  = var.name
  load_balancing_scheme = "EXTERNAL_MANAGED"
  ip_address            = google_compute_global_address.domain[0].id
  port_range            = "443"
  target                = google_compute_target_https_proxy.domain[0].id
}

resource "google_compute_global_forwarding_rule" "redirect" {
  count                 = local.has_domain ? 1 : 0
  name                  = "${var.name}-redirect"
  load_balancing_scheme = "EXTERNAL_MANAGED"
  ip_address            = google_compute_global_address.domain[0].id
  port_range            = "80"
  target                = google_compute_target_http_proxy.redirect[0].id
}
