# Who may call what, and which account may do what.

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

run "each_account_may_do_what_it_is_for" {
  assert {
    condition = alltrue([
      for name, route in local.routes : google_cloud_run_v2_service_iam_binding.invoker[name].members == toset([
        route.access == "task"
        ? "serviceAccount:onmemos-tasks@my-project.iam.gserviceaccount.com"
        : "serviceAccount:onmemos-gateway@my-project.iam.gserviceaccount.com"
      ])
    ])
    error_message = "A function has another caller than the one that it is for."
  }

  assert {
    condition = alltrue([
      for name, _ in local.routes : (
        google_cloud_run_v2_service_iam_binding.invoker[name].role == "roles/run.invoker" &&
        google_cloud_run_v2_service_iam_binding.invoker[name].name == google_cloudfunctions2_function.function[name].name
      )
    ])
    error_message = "An invoker is not bound to the service of its function."
  }

  assert {
    condition     = length(google_cloud_run_v2_service_iam_binding.invoker) == length(google_cloudfunctions2_function.function)
    error_message = "A function has no binding: whoever was let in by hand may call it."
  }

  assert {
    condition     = google_cloud_run_v2_job_iam_binding.invoker.members == toset(["serviceAccount:onmemos-scheduler@my-project.iam.gserviceaccount.com"])
    error_message = "Reconcile is started by another account than the schedule's."
  }

  assert {
    condition = !contains(concat(
      [for one in google_project_iam_member.grant : one.member],
      [for one in google_cloud_tasks_queue_iam_member.grant : one.member],
      [for one in google_secret_manager_secret_iam_member.reader : one.member],
      [for one in google_service_account_iam_member.enqueues_as_tasks : one.member],
      [for one in google_service_account_iam_member.starts_as_workspace : one.member],
      [for one in google_artifact_registry_repository_iam_member.reader : one.member],
      flatten([for one in google_cloud_run_v2_service_iam_binding.invoker : one.members]),
      flatten([for one in [google_cloud_run_v2_job_iam_binding.invoker] : one.members]),
      [
        google_service_account_iam_member.cloud_tasks_signs.member,
        google_storage_bucket_iam_member.build.member,
        google_project_iam_member.build_source.member,
        google_project_iam_member.build_logs.member,
        google_artifact_registry_repository_iam_member.build.member,
      ],
    ), "serviceAccount:onmemos-workspace@my-project.iam.gserviceaccount.com")
    error_message = "The account that sessions run as may do something."
  }

  assert {
    condition     = local.environment.ONMEMOS_WORKSPACE_ACCOUNT == "onmemos-workspace@my-project.iam.gserviceaccount.com"
    error_message = "Sessions run as another account."
  }

  assert {
    condition     = toset([for key, _ in local.project_grants : split("/", key)[0]]) == toset(["functions", "jobs", "steps"])
    error_message = "An account that only calls has a role in the whole project."
  }

  assert {
    condition     = google_service_account_iam_member.cloud_tasks_signs.role == "roles/iam.serviceAccountOpenIdTokenCreator"
    error_message = "Cloud Tasks may do more than sign."
  }

  assert {
    condition = alltrue(flatten([
      for role in google_project_iam_custom_role.role : [for one in role.permissions : can(regex("^[a-z]+(\\.[a-zA-Z]+){2}$", one))]
    ]))
    error_message = "A role holds what is no permission."
  }

  assert {
    condition = alltrue([
      for key, grant in google_project_iam_member.grant : grant.role == google_project_iam_custom_role.role[split("/", key)[1]].id
    ])
    error_message = "A role of the whole project is not one of these."
  }

  assert {
    condition = toset(keys(local.roles)) == toset(concat(
      [for key, _ in local.project_grants : split("/", key)[1]],
      [for grant in local.queue_grants : grant.role],
    ))
    error_message = "A role is given to nobody."
  }

  assert {
    condition     = alltrue([for role in google_project_iam_custom_role.role : can(regex("^[a-zA-Z0-9_.]{3,64}$", role.role_id)) && length(role.title) <= 100])
    error_message = "IAM takes no such id or title."
  }

  assert {
    condition = length(setintersection(
      toset(flatten([for key, _ in local.project_grants : local.roles[split("/", key)[1]].permissions if startswith(key, "functions/")])),
      toset(concat(local.roles.workspaces.permissions, local.roles.jobs.permissions, local.roles.make_buckets.permissions)),
    )) == 1 # run.services.get
    error_message = "The public functions' account, which is the relay's too, may make workspaces, jobs or buckets."
  }

  assert {
    condition = alltrue([
      for name, function in google_cloudfunctions2_function.function : function.service_config[0].service_account_email == join("", [
        "onmemos-",
        local.routes[name].access == "task" ? "steps" : contains(["create_job", "get_job", "list_jobs", "cancel_job"], name) ? "jobs" : "functions",
        "@my-project.iam.gserviceaccount.com",
      ])
    ])
    error_message = "A function runs as another account than its kind."
  }

  assert {
    condition     = google_cloud_run_v2_service.relay.template[0].service_account == "onmemos-functions@my-project.iam.gserviceaccount.com"
    error_message = "The relay runs as another account than the public functions."
  }

  assert {
    condition = alltrue([
      for key, grant in google_project_iam_member.grant :
      try(grant.condition[0].expression, "") == "resource.name == \"projects/my-project/databases/(default)\""
      if endswith(key, "/database")
    ])
    error_message = "An account reads and writes databases of others."
  }

  assert {
    condition = alltrue([
      for key, grant in google_project_iam_member.grant :
      try(grant.condition[0].expression, "") == "resource.name.startsWith(\"projects/_/buckets/onmemos-\")"
      if length(setintersection(
        toset(local.roles[split("/", key)[1]].permissions),
        toset(["storage.objects.get", "storage.objects.create", "storage.objects.delete", "storage.buckets.delete", "storage.buckets.get", "storage.buckets.setIamPolicy"]),
      )) > 0
    ])
    error_message = "An account reaches buckets that are not sessions'."
  }

  assert {
    condition     = !startswith(google_storage_bucket.source.name, "onmemos-")
    error_message = "The bucket of the source counts as a session's, and reconcile may take it for one."
  }

  assert {
    condition     = toset(keys(google_secret_manager_secret_iam_member.reader)) == toset(["functions/ticket_key", "functions/api_key", "jobs/ticket_key", "jobs/api_key", "steps/ticket_key"])
    error_message = "A secret has a reader too many, or one too few."
  }

  assert {
    condition = alltrue([
      for name, function in google_cloudfunctions2_function.function :
      toset([for one in function.service_config[0].secret_environment_variables : one.key]) == toset(
        local.routes[name].access == "task" ? ["ONMEMOS_TICKET_KEY"] : ["ONMEMOS_TICKET_KEY", "ONMEMOS_API_KEY"]
      )
    ])
    error_message = "A function has a secret too many, or one too few."
  }

  assert {
    condition     = alltrue(flatten([for function in google_cloudfunctions2_function.function : [for one in function.service_config[0].secret_environment_variables : one.version == "7"]]))
    error_message = "A function reads whatever version is the newest: a new one would come without a deployment."
  }
}

run "instances_need_rights_and_tenants_accounts_of_their_own" {
  variables {
    cloud_run_mode = "instance"
    tenants        = ["acme", "umbrella"]
  }

  assert {
    condition     = contains(keys(local.project_grants), "steps/instances") && contains(keys(local.project_grants), "functions/inspect_instances")
    error_message = "Sessions as instances cannot be made or looked at."
  }

  assert {
    condition     = toset(keys(google_service_account.workspace)) == toset(["onmemos-workspace", "onmemos-ws-acme", "onmemos-ws-default", "onmemos-ws-umbrella"])
    error_message = "There is not one account for each tenant, the operators', and the sessions from before."
  }

  assert {
    condition     = local.environment.ONMEMOS_WORKSPACE_ACCOUNT == "onmemos-ws-{tenant}@my-project.iam.gserviceaccount.com"
    error_message = "Sessions do not run as their tenant's account."
  }

  assert {
    condition     = length(google_service_account_iam_member.starts_as_workspace) == 8
    error_message = "Those who start sessions may not start them as each of the accounts."
  }
}
