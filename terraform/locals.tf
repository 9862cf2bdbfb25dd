locals {
  # Written by `python -m infra.openapi` from the route table.
  routes = jsondecode(file("${path.module}/functions.json"))
  steps  = jsondecode(file("${path.module}/queues.json"))

  function_names = { for name, _ in local.routes : name => "${var.name}-${replace(name, "_", "-")}" }

  # Known before the functions are, so the gateway and Cloud Tasks wait for none of them; what follows is the path.
  function_host = "https://${var.region}-${var.project}.cloudfunctions.net"
  addresses     = { for name, in_cloud in local.function_names : name => "${local.function_host}/${in_cloud}" }

  # A Cloud Run service's address is made of its name and the project's number, which any bucket tells.
  relay_name = "${var.name}-relay"
  relay_url  = "https://${local.relay_name}-${google_storage_bucket.source.project_number}.${var.region}.run.app"

  # What the functions, the relay and the job share; shared/config.py reads it. Later maps go before earlier ones.
  environment = merge(
    local.environment_core,
    local.environment_domain,
    local.environment_gke,
    local.environment_network,
    local.environment_workstations,
  )

  environment_core = merge(
    {
      GOOGLE_CLOUD_PROJECT       = var.project
      CLOUD_RUN_MODE             = var.cloud_run_mode
      ONMEMOS_FIRESTORE_DATABASE = google_firestore_database.database.name
      ONMEMOS_FUNCTION_URL       = "${local.function_host}/${var.name}-{service}"
      ONMEMOS_IMAGE              = "${local.registry}/{template}:${local.image_tag}"
      ONMEMOS_LOCATION           = var.region
      ONMEMOS_QUEUE              = "${var.name}-{step}"
      ONMEMOS_RELAY_URL          = local.relay_url
      ONMEMOS_TASK_ACCOUNT       = google_service_account.account["tasks"].email
      ONMEMOS_WORKSPACE_ACCOUNT = (
        length(var.tenants) == 0
        ? google_service_account.workspace[local.workspace_account].email
        : "${var.name}-ws-{tenant}@${var.project}.iam.gserviceaccount.com"
      )
    },
    length(var.allowed_origins) == 0 ? {} : { ONMEMOS_ALLOWED_ORIGINS = join(",", var.allowed_origins) },
    var.templates == "" ? {} : { ONMEMOS_TEMPLATES_FILE = "${local.templates_folder}/${local.templates_file}" },
  )
}
