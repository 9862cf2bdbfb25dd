resource "google_cloud_run_v2_job" "reconcile" {
  name                = "${var.name}-reconcile"
  location            = var.region
  deletion_protection = false # it holds nothing

  template {
    task_count = 1

    template {
      service_account = google_service_account.account["steps"].email
      timeout         = "3600s"
      max_retries     = 1 # what did not answer may answer now; the schedule comes again anyway

      containers {
        image   = local.control_image
        command = ["python", "-m", "infra.reconcile"]

        resources {
          limits = { cpu = "1", memory = "512Mi" }
        }

        dynamic "env" {
          for_each = local.environment
          content {
            name  = env.key
            value = env.value
          }
        }

        dynamic "env" {
          for_each = local.secret_environment["steps"]
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
  }

  depends_on = [google_secret_manager_secret_iam_member.reader, terraform_data.images, time_sleep.grants]
}

resource "google_cloud_scheduler_job" "reconcile" {
  name             = "${var.name}-reconcile"
  region           = var.region
  description      = "Puts right what crashes left behind"
  schedule         = var.reconcile_schedule
  time_zone        = "Etc/UTC"
  attempt_deadline = "30s" # for the start; the job goes on by itself

  http_target {
    http_method = "POST"
    uri         = "https://run.googleapis.com/v2/${google_cloud_run_v2_job.reconcile.id}:run"

    oauth_token {
      service_account_email = google_service_account.account["scheduler"].email
    }
  }

  depends_on = [time_sleep.apis]
}
