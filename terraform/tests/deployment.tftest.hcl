# That there is one of everything, under the name and with the settings that the code expects.

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

run "there_is_one_of_everything_as_the_code_expects_it" {
  assert {
    condition     = keys(google_cloudfunctions2_function.function) == keys(jsondecode(file("functions.json")))
    error_message = "There is not one function for each operation of the route table."
  }

  assert {
    condition = alltrue([
      for name, function in google_cloudfunctions2_function.function : (
        function.build_config[0].entry_point == name &&
        function.name == "onmemos-${replace(name, "_", "-")}" &&
        function.service_config[0].timeout_seconds == local.routes[name].timeout_s
      )
    ])
    error_message = "A function has another entry point, name or timeout than its operation."
  }

  assert {
    condition     = alltrue([for name, _ in local.routes : strcontains(file("../main.py"), "    \"${name}\",")])
    error_message = "main.py does not offer a function that is deployed."
  }

  assert {
    condition = alltrue([
      for function in google_cloudfunctions2_function.function : (
        function.service_config[0].available_cpu == "1" &&
        function.service_config[0].max_instance_request_concurrency > 1 &&
        function.service_config[0].min_instance_count == 0 &&
        function.service_config[0].environment_variables.FUNCTION_USE_ASGI == "true"
      )
    ])
    error_message = "A function takes one request at a time, runs when nobody calls, or is no ASGI application."
  }

  assert {
    condition     = alltrue([for function in google_cloudfunctions2_function.function : function.build_config[0].source[0].storage_source[0].object == google_storage_bucket_object.source.name])
    error_message = "Functions are built from different sources."
  }

  assert {
    condition     = toset([for queue in google_cloud_tasks_queue.step : queue.name]) == toset([for step, _ in jsondecode(file("queues.json")) : "onmemos-${step}"])
    error_message = "There is not one queue for each step."
  }

  assert {
    condition     = alltrue([for step, queue in google_cloud_tasks_queue.step : queue.name == replace(local.environment.ONMEMOS_QUEUE, "{step}", step)])
    error_message = "The functions enqueue into other queues."
  }

  assert {
    condition     = alltrue([for step, one in local.steps : local.routes[one.function].access == "task"])
    error_message = "A step is pushed to a function that is not for Cloud Tasks."
  }

  assert {
    condition     = alltrue([for name, _ in local.environment : strcontains(file("../shared/config.py"), "\"${name}\"")])
    error_message = "shared/config.py does not read: ${join(", ", [for name, _ in local.environment : name if !strcontains(file("../shared/config.py"), "\"${name}\"")])}."
  }

  assert {
    condition = alltrue([
      for name in ["GOOGLE_CLOUD_PROJECT", "ONMEMOS_LOCATION", "ONMEMOS_IMAGE", "ONMEMOS_FUNCTION_URL", "ONMEMOS_TASK_ACCOUNT"] :
      try(local.environment[name], "") != ""
    ])
    error_message = "What the code cannot start without is not set."
  }

  assert {
    condition     = alltrue([for value in values(local.environment) : value != ""])
    error_message = "A variable is set to nothing."
  }

  assert {
    condition = alltrue([
      for step, one in local.steps :
      replace(local.environment.ONMEMOS_FUNCTION_URL, "{service}", replace(one.function, "_", "-")) == local.addresses[one.function]
    ])
    error_message = "Steps are pushed to another address than their function's."
  }

  assert {
    condition     = local.environment.ONMEMOS_RELAY_URL == "https://onmemos-relay-123456789.europe-west1.run.app"
    error_message = "Callers are sent to a relay that is not there."
  }

  assert {
    condition = (
      { for one in google_cloud_run_v2_service.relay.template[0].containers[0].env : one.name => one.value if length(one.value_source) == 0 } == local.environment &&
      { for one in google_cloud_run_v2_job.reconcile.template[0].template[0].containers[0].env : one.name => one.value if length(one.value_source) == 0 } == local.environment
    )
    error_message = "The relay or reconcile has other settings than the functions."
  }

  assert {
    condition     = local.environment.ONMEMOS_IMAGE == "europe-west1-docker.pkg.dev/my-project/onmemos/{template}:${substr(local.workspace_digest, 0, 12)}"
    error_message = "Sessions start from images that are not the agent's that is here."
  }

  assert {
    condition = alltrue([
      for path in ["main.py", "requirements.txt", "constraints.txt", "functions/relay.py", "shared/wiring.py", "infra/__init__.py", "infra/reconcile.py"] :
      contains(local.source_files, path)
    ])
    error_message = "The source lacks what runs in the cloud."
  }

  assert {
    condition     = length([for path in local.source_files : path if can(regex("(^|/)(tests|sdk|benchmarks|terraform|emulators|sandbox|local|__pycache__|\\.[^/]*)(/|$)", path)) && !endswith(path, "/.dockerignore")]) == 0
    error_message = "The source holds tests, caches or what only runs on a laptop: ${join(", ", [for path in local.source_files : path if can(regex("(^|/)(tests|sdk|benchmarks|terraform|emulators|sandbox|local|__pycache__|\\.[^/]*)(/|$)", path))])}."
  }

  assert {
    condition     = alltrue([for name, _ in local.routes : contains(local.source_files, "functions/${name}.py")])
    error_message = "The source lacks a function."
  }

  assert {
    condition     = google_storage_bucket_object.source.name == "source-${substr(local.source_digest, 0, 16)}.zip"
    error_message = "The archive is not named by what is in it: a change would deploy nothing."
  }

  assert {
    condition     = google_cloud_run_v2_service.relay.invoker_iam_disabled && google_cloud_run_v2_service.relay.template[0].timeout == "3600s"
    error_message = "The relay asks for a Google identity, or ends shells early."
  }

  assert {
    condition     = google_cloud_run_v2_service.relay.template[0].containers[0].image == google_cloud_run_v2_job.reconcile.template[0].template[0].containers[0].image
    error_message = "The relay and reconcile are of different versions."
  }

  assert {
    condition     = google_cloud_scheduler_job.reconcile.http_target[0].uri == "https://run.googleapis.com/v2/${google_cloud_run_v2_job.reconcile.id}:run"
    error_message = "The schedule starts something else."
  }

  assert {
    condition     = length(google_firestore_index.index) == length(jsondecode(file("../firestore.indexes.json")).indexes)
    error_message = "An index is missing, or two have one key."
  }

  assert {
    condition     = length(google_firestore_field.field) == length(jsondecode(file("../firestore.indexes.json")).fieldOverrides)
    error_message = "A field's TTL or index is missing."
  }

  assert {
    condition = alltrue([
      for field in jsondecode(file("../firestore.indexes.json")).fieldOverrides :
      length(google_firestore_field.field["${field.collectionGroup}/${field.fieldPath}"].ttl_config) == (try(field.ttl, false) ? 1 : 0)
    ])
    error_message = "A TTL field is none, or another field is one."
  }

  assert {
    condition = (
      google_firestore_database.database.delete_protection_state == "DELETE_PROTECTION_ENABLED" &&
      google_firestore_database.database.deletion_policy == "PREVENT" &&
      google_firestore_database.database.point_in_time_recovery_enablement == "POINT_IN_TIME_RECOVERY_ENABLED"
    )
    error_message = "The database can be lost by accident."
  }
}

run "what_is_set_is_what_is_made" {
  variables {
    deletion_protection = false
    templates           = "templates: {ml: {description: PyTorch, image: 'europe-docker.pkg.dev/my-project/onmemos/ml:1'}}"
    min_instances       = { create_session = 1 }
    allowed_origins     = ["https://console.example.com", "http://localhost:3000"]
    name                = "sandbox"
    image_tag           = "v3"
  }

  assert {
    condition = (
      google_firestore_database.database.delete_protection_state == "DELETE_PROTECTION_DISABLED" &&
      google_firestore_database.database.deletion_policy == "DELETE" &&
      alltrue([for secret in google_secret_manager_secret.secret : !secret.deletion_protection])
    )
    error_message = "Something stays protected."
  }

  assert {
    condition     = local.environment.ONMEMOS_TEMPLATES_FILE == "/etc/onmemos/templates.yaml"
    error_message = "Nobody is told where the templates are."
  }

  assert {
    condition = alltrue(concat(
      [for one in google_cloudfunctions2_function.function : one.service_config[0].secret_volumes[0].mount_path == "/etc/onmemos"],
      [google_cloud_run_v2_service.relay.template[0].containers[0].volume_mounts[0].mount_path == "/etc/onmemos"],
      [google_cloud_run_v2_job.reconcile.template[0].template[0].containers[0].volume_mounts[0].mount_path == "/etc/onmemos"],
    ))
    error_message = "A program does not find the templates."
  }

  assert {
    condition     = alltrue([for account in ["functions", "jobs", "steps"] : contains(keys(google_secret_manager_secret_iam_member.reader), "${account}/templates")])
    error_message = "A program may not read the templates."
  }

  assert {
    condition = (
      google_cloudfunctions2_function.function["create_session"].service_config[0].min_instance_count == 1 &&
      google_cloudfunctions2_function.function["get_session"].service_config[0].min_instance_count == 0
    )
    error_message = "min_instances is not what is kept warm."
  }

  assert {
    condition     = local.environment.ONMEMOS_ALLOWED_ORIGINS == "https://console.example.com,http://localhost:3000"
    error_message = "The functions allow other origins."
  }

  assert {
    condition = (
      google_cloudfunctions2_function.function["create_session"].name == "sandbox-create-session" &&
      google_cloud_run_v2_service.relay.name == "sandbox-relay" &&
      google_artifact_registry_repository.images.repository_id == "sandbox" &&
      google_cloud_tasks_queue.step["provision"].name == "sandbox-provision" &&
      google_service_account.account["functions"].account_id == "sandbox-functions"
    )
    error_message = "A name does not begin with `name`."
  }

  assert {
    condition     = local.environment.ONMEMOS_FUNCTION_URL == "https://europe-west1-my-project.cloudfunctions.net/sandbox-{service}"
    error_message = "Steps are pushed to another deployment."
  }

  assert {
    condition = (
      local.environment.ONMEMOS_IMAGE == "europe-west1-docker.pkg.dev/my-project/sandbox/{template}:v3" &&
      google_cloud_run_v2_service.relay.template[0].containers[0].image == "europe-west1-docker.pkg.dev/my-project/sandbox/control:v3"
    )
    error_message = "image_tag is not the images' tag."
  }
}

run "images_are_built_unless_that_is_said_otherwise" {
  command = plan
  variables {
    build_images = true
  }

  assert {
    condition     = length(terraform_data.images) == 1
    error_message = "Nobody builds the images."
  }
}
