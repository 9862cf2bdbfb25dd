# Every wrong value is refused, by its own variable.

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

run "every_wrong_value_is_refused" {
  command = plan
  variables {
    allowed_origins    = ["https://console.example.com/app"]
    cloud_run_mode     = "vm"
    database           = "Sessions"
    firestore_location = "Europe"
    gateway_region     = "europe-west1-b"
    image_tag          = "v3/latest"
    labels             = { Team = "a" }
    max_instances      = 0
    name               = "a-name-of-21-letters-"
    notification_email = "me"
    project            = "123456789012"
    reconcile_schedule = "every 5m"
    region             = "europe-west1-b"
    templates          = "- ml"
  }
  expect_failures = [
    var.allowed_origins,
    var.cloud_run_mode,
    var.database,
    var.firestore_location,
    var.gateway_region,
    var.image_tag,
    var.labels,
    var.max_instances,
    var.name,
    var.notification_email,
    var.project,
    var.reconcile_schedule,
    var.region,
    var.templates,
  ]
}

# Their conditions name other variables, and are not looked at while those are wrong.
run "what_depends_on_other_values_is_refused_too" {
  command = plan
  variables {
    min_instances = { make_session = 101 }
    tenants       = ["a-tenant-with-a-long-name"]
  }
  expect_failures = [
    var.min_instances,
    var.tenants,
  ]
}
