resource "random_bytes" "ticket_key" {
  length = 32 # the seed of an Ed25519 key
}

resource "random_password" "api_key" {
  length  = 40
  special = false
}

locals {
  secrets = merge(
    {
      # Signs what opens a session's agent. A new one closes every session that runs: they know the old one's public key.
      ticket_key = random_bytes.ticket_key.base64
      # The operators' first API key.
      api_key = "onm_${random_password.api_key.result}"
    },
    var.templates == "" ? {} : { templates = var.templates }, # no secret, but what can be mounted as a file everywhere
  )
  secret_names = toset(concat(["ticket_key", "api_key"], var.templates == "" ? [] : ["templates"]))

  # Which accounts read which.
  secret_readers = merge(
    { for account in ["functions", "jobs", "steps"] : "${account}/ticket_key" => { account = account, secret = "ticket_key" } },
    { for account in ["functions", "jobs"] : "${account}/api_key" => { account = account, secret = "api_key" } },
    { for account in ["functions", "jobs", "steps"] : "${account}/templates" => { account = account, secret = "templates" } if var.templates != "" },
  )

  templates_folder = "/etc/onmemos"
  templates_file   = "templates.yaml"

  # By account, the variables of the environment that are secrets.
  secret_environment = {
    functions = { ONMEMOS_TICKET_KEY = "ticket_key", ONMEMOS_API_KEY = "api_key" }
    jobs      = { ONMEMOS_TICKET_KEY = "ticket_key", ONMEMOS_API_KEY = "api_key" }
    steps     = { ONMEMOS_TICKET_KEY = "ticket_key" }
  }
}

resource "google_secret_manager_secret" "secret" {
  for_each            = local.secret_names
  secret_id           = "${var.name}-${replace(each.value, "_", "-")}"
  deletion_protection = var.deletion_protection && each.value != "templates" # whoever has none any more may say so

  replication {
    auto {}
  }

  depends_on = [time_sleep.apis]
}

resource "google_secret_manager_secret_version" "secret" {
  for_each    = local.secret_names
  secret      = google_secret_manager_secret.secret[each.value].id
  secret_data = local.secrets[each.value]

  lifecycle {
    create_before_destroy = true # what runs reads the version that it was started with
  }
}

resource "google_secret_manager_secret_iam_member" "reader" {
  for_each  = local.secret_readers
  secret_id = google_secret_manager_secret.secret[each.value.secret].id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.account[each.value.account].member
}
