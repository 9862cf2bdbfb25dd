# Metrics of what is logged, and whoever should know.

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

run "what_goes_wrong_is_measured_told_and_shown" {
  variables {
    notification_email = "ops@example.com"
  }

  assert {
    condition     = google_monitoring_notification_channel.email[0].labels.email_address == "ops@example.com"
    error_message = "Alerts go to somebody else."
  }

  assert {
    condition     = alltrue([for alert in google_monitoring_alert_policy.alert : alert.notification_channels == tolist([google_monitoring_notification_channel.email[0].id])])
    error_message = "An alert goes to nobody."
  }

  assert {
    condition     = toset(keys(google_monitoring_alert_policy.alert)) == toset(["errors", "bugs", "latency", "late_steps", "stuck_steps", "reconcile", "quota"])
    error_message = "An alert is missing."
  }

  # Fields are keys of `extra` or keyword arguments of what logs; messages are what it logs.
  assert {
    condition = alltrue([
      for found in flatten([for metric in local.metrics : regexall("jsonPayload\\.([a-z_]+)", join(" ", concat([metric.filter, coalesce(metric.value, "none")], values(metric.labels))))]) :
      found == "message" || length([for path in fileset("..", "shared/*.py") : path if strcontains(file("../${path}"), "\"${found}\": ")]) > 0
    ])
    error_message = "A metric reads a field that nobody logs."
  }

  assert {
    condition = alltrue([
      for message in concat(local.turns, ["request served", "request failed", "connection failed", "not put right"]) :
      length([for path in fileset("..", "shared/*.py") : path if strcontains(file("../${path}"), "(\"${message}\", ")]) > 0
    ])
    error_message = "A metric counts a message that nobody logs."
  }

  assert {
    condition     = alltrue([for message in ["request served", "request failed", "connection failed", "not put right"] : strcontains(join(" ", [for metric in google_logging_metric.metric : metric.filter]), "\"${message}\"")])
    error_message = "A message is not counted."
  }

  assert {
    condition     = local.metrics.latency.value == "EXTRACT(jsonPayload.latency_ms)" && strcontains(file("../shared/http.py"), "facts = {\"function\": route.name, \"status\": response.status_code, \"latency_ms\": latency_ms")
    error_message = "Requests are logged in another way."
  }

  assert {
    condition = alltrue([
      for provider, path in { "Cloud Run" = "cloud_run_api", "Cloud Workstations" = "workstations", Kubernetes = "gke_cluster" } :
      strcontains(file("../shared/providers/${path}.py"), "QuotaExceeded(f\"${provider} refused the ") && strcontains(local.metrics.quota_errors.filter, provider)
    ])
    error_message = "A provider tells in other words that there is no room."
  }

  assert {
    condition = alltrue(flatten([
      for key, metric in local.metrics : [for name in values(local.function_names) : !strcontains(metric.filter, "\"${name}\"") || strcontains(metric.filter, "resource.labels.service_name=(")]
    ])) && alltrue([for name, route in local.routes : strcontains(local.of_services[route.access == "task" ? "step" : "api"], "\"${local.function_names[name]}\"")])
    error_message = "A function's logs are not read, or a session's are."
  }

  assert {
    condition     = alltrue([for metric in google_logging_metric.metric : length(metric.filter) < 20000 && length(metric.description) < 8000])
    error_message = "Cloud Logging takes no such filter."
  }

  assert {
    condition = alltrue([for metric in google_logging_metric.metric :
      join(" ", [for label in metric.metric_descriptor[0].labels : label.key]) == join(" ", keys(metric.label_extractors)) &&
      (metric.metric_descriptor[0].value_type == "DISTRIBUTION") == (length(metric.bucket_options) == 1)
    ])
    error_message = "A metric's labels are not those that are read, or its kind does not fit."
  }

  # Cloud Monitoring wants one metric and one resource of each condition.
  assert {
    condition = alltrue(flatten([for alert in google_monitoring_alert_policy.alert : [for condition in alert.conditions :
      length(regexall("metric\\.type = \"", condition.condition_threshold[0].filter)) == 1 && length(regexall("resource\\.type = \"", condition.condition_threshold[0].filter)) == 1
    ]]))
    error_message = "Cloud Monitoring takes no such filter."
  }

  assert {
    condition = alltrue([
      for name in flatten([for text in concat([for chart in local.charts : chart.filter], flatten([for alert in local.alerts : [for one in alert.conditions : one.filter]])) : regexall("logging\\.googleapis\\.com/user/([a-z-]+)", text)]) :
      contains([for metric in google_logging_metric.metric : metric.name], name)
    ])
    error_message = "An alert or a chart is of a metric that is not there."
  }

  assert {
    condition     = length(jsondecode(google_monitoring_dashboard.dashboard[0].dashboard_json).mosaicLayout.tiles) == length(local.charts)
    error_message = "A chart is not shown."
  }

  assert {
    condition     = length(distinct([for tile in local.dashboard.mosaicLayout.tiles : "${tile.xPos}/${tile.yPos}"])) == length(local.charts)
    error_message = "Charts lie upon each other."
  }

  assert {
    condition     = !contains(local.quick, "execute_session") && contains(local.quick, "get_session")
    error_message = "How long a command takes is taken for how long the API takes."
  }
}
