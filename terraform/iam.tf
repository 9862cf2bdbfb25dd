# What each account may do, and what for. Nothing here is a role of the project's owner or editor, and the sessions' own
# accounts are members of nothing: the control plane lets each into its session's bucket.

locals {
  uses_instances = var.cloud_run_mode == "instance" || var.former_instances

  roles = merge(local.roles_core, local.roles_gke, local.roles_network, local.roles_workstations)
  project_grants = merge(
    local.project_grants_core,
    local.project_grants_gke,
    local.project_grants_network,
    local.project_grants_workstations,
  )

  roles_core = merge(
    {
      database = {
        title = "documents of sessions, jobs and keys"
        permissions = [
          "datastore.databases.get", # begin and end transactions, which is all that it means in Firestore
          "datastore.entities.create",
          "datastore.entities.delete",
          "datastore.entities.get",
          "datastore.entities.list", # queries
          "datastore.entities.update",
        ]
      }
      enqueue = {
        title = "write down the steps of a session"
        permissions = [
          "cloudtasks.tasks.create",
          "cloudtasks.tasks.delete", # an expiry whose time was changed, or whose session is gone
        ]
      }
      sweep_queue = {
        title       = "find steps whose session is gone"
        permissions = ["cloudtasks.tasks.list"]
      }
      inspect = {
        title       = "whether a session's service still is there, when its agent is silent"
        permissions = ["run.services.get"]
      }
      workspaces = {
        title = "make and delete sessions on Cloud Run"
        permissions = [
          "run.operations.get", # wait until they are ready, or gone
          "run.services.create",
          "run.services.delete",
          "run.services.get",
          "run.services.list",         # reconcile: those whose session is gone
          "run.services.setIamPolicy", # without Cloud Run's own check of callers: the agent's door is the ticket
          "run.services.update",       # wanted, too, by whoever switches that check off
        ]
      }
      jobs = {
        title = "run jobs on Cloud Run"
        permissions = [
          "run.executions.cancel",
          "run.executions.get",
          "run.executions.list",
          "run.jobs.create",
          "run.jobs.delete",
          "run.jobs.get",
          "run.jobs.run",
          "run.operations.get", # wait until they are made, or cancelled
        ]
      }
      sweep_jobs = {
        title       = "find jobs that are over, or whose session is gone"
        permissions = ["run.jobs.list"]
      }
      make_buckets = {
        title = "make a bucket for each session"
        permissions = [
          "storage.buckets.create",
          "storage.buckets.list", # whose a name is that is taken; reconcile: those whose session is gone
        ]
      }
      bucket_files = {
        title = "files in the sessions' buckets"
        permissions = [
          "storage.buckets.get",
          "storage.buckets.getIamPolicy",
          "storage.buckets.setIamPolicy", # let the session's account into its bucket
          "storage.objects.create",       # snapshots of suspended sessions, commands of jobs
          "storage.objects.delete",
          "storage.objects.get",
          "storage.objects.list",
        ]
      }
      delete_buckets = {
        title       = "delete a session's bucket with it"
        permissions = ["storage.buckets.delete"]
      }
      see_buckets = {
        title       = "whether a bucket that a new session asks for exists"
        permissions = ["storage.buckets.get"]
      }
    },
    local.uses_instances ? {
      inspect_instances = {
        title       = "whether a session's instance still is there, when its agent is silent"
        permissions = ["run.instances.get"]
      }
      instances = {
        title = "make, stop, start and delete sessions on Cloud Run instances"
        permissions = [
          "run.instances.create",
          "run.instances.delete",
          "run.instances.get",
          "run.instances.list",
          "run.instances.setIamPolicy", # as for services
          "run.instances.start",
          "run.instances.stop",
          "run.instances.update",
        ]
      }
    } : {},
  )

  conditions = {
    database = {
      title      = "this-database"
      expression = "resource.name == \"projects/${var.project}/databases/${var.database}\""
    }
    session_buckets = { # shared/names.py: bucket_name
      title      = "buckets-of-sessions"
      expression = "resource.name.startsWith(\"projects/_/buckets/onmemos-\")"
    }
  }

  # In the whole project, or where the condition says. Cloud Run knows no conditions by name.
  project_grants_core = merge(
    {
      "functions/database"    = { condition = "database" }
      "functions/inspect"     = { condition = null }
      "functions/see_buckets" = { condition = "session_buckets" }
      "jobs/bucket_files"     = { condition = "session_buckets" }
      "jobs/database"         = { condition = "database" }
      "jobs/jobs"             = { condition = null }
      "jobs/make_buckets"     = { condition = null }
      "steps/bucket_files"    = { condition = "session_buckets" }
      "steps/database"        = { condition = "database" }
      "steps/delete_buckets"  = { condition = "session_buckets" }
      "steps/jobs"            = { condition = null }
      "steps/make_buckets"    = { condition = null }
      "steps/sweep_jobs"      = { condition = null }
      "steps/workspaces"      = { condition = null }
    },
    local.uses_instances ? {
      "functions/inspect_instances" = { condition = null }
      "steps/instances"             = { condition = null }
    } : {},
  )

  queue_grants = merge([
    for step, _ in local.steps : {
      "${step}/functions/enqueue" = { step = step, account = "functions", role = "enqueue" }
      "${step}/steps/enqueue"     = { step = step, account = "steps", role = "enqueue" }
      "${step}/steps/sweep_queue" = { step = step, account = "steps", role = "sweep_queue" }
    }
  ]...)
}

resource "google_project_iam_custom_role" "role" {
  for_each    = local.roles
  role_id     = "${replace(var.name, "-", "_")}_${each.key}"
  title       = "OnMemOS: ${each.value.title}"
  permissions = each.value.permissions

  depends_on = [time_sleep.apis]
}

resource "google_project_iam_member" "grant" {
  for_each = local.project_grants
  project  = var.project
  role     = google_project_iam_custom_role.role[split("/", each.key)[1]].id
  member   = google_service_account.account[split("/", each.key)[0]].member

  dynamic "condition" {
    for_each = each.value.condition == null ? [] : [local.conditions[each.value.condition]]
    content {
      title      = condition.value.title
      expression = condition.value.expression
    }
  }
}

resource "google_cloud_tasks_queue_iam_member" "grant" {
  for_each = local.queue_grants
  location = var.region
  name     = google_cloud_tasks_queue.step[each.value.step].name
  role     = google_project_iam_custom_role.role[each.value.role].id
  member   = google_service_account.account[each.value.account].member
}

# Whoever enqueues a step says as whom it is pushed.
resource "google_service_account_iam_member" "enqueues_as_tasks" {
  for_each           = toset(["functions", "steps"])
  service_account_id = google_service_account.account["tasks"].name
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.account[each.value].member
}

# Cloud Tasks itself signs as that account, and can do nothing else with it.
resource "google_service_account_iam_member" "cloud_tasks_signs" {
  service_account_id = google_service_account.account["tasks"].name
  role               = "roles/iam.serviceAccountOpenIdTokenCreator"
  member             = google_project_service_identity.cloud_tasks.member
}

# Sessions and jobs are started as their own account, and those who start them may hand out that one only.
resource "google_service_account_iam_member" "starts_as_workspace" {
  for_each = {
    for pair in setproduct(["jobs", "steps"], keys(google_service_account.workspace)) :
    "${pair[0]}/${pair[1]}" => { account = pair[0], workspace = pair[1] }
  }
  service_account_id = google_service_account.workspace[each.value.workspace].name
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.account[each.value.account].member
}

# Cloud Run wants whoever starts an image to be able to read it.
resource "google_artifact_registry_repository_iam_member" "reader" {
  for_each   = toset(["jobs", "steps"])
  location   = google_artifact_registry_repository.images.location
  repository = google_artifact_registry_repository.images.repository_id
  role       = "roles/artifactregistry.reader"
  member     = google_service_account.account[each.value].member
}

# Bindings, not members: nobody else may call, whatever was granted by hand. A step answers Cloud Tasks alone, any other
# function the gateway alone.
resource "google_cloud_run_v2_service_iam_binding" "invoker" {
  for_each = local.routes
  location = var.region
  name     = google_cloudfunctions2_function.function[each.key].name # the function's service has its name
  role     = "roles/run.invoker"
  members  = [google_service_account.account[each.value.access == "task" ? "tasks" : "gateway"].member]
}

resource "google_cloud_run_v2_job_iam_binding" "invoker" {
  location = var.region
  name     = google_cloud_run_v2_job.reconcile.name
  role     = "roles/run.invoker"
  members  = [google_service_account.account["scheduler"].member]
}

# Builds read the source and write images and logs.
resource "google_storage_bucket_iam_member" "build" {
  bucket = google_storage_bucket.source.name
  role   = "roles/storage.objectViewer"
  member = google_service_account.account["build"].member
}

resource "google_project_iam_member" "build_source" {
  project = var.project
  role    = "roles/storage.objectViewer"
  member  = google_service_account.account["build"].member

  condition {
    title       = "sources-of-functions"
    description = "Cloud Functions copies the source there before it builds"
    expression  = "resource.name.startsWith(\"projects/_/buckets/gcf-v2-\")"
  }
}

resource "google_project_iam_member" "build_logs" {
  project = var.project
  role    = "roles/logging.logWriter"
  member  = google_service_account.account["build"].member
}

resource "google_artifact_registry_repository_iam_member" "build" {
  location   = google_artifact_registry_repository.images.location
  repository = google_artifact_registry_repository.images.repository_id
  role       = "roles/artifactregistry.writer"
  member     = google_service_account.account["build"].member
}

# A right that was just given is known everywhere within a minute or two; a build that comes earlier fails for good.
resource "time_sleep" "grants" {
  create_duration = "90s"
  triggers = {
    build = join(" ", [
      google_project_iam_member.build_source.id,
      google_project_iam_member.build_logs.id,
      google_artifact_registry_repository_iam_member.build.id,
      google_storage_bucket_iam_member.build.id,
    ])
    project = join(" ", [for grant in google_project_iam_member.grant : grant.id])
  }
}
