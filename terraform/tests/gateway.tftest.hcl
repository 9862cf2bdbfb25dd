# The document that API Gateway gets, and when it gets another one.

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

run "every_operation_is_at_its_own_function_and_the_gateway_has_the_document" {
  assert {
    condition = alltrue(flatten([
      for path, operations in jsondecode(local.openapi).paths : [
        for method, operation in operations : operation["x-google-backend"].address == join("", [
          "https://europe-west1-my-project.cloudfunctions.net/onmemos-",
          replace(trimprefix(operation.operationId, "preflight_"), "_", "-"),
        ]) if can(operation.operationId)
      ]
    ]))
    error_message = "An operation's address is not that of the function of its name."
  }

  assert {
    condition = toset(flatten([
      for path, operations in jsondecode(local.openapi).paths : [
        for method, operation in operations : operation.operationId if can(operation.operationId) && method != "options"
      ]
    ])) == toset([for name, route in local.routes : name if route.access != "task"])
    error_message = "The document's operations are not all public functions, and no others."
  }

  assert {
    condition = alltrue(flatten([
      for path, operations in jsondecode(local.openapi).paths : [
        for method, operation in operations :
        operation["x-google-backend"].deadline >= local.routes[trimprefix(operation.operationId, "preflight_")].timeout_s
        if can(operation.operationId)
      ]
    ]))
    error_message = "The gateway gives up on an operation before its function does."
  }

  assert {
    condition = alltrue(flatten([
      for path, operations in jsondecode(local.openapi).paths : [
        for method, operation in operations : (
          operation["x-google-backend"].path_translation == "APPEND_PATH_TO_ADDRESS" &&
          operation["x-google-backend"].jwt_audience == operation["x-google-backend"].address
        ) if can(operation.operationId)
      ]
    ]))
    error_message = "An operation changes the path on its way, or has an identity token for another function."
  }

  assert {
    condition     = alltrue([for path, operations in jsondecode(local.openapi).paths : contains(keys(operations), "options")])
    error_message = "A path has no `options`: browsers cannot ask whether they may call it."
  }

  assert {
    condition     = !strcontains(local.openapi, "$${")
    error_message = "The document holds a placeholder that nobody filled in."
  }

  assert {
    condition     = base64decode(google_api_gateway_api_config.config.openapi_documents[0].document[0].contents) == local.openapi
    error_message = "The configuration holds another document."
  }

  assert {
    condition     = google_api_gateway_api_config.config.gateway_config[0].backend_config[0].google_service_account == "onmemos-gateway@my-project.iam.gserviceaccount.com"
    error_message = "The gateway calls functions as another account than the one that may."
  }

  assert {
    condition     = google_api_gateway_gateway.gateway.api_config == google_api_gateway_api_config.config.id
    error_message = "The gateway has another configuration."
  }

  assert {
    condition     = output.url == "https://onmemos-abc123.ew.gateway.dev"
    error_message = "url is not the gateway's."
  }

  assert {
    condition     = strcontains(output.next_command, "https://onmemos-abc123.ew.gateway.dev/v1/sessions")
    error_message = "next_command does not call the gateway."
  }

  assert {
    condition = google_api_gateway_api_config.config.api_config_id == join("-", [
      "onmemos",
      substr(md5(base64decode(google_api_gateway_api_config.config.openapi_documents[0].document[0].contents)), 0, 12),
    ])
    error_message = "Its id does not come from the document: another document would have to take its place."
  }

  assert {
    condition     = can(regex("^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$", google_api_gateway_api_config.config.api_config_id))
    error_message = "API Gateway takes no such id."
  }
}

run "another_document_is_another_configuration" {
  variables {
    region         = "us-west1"
    gateway_region = "us-central1"
  }

  assert {
    condition = strcontains(local.openapi, "https://us-west1-my-project.cloudfunctions.net/") && (
      google_api_gateway_api_config.config.api_config_id == "onmemos-${substr(md5(local.openapi), 0, 12)}"
    )
    error_message = "The id stayed although the document changed."
  }

  assert {
    condition     = google_api_gateway_gateway.gateway.region == "us-central1" && google_cloudfunctions2_function.function["health"].location == "us-west1"
    error_message = "gateway_region is not where the gateway is, or moved the functions."
  }
}

run "a_region_that_may_have_no_gateway_is_told" {
  command = plan
  variables {
    region = "europe-north1"
  }
  expect_failures = [check.gateway_region]
}
