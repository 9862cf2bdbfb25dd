# One name for the API and the relay.

mock_provider "google" {
  source = "./tests/mocks/google"
}
mock_provider "google-beta" {
  source = "./tests/mocks/beta"
}
mock_provider "archive" {}
mock_provider "random" {}
mock_provider "time" {}

variables {
  project      = "my-project"
  region       = "europe-west1"
  build_images = false
}

run "the_name_leads_to_the_gateway_and_the_relay" {
  variables {
    domain      = "api.example.com"
    rate_limits = { per_key = 600 }
  }

  assert {
    condition = toset([for rule in google_compute_url_map.domain[0].path_matcher[0].route_rules[0].match_rules : rule.path_template_match]) == toset([
      for path in regexall("(?m)\"(/v1/[^\"]+)\"", file("../functions/relay.py")) : replace(replace(path[0], "/\\{path:path\\}/", "**"), "/\\{[a-z_]+\\}/", "*") if strcontains(path[0], "{")
    ])
    error_message = "The relay's paths are not those that lead there."
  }

  assert {
    condition = (
      google_compute_url_map.domain[0].path_matcher[0].route_rules[0].service == google_compute_backend_service.relay[0].id &&
      google_compute_url_map.domain[0].path_matcher[0].default_service == google_compute_backend_service.gateway[0].id &&
      google_compute_url_map.domain[0].default_service == google_compute_backend_service.gateway[0].id
    )
    error_message = "Paths lead to the wrong one."
  }

  assert {
    condition = length([
      for path in keys(jsondecode(file("openapi.json")).paths) : path
      if anytrue([for template in local.relay_paths : can(regex("^${replace(replace(template, "**", ".*"), "/*/", "/[^/]+/")}$", path))])
    ]) == 0
    error_message = "An operation of the API leads to the relay."
  }

  assert {
    condition = (
      one([for one in google_compute_backend_service.gateway[0].backend : one.group]) == google_compute_region_network_endpoint_group.gateway[0].id &&
      one([for one in google_compute_backend_service.relay[0].backend : one.group]) == google_compute_region_network_endpoint_group.relay[0].id &&
      google_compute_region_network_endpoint_group.gateway[0].serverless_deployment[0].platform == "apigateway.googleapis.com" &&
      google_compute_region_network_endpoint_group.gateway[0].serverless_deployment[0].resource == "onmemos" &&
      google_compute_region_network_endpoint_group.relay[0].cloud_run[0].service == "onmemos-relay"
    )
    error_message = "Behind the load balancer is something else."
  }

  assert {
    condition = { for rule in google_compute_security_policy.domain[0].rule : rule.priority => try(rule.rate_limit_options[0].enforce_on_key, rule.action) } == {
      1000       = "HTTP_HEADER"
      2000       = "IP"
      2147483647 = "allow"
    }
    error_message = "Callers are not counted by key, and by address without one."
  }

  assert {
    condition = { for rule in google_compute_security_policy.domain[0].rule : rule.priority => rule.rate_limit_options[0].rate_limit_threshold[0].count if rule.action == "throttle" } == {
      1000 = 600
      2000 = 1200
    }
    error_message = "The limits are not what is set."
  }

  assert {
    condition     = google_compute_backend_service.gateway[0].security_policy == google_compute_security_policy.domain[0].id && google_compute_backend_service.relay[0].security_policy == google_compute_security_policy.domain[0].id
    error_message = "One of the two has no limits."
  }

  assert {
    condition     = !google_compute_backend_service.gateway[0].log_config[0].enable && !google_compute_backend_service.relay[0].log_config[0].enable
    error_message = "Logs hold tickets."
  }

  assert {
    condition     = google_compute_url_map.redirect[0].default_url_redirect[0].https_redirect && google_compute_global_forwarding_rule.redirect[0].port_range == "80" && google_compute_global_forwarding_rule.domain[0].port_range == "443"
    error_message = "HTTP is not led to HTTPS."
  }

  assert {
    condition     = google_compute_managed_ssl_certificate.domain[0].managed[0].domains == tolist(["api.example.com"])
    error_message = "The certificate is for another name."
  }

  assert {
    condition     = output.url == "https://api.example.com" && output.relay_url == "https://api.example.com" && strcontains(output.next_command, "https://api.example.com/v1/sessions")
    error_message = "Callers are told another address."
  }

  assert {
    condition     = alltrue([for function in google_cloudfunctions2_function.function : function.service_config[0].environment_variables.ONMEMOS_RELAY_URL == "https://api.example.com"])
    error_message = "A function sends callers to the relay's own address."
  }
}
