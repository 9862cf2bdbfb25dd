# What is optional is not there until somebody asks for it.

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

run "nothing_optional_is_there_by_itself" {
  command = plan

  assert {
    condition     = length(google_container_cluster.sessions) + length(google_compute_network.gke) + length(google_service_account.nodes) + length(google_project_iam_member.gke_buckets) == 0
    error_message = "There is a cluster, or a right of one."
  }

  assert {
    condition     = length(google_workstations_workstation_cluster.sessions) + length(google_workstations_workstation_config.template) + length(google_compute_router_nat.workstations) + length(google_service_account.workstations) == 0
    error_message = "There are workstations."
  }

  assert {
    condition     = length(google_compute_global_address.domain) + length(google_compute_url_map.domain) + length(google_compute_security_policy.domain) + length(google_compute_global_forwarding_rule.redirect) == 0
    error_message = "There is a load balancer, which costs by the hour."
  }

  assert {
    condition     = length(google_compute_network.closed) + length(google_compute_network.filestore) + length(google_compute_firewall.filestore_denies) + length(google_dns_managed_zone.nothing) + length(google_compute_subnetwork_iam_member.grant) == 0
    error_message = "There is a network."
  }

  assert {
    condition     = length(google_logging_metric.metric) + length(google_monitoring_alert_policy.alert) + length(google_monitoring_notification_channel.email) + length(google_monitoring_dashboard.dashboard) + length(time_sleep.metrics) == 0
    error_message = "There are alerts without anybody who gets them."
  }

  assert {
    condition     = keys(local.environment) == keys(local.environment_core) && keys(local.roles) == keys(local.roles_core) && keys(local.project_grants) == keys(local.project_grants_core) && local.apis == toset(local.apis_core)
    error_message = "Something optional adds a setting, a right or an API."
  }

  assert {
    condition     = output.gke_next_command == null && output.domain_address == null && !local.has_domain
    error_message = "An output tells of what is not there."
  }
}

run "every_wrong_value_is_refused" {
  command = plan
  variables {
    closed_network = { range = "10.0.0.1/20" }
    domain         = "https://api.example.com/"
    filestore      = { network = "default", range = "10.0.0.0/28" }
    rate_limits    = { per_ip = 0 }
    workstations   = { machine_type = "a2-highgpu-1g", disk_gib = 11, idle_timeout_s = 10, pool_size = -1, range = "all" }
  }
  expect_failures = [
    var.closed_network,
    var.domain,
    var.filestore,
    var.rate_limits,
    var.workstations,
  ]
}

run "so_are_wrong_values_of_gke" {
  command = plan
  variables {
    gke = { cluster = "projects/other-project/locations/europe-west1/clusters/c", disk_gib = 0, range = "all", release_channel = "FAST", warm_pool = "pool" }
  }
  expect_failures = [var.gke]
}
