# Open to the internet: its door is the API key or the ticket that every request brings along.
resource "google_cloud_run_v2_service" "relay" {
  name                 = local.relay_name
  location             = var.region
  description          = "OnMemOS: WebSockets and the sessions' own HTTP"
  ingress              = "INGRESS_TRAFFIC_ALL"
  invoker_iam_disabled = true
  deletion_protection  = false # it holds nothing

  template {
    service_account                  = google_service_account.account["functions"].email
    timeout                          = "3600s" # Cloud Run's longest; a client whose shell outlives it connects again
    max_instance_request_concurrency = 1000

    scaling {
      min_instance_count = 0
      max_instance_count = var.max_instances
    }

    containers {
      image   = local.control_image
      command = ["python", "-m", "functions.relay"]

      resources {
        limits            = { cpu = "1", memory = "512Mi" }
        cpu_idle          = true
        startup_cpu_boost = true
      }

      dynamic "env" {
        for_each = local.environment
        content {
          name  = env.key
          value = env.value
        }
      }

      dynamic "env" {
        for_each = local.secret_environment["functions"]
        content {
          name = env.key
          value_source {
            secret_key_ref {
              secret  = google_secret_manager_secret.secret[env.value].secret_id
              version = google_secret_manager_secret_version.secret[env.value].version
            }
          }
        }
      }

      dynamic "volume_mounts" {
        for_each = var.templates == "" ? [] : ["templates"]
        content {
          name       = volume_mounts.value
          mount_path = local.templates_folder
        }
      }
    }

    dynamic "volumes" {
      for_each = var.templates == "" ? [] : ["templates"]
      content {
        name = volumes.value
        secret {
          secret = google_secret_manager_secret.secret[volumes.value].secret_id
          items {
            path    = local.templates_file
            version = google_secret_manager_secret_version.secret[volumes.value].version
          }
        }
      }
    }
  }

  depends_on = [google_secret_manager_secret_iam_member.reader, terraform_data.images, time_sleep.grants]
}
