locals {
  apis = toset(concat(
    local.apis_core,
    local.apis_alerts,
    local.apis_domain,
    local.apis_gke,
    local.apis_network,
    local.apis_workstations,
  ))

  apis_core = [
    "apigateway.googleapis.com",
    "artifactregistry.googleapis.com",
    "cloudbuild.googleapis.com",
    "cloudfunctions.googleapis.com",
    "cloudresourcemanager.googleapis.com",
    "cloudscheduler.googleapis.com",
    "cloudtasks.googleapis.com",
    "firestore.googleapis.com",
    "iam.googleapis.com",
    "iamcredentials.googleapis.com",
    "logging.googleapis.com",
    "run.googleapis.com",
    "secretmanager.googleapis.com",
    "servicecontrol.googleapis.com",    # API Gateway checks and reports every call with it
    "servicemanagement.googleapis.com", # and keeps its configurations there
    "serviceusage.googleapis.com",
    "storage.googleapis.com",
  ]
}

resource "google_project_service" "api" {
  for_each           = local.apis
  service            = each.value
  disable_on_destroy = false # others in the project may use it
}

# An API that was just enabled refuses calls for up to a minute, and its service agent has no rights yet.
resource "time_sleep" "apis" {
  create_duration = "60s"
  triggers        = { apis = join(" ", sort([for api in google_project_service.api : api.service])) }
}
