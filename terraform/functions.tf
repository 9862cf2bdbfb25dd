locals {
  # The job functions of the API start jobs themselves, the others only write down what is to be done.
  function_accounts = {
    for name, route in local.routes : name => (
      route.access == "task" ? "steps" : strcontains(route.path, "/jobs") ? "jobs" : "functions"
    )
  }

  # Commands' functions hold requests and answers of up to 32 MB, steps carry files in parts of 8 MiB.
  function_memory      = { for name, route in local.routes : name => route.access == "task" || route.timeout_s >= 1800 ? "512Mi" : "256Mi" }
  function_concurrency = { for name, route in local.routes : name => route.access == "task" ? 16 : 80 }
}

resource "google_cloudfunctions2_function" "function" {
  for_each    = local.routes
  name        = local.function_names[each.key]
  location    = var.region
  description = each.value.access == "task" ? "Step, called by Cloud Tasks" : "${each.value.method} ${each.value.path}"

  build_config {
    runtime           = "python313"
    entry_point       = each.key
    service_account   = google_service_account.account["build"].id
    docker_repository = google_artifact_registry_repository.images.id

    source {
      storage_source {
        bucket = google_storage_bucket.source.name
        object = google_storage_bucket_object.source.name
      }
    }
  }

  service_config {
    available_cpu                    = "1" # less allows one request at a time
    available_memory                 = local.function_memory[each.key]
    max_instance_request_concurrency = local.function_concurrency[each.key]
    min_instance_count               = lookup(var.min_instances, each.key, 0)
    max_instance_count               = var.max_instances
    timeout_seconds                  = each.value.timeout_s
    service_account_email            = google_service_account.account[local.function_accounts[each.key]].email
    ingress_settings                 = "ALLOW_ALL" # who may call is said in iam.tf; API Gateway comes from outside
    all_traffic_on_latest_revision   = true
    environment_variables            = merge(local.environment, { FUNCTION_USE_ASGI = "true" })

    dynamic "secret_environment_variables" {
      for_each = local.secret_environment[local.function_accounts[each.key]]
      content {
        key        = secret_environment_variables.key
        project_id = var.project
        secret     = google_secret_manager_secret.secret[secret_environment_variables.value].secret_id
        version    = google_secret_manager_secret_version.secret[secret_environment_variables.value].version
      }
    }

    dynamic "secret_volumes" {
      for_each = var.templates == "" ? [] : ["templates"]
      content {
        mount_path = local.templates_folder
        project_id = var.project
        secret     = google_secret_manager_secret.secret[secret_volumes.value].secret_id

        versions {
          path    = local.templates_file
          version = google_secret_manager_secret_version.secret[secret_volumes.value].version
        }
      }
    }
  }

  lifecycle {
    precondition {
      condition     = each.value.timeout_s <= (each.value.access == "task" ? 1800 : 3600)
      error_message = "functions.json: ${each.key} has timeout_s ${each.value.timeout_s}, wanted at most ${each.value.access == "task" ? "1800, for which Cloud Tasks waits" : "3600, Cloud Run's longest request"}."
    }
    precondition {
      condition     = length(local.function_names[each.key]) <= 49
      error_message = "name: got \"${var.name}\", which makes ${local.function_names[each.key]} longer than Cloud Run's 49 characters."
    }
  }

  depends_on = [
    google_artifact_registry_repository_iam_member.build,
    google_secret_manager_secret_iam_member.reader,
    google_storage_bucket_iam_member.build,
    time_sleep.grants,
  ]
}
